//! Link 3: from a job's text to a stored datum. Pure: no I/O, and the same text always gives the same result.

mod lines;
mod markup;
mod normalise;
mod passages;
mod plain;
mod references;
mod sentences;
mod shapes;

pub use lines::MAX_ANSWER_CHARS;
pub use markup::markup;
pub use passages::passages;
pub use plain::Plain;
pub use sentences::{Sentence, answerable, sentences};

use crate::datum::Timestamp;
use crate::queue::Job;
use crate::store::StoredDatum;

/// Turns a job of the queue into the datum that the store keeps.
#[must_use]
pub fn process(job: &Job, now: Timestamp) -> StoredDatum {
    let text = job.datum.as_str();
    StoredDatum {
        id: job.id,
        text: text.to_owned(),
        passages: passages(text),
        received_at: job.received_at,
        processed_at: now,
        trace: job.trace.clone(),
    }
}
