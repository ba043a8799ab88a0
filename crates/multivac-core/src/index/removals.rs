//! At which position of the store each of the last removals lies, so that it can be told who has passed it.

use std::collections::{HashMap, VecDeque};

use crate::datum::DatumId;
use crate::store::Position;

/// How many are remembered one by one.
const REMEMBERED: usize = 10_000;

/// The removals that this replica has passed.
#[derive(Default)]
pub(super) struct Removals {
    positions: HashMap<DatumId, Position>,
    oldest_first: VecDeque<DatumId>,
    /// All that are not remembered lie at this position or before it.
    others: Position,
}

impl Removals {
    /// Notes removals that lie at this position or before it.
    pub(super) fn note(&mut self, removed: impl Iterator<Item = DatumId>, position: Position) {
        for id in removed {
            if self.positions.insert(id, position).is_none() {
                self.oldest_first.push_back(id);
            }
        }
        while self.oldest_first.len() > REMEMBERED {
            let forgotten = self.oldest_first.pop_front().and_then(|id| self.positions.remove(&id));
            self.others = self.others.max(forgotten.unwrap_or_default());
        }
    }

    /// Begins anew: the index was filled from a scan, in which nothing was that had been removed by this position.
    pub(super) fn begin_at(&mut self, position: Position) {
        *self = Self { others: position, ..Self::default() };
    }

    /// Where the removal of a datum lies, or before which position; `None` if it is not remembered.
    pub(super) fn position_of(&self, id: DatumId) -> Option<Position> {
        self.positions.get(&id).copied()
    }

    /// Where those that are not remembered lie, or before it.
    pub(super) fn position_of_others(&self) -> Position {
        self.others
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_forgotten_lies_before_what_is_remembered() {
        let mut removals = Removals::default();
        removals.begin_at(Position(1));
        let ids: Vec<DatumId> = (0..REMEMBERED + 2).map(|_| DatumId::generate()).collect();
        for (id, position) in ids.iter().zip(2..) {
            removals.note(std::iter::once(*id), Position(position));
        }
        assert_eq!((removals.position_of(ids[0]), removals.position_of(ids[1])), (None, None));
        assert_eq!(removals.position_of(ids[2]), Some(Position(4)));
        assert_eq!(removals.position_of_others(), Position(3));
        removals.note(ids[2..4].iter().copied(), Position(9));
        assert_eq!((removals.position_of(ids[2]), removals.positions.len()), (Some(Position(9)), REMEMBERED));
    }
}
