//! The standing answer: worked out once for each state of the index, however often it is asked for.

use std::sync::{Arc, Mutex, PoisonError};

use super::{Answer, answer};
use crate::index::{Index, IndexError};
use crate::question::Question;

/// One question whose answer is kept until the index changes.
pub struct Standing {
    question: Question,
    min_confidence: f64,
    index: Arc<Index>,
    last: Mutex<Option<(u64, Arc<Answer>)>>,
}

impl Standing {
    /// A standing question to an index.
    #[must_use]
    pub fn new(question: Question, min_confidence: f64, index: Arc<Index>) -> Self {
        Self { question, min_confidence, index, last: Mutex::new(None) }
    }

    /// The question.
    #[must_use]
    pub fn question(&self) -> &Question {
        &self.question
    }

    /// Its answer, where it was worked out for the index as it is now and nobody is at it.
    #[must_use]
    pub fn known(&self) -> Option<Arc<Answer>> {
        let last = self.last.try_lock().ok()?;
        let (generation, answer) = last.as_ref()?;
        (*generation == self.index.snapshot().generation).then(|| Arc::clone(answer))
    }

    /// Its answer from the index as it is now.
    ///
    /// Who asks while another works it out waits for that one, so a state of the index costs one search.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn answer(&self) -> Result<Arc<Answer>, IndexError> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        // Taken under the lock: an older snapshot must not replace a newer one's answer.
        let snapshot = self.index.snapshot();
        if let Some((generation, answer)) = &*last
            && *generation == snapshot.generation
        {
            return Ok(Arc::clone(answer));
        }
        let answer = Arc::new(answer(&self.question, &snapshot, self.min_confidence)?);
        *last = Some((snapshot.generation, Arc::clone(&answer)));
        Ok(answer)
    }
}
