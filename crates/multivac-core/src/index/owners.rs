//! Which passages are said, and by which datum each is indexed. Equal passages are indexed once, so that repeating a text
//! changes neither how rare its words are nor how well it answers.
//!
//! A passage is indexed under the id of one datum that says it, its owner. The others have a document each that says which
//! passage they repeat. When the owner is removed, one of them becomes the owner: its earlier document stays until it is
//! removed itself, and says nothing new.

use std::collections::{HashMap, HashSet};
use std::hash::Hasher;

use super::packed::PackedSet;
use super::passage::Passage;
use crate::datum::DatumId;

/// A passage as a number. Two passages have the same one with a chance of 1 to 2^64, which
/// nobody can bring about on purpose: the hash (SipHash) has a random key.
pub(super) type PassageHash = u64;

/// Makes passages numbers, by a secret key that is random for each index.
#[derive(Debug, Clone, Copy)]
pub(super) struct PassageHasher([u64; 2]);

impl PassageHasher {
    pub(super) fn new(key: [u64; 2]) -> Self {
        Self(key)
    }

    /// Over every byte: a successor must say the passage word for word.
    pub(super) fn hash(self, passage: &str) -> PassageHash {
        let Self([one, other]) = self;
        // The one hasher of the standard library that takes a key; its others may give other numbers in its next version, and
        // these are kept over restarts.
        #[expect(deprecated, reason = "there is no other that is stable")]
        let mut hasher = std::hash::SipHasher::new_with_keys(one, other);
        hasher.write(passage.as_bytes());
        hasher.finish()
    }
}

/// The passages that are said, and how many there are.
pub(super) struct Owners {
    hasher: PassageHasher,
    /// The passages that have an owner.
    said: PackedSet<PassageHash>,
    /// How many repeats there are in all.
    repeated: u64,
    /// How many terms the passages have, equal ones counted once.
    tokens: u64,
}

/// What a datum was indexed as.
#[derive(Debug, Default)]
pub(super) struct IndexedDatum {
    /// The passages that it owns: each with its text and the number of its terms.
    pub(super) owned: Vec<(PassageHash, String, u64)>,
    /// The passages for which it has a document as one of others, whether it has become the owner since or not.
    pub(super) repeated: Vec<PassageHash>,
}

/// A document that is to be indexed: the datum, the passage's hash, and the passage where the datum is its owner.
pub(super) type NewDocument = (DatumId, Option<PassageHash>, Option<Passage>);

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
    /// Each passage that gets another owner or none: whether it has one.
    said: HashMap<PassageHash, bool>,
    /// By how much the numbers change.
    repeated: i64,
    tokens: i64,
    /// What is to be indexed.
    pub(super) documents: Vec<NewDocument>,
}

impl Owners {
    /// None are said.
    pub(super) fn new(hasher: PassageHasher) -> Self {
        Self { hasher, said: PackedSet::default(), repeated: 0, tokens: 0 }
    }

    /// Those of an index that is opened.
    pub(super) fn of(hasher: PassageHasher, said: PackedSet<PassageHash>, repeated: u64, tokens: u64) -> Self {
        Self { hasher, said, repeated, tokens }
    }

    /// How passages become numbers.
    pub(super) fn hasher(&self) -> PassageHasher {
        self.hasher
    }

    /// What the numbers of repeats and of terms become.
    pub(super) fn planned(&self, changes: &PlannedChanges) -> (u64, u64) {
        (self.repeated.saturating_add_signed(changes.repeated), self.tokens.saturating_add_signed(changes.tokens))
    }

    /// Enters a passage of a datum that is new in an index that is being loaded. Whether the datum is its owner.
    pub(super) fn enter(&mut self, passage: PassageHash) -> bool {
        let is_new = !self.said.contains(&passage);
        if is_new {
            self.said.insert(passage);
        } else {
            self.repeated += 1;
        }
        is_new
    }

    /// Counts terms of passages that were [entered](Self::enter).
    pub(super) fn add_tokens(&mut self, tokens: u64) {
        self.tokens += tokens;
    }

    /// How many passages are said, equal ones counted once.
    pub(super) fn distinct(&self) -> u64 {
        self.said.len() as u64
    }

    /// How many of them are repeats.
    pub(super) fn repeated(&self) -> u64 {
        self.repeated
    }

    /// How many are said, each as often as it is.
    pub(super) fn passages(&self) -> u64 {
        self.distinct() + self.repeated
    }

    /// How many terms those have that are counted once.
    pub(super) fn tokens(&self) -> u64 {
        self.tokens
    }

    /// Begins a batch in which these data are removed, whether they are added again in it or not.
    pub(super) fn plan<'a>(&'a self, removed: &'a HashSet<DatumId>) -> Plan<'a> {
        Plan { owners: self, removed, changes: PlannedChanges::default() }
    }

    /// Applies a batch that has become visible.
    pub(super) fn apply(&mut self, changes: &PlannedChanges) {
        for (passage, is_said) in &changes.said {
            if *is_said {
                self.said.insert(*passage);
            } else {
                self.said.remove(passage);
            }
        }
        (self.repeated, self.tokens) = self.planned(changes);
    }
}

impl Plan<'_> {
    /// Removes what a datum was indexed as. `repeating` tells who repeats a passage.
    pub(super) fn remove<E>(
        &mut self,
        indexed: IndexedDatum,
        mut repeating: impl FnMut(PassageHash) -> Result<Vec<DatumId>, E>,
    ) -> Result<(), E> {
        let changes = &mut self.changes;
        let owned: HashSet<PassageHash> = indexed.owned.iter().map(|(hash, ..)| *hash).collect();
        changes.repeated -= indexed.repeated.iter().filter(|hash| !owned.contains(hash)).count() as i64;
        for (hash, text, tokens) in indexed.owned {
            let successor = repeating(hash)?.into_iter().filter(|id| !self.removed.contains(id)).min();
            changes.said.insert(hash, successor.is_some());
            match successor {
                Some(id) => {
                    changes.repeated -= 1;
                    changes.documents.push((id, Some(hash), Some(Passage::new(&text))));
                }
                None => changes.tokens -= tokens as i64,
            }
        }
        Ok(())
    }

    /// Adds a datum with its passages.
    pub(super) fn add(&mut self, id: DatumId, passages: &[String]) {
        let changes = &mut self.changes;
        let mut own = HashSet::with_capacity(passages.len());
        for passage in passages {
            let hash = self.owners.hasher.hash(passage);
            if !own.insert(hash) {
                continue;
            }
            let is_said = changes.said.get(&hash).copied().unwrap_or_else(|| self.owners.said.contains(&hash));
            if is_said {
                changes.repeated += 1;
                changes.documents.push((id, Some(hash), None));
            } else {
                let passage = Passage::new(passage);
                changes.said.insert(hash, true);
                changes.tokens += passage.terms().count() as i64;
                changes.documents.push((id, Some(hash), Some(passage)));
            }
        }
        if own.is_empty() {
            changes.documents.push((id, None, None));
        }
    }

    /// Ends the plan, so that its changes can be applied.
    pub(super) fn into_changes(self) -> PlannedChanges {
        self.changes
    }
}
