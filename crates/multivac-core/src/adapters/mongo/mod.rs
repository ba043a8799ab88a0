//! All of MongoDB: the truth, one document a datum. MongoDB 4.4 or newer, a replica set or a sharded cluster.
//!
//! The database is the one that the URL names, `multivac` if it names none; its collections are
//!
//! | collection | documents | index |
//! | --- | --- | --- |
//! | `entropy` | `{_id, data, passages, received_at, processed_at, trace}`: a learned datum | |
//! | | `{_id, received_at, retracted_at}`: a tombstone | `retracted_at`, on tombstones alone |
//! | | `{_id: ObjectId, data}`: a datum that the original application wrote, read as it is | |
//! | `replicas` | `{_id, position, seen_at, ended}`: how far the index of an api replica has come | `seen_at`, deletes those that have ended |
//! | `backups` | `{_id: "backup" or "drill", completed_at}`: the last one that succeeded | |
//! | `indexes` | `{_id, position, collection, marked_at}`: how far an index has come that is kept | `marked_at`, deletes old ones |
//!
//! How the port's promises are kept:
//!
//! - **Durable**: every write waits for the majority, and the driver repeats it once if the connection breaks; every
//!   read is of what the majority has, on the primary. So nothing that was seen is ever rolled back. What a URL says of
//!   read and write concerns is overruled.
//! - **Idempotent**: `_id` is unique, and a datum is inserted, never updated.
//! - **Retracted stays retracted**: retracting replaces the document under the same `_id`, in one atomic step.
//! - **In time**: a call that the server does not reply to fails after seconds (`calls.rs`), however the server hangs.
//! - **The right one fails**: what the server refuses is the fault of a document where its code is one of
//!   `DOCUMENT_FAULTS`. All else passes, or somebody has to mend it for all documents alike, so their data wait.
//! - **Followed without a gap**: a [`Position`](crate::store::Position) is the cluster time of an oplog entry that the
//!   majority has; the scan after it sees all up to it, and a change stream from it on shows all after it. An event leaves
//!   out what was updated, since with the whole document beside it it could be larger than MongoDB sends.
//! - **Waited for until silent**: see `sightings.rs`.

mod backups;
mod calls;
mod changes;
mod documents;
mod examine;
mod marks;
mod member;
mod parts;
mod rights;
mod sightings;
mod snapshot;
mod store;
mod url;

use std::time::Duration;

use mongodb::Client;
use mongodb::error::{Error, ErrorKind, IndexedWriteError, WriteFailure};
use mongodb::options::{Acknowledgment, ClientOptions, ReadConcern, ReadPreference, SelectionCriteria, WriteConcern};

use crate::store::StoreError;
use url::does_not_resolve;

pub use examine::examine;
pub use store::MongoStore;

/// The database, if the URL names none. As the original application had it.
const DEFAULT_DATABASE: &str = "multivac";

/// How long a call waits for a primary. The driver's own 30 s would hold up a request and a shutdown. An election may
/// take longer than this, but the callers try again.
const SERVER_SELECTION_TIMEOUT: Duration = Duration::from_secs(3);

/// How long connecting may take. The driver's monitor of each server waits no longer either, see
/// [`HEARTBEAT_INTERVAL`].
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// How often each server is checked. A server that hangs without closing its connections is noticed after this and
/// [`CONNECT_TIMEOUT`] (the driver's own would be 20 s), and the calls that wait for it fail then.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(2);

/// Connections to each server at most. Writes that hang hold some of them (`calls.rs`), and what reads needs others.
const MAX_CONNECTIONS: u32 = 4 * calls::MAX_WRITES as u32;

/// The error for a stand-alone server.
const NO_REPLICA_SET: &str = "MongoDB runs as a stand-alone server, which has no change streams: make it a replica \
    set of one, by starting mongod with --replSet rs0 and running rs.initiate() in mongosh once";

/// A client with these options, and the name of the database. Connects to nothing yet.
fn client(mut options: ClientOptions, write_timeout: Duration) -> Result<(Client, String), StoreError> {
    options.app_name.get_or_insert_with(|| "multivac".into());
    options.server_selection_timeout.get_or_insert(SERVER_SELECTION_TIMEOUT);
    options.connect_timeout.get_or_insert(CONNECT_TIMEOUT);
    options.heartbeat_freq.get_or_insert(HEARTBEAT_INTERVAL);
    options.max_pool_size.get_or_insert(MAX_CONNECTIONS);
    options.retry_writes = Some(true);
    options.write_concern = Some(WriteConcern::builder().w(Acknowledgment::Majority).w_timeout(write_timeout).build());
    options.read_concern = Some(ReadConcern::majority());
    options.selection_criteria = Some(SelectionCriteria::ReadPreference(ReadPreference::Primary));
    let database = options.default_database.clone().unwrap_or_else(|| DEFAULT_DATABASE.into());
    Ok((Client::with_options(options).map_err(store_error)?, database))
}

