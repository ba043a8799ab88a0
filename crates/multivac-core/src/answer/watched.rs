//! Answers that somebody watches: what they are now, how they changed of late, and which datum tipped them.
//!
//! A watched answer is worked out once for each state of the index, however many watch it, by whoever calls
//! [`WatchedAnswer::refresh`]; states that the index has left in the meantime are passed over. It has changed when its text
//! has, or when a datum is retracted that it was said to be a sentence of: more evidence for the same sentence is no change. Every change has an id, so that who was away for less than
//! a minute can be told what was missed.
//!
//! Nothing grows with the number of those who watch, and little with that of the questions: each has its last changes, within
//! bounds, and is forgotten when nobody has watched it for a minute.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::Instant;

use super::{Answer, Evidence, StandingAnswer};
use crate::datum::DatumId;
use crate::index::{Index, IndexError, Kind, RecentChange};
use crate::question::Question;

/// How long changes are kept for those who were away.
pub(super) const KEPT: Duration = Duration::from_secs(60);

/// Changes of one question that are kept at most: more than ten a second, for as long as they are kept.
const MAX_CHANGES: usize = 1_000;

/// The same in bytes of text, about: from 45 changes, if their evidence is as long as can be, to as many as above.
const MAX_BYTES: usize = 4 << 20;

/// Data that an answer was said to be a sentence of that are remembered at most.
const MAX_CARRIERS: usize = 32;

/// Names a change of an answer. It means nothing to another process, nor to this one once the question was forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChangeId {
    /// Chosen at random when the question began to be watched.
    epoch: u64,
    /// 0 is what the answer was then.
    number: u64,
}

impl fmt::Display for ChangeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{}", self.epoch, self.number)
    }
}

/// A text that is no [`ChangeId`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this names no change of an answer")]
pub struct NoChangeId;

impl FromStr for ChangeId {
    type Err = NoChangeId;

    fn from_str(text: &str) -> Result<Self, NoChangeId> {
        let (epoch, number) = text.split_once('-').ok_or(NoChangeId)?;
        let epoch = u64::from_str_radix(epoch, 16).map_err(|_| NoChangeId)?;
        let id = Self { epoch, number: number.parse().map_err(|_| NoChangeId)? };
        // As it is written, so that each has one name.
        if id.to_string() == text { Ok(id) } else { Err(NoChangeId) }
    }
}

/// What an answer has become.
#[derive(Debug)]
pub struct AnswerChange {
    /// Its name.
    pub id: ChangeId,
    /// The answer since then.
    pub answer: Arc<Answer>,
    /// The answer until then; `None` for what it is at present, for one who knows nothing yet.
    pub before: Option<Arc<Answer>>,
    /// What made the difference, if that can be told.
    pub because: Option<RecentChange>,
    /// The generation of the index that it was seen in.
    pub generation: u64,
    /// How it is sent, as the first has written it who sent it.
    pub written: OnceLock<Bytes>,
    at: Instant,
}

/// An answer that is watched.
pub struct WatchedAnswer {
    standing: Arc<StandingAnswer>,
    epoch: u64,
    history: Mutex<History>,
    /// Tells of each change; its receivers are those who watch.
    news: watch::Sender<()>,
}

struct History {
    /// What the answer is, as one who knows nothing yet is told; `None` before it was worked out once.
    present: Option<Arc<AnswerChange>>,
    /// The last changes, oldest first, and how much text they hold.
    changes: VecDeque<Arc<AnswerChange>>,
    bytes: usize,
    /// The data that the answer was said to be a sentence of since it last changed; the last of them, if they were many.
    carriers: VecDeque<DatumId>,
    /// When somebody was last seen to watch.
    watched_at: Instant,
}

impl WatchedAnswer {
    fn new(standing: Arc<StandingAnswer>) -> Self {
        let history = History {
            present: None,
            changes: VecDeque::new(),
            bytes: 0,
            carriers: VecDeque::new(),
            watched_at: Instant::now(),
        };
        Self { standing, epoch: fastrand::u64(..), history: Mutex::new(history), news: watch::Sender::default() }
    }

    /// The question.
    #[must_use]
    pub fn question(&self) -> &Question {
        self.standing.question()
    }

