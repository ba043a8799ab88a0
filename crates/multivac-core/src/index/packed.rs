//! A set that takes little more memory than what is in it: most of it lies sorted in one piece, and what came into it and
//! went out of it since that was sorted lies beside it.

use std::collections::HashSet;
use std::hash::Hash;
use std::mem;

/// So many changes lie beside the sorted piece at least before it is sorted again.
const LEAST_CHANGES: usize = 1 << 12;

/// And at least this share of it, so that sorting again costs each element the same however many there are.
const SHARE: usize = 8;

/// See the [module](self).
#[derive(Debug, Clone)]
pub(super) struct PackedSet<T> {
    sorted: Vec<T>,
    /// What came into it and is not in the sorted piece.
    added: HashSet<T>,
    /// What went out of it and still is in the sorted piece.
    removed: HashSet<T>,
}

impl<T> Default for PackedSet<T> {
    fn default() -> Self {
        Self { sorted: Vec::new(), added: HashSet::new(), removed: HashSet::new() }
    }
}

impl<T: Copy + Ord + Hash> PackedSet<T> {
    pub(super) fn len(&self) -> usize {
        self.sorted.len() + self.added.len() - self.removed.len()
    }

    pub(super) fn contains(&self, element: &T) -> bool {
        self.added.contains(element) || self.is_sorted_in(element) && !self.removed.contains(element)
    }

    /// Whether it is in the sorted piece. What comes last is mostly the greatest, as ids are.
    fn is_sorted_in(&self, element: &T) -> bool {
        self.sorted.last().is_some_and(|last| element <= last) && self.sorted.binary_search(element).is_ok()
    }

    pub(super) fn insert(&mut self, element: T) {
        if self.is_sorted_in(&element) {
            self.removed.remove(&element);
        } else if self.added.insert(element) {
            self.sort_if_due();
        }
    }

    pub(super) fn remove(&mut self, element: &T) {
        if !self.added.remove(element) && self.is_sorted_in(element) {
            self.removed.insert(*element);
            self.sort_if_due();
        }
    }

    /// All of it, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = T> {
        let sorted = self.sorted.iter().filter(|element| !self.removed.contains(element));
        sorted.chain(&self.added).copied()
    }

    fn sort_if_due(&mut self) {
        if self.added.len() + self.removed.len() > LEAST_CHANGES.max(self.sorted.len() / SHARE) {
            let removed = mem::take(&mut self.removed);
            if !removed.is_empty() {
                self.sorted.retain(|element| !removed.contains(element));
            }
            let mut added: Vec<T> = mem::take(&mut self.added).into_iter().collect();
            added.sort_unstable();
            self.merge(&added);
        }
    }

    /// Merges sorted elements into the sorted piece, from the end on, so that no second piece is needed.
    fn merge(&mut self, added: &[T]) {
        let (mut left, mut right) = (self.sorted.len(), added.len());
        let Some(&any) = added.first() else { return };
        self.sorted.reserve_exact(right);
        self.sorted.resize(left + right, any);
        while right > 0 {
            let from_left = left > 0 && self.sorted[left - 1] > added[right - 1];
            let place = left + right - 1;
            if from_left {
                left -= 1;
                self.sorted[place] = self.sorted[left];
            } else {
                right -= 1;
                self.sorted[place] = added[right];
            }
        }
    }
}

impl<T: Copy + Ord + Hash> FromIterator<T> for PackedSet<T> {
    fn from_iter<I: IntoIterator<Item = T>>(elements: I) -> Self {
        let mut sorted: Vec<T> = elements.into_iter().collect();
        sorted.sort_unstable();
        sorted.dedup();
        sorted.shrink_to_fit();
        Self { sorted, ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn it_holds_what_a_set_holds() {
        let mut random = fastrand::Rng::with_seed(1);
        let (mut packed, mut set) = (PackedSet::default(), BTreeSet::new());
        // More than lie beside the sorted piece, so that it is sorted again many times.
        for step in 0..20 * LEAST_CHANGES {
            let element = random.u64(0..3 * LEAST_CHANGES as u64);
            if random.u8(0..3) > 0 {
                packed.insert(element);
                set.insert(element);
            } else {
                packed.remove(&element);
                set.remove(&element);
            }
            assert_eq!(packed.contains(&element), set.contains(&element));
            if step % LEAST_CHANGES == 0 {
                assert_eq!((packed.len(), packed.iter().collect()), (set.len(), set.clone()));
            }
        }
        assert!(!packed.sorted.is_empty());
        let anew: PackedSet<u64> = packed.iter().chain(packed.iter()).collect();
        assert_eq!((anew.len(), anew.iter().collect()), (set.len(), set));
    }
}
