//! Control Bus: what people ask of the store, and what housekeeping takes away.

use super::state::State;
use crate::{message::KeyTime, store::*};
use chrono::TimeDelta;

impl State {
    pub(super) fn letters(&self, filter: &DeadFilter, limit: usize) -> Vec<&DeadLetter> {
        let mut letters: Vec<_> = self.letters.values().filter(|letter| passes(filter, letter)).collect();
        letters.sort_by(|a, b| b.last_at.cmp(&a.last_at).then_with(|| a.key.id.cmp(&b.key.id)));
        letters.truncate(limit);
        letters
    }

    pub(super) fn resolve_letter(
        &mut self,
        key: &LetterKey,
        to: LetterState,
        rows: &[OutboxRow],
        audit: &Audit,
    ) -> bool {
        let Some(letter) = self.letters.get_mut(key) else { return false };
        if !matches!(letter.state, LetterState::Dead | LetterState::Quarantined) {
            return false;
        }
        letter.state = to;
        rows.iter().for_each(|row| self.post(None, row));
        self.audit.push(audit.clone());
        true
    }

    pub(super) fn record(&mut self, audit: &Audit) {
        let same = |known: &Audit| {
            (&known.action, &known.target, &known.reason) == (&audit.action, &audit.target, &audit.reason)
        };
        if !self.audit.iter().any(same) {
            self.audit.push(audit.clone());
        }
    }

    pub(super) fn recorded(&self, action: &str, limit: usize) -> Vec<Audit> {
        let mut recorded: Vec<_> = self.audit.iter().filter(|audit| audit.action == action).cloned().collect();
        recorded.sort_by_key(|audit| std::cmp::Reverse(audit.at));
        recorded.truncate(limit);
        recorded
    }

    pub(super) fn audit_trail(&self, filter: &AuditFilter, limit: usize) -> Vec<Audit> {
        let wanted = |audit: &&Audit| {
            filter.since.is_none_or(|since| audit.at >= since)
                && filter.actor.as_ref().is_none_or(|actor| *actor == audit.actor)
        };
        let mut trail: Vec<_> = self.audit.iter().filter(wanted).cloned().collect();
        trail.sort_by_key(|audit| std::cmp::Reverse(audit.at));
        trail.truncate(limit);
        trail
    }

    pub(super) fn handled(&self, span: &Span, after: Option<&Handled>, limit: usize) -> Vec<Handled> {
        let within = |handled: &Handled| {
            let at = handled.sent.unwrap_or(handled.row.at);
            at >= span.since && at < span.until
        };
        let mut page: Vec<_> = self.inbox.values().map(|known| known.told()).filter(within).collect();
        page.sort_by(|a, b| place(a).cmp(&place(b)));
        page.retain(|handled| after.is_none_or(|after| place(handled) > place(after)));
        page.truncate(limit);
        page
    }

    /// What [`maintain`](Self::maintain) is about to drop: rows of the inbox, and what operators did.
    pub(super) fn expired(&self, retention: &Retention, now: DateTime<Utc>) -> (Vec<Handled>, Vec<Audit>) {
        let (inbox, audit) = (before(now, retention.inbox), before(now, retention.audit));
        let old = |handled: &Handled| handled.sent.unwrap_or(handled.row.at) < inbox;
        let mut rows: Vec<_> = self.inbox.values().map(|known| known.told()).filter(old).collect();
        rows.sort_by(|a, b| place(a).cmp(&place(b)));
        (rows, self.audit.iter().filter(|known| known.at < audit).cloned().collect())
    }