/// The driver's error as the port's.
///
/// The server's text is left out, since it may quote a document; the name and the number of the error are enough.
fn store_error(error: Error) -> StoreError {
    match error.kind.as_ref() {
        ErrorKind::Authentication { .. } => {
            StoreError::Misconfigured("MongoDB refuses the user name or the password in its URL".into())
        }
        ErrorKind::InvalidTlsConfig { .. } => {
            StoreError::Misconfigured("the TLS options in MongoDB's URL cannot be used".into())
        }
        ErrorKind::IncompatibleServer { .. } => {
            StoreError::Misconfigured("this version of MongoDB is not supported: 4.4 or newer is needed".into())
        }
        ErrorKind::Command(command) => match command.code {
            code::UNAUTHORIZED => {
                StoreError::Misconfigured("MongoDB does not let this user read and write the database".into())
            }
            code if code::POSITION_LOST.contains(&code) => StoreError::PositionLost,
            code => replied(Some(&command.code_name), code),
        },
        ErrorKind::Write(WriteFailure::WriteError(error)) => replied(error.code_name.as_deref(), error.code),
        ErrorKind::Write(WriteFailure::WriteConcernError(error)) => replied(Some(&error.code_name), error.code),
        ErrorKind::InsertMany(failure) => match (&failure.write_concern_error, failure.write_errors.as_deref()) {
            (Some(error), _) => replied(Some(&error.code_name), error.code),
            (None, Some([error, ..])) => replied(error.code_name.as_deref(), error.code),
            (None, _) => replied(None, 0),
        },
        ErrorKind::ServerSelection { message, .. } if message.contains("failed to lookup address") => {
            does_not_resolve()
        }
        ErrorKind::ServerSelection { .. } => StoreError::Unavailable {
            message:
                "no primary of MongoDB's replica set was found; is the set initiated, and does the URL have the set's \
                 name, and TLS if it needs that?"
                    .into(),
            source: Some(Box::new(error)),
        },
        _ => StoreError::Unavailable { message: "the call to MongoDB failed".into(), source: Some(Box::new(error)) },
    }
}

/// The error for a reply that is one.
fn replied(name: Option<&str>, code: i32) -> StoreError {
    let name = name.filter(|name| !name.is_empty()).unwrap_or("an error");
    StoreError::Unavailable { message: format!("MongoDB replied {name} ({code})"), source: None }
}

/// Whether a call that inserts failed for what is in its documents: any of them may be the one.
fn is_of_a_document(error: &ErrorKind) -> bool {
    match error {
        ErrorKind::Command(refused) => code::DOCUMENT_FAULTS.contains(&refused.code),
        // The driver checks the size of documents itself, by what the server says is its limit.
        ErrorKind::InvalidArgument { .. } | ErrorKind::BsonSerialization(_) | ErrorKind::Bson(_) => true,
        _ => false,
    }
}

/// Whether an upsert met another one of the same id.
fn is_duplicate(error: &Error) -> bool {
    let code = match error.kind.as_ref() {
        ErrorKind::Command(error) => error.code,
        ErrorKind::Write(WriteFailure::WriteError(error)) => error.code,
        _ => return false,
    };
    code == code::DUPLICATE_KEY
}

/// Whether a document was not inserted because its id is taken, and not because of another unique index that someone made.
fn is_id_taken(error: &IndexedWriteError) -> bool {
    error.code == code::DUPLICATE_KEY && error.message.contains(" index: _id_ ")
}

/// Error codes of the server, from its `error_codes.yml`.
mod code {
    pub(super) const UNAUTHORIZED: i32 = 13;
    pub(super) const DUPLICATE_KEY: i32 = 11000;
    pub(super) const OBJECT_TOO_LARGE: i32 = 10334;

    /// `CappedPositionLost`, `InvalidResumeToken`, `ChangeStreamFatalError`, `ChangeStreamHistoryLost`.
    pub(super) const POSITION_LOST: [i32; 4] = [136, 260, 280, 286];

    /// `SnapshotUnavailable`, `SnapshotTooOld`.
    pub(super) const SNAPSHOT_TOO_OLD: [i32; 2] = [246, 239];

    /// `InvalidOptions`, `CommandNotSupported`: of a server or a storage engine that does not read at a cluster time.
    pub(super) const NO_SNAPSHOT_READS: [i32; 2] = [72, 115];

    /// Errors that what is in a document causes: this one alone is refused, and again however often it is put. Any other
    /// error passes, or somebody has to mend something for all documents alike.
    ///
    /// They are `BadValue`, `Overflow` (nested too deep), `InvalidBSON`, `DollarPrefixedFieldName`, `InvalidIdField`,
    /// `NotSingleValueField`, `InvalidDBRef`, `EmptyFieldName`, `DottedFieldName`, `DocTooLargeForCapped`,
    /// `DocumentValidationFailure`, `CannotIndexParallelArrays`, `CannotBuildIndexKeys`, `InvalidBSONType`,
    /// `NonConformantBSON`, `BSONObjectTooLarge`, `DuplicateKey` (of an index that somebody made; that of the id is no
    /// error) and its older number, `KeyTooLong`; and without a name, the result of a write that is too large, and keys
    /// that cannot be made for geographical, hashed and text indexes.
    pub(super) const DOCUMENT_FAULTS: [i32; 26] = [
        2, 15, 22, 52, 53, 54, 55, 56, 57, 116, 121, 171, 201, 357, 378, 10334, 11000, 11001, 17280, 17419, 17420,
        16755, 16766, 16804, 17261, 17262,
    ];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_known_to_be_the_documents_own_fault_is() {
        for code in [2, 121, 10334, 11000, 17280, 57] {
            assert!(code::DOCUMENT_FAULTS.contains(&code), "{code}");
        }
        // TemporarilyUnavailable, UserWritesBlocked, AdmissionQueueOverflow, IngressRequestRateLimitExceeded,
        // NotWritablePrimary, OutOfDiskSpace, Unauthorized, Atlas's own, and what nobody knows.
        for code in [365, 371, 433, 449, 462, 10107, 14031, 13, 8000, 0, -1, 99_999] {
            assert!(!code::DOCUMENT_FAULTS.contains(&code), "{code}");
        }
    }
}
