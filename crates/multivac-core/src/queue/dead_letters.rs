//! Dead letters as the port shows them: one whole, and many without their text.

use super::Job;
use crate::datum::{DatumId, Timestamp};

/// A job whose attempts are used up, kept with what went wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// The job, its text byte for byte.
    pub job: Job,
    /// How many attempts were made.
    pub attempts: u32,
    /// The error of the last attempt.
    pub error: String,
    /// When its last attempt failed.
    pub died_at: Timestamp,
}

/// A dead letter in a list: without its text, so that a long list takes little memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetterSummary {
    /// The datum's id.
    pub id: DatumId,
    /// When it was accepted.
    pub received_at: Timestamp,
    /// How long its text is.
    pub size_bytes: u64,
    /// How many attempts were made.
    pub attempts: u32,
    /// The error of the last attempt, or how it begins: a panic may have quoted the text.
    pub error: String,
    /// When its last attempt failed.
    pub died_at: Timestamp,
    /// Where it stands in the list.
    pub place: DeadLetterPlace,
}

/// An adapter's own name for a place in its list of dead letters. It means the same when the letter there is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetterPlace(pub String);

/// How much of an error a summary has.
const ERROR_MAX_CHARS: usize = 1_000;

impl DeadLetterSummary {
    /// What is listed of a dead letter at this place.
    pub(crate) fn new(letter: DeadLetter, place: DeadLetterPlace) -> Self {
        let DeadLetter { job, attempts, mut error, died_at } = letter;
        if let Some((end, _)) = error.char_indices().nth(ERROR_MAX_CHARS) {
            error.truncate(end);
            error.shrink_to_fit();
            error.push('…');
        }
        let size_bytes = job.datum.as_str().len() as u64;
        Self { id: job.id, received_at: job.received_at, size_bytes, attempts, error, died_at, place }
    }
}
