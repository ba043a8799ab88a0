//! The standing answer: computed once for each state of the index, however often it is asked for.

use std::sync::{Arc, Mutex, PoisonError};

use super::{Answer, Calibration, answer_calibrated};
use crate::index::{Index, IndexError};
use crate::question::Question;

/// One question whose answer is kept until the index changes.
pub struct StandingAnswer {
    question: Question,
    calibration: Calibration,
    index: Arc<Index>,
    last: Mutex<Option<(u64, Arc<Answer>)>>,
}

impl StandingAnswer {
    /// A standing question to an index.
    #[must_use]
    pub fn new(question: Question, calibration: impl Into<Calibration>, index: Arc<Index>) -> Self {
        Self { question, calibration: calibration.into(), index, last: Mutex::new(None) }
    }

    /// The question.
    #[must_use]
    pub fn question(&self) -> &Question {
        &self.question
    }

    /// Its answer, if it has been computed for the current state of the index and no thread is computing it. Never waits.
    #[must_use]
    pub fn known(&self) -> Option<Arc<Answer>> {
        let last = self.last.try_lock().ok()?;
        let (generation, answer) = last.as_ref()?;
        (*generation == self.index.snapshot().generation).then(|| Arc::clone(answer))
    }

    /// Its answer from the current state of the index.
    ///
    /// A caller waits while another computes the answer and then gets that one, so a state of the index costs one search.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn answer(&self) -> Result<Arc<Answer>, IndexError> {
        Ok(self.answer_and_generation()?.0)
    }

    /// The same, and the generation of the index that it is from.
    pub(super) fn answer_and_generation(&self) -> Result<(Arc<Answer>, u64), IndexError> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        // The snapshot is taken under the lock, so that an older one cannot replace the answer from a newer one.
        let snapshot = self.index.snapshot();
        if let Some((generation, answer)) = &*last
            && *generation == snapshot.generation
        {
            return Ok((Arc::clone(answer), *generation));
        }
        let answer = Arc::new(answer_calibrated(&self.question, &snapshot, &self.calibration)?);
        *last = Some((snapshot.generation, Arc::clone(&answer)));
        Ok((answer, snapshot.generation))
    }

    /// Another question to the same index.
    pub(super) fn of_other(&self, question: Question) -> Self {
        Self::new(question, self.calibration.clone(), Arc::clone(&self.index))
    }

    /// What it is asked of.
    pub(super) fn index(&self) -> &Index {
        &self.index
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datum::{Datum, DatumId, Timestamp};
    use crate::process::process;
    use crate::queue::Job;
    use crate::store::Change;

    fn put(text: &str) -> Change {
        let now = Timestamp::now();
        let job = Job { id: DatumId::generate(), datum: Datum::accepted_before(text), received_at: now, trace: None };
        Change::Put(Box::new(process(&job, now)))
    }

    #[test]
    fn a_state_of_the_index_costs_one_search_however_many_ask() {
        let index = Arc::new(Index::new().expect("a new index"));
        let standing =
            StandingAnswer::new("How is entropy reversed?".parse().expect("a question"), 0.0, Arc::clone(&index));
        let asked_by_many = || {
            let answers: Vec<Arc<Answer>> = std::thread::scope(|scope| {
                let asking: Vec<_> =
                    (0..8).map(|_| scope.spawn(|| standing.answer().expect("a readable index"))).collect();
                asking.into_iter().map(|asking| asking.join().expect("no panic")).collect()
            });
            assert!(answers.iter().all(|answer| Arc::ptr_eq(answer, &answers[0])), "computed once for all");
            assert!(standing.known().is_some_and(|known| Arc::ptr_eq(&known, &answers[0])), "kept");
            Arc::clone(&answers[0])
        };
        let mut last = asked_by_many();
        for learned in 1..=3 {
            index.apply(&[put("Entropy is reversed by gathering starlight.")]).expect("applied");
            assert!(standing.known().is_none(), "the index has changed");
            let answer = asked_by_many();
            assert_eq!(answer.learned, learned);
            assert!(!Arc::ptr_eq(&answer, &last));
            last = answer;
        }
    }
}
