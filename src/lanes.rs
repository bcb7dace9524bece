//! Lanes: the in-process sequence of one ordering key. The next message of a key starts after the commit of the one before.

use std::{
    collections::{HashMap, VecDeque},
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::{Notify, oneshot};

/// All lanes of one subscription. A lane exists while somebody is in it.
#[derive(Debug, Default)]
pub(crate) struct Lanes {
    lanes: Mutex<HashMap<Arc<str>, Lane>>,
    /// Somebody left a lane.
    left: Notify,
}

#[derive(Debug)]
struct Lane {
    /// Hash of the inbox key of the one that runs.
    running: u64,
    /// Who waits, in order, each with the hash of its inbox key.
    waiting: VecDeque<(u64, oneshot::Sender<Turn>)>,
}

/// A place in a lane, taken in the order of receipt.
#[derive(Debug)]
pub(crate) enum Place {
    /// The lane was empty.
    Now(Turn),
    /// Behind others.
    Behind(oneshot::Receiver<Turn>),
}

impl Place {
    /// Waits for the turn. Dropping the future leaves the lane to those behind.
    pub(crate) async fn turn(self) -> Turn {
        match self {
            Self::Now(turn) => turn,
            // Every sender is sent to before it is dropped; a lane never forgets who waits.
            Self::Behind(turn) => turn.await.unwrap_or(Turn(None)),
        }
    }
}

/// The right to run; dropped, the next of the lane has it.
#[derive(Debug)]
pub(crate) struct Turn(Option<(Arc<Lanes>, Arc<str>)>);

impl Lanes {
    /// Takes the next place in the lane of `key`, unless `most` are in it: one key must not fill the worker. The second answer:
    /// another delivery of `id` is in this lane already.
    pub(crate) fn join(self: &Arc<Self>, key: &str, id: impl Hash, most: usize) -> Option<(Place, bool)> {
        let mut hasher = DefaultHasher::new();
        id.hash(&mut hasher);
        let id = hasher.finish();
        let mut lanes = self.lock();
        if let Some(lane) = lanes.get_mut(key) {
            if lane.waiting.len() + 1 >= most {
                return None;
            }
            let twin = lane.running == id || lane.waiting.iter().any(|(waiting, _)| *waiting == id);
            let (turn, waiting) = oneshot::channel();
            lane.waiting.push_back((id, turn));
            return Some((Place::Behind(waiting), twin));
        }
        let key: Arc<str> = key.into();
        lanes.insert(key.clone(), Lane { running: id, waiting: VecDeque::new() });
        Some((Place::Now(Turn(Some((self.clone(), key)))), false))
    }

    /// As [`join`](Self::join), as soon as fewer than `most` are in the lane.
    pub(crate) async fn join_when_free(self: &Arc<Self>, key: &str, id: impl Hash, most: usize) -> (Place, bool) {
        loop {
            let left = self.left.notified();
            tokio::pin!(left);
            left.as_mut().enable();
            if let Some(place) = self.join(key, &id, most) {
                return place;
            }
            left.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Lane>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let Some((lanes, key)) = self.0.take() else { return };
        let mut guard = lanes.lock();
        let Some(lane) = guard.get_mut(&key) else { return };
        let mut next = None;
        while let Some((id, waiter)) = lane.waiting.pop_front() {
            match waiter.send(Self(Some((lanes.clone(), key.clone())))) {
                Ok(()) => {
                    next = Some(id);
                    break;
                }
                // Who gave up waiting is passed over; the turn is still this one's to give.
                Err(mut back) => back.0 = None,
            }
        }
        match next {
            Some(id) => lane.running = id,
            None => drop(guard.remove(&key)),
        }
        drop(guard);
        lanes.left.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_key_runs_in_order_and_other_keys_do_not_wait() {
        let lanes = Arc::new(Lanes::default());
        let join = |key, id| lanes.join(key, id, 9).unwrap();
        let (first, twin) = join("a", 1);
        assert!(!twin);
        let (second, _) = join("a", 2);
        let (third, twin) = join("a", 2);
        assert!(twin, "the same id is in the lane");
        let other = join("b", 1).0.turn().await;
        let first = first.turn().await;
        let mut second = Box::pin(second.turn());
        assert!(futures::poll!(&mut second).is_pending());
        drop(first);
        let second = second.await;
        let mut third = Box::pin(third.turn());
        assert!(futures::poll!(&mut third).is_pending());
        drop(second);
        drop(third.await);
        drop(other);
        assert!(lanes.is_empty());
    }

    #[tokio::test]
    async fn who_gives_up_waiting_is_passed_over() {
        let lanes = Arc::new(Lanes::default());
        let join = |key, id| lanes.join(key, id, 9).unwrap();
        let first = join("a", 1).0.turn().await;
        let (second, _) = join("a", 2);
        let (third, _) = join("a", 3);
        drop(second);
        drop(first);
        drop(third.turn().await);
        assert!(lanes.is_empty());
    }

    #[tokio::test]
    async fn a_hot_key_waits_for_room() {
        let lanes = Arc::new(Lanes::default());
        let first = lanes.join("a", 1, 2).unwrap().0.turn().await;
        let (second, _) = lanes.join("a", 2, 2).unwrap();
        assert!(lanes.join("a", 3, 2).is_none());
        let mut third = Box::pin(lanes.join_when_free("a", 3, 2));
        assert!(futures::poll!(&mut third).is_pending());
        drop(lanes.join("b", 3, 2).unwrap().0.turn().await);
        drop(first);
        let (third, twin) = third.await;
        assert!(!twin);
        drop(second.turn().await);
        drop(third.turn().await);
        assert!(lanes.is_empty());
    }
}
