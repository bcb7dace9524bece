//! Who is asking, and may they? Bearer tokens with roles; on loopback without tokens whoever is on this machine.
//!
//! A browser on this machine would carry the requests of any web page to loopback. So without tokens the host must be one of this
//! machine's names (DNS rebinding), and a request that says where it comes from must come from the page itself.

use super::{House, answer::Problem};
use crate::config::Role;
use axum::http::{HeaderMap, StatusCode, header};
use sha2::{Digest, Sha256};

/// Who was let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Caller {
    /// The token's name: the actor of what is sent. `None` on loopback without tokens.
    pub(super) name: Option<String>,
}

impl House {
    /// Lets in who may do this.
    pub(super) fn admit(&self, role: Role, headers: &HeaderMap) -> Result<Caller, Problem> {
        if self.config.tokens.is_empty() {
            return from_here(headers).map(|()| Caller { name: None });
        }
        let refused = |detail: &str| Problem::new(StatusCode::UNAUTHORIZED, detail);
        let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let given = given.ok_or_else(|| refused("a token is needed: Authorization: Bearer TOKEN"))?;
        let (scheme, token) = given.split_once(' ').unwrap_or_default();
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(refused("a token is needed: Authorization: Bearer TOKEN"));
        }
        let hash = <[u8; 32]>::from(Sha256::digest(token.trim().as_bytes()));
        // Hashes are compared, whose bytes nobody can choose one by one; and all of them, found or not.
        let mut found = None;
        for (name, known) in &self.config.tokens {
            if known.hash().is_some_and(|known| same(&known, &hash)) {
                found = Some((name, known));
            }
        }
        let (name, known) = found.ok_or_else(|| refused("this token is not known here"))?;
        if !known.roles.contains(&role) {
            let detail = format!("`{name}` may not do this: it needs the role \"{role}\"");
            return Err(Problem::new(StatusCode::FORBIDDEN, detail));
        }
        Ok(Caller { name: Some(name.to_string()) })
    }
}

fn same(one: &[u8; 32], other: &[u8; 32]) -> bool {
    one.iter().zip(other).fold(0, |differs, (one, other)| differs | (one ^ other)) == 0
}

fn from_here(headers: &HeaderMap) -> Result<(), Problem> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let host = text(header::HOST).unwrap_or_default();
    if !is_this_machine(host) {
        let detail =
            format!("without tokens only this machine is served, as localhost or 127.0.0.1 and not as `{host}`");
        return Err(Problem::new(StatusCode::FORBIDDEN, detail));
    }
    let own = |origin: &str| origin.split_once("://").is_some_and(|(_, origin)| origin == host);
    if text(header::ORIGIN).is_some_and(|origin| !own(origin)) {
        return Err(Problem::new(StatusCode::FORBIDDEN, "without tokens no other web page is served"));
    }
    Ok(())
}

fn is_this_machine(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(headers: &[(&'static str, &str)]) -> bool {
        let pairs = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        from_here(&HeaderMap::from_iter(pairs)).is_ok()
    }

    #[test]
    fn another_web_page_does_not_come_in_over_loopback() {
        assert!(check(&[("host", "127.0.0.1:9464")]));
        assert!(check(&[("host", "[::1]:9464")]));
        assert!(check(&[("host", "localhost:9464"), ("origin", "http://localhost:9464")]));
        assert!(!check(&[]));
        assert!(!check(&[("host", "evil.example:9464")]));
        assert!(!check(&[("host", "127.0.0.1.evil.example")]));
        assert!(!check(&[("host", "127.0.0.1:9464"), ("origin", "http://evil.example")]));
        assert!(!check(&[("host", "127.0.0.1:9464"), ("origin", "null")]));
        assert!(!check(&[("host", "127.0.0.1:9464"), ("origin", "http://127.0.0.1:8000")]));
    }
}