    /// Works the answer out for the current state of the index, unless that is done, and notes whether it has changed. Takes
    /// processor time.
    ///
    /// # Errors
    /// When the index cannot be read; the answer stays as it was known.
    pub fn refresh(&self) -> Result<(), IndexError> {
        let (answer, generation) = self.standing.answer_and_generation()?;
        let mut history = self.history();
        let number = match &history.present {
            // Another thread was faster.
            Some(present) if present.generation >= generation => return Ok(()),
            Some(present)
                if present.answer.text() == answer.text() && history.carriers_are_in(self.standing.index()) =>
            {
                present.id.number
            }
            Some(present) => present.id.number + 1,
            None => 0,
        };
        let change = |before, because| AnswerChange {
            id: ChangeId { epoch: self.epoch, number },
            answer: Arc::clone(&answer),
            before,
            because,
            generation,
            written: OnceLock::new(),
            at: Instant::now(),
        };
        let last = history.present.replace(Arc::new(change(None, None)));
        history.note_carrier(&answer, last.as_ref().is_none_or(|last| last.id.number != number));
        if let Some(last) = last.filter(|last| last.id.number != number) {
            let changed = self.standing.index().changes_between(last.generation, generation);
            let because = changed.and_then(|changed| tipped(&last.answer, &answer, &changed));
            history.keep(Arc::new(change(Some(Arc::clone(&last.answer)), because)));
            drop(history);
            self.news.send_replace(());
        }
        Ok(())
    }

    /// Whether the index has changed since the answer was worked out.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        let generation = self.standing.index().snapshot().generation;
        self.history().present.as_ref().is_none_or(|present| present.generation != generation)
    }

    /// What the answer is, for one who knows nothing yet; `None` before the first [`Self::refresh`].
    #[must_use]
    pub fn present(&self) -> Option<Arc<AnswerChange>> {
        self.history().present.clone()
    }

    /// All changes after this one, oldest first; `None` if they are not known, or not all any more.
    #[must_use]
    pub fn changes_after(&self, id: ChangeId) -> Option<Vec<Arc<AnswerChange>>> {
        let mut history = self.history();
        history.forget_old();
        let newest = history.present.as_ref().map(|present| present.id.number)?;
        let kept = history.changes.len() as u64;
        let missed = newest.checked_sub(id.number).filter(|missed| *missed <= kept && id.epoch == self.epoch)?;
        let from = (kept - missed) as usize;
        Some(history.changes.range(from..).cloned().collect())
    }

    /// Whether somebody watches, or did a moment ago.
    fn is_wanted(&self) -> bool {
        let mut history = self.history();
        if self.news.receiver_count() > 0 {
            history.watched_at = Instant::now();
        }
        history.watched_at.elapsed() < KEPT
    }

    fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl History {
    fn carriers_are_in(&self, index: &Index) -> bool {
        self.carriers.iter().all(|id| index.contains(*id))
    }

    fn note_carrier(&mut self, answer: &Answer, has_changed: bool) {
        if has_changed {
            self.carriers.clear();
        }
        if let [carrier] = carrying(answer)
            && !self.carriers.contains(&carrier.id)
        {
            self.carriers.truncate(MAX_CARRIERS - 1);
            self.carriers.push_front(carrier.id);
        }
    }

    fn keep(&mut self, change: Arc<AnswerChange>) {
        self.bytes += change.size();
        self.changes.push_back(change);
        self.forget_old();
    }

    fn forget_old(&mut self) {
        while let Some(oldest) = self.changes.front()
            && (self.changes.len() > MAX_CHANGES || self.bytes > MAX_BYTES || oldest.at.elapsed() > KEPT)
        {
            self.bytes -= oldest.size();
            self.changes.pop_front();
        }
    }
}

impl AnswerChange {
    /// Whether nothing that it shows was retracted since. What it was before is not looked at: who is told of that had been
    /// shown it.
    #[must_use]
    pub fn still_holds(&self, index: &Index) -> bool {
        index.snapshot().generation == self.generation
            || self.answer.evidence.iter().all(|evidence| index.contains(evidence.id))
    }

    /// Its answer without the evidence that was retracted since; `None` if that is what it is a sentence of.
    #[must_use]
    pub fn without_retracted(&self, index: &Index) -> Option<Answer> {
        carrying(&self.answer).iter().all(|evidence| index.contains(evidence.id)).then(|| {
            let mut answer = Answer::clone(&self.answer);
            answer.evidence.retain(|evidence| index.contains(evidence.id));
            answer
        })
    }

    /// Bytes of text that it keeps, about: of both answers, and once more as they are written.
    fn size(&self) -> usize {
        let of = |answer: &Answer| answer.evidence.iter().map(|evidence| evidence.passage.len() + 300).sum::<usize>();
        2 * (of(&self.answer) + self.before.as_deref().map_or(0, of) + 500)
    }
}

