//! When somebody may be told: quiet hours and pace. Pure; the answer is how long to wait, and waiting is the broker's work.

use super::contract::{Pace, Quiet};
use chrono::{DateTime, Days, NaiveDateTime, TimeDelta, TimeZone, Utc};
use std::time::Duration;

/// How long `now` lies before the end of the quiet hours; zero outside of them.
pub fn quiet(quiet: &Quiet, now: DateTime<Utc>) -> Duration {
    let here = now.with_timezone(&quiet.zone).naive_local();
    let time = here.time();
    let is_silent = match quiet.from <= quiet.to {
        true => quiet.from <= time && time < quiet.to,
        false => quiet.from <= time || time < quiet.to, // over midnight
    };
    if !is_silent {
        return Duration::ZERO;
    }
    let today = here.date().and_time(quiet.to);
    let end = if time < quiet.to { today } else { today.checked_add_days(Days::new(1)).unwrap_or(today) };
    let end = instant(quiet, end);
    (end - now).to_std().unwrap_or_default()
}

/// A wall clock's time. One that a change of the clocks leaves out is taken an hour later, one that it repeats at its first time.
fn instant(quiet: &Quiet, wall: NaiveDateTime) -> DateTime<Utc> {
    let found = quiet.zone.from_local_datetime(&wall).earliest();
    let found = found.or_else(|| quiet.zone.from_local_datetime(&(wall + TimeDelta::hours(1))).earliest());
    found.map_or_else(|| wall.and_utc(), |time| time.to_utc())
}

/// How long until another message fits into `per_hour`; zero if one fits now.
pub fn pace(pace: Option<&Pace>, per_hour: u16, now: DateTime<Utc>) -> Duration {
    let hour_ago = now - TimeDelta::hours(1);
    let Some(pace) = pace else { return Duration::ZERO };
    let recent: Vec<_> = pace.sent.iter().filter(|sent| **sent > hour_ago).collect();
    // `per_hour` of zero is refused where it is set.
    let Some(over) = recent.len().checked_sub(usize::from(per_hour.max(1))) else { return Duration::ZERO };
    recent.get(over).map_or(Duration::ZERO, |oldest| (**oldest - hour_ago).to_std().unwrap_or_default())
}

/// The pace after one more message.
pub fn step(pace: Option<Pace>, id: String, now: DateTime<Utc>) -> Pace {
    let hour_ago = now - TimeDelta::hours(1);
    let mut sent = pace.map(|pace| pace.sent).unwrap_or_default();
    sent.retain(|sent| *sent > hour_ago);
    sent.push(now);
    Pace { id, sent }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::NaiveTime;

    fn night(zone: &str) -> Quiet {
        let at = |hour| NaiveTime::from_hms_opt(hour, 0, 0).unwrap();
        Quiet { from: at(22), to: at(7), zone: zone.parse().unwrap() }
    }

    fn at(text: &str) -> DateTime<Utc> {
        DateTime::parse_from_rfc3339(text).unwrap().to_utc()
    }

    fn hours(hours: f64) -> Duration {
        Duration::from_secs_f64(hours * 3600.0)
    }

    #[test]
    fn a_night_ends_in_the_morning_of_the_users_clock() {
        let night = night("Europe/Berlin");
        for (now, wait) in [
            ("2026-01-10T20:59:59Z", 0.0), // 21:59:59 in Berlin
            ("2026-01-10T21:00:00Z", 9.0),
            ("2026-01-11T05:30:00Z", 0.5),
            ("2026-01-11T06:00:00Z", 0.0),
            ("2026-07-10T20:00:00Z", 9.0),  // summer time
            ("2026-03-28T21:00:00Z", 8.0),  // an hour of this night is left out
            ("2026-10-24T20:00:00Z", 10.0), // and one of this night comes twice
        ] {
            assert_eq!(quiet(&night, at(now)), hours(wait), "{now}");
        }
    }

    #[test]
    fn a_siesta_is_on_one_day_and_no_hours_are_no_silence() {
        let mut siesta = night("UTC");
        siesta.from = NaiveTime::from_hms_opt(13, 0, 0).unwrap();
        siesta.to = NaiveTime::from_hms_opt(15, 0, 0).unwrap();
        assert_eq!(quiet(&siesta, at("2026-01-10T14:00:00Z")), hours(1.0));
        assert_eq!(quiet(&siesta, at("2026-01-10T15:00:00Z")), Duration::ZERO);
        siesta.to = siesta.from;
        assert_eq!(quiet(&siesta, at("2026-01-10T13:00:00Z")), Duration::ZERO);
    }

    #[test]
    fn an_end_that_the_clocks_leave_out_comes_an_hour_later() {
        let mut night = night("Europe/Berlin");
        night.to = NaiveTime::from_hms_opt(2, 30, 0).unwrap();
        assert_eq!(quiet(&night, at("2026-03-29T00:00:00Z")), hours(1.5), "02:30 is 03:30 in this night");
    }

    #[test]
    fn the_next_one_fits_when_the_oldest_is_an_hour_old() {
        let now = at("2026-01-10T12:00:00Z");
        let mut sent = None;
        for minutes in [90, 50, 10] {
            sent = Some(step(sent, "ada/mail".into(), now - TimeDelta::minutes(minutes)));
        }
        let sent = sent.unwrap();
        assert_eq!(sent.sent.len(), 2, "what is older is forgotten");
        assert_eq!(pace(Some(&sent), 3, now), Duration::ZERO);
        assert_eq!(pace(Some(&sent), 2, now), hours(1.0 / 6.0));
        assert_eq!(pace(Some(&sent), 1, now), hours(5.0 / 6.0));
        assert_eq!(pace(None, 1, now), Duration::ZERO);
    }
}
