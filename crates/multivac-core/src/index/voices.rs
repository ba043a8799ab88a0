//! One voice for each text: a passage that was said before is not indexed again, so that repeating it changes neither
//! how rare its words are nor how well it answers.
//!
//! A passage is indexed under the id of one datum that says it. When that one leaves, the next takes its place.

use std::collections::hash_map::RandomState;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::BuildHasher;

use crate::datum::DatumId;

/// A passage as a number. Two passages have the same one with a chance of 1 to 2^64, which
/// nobody can bring about on purpose: the hash (SipHash) has a random key.
type Voice = u64;

/// Who says what.
#[derive(Default)]
pub(super) struct Voices {
    hasher: RandomState,
    /// The datum under whose id a passage is indexed.
    first: HashMap<Voice, DatumId>,
    /// The others that say it.
    others: HashMap<Voice, BTreeSet<DatumId>>,
    /// What those others say that is indexed under another's id.
    echoes: HashMap<DatumId, Vec<Voice>>,
    /// How many such passages there are.
    repeated: u64,
}

/// What a batch of changes makes of the voices, once it is visible.
pub(super) struct Plan<'a> {
    voices: &'a Voices,
    leaving: &'a HashSet<DatumId>,
    first: HashMap<Voice, Option<DatumId>>,
    heirs: Vec<(Voice, DatumId)>,
    again: Vec<(Voice, DatumId)>,
}

/// A [`Plan`] that is done with looking at the voices.
pub(super) struct Planned {
    first: HashMap<Voice, Option<DatumId>>,
    heirs: Vec<(Voice, DatumId)>,
    again: Vec<(Voice, DatumId)>,
}

impl Voices {
    /// Passages that are not indexed, since another datum says the same.
    pub(super) fn repeated(&self) -> u64 {
        self.repeated
    }

    /// Begins a batch in which these data leave, to come back with other text or not.
    pub(super) fn plan<'a>(&'a self, leaving: &'a HashSet<DatumId>) -> Plan<'a> {
        Plan { voices: self, leaving, first: HashMap::new(), heirs: Vec::new(), again: Vec::new() }
    }

    /// Makes a batch true.
    pub(super) fn adopt(&mut self, planned: Planned, leaving: &HashSet<DatumId>) {
        for id in leaving {
            for voice in self.echoes.remove(id).unwrap_or_default() {
                self.remove_other(voice, *id);
            }
        }
        for (voice, heir) in planned.heirs {
            self.remove_other(voice, heir);
            if let Some(said) = self.echoes.get_mut(&heir) {
                said.retain(|other| *other != voice);
                if said.is_empty() {
                    self.echoes.remove(&heir);
                }
            }
        }
        for (voice, id) in planned.first {
            match id {
                Some(id) => self.first.insert(voice, id),
                None => self.first.remove(&voice),
            };
        }
        for (voice, id) in planned.again {
            if self.others.entry(voice).or_default().insert(id) {
                self.repeated += 1;
                self.echoes.entry(id).or_default().push(voice);
            }
        }
    }

    fn remove_other(&mut self, voice: Voice, id: DatumId) {
        if let Some(others) = self.others.get_mut(&voice) {
            self.repeated -= u64::from(others.remove(&id));
            if others.is_empty() {
                self.others.remove(&voice);
            }
        }
    }

    /// To the letter: whoever takes another's place says what it said, word for word.
    fn of(&self, passage: &str) -> Voice {
        self.hasher.hash_one(passage)
    }
}

impl Plan<'_> {
    /// A passage that was indexed under the id of a leaving datum leaves; who says it too takes its place.
    pub(super) fn leave(&mut self, passage: &str) -> Option<DatumId> {
        let voice = self.voices.of(passage);
        let others = self.voices.others.get(&voice);
        let heir = others.and_then(|others| others.iter().find(|id| !self.leaving.contains(id)).copied());
        self.first.insert(voice, heir);
        self.heirs.extend(heir.map(|heir| (voice, heir)));
        heir
    }

    /// A datum says a passage: whether it is to be indexed.
    pub(super) fn say(&mut self, id: DatumId, passage: &str) -> bool {
        let voice = self.voices.of(passage);
        let first = self.first.get(&voice).copied().unwrap_or_else(|| self.voices.first.get(&voice).copied());
        match first {
            None => {
                self.first.insert(voice, Some(id));
                true
            }
            Some(first) => {
                if first != id {
                    self.again.push((voice, id));
                }
                false
            }
        }
    }

    /// What is to be made true.
    pub(super) fn done(self) -> Planned {
        Planned { first: self.first, heirs: self.heirs, again: self.again }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn say(voices: &mut Voices, id: DatumId, passage: &str) -> bool {
        let leaving = HashSet::new();
        let mut plan = voices.plan(&leaving);
        let indexed = plan.say(id, passage);
        let planned = plan.done();
        voices.adopt(planned, &leaving);
        indexed
    }

    fn leave(voices: &mut Voices, id: DatumId, passage: &str) -> Option<DatumId> {
        let leaving = HashSet::from([id]);
        let mut plan = voices.plan(&leaving);
        let heir = plan.leave(passage);
        let planned = plan.done();
        voices.adopt(planned, &leaving);
        heir
    }

    #[test]
    fn the_same_text_is_indexed_once_and_outlives_the_first_to_say_them() {
        let mut voices = Voices::default();
        let [one, two, three] = [(); 3].map(|()| DatumId::generate());
        assert!(say(&mut voices, one, "Let there be light!"));
        assert!(!say(&mut voices, two, "Let there be light!"));
        assert!(!say(&mut voices, three, "Let there be light!"));
        assert!(say(&mut voices, three, "Let there be night."));
        assert_eq!(voices.repeated(), 2);
        assert_eq!(leave(&mut voices, one, "Let there be light!"), Some(two));
        assert_eq!(voices.repeated(), 1);
        assert_eq!(leave(&mut voices, two, "Let there be light!"), Some(three));
        assert_eq!(leave(&mut voices, three, "Let there be light!"), None);
        assert!(voices.others.is_empty() && voices.echoes.is_empty());
        assert!(say(&mut voices, one, "Let there be light!"));
    }

    #[test]
    fn who_leaves_in_the_same_batch_is_no_heir() {
        let mut voices = Voices::default();
        let [one, two] = [(); 2].map(|()| DatumId::generate());
        say(&mut voices, one, "one voice");
        say(&mut voices, two, "one voice");
        let leaving = HashSet::from([one, two]);
        let mut plan = voices.plan(&leaving);
        assert_eq!(plan.leave("one voice"), None);
        assert!(plan.say(two, "one voice"), "it comes back in the same batch");
        let planned = plan.done();
        voices.adopt(planned, &leaving);
        assert_eq!((voices.repeated(), voices.first.len()), (0, 1));
    }
}
