//! Canonical Data Model, its keeper: `car.SetContact` is checked and kept.

use super::{
    contract::{Contact, SetContact},
    webhook,
};
use anyhow::{Context as _, ensure};
use lettre::Address;
use pitcrew::{Context, Handler, OrElse};

/// The longest name and ID, in characters.
const LONGEST: usize = 200;

/// Answers `car.SetContact`.
#[derive(Debug, Clone, Copy)]
pub struct AddressBook;

impl Handler<SetContact> for AddressBook {
    async fn handle(&self, contact: SetContact, cx: &mut Context) -> pitcrew::Result {
        check(&contact).permanent()?;
        cx.save(&Contact(contact))?;
        Ok(())
    }
}

/// # Errors
/// Names the field and what is wrong with it.
pub fn check(contact: &SetContact) -> anyhow::Result<()> {
    for (field, text) in [("user", &contact.user), ("name", &contact.name)] {
        ensure!(!text.trim().is_empty(), "`{field}` is empty");
        ensure!(text.chars().count() <= LONGEST, "`{field}` has more than {LONGEST} characters");
        ensure!(!text.chars().any(char::is_control), "`{field}` holds a control character");
    }
    if let Some(mail) = &contact.mail {
        mail.parse::<Address>().with_context(|| format!("`mail` is no address: {}", mail.escape_debug()))?;
    }
    if let Some(url) = &contact.webhook {
        webhook::parse(url).context("`webhook`")?;
    }
    ensure!(contact.per_hour != Some(0), "`per_hour` is 0; to send nothing, leave `mail` and `webhook` away");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn told(change: Value) -> Result<(), String> {
        let mut contact = json!({ "user": "ada", "name": "Ada" });
        contact.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let contact: SetContact = serde_json::from_value(contact).map_err(|e| e.to_string())?;
        check(&contact).map_err(|e| format!("{e:#}"))
    }

    #[test]
    fn what_can_be_used_is_taken() {
        let night = json!({ "from": "22:00", "to": "07:00", "zone": "Europe/Berlin" });
        let all = json!({ "mail": "ada@example.org", "webhook": "https://example.org/in?a=b", "quiet": night, "per_hour": 3 });
        told(all).unwrap();
        told(json!({})).unwrap();
    }

    #[test]
    fn what_cannot_is_named() {
        for (change, why) in [
            (json!({ "user": " " }), "`user` is empty"),
            (json!({ "name": "a\nb" }), "control character"),
            (json!({ "name": "a".repeat(201) }), "more than 200"),
            (json!({ "mail": "ada" }), "`mail` is no address: ada"),
            (json!({ "mail": "ada@example.org\r\nBcc: x@example.org" }), "`mail` is no address"),
            (json!({ "webhook": "ftp://example.org" }), "http://"),
            (json!({ "webhook": "https://u:p@example.org" }), "password"),
            (json!({ "per_hour": 0 }), "leave `mail`"),
            (json!({ "per_hour": -1 }), "invalid value"),
            (json!({ "quiet": { "from": "25:00", "to": "07:00", "zone": "UTC" } }), "no time of day"),
            (json!({ "quiet": { "from": "22:00", "to": "07:00", "zone": "Mars/Base" } }), "Mars/Base"),
        ] {
            let told = told(change.clone()).unwrap_err();
            assert!(told.contains(why), "{change}: {told}");
        }
    }
}
