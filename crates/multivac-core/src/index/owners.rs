//! Which data say a passage. Equal passages are indexed once, so that repeating a text changes neither how rare its words
//! are nor how well it answers.
//!
//! A passage is indexed under the id of one datum that says it, its owner. When the owner is removed, another datum that
//! says the same becomes the owner.

use std::collections::hash_map::RandomState;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::BuildHasher;

use crate::datum::DatumId;

/// A passage as a number. Two passages have the same one with a chance of 1 to 2^64, which
/// nobody can bring about on purpose: the hash (SipHash) has a random key.
type PassageHash = u64;

/// The owner of each passage, and which other data say it too.
#[derive(Default)]
pub(super) struct Owners {
    hasher: RandomState,
    /// The datum under whose id a passage is indexed.
    owner: HashMap<PassageHash, DatumId>,
    /// The other data that say it.
    others: HashMap<PassageHash, BTreeSet<DatumId>>,
    /// For each of those data, the passages that are indexed under another's id.
    repeats: HashMap<DatumId, Vec<PassageHash>>,
    /// How many repeats there are in all.
    repeated: u64,
}

/// What a batch of changes makes of the owners, while it is worked out. The owners themselves stay as they are until the
/// batch is visible, since it may fail.
pub(super) struct Plan<'a> {
    owners: &'a Owners,
    removed: &'a HashSet<DatumId>,
    changes: PlannedChanges,
}

/// The result of a [`Plan`].
#[derive(Default)]
pub(super) struct PlannedChanges {
    /// The new owner of each passage that gets another, or none.
    owner: HashMap<PassageHash, Option<DatumId>>,
    /// Who becomes an owner, having repeated the passage before.
    successors: Vec<(PassageHash, DatumId)>,
    /// Who repeats a passage of another.
    repeats: Vec<(PassageHash, DatumId)>,
}

impl Owners {
    /// Passages that are not indexed, since another datum says the same.
    pub(super) fn repeated(&self) -> u64 {
        self.repeated
    }

    /// Begins a batch in which these data are removed, whether they are added again in it or not.
    pub(super) fn plan<'a>(&'a self, removed: &'a HashSet<DatumId>) -> Plan<'a> {
        Plan { owners: self, removed, changes: PlannedChanges::default() }
    }

    /// Applies a batch that has become visible.
    pub(super) fn apply(&mut self, changes: PlannedChanges, removed: &HashSet<DatumId>) {
        for id in removed {
            for passage in self.repeats.remove(id).unwrap_or_default() {
                self.remove_other(passage, *id);
            }
        }
        for (passage, successor) in changes.successors {
            self.remove_other(passage, successor);
            if let Some(repeats) = self.repeats.get_mut(&successor) {
                repeats.retain(|other| *other != passage);
                if repeats.is_empty() {
                    self.repeats.remove(&successor);
                }
            }
        }
        for (passage, owner) in changes.owner {
            match owner {
                Some(id) => self.owner.insert(passage, id),
                None => self.owner.remove(&passage),
            };
        }
        for (passage, id) in changes.repeats {
            if self.others.entry(passage).or_default().insert(id) {
                self.repeated += 1;
                self.repeats.entry(id).or_default().push(passage);
            }
        }
    }

    fn remove_other(&mut self, passage: PassageHash, id: DatumId) {
        if let Some(others) = self.others.get_mut(&passage) {
            self.repeated -= u64::from(others.remove(&id));
            if others.is_empty() {
                self.others.remove(&passage);
            }
        }
    }

    /// Over every byte: a successor must say the passage word for word.
    fn hash(&self, passage: &str) -> PassageHash {
        self.hasher.hash_one(passage)
    }
}

impl Plan<'_> {
    /// Takes a passage from an owner that is removed. Returns its successor, under whose id the passage is to be indexed
    /// again.
    pub(super) fn remove(&mut self, passage: &str) -> Option<DatumId> {
        let passage = self.owners.hash(passage);
        let others = self.owners.others.get(&passage);
        let successor = others.and_then(|others| others.iter().find(|id| !self.removed.contains(id)).copied());
        self.changes.owner.insert(passage, successor);
        self.changes.successors.extend(successor.map(|successor| (passage, successor)));
        successor
    }

    /// Adds a passage of a datum. Returns whether it is to be indexed under the datum's id.
    pub(super) fn add(&mut self, id: DatumId, passage: &str) -> bool {
        let passage = self.owners.hash(passage);
        let planned = self.changes.owner.get(&passage).copied();
        match planned.unwrap_or_else(|| self.owners.owner.get(&passage).copied()) {
            None => {
                self.changes.owner.insert(passage, Some(id));
                true
            }
            Some(owner) => {
                if owner != id {
                    self.changes.repeats.push((passage, id));
                }
                false
            }
        }
    }

    /// Ends the plan, so that its changes can be applied.
    pub(super) fn into_changes(self) -> PlannedChanges {
        self.changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(owners: &mut Owners, id: DatumId, passage: &str) -> bool {
        let removed = HashSet::new();
        let mut plan = owners.plan(&removed);
        let indexed = plan.add(id, passage);
        let changes = plan.into_changes();
        owners.apply(changes, &removed);
        indexed
    }

    fn remove(owners: &mut Owners, id: DatumId, passage: &str) -> Option<DatumId> {
        let removed = HashSet::from([id]);
        let mut plan = owners.plan(&removed);
        let successor = plan.remove(passage);
        let changes = plan.into_changes();
        owners.apply(changes, &removed);
        successor
    }

    #[test]
    fn the_same_passage_is_indexed_once_and_outlives_its_first_owner() {
        let mut owners = Owners::default();
        let [one, two, three] = [(); 3].map(|()| DatumId::generate());
        assert!(add(&mut owners, one, "Let there be light!"));
        assert!(!add(&mut owners, two, "Let there be light!"));
        assert!(!add(&mut owners, three, "Let there be light!"));
        assert!(add(&mut owners, three, "Let there be night."));
        assert_eq!(owners.repeated(), 2);
        assert_eq!(remove(&mut owners, one, "Let there be light!"), Some(two));
        assert_eq!(owners.repeated(), 1);
        assert_eq!(remove(&mut owners, two, "Let there be light!"), Some(three));
        assert_eq!(remove(&mut owners, three, "Let there be light!"), None);
        assert!(owners.others.is_empty() && owners.repeats.is_empty());
        assert!(add(&mut owners, one, "Let there be light!"));
    }

    #[test]
    fn a_datum_that_is_removed_in_the_same_batch_is_no_successor() {
        let mut owners = Owners::default();
        let [one, two] = [(); 2].map(|()| DatumId::generate());
        add(&mut owners, one, "the same");
        add(&mut owners, two, "the same");
        let removed = HashSet::from([one, two]);
        let mut plan = owners.plan(&removed);
        assert_eq!(plan.remove("the same"), None);
        assert!(plan.add(two, "the same"), "it is added again in the same batch");
        let changes = plan.into_changes();
        owners.apply(changes, &removed);
        assert_eq!((owners.repeated(), owners.owner.len()), (0, 1));
    }
}
