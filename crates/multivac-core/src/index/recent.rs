//! Which data came into the index and left it of late, so that it can be told what changed an answer.

use std::collections::VecDeque;

use serde::Serialize;

use crate::datum::DatumId;

/// How many changes are remembered.
const REMEMBERED: usize = 10_000;

/// That a datum came into the index, or left it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// The datum.
    pub id: DatumId,
    /// Which of the two.
    pub kind: Kind,
}

/// How the index changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A datum came into it, or came with another text.
    Learned,
    /// A datum left it.
    Retracted,
}

/// The last changes.
#[derive(Default)]
pub(super) struct Recent {
    /// Each with the generation that it made, oldest first.
    changes: VecDeque<(u64, Change)>,
    /// Up to this generation, not all changes are remembered.
    forgotten: u64,
}

impl Recent {
    /// Notes what made a generation.
    pub(super) fn note(&mut self, generation: u64, changes: impl Iterator<Item = Change>) {
        for change in changes {
            if self.changes.len() == REMEMBERED {
                self.forgotten = self.changes.pop_front().map_or(self.forgotten, |(generation, _)| generation);
            }
            self.changes.push_back((generation, change));
        }
    }

    /// Notes that it is not known what made a generation.
    pub(super) fn forget(&mut self, generation: u64) {
        *self = Self { changes: VecDeque::new(), forgotten: generation };
    }

    /// All that made the generations after `after`, up to `up_to`; `None` if it is not all remembered.
    pub(super) fn between(&self, after: u64, up_to: u64) -> Option<Vec<Change>> {
        if after < self.forgotten {
            return None;
        }
        let start = self.changes.partition_point(|(generation, _)| *generation <= after);
        let wanted = self.changes.range(start..).take_while(|(generation, _)| *generation <= up_to);
        Some(wanted.map(|(_, change)| *change).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn learned(count: usize) -> Vec<Change> {
        (0..count).map(|_| Change { id: DatumId::generate(), kind: Kind::Learned }).collect()
    }

    #[test]
    fn the_changes_between_two_generations_are_told_in_order() {
        let (changes, mut recent) = (learned(4), Recent::default());
        recent.note(1, changes[..1].iter().copied());
        recent.note(2, changes[1..3].iter().copied());
        recent.note(3, changes[3..].iter().copied());
        assert_eq!(recent.between(1, 2).as_deref(), Some(&changes[1..3]));
        assert_eq!(recent.between(0, 3).as_deref(), Some(&changes[..]));
        assert_eq!(recent.between(3, 3), Some(Vec::new()));
        recent.forget(4);
        assert_eq!((recent.between(3, 4), recent.between(4, 4)), (None, Some(Vec::new())));
    }

    #[test]
    fn what_is_forgotten_is_said_to_be() {
        let mut recent = Recent::default();
        recent.note(1, learned(2).into_iter());
        recent.note(2, learned(REMEMBERED - 1).into_iter());
        assert_eq!(recent.between(0, 2), None, "one of the first generation's is gone");
        assert_eq!(recent.between(1, 2).map(|changes| changes.len()), Some(REMEMBERED - 1));
    }
}
