//! Jobs and data to feed and to store.

use multivac_core::datum::{Datum, DatumId, Timestamp};
use multivac_core::queue::{Job, Submission};
use multivac_core::store::StoredDatum;

/// A job of this text that was accepted now.
pub fn job(text: &str) -> Job {
    Job { id: DatumId::generate(), datum: Datum::accepted_before(text), received_at: Timestamp::now(), trace: None }
}

/// The submission of a job, without an idempotency key.
pub fn submission_of(job: &Job) -> Submission {
    Submission { job: job.clone(), idempotency_key: None }
}

/// A submission of this text.
pub fn submission(text: &str) -> Submission {
    submission_of(&job(text))
}

/// A learned datum of this text, with a value in every field that may be empty.
pub fn stored_datum(text: &str) -> StoredDatum {
    StoredDatum {
        id: DatumId::generate(),
        text: text.into(),
        passages: vec!["a first passage".into(), "a second".into()],
        received_at: Timestamp::from_millis(1_795_406_022_123),
        processed_at: Timestamp::from_millis(1_795_406_022_987),
        trace: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
    }
}
