//! Low watermark: which offsets of a partition are finished, and up to where all of them are.
//!
//! Kafka keeps one number for a partition: everything below it is done. Messages end in any order, so what is done above the
//! first unfinished one is remembered here, one bit an offset. Pure: no clock, no broker.

use std::collections::VecDeque;

/// How far others may run ahead of an offset that does not end, in offsets: 16 KB of bits.
pub(super) const WINDOW: i64 = 131_072;

/// The state of one partition during one assignment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Watermark {
    /// The offset of the first bit: a whole number of words before `low`.
    base: i64,
    /// A set bit is a finished offset. No word in front is full.
    words: VecDeque<u64>,
    /// The offset after the last one that came.
    next: i64,
}

/// What to do with a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// It is the next one.
    Taken,
    /// It came before: a fetch after a leader change may begin too early.
    Known,
    /// An unfinished offset is too far behind: not now.
    TooFarAhead,
}

impl Watermark {
    /// Begins at the committed offset.
    pub(super) fn new(start: i64) -> Self {
        Self { base: start, words: VecDeque::new(), next: start }
    }

    /// Everything below is finished: the offset to commit.
    pub(super) fn low(&self) -> i64 {
        self.base + self.words.front().map_or(0, |word| i64::from(word.trailing_ones()))
    }

    /// The offset after the last one that came.
    pub(super) fn next(&self) -> i64 {
        self.next
    }

    /// Nothing that came is unfinished.
    pub(super) fn is_level(&self) -> bool {
        self.low() == self.next
    }

    /// A record came. Offsets that were left out belong to no message (compaction, marks of transactions): they are finished.
    pub(super) fn arrive(&mut self, offset: i64) -> Arrival {
        if offset < self.next {
            return Arrival::Known;
        }
        if self.is_level() {
            (self.base, self.next) = (offset, offset);
            self.words.clear();
        }
        if offset - self.low() >= WINDOW {
            return Arrival::TooFarAhead;
        }
        for absent in self.next..offset {
            self.set(absent);
        }
        self.next = offset + 1;
        Arrival::Taken
    }

    /// An offset is finished; again is the same as once. `true`: the watermark has moved.
    pub(super) fn finish(&mut self, offset: i64) -> bool {
        let before = self.low();
        if offset < before || offset >= self.next {
            return false;
        }
        self.set(offset);
        while self.words.front() == Some(&u64::MAX) {
            self.words.pop_front();
            self.base += 64;
        }
        self.low() > before
    }

    fn set(&mut self, offset: i64) {
        let Ok(place) = usize::try_from(offset - self.base) else { return };
        if self.words.len() <= place / 64 {
            self.words.resize(place / 64 + 1, 0);
        }
        self.words[place / 64] |= 1 << (place % 64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    /// The same, so simple that it is seen to be right.
    struct Model {
        start: i64,
        unfinished: BTreeSet<i64>,
        next: i64,
    }

    impl Model {
        fn low(&self) -> i64 {
            self.unfinished.first().copied().unwrap_or(self.next)
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        /// A record, so many offsets after the last.
        Arrive(i64),
        /// The unfinished one at this place, counted from the oldest.
        Finish(usize),
        /// Any offset at all, counted from the start.
        Settle(i64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (0i64..3).prop_map(Step::Arrive),
            1 => (0i64..400).prop_map(Step::Arrive),
            4 => (0usize..200).prop_map(Step::Finish),
            1 => (-10i64..900).prop_map(Step::Settle),
        ];
        prop::collection::vec(step, 1..600)
    }

    proptest! {
        #[test]
        fn it_says_what_a_set_of_unfinished_offsets_says(start in 0i64..1_000, steps in steps()) {
            let mut watermark = Watermark::new(start);
            let mut model = Model { start, unfinished: BTreeSet::new(), next: start };
            for step in steps {
                match step {
                    Step::Arrive(skip) => {
                        let offset = model.next + skip;
                        prop_assert_eq!(watermark.arrive(offset), Arrival::Taken);
                        model.unfinished.insert(offset);
                        model.next = offset + 1;
                    }
                    Step::Finish(place) => {
                        let Some(offset) = model.unfinished.iter().nth(place).copied() else { continue };
                        let before = model.low();
                        model.unfinished.remove(&offset);
                        prop_assert_eq!(watermark.finish(offset), model.low() > before);
                    }
                    Step::Settle(from_start) => {
                        let (offset, before) = (model.start + from_start, model.low());
                        model.unfinished.remove(&offset);
                        prop_assert_eq!(watermark.finish(offset), model.low() > before);
                    }
                }
                prop_assert_eq!((watermark.low(), watermark.next()), (model.low(), model.next));
                prop_assert_eq!(watermark.is_level(), model.unfinished.is_empty());
            }
        }
    }

    #[test]
    fn an_unfinished_offset_limits_how_far_the_others_run_ahead() {
        let mut watermark = Watermark::new(10);
        assert_eq!(watermark.arrive(10), Arrival::Taken);
        for offset in 11..10 + WINDOW {
            assert_eq!(watermark.arrive(offset), Arrival::Taken);
            assert!(!watermark.finish(offset));
        }
        assert_eq!(watermark.arrive(10 + WINDOW), Arrival::TooFarAhead);
        assert_eq!(watermark.low(), 10);
        assert!(watermark.finish(10));
        assert_eq!(watermark.low(), 10 + WINDOW);
        assert!(watermark.words.len() <= 1, "{} words are kept for nothing", watermark.words.len());
        assert_eq!(watermark.arrive(10 + WINDOW), Arrival::Taken);
    }

    #[test]
    fn a_hole_of_any_size_is_passed_when_nothing_is_open() {
        let mut watermark = Watermark::new(0);
        assert_eq!(watermark.arrive(1 << 40), Arrival::Taken);
        assert_eq!(watermark.low(), 1 << 40);
        assert_eq!(watermark.arrive(3), Arrival::Known);
    }
}