/// Which of the changes to the index made one answer of another: the datum that the new one rests on, if it came; that of the
/// old one, if it left; or else one that spoke for or against them. `None` if several came and left that show nowhere: they
/// have shifted how much words weigh, and none did it alone.
fn tipped(before: &Answer, answer: &Answer, changed: &[RecentChange]) -> Option<RecentChange> {
    // The last change of a datum is what counts.
    let last: HashMap<DatumId, Kind> = changed.iter().map(|change| (change.id, change.kind)).collect();
    let among = |shown: &[Evidence], kind| {
        let found = shown.iter().find(|evidence| last.get(&evidence.id) == Some(&kind));
        found.map(|evidence| RecentChange { id: evidence.id, kind })
    };
    let alone =
        || last.iter().next().filter(|_| last.len() == 1).map(|(id, kind)| RecentChange { id: *id, kind: *kind });
    among(carrying(answer), Kind::Learned)
        .or_else(|| among(carrying(before), Kind::Retracted))
        .or_else(|| among(&answer.evidence, Kind::Learned))
        .or_else(|| among(&before.evidence, Kind::Retracted))
        .or_else(alone)
}

/// The evidence that an answer is a sentence of.
fn carrying(answer: &Answer) -> &[Evidence] {
    &answer.evidence[..answer.evidence.len().min(usize::from(answer.answer.is_some()))]
}

/// One who watches an answer.
pub struct Watcher {
    /// What is watched.
    pub answer: Arc<WatchedAnswer>,
    news: watch::Receiver<()>,
}

impl Watcher {
    /// Waits for changes that were noted after the last call.
    pub async fn changed(&mut self) {
        // Its sender lives as long as `self.answer`.
        let _ = self.news.changed().await;
    }
}

/// As many different questions are watched as may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("as many different questions are watched as may be at once")]
pub struct TooManyWatched;

/// All answers that somebody watches.
pub struct WatchedAnswers {
    standing: Arc<StandingAnswer>,
    max: usize,
    by_question: Mutex<HashMap<Question, Arc<WatchedAnswer>>>,
}

impl WatchedAnswers {
    /// So many different questions at most, besides the standing one.
    #[must_use]
    pub fn new(standing: Arc<StandingAnswer>, max: usize) -> Self {
        Self { standing, max, by_question: Mutex::default() }
    }

    /// Watches a question; the standing one if none is given.
    ///
    /// # Errors
    /// When there is no room for another question. There is again when nobody watches one of the others any more.
    pub fn watch(&self, question: Option<Question>) -> Result<Watcher, TooManyWatched> {
        let question = question.unwrap_or_else(|| self.standing.question().clone());
        let mut all = self.by_question();
        if !all.contains_key(&question) {
            let standing = if question == *self.standing.question() {
                Arc::clone(&self.standing)
            } else {
                self.make_room(&mut all)?;
                Arc::new(self.standing.of_other(question.clone()))
            };
            all.insert(question.clone(), Arc::new(WatchedAnswer::new(standing)));
        }
        let answer = Arc::clone(all.get(&question).expect("it was put there if it was not there"));
        // Under the lock, so that nobody takes its place first.
        Ok(Watcher { news: answer.news.subscribe(), answer })
    }

    /// Forgets the question that has not been watched for the longest time, if there are too many.
    fn make_room(&self, all: &mut HashMap<Question, Arc<WatchedAnswer>>) -> Result<(), TooManyWatched> {
        let standing = self.standing.question();
        if all.keys().filter(|question| *question != standing).count() < self.max {
            return Ok(());
        }
        let unwatched =
            all.iter().filter(|(question, watched)| *question != standing && watched.news.receiver_count() == 0);
        let oldest =
            unwatched.min_by_key(|(_, watched)| watched.history().watched_at).map(|(question, _)| question.clone());
        all.remove(&oldest.ok_or(TooManyWatched)?);
        Ok(())
    }

    /// The answers that have to be [refreshed](WatchedAnswer::refresh). Forgets those that nobody watches any more.
    #[must_use]
    pub fn behind(&self) -> Vec<Arc<WatchedAnswer>> {
        let mut all = self.by_question();
        all.retain(|_, watched| watched.is_wanted());
        all.values().filter(|watched| watched.is_behind()).cloned().collect()
    }

    fn by_question(&self) -> MutexGuard<'_, HashMap<Question, Arc<WatchedAnswer>>> {
        self.by_question.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[path = "watched_tests.rs"]
mod tests;