    pub(super) fn history(&self, id: &str) -> History {
        let inbox = |wanted: &dyn Fn(&InboxRow) -> bool| {
            let mut rows: Vec<_> = self.inbox.values().map(|k| &k.row).filter(|row| wanted(row)).cloned().collect();
            rows.sort_by(|a, b| (a.at, &a.consumer, &a.source, &a.id).cmp(&(b.at, &b.consumer, &b.source, &b.id)));
            rows
        };
        let outbox = |wanted: &dyn Fn(&Envelope) -> bool| {
            self.outbox.values().filter(|entry| wanted(&entry.row.envelope)).cloned().collect()
        };
        let mut attempts: Vec<_> = self.attempts.iter().filter(|(key, _)| key.id == id).collect();
        attempts.sort_by_key(|(_, attempt)| attempt.at);
        let mut letters: Vec<_> = self.letters.values().filter(|letter| letter.key.id == id).cloned().collect();
        letters.sort_by_key(|letter| letter.first_at);
        History {
            inbox: inbox(&|row| row.id == id),
            attempts: attempts.into_iter().map(|(key, a)| (key.consumer.to_string(), a.clone())).collect(),
            outbox: outbox(&|envelope| envelope.id == id),
            letters,
            audit: self.audit.iter().filter(|audit| audit.target == id).cloned().collect(),
            replays: self.replays_of(id),
            caused: inbox(&|row| row.causation.as_deref() == Some(id)),
            caused_outbox: outbox(&|envelope| envelope.causation_id.as_deref() == Some(id)),
        }
    }

    pub(super) fn counts(&self) -> Counts {
        let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        let inbox = |fate| count(self.inbox.values().filter(|known| known.row.fate == fate).count());
        let letters = |state| count(self.letters.values().filter(|letter| letter.state == state).count());
        Counts {
            done: inbox(Fate::Done.word()),
            retrying: inbox("retry"),
            dead: letters(LetterState::Dead),
            quarantined: letters(LetterState::Quarantined),
            outbox: count(self.outbox.len()),
        }
    }

    /// Nothing that still waits for somebody is trimmed: open letters stay however old they are.
    pub(super) fn maintain(&mut self, retention: &Retention, now: DateTime<Utc>) -> Maintained {
        let rows_before = self.rows_kept();
        let (inbox, letters) = (before(now, retention.inbox), before(now, retention.letters));
        let audit = before(now, retention.audit);
        self.audit.retain(|known| known.at >= audit);
        self.inbox.retain(|key, known| match key.key_time() {
            KeyTime::At(time) => time >= inbox,
            KeyTime::Undated => known.row.at >= inbox,
        });
        self.operations.retain(|_, operation| operation.at >= inbox);
        self.claims.retain(|_, claim| claim.at >= inbox);
        self.attempts.retain(|(_, attempt)| attempt.at >= letters);
        self.letters.retain(|_, letter| {
            matches!(letter.state, LetterState::Dead | LetterState::Quarantined) || letter.last_at >= letters
        });
        let replays = self.trim_replays(letters);
        let trimmed = u64::try_from(rows_before - self.rows_kept() + replays).unwrap_or(u64::MAX);
        Maintained { trimmed, ..Maintained::default() }
    }

    fn rows_kept(&self) -> usize {
        let Self { inbox, operations, claims, attempts, letters, audit, .. } = self;
        inbox.len() + operations.len() + claims.len() + attempts.len() + letters.len() + audit.len()
    }
}

/// In which order pages have them.
fn place(handled: &Handled) -> (Option<DateTime<Utc>>, &str, &str, &str) {
    (handled.sent, &handled.row.id, &handled.row.consumer, &handled.row.source)
}

/// A retention longer than time itself means for ever.
fn before(now: DateTime<Utc>, kept: Duration) -> DateTime<Utc> {
    let kept = TimeDelta::from_std(kept).unwrap_or(TimeDelta::MAX);
    now.checked_sub_signed(kept).unwrap_or(DateTime::<Utc>::MIN_UTC)
}

fn passes(filter: &DeadFilter, letter: &DeadLetter) -> bool {
    let is = |wanted: &Option<String>, found: &str| wanted.as_deref().is_none_or(|wanted| wanted == found);
    (filter.states.is_empty() || filter.states.contains(&letter.state))
        && is(&filter.channel, &letter.channel)
        && is(&filter.ty, &letter.ty)
        && is(&filter.reason, &letter.reason)
        && is(&filter.id, &letter.key.id)
        && is(&filter.consumer, &letter.key.consumer)
        && filter.until.is_none_or(|until| letter.last_at <= until)
        && filter.since.is_none_or(|since| letter.last_at >= since)
}
