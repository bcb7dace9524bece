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

#[derive(Debug, Default)]
struct Lane {
    /// Who waits, in order. The one that runs is not in here.
    waiting: VecDeque<oneshot::Sender<Turn>>,
    /// Hashes of the inbox keys of all that are in the lane, the running one first.
    ids: VecDeque<u64>,
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
            Self::Behind(turn) => turn.await.unwrap_or(Turn { lanes: None, key: "".into(), id: 0 }),
        }
    }
}

/// The right to run; dropped, the next of the lane has it.
#[derive(Debug)]
pub(crate) struct Turn {
    lanes: Option<Arc<Lanes>>,
    key: Arc<str>,
    id: u64,
}

impl Lanes {
    /// Takes the next place in the lane of `key`, unless `most` are in it: one key must not fill the worker. The second answer:
    /// another delivery of `id` is in this lane already.
    pub(crate) fn join(self: &Arc<Self>, key: &str, id: impl Hash, most: usize) -> Option<(Place, bool)> {
        let mut hasher = DefaultHasher::new();
        id.hash(&mut hasher);
        let id = hasher.finish();
        let mut lanes = self.lock();
        if let Some(lane) = lanes.get_mut(key) {
            if lane.ids.len() >= most {
                return None;
            }
            let twin = lane.ids.contains(&id);
            let (turn, waiting) = oneshot::channel();
            lane.waiting.push_back(turn);
            lane.ids.push_back(id);
            return Some((Place::Behind(waiting), twin));
        }
        let key: Arc<str> = key.into();
        lanes.insert(key.clone(), Lane { waiting: VecDeque::new(), ids: VecDeque::from([id]) });
        Some((Place::Now(Turn { lanes: Some(self.clone()), key, id }), false))
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
        let Some(lanes) = self.lanes.take() else { return };
        let mut next = Self { lanes: Some(lanes.clone()), key: self.key.clone(), id: 0 };
        let mut guard = lanes.lock();
        let Some(lane) = guard.get_mut(&self.key) else {
            next.lanes = None;
            return;
        };
        lane.ids.pop_front();
        // Who gave up waiting is passed over.
        while let Some(waiter) = lane.waiting.pop_front() {
            next.id = lane.ids.front().copied().unwrap_or_default();
            match waiter.send(next) {
                Ok(()) => {
                    drop(guard);
                    lanes.left.notify_waiters();
                    return;
                }
                Err(back) => next = back,
            }
            lane.ids.pop_front();
        }
        guard.remove(&self.key);
        next.lanes = None;
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
