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
//!
//! How the port's promises are kept:
//!
//! - **Durable**: every write waits for the majority, and the driver repeats it once if the connection breaks; every
//!   read is of what the majority has, on the primary. So nothing that was seen is ever rolled back. What a URL says of
//!   read and write concerns is overruled.
//! - **Idempotent**: `_id` is unique, and a datum is inserted, never updated.
//! - **Retracted stays retracted**: retracting replaces the document under the same `_id`, in one atomic step.
//! - **Followed without a gap**: a [`Position`](crate::store::Position) is the cluster time of an oplog entry that the
//!   majority has; the scan after it sees all up to it, and a change stream from it on shows all after it. An event leaves
//!   out what was updated, since with the whole document beside it it could be larger than MongoDB sends.
//! - **Waited for until silent**: see `sightings.rs`.

mod documents;
mod sightings;
mod store;

use std::time::Duration;

use mongodb::Client;
use mongodb::error::{Error, ErrorKind, IndexedWriteError, WriteFailure};
use mongodb::options::{ClientOptions, ReadConcern, ReadPreference, SelectionCriteria, WriteConcern};
use secrecy::{ExposeSecret, SecretString};

use crate::store::StoreError;

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

/// The error for a stand-alone server.
const NO_REPLICA_SET: &str = "MongoDB runs as a stand-alone server, which has no change streams: make it a replica \
    set of one, by starting mongod with --replSet rs0 and running rs.initiate() in mongosh once";

/// A client for a URL, and the name of the database. Connects to nothing yet.
async fn client(url: &SecretString) -> Result<(Client, String), StoreError> {
    let mut options = ClientOptions::parse(url.expose_secret()).await.map_err(|error| match *error.kind {
        ErrorKind::DnsResolve { .. } => {
            StoreError::Unavailable { message: "the name in MongoDB's URL does not resolve".into(), source: None }
        }
        // The driver's text may quote a password: in `mongodb://user:secret/` it takes `secret` for the port.
        _ => StoreError::Misconfigured(
            "not a MongoDB URL: expected mongodb://[user:password@]host[:port][/database][?options], special \
             characters in user and password percent-encoded"
                .into(),
        ),
    })?;
    options.app_name.get_or_insert_with(|| "multivac".into());
    options.server_selection_timeout.get_or_insert(SERVER_SELECTION_TIMEOUT);
    options.connect_timeout.get_or_insert(CONNECT_TIMEOUT);
    options.heartbeat_freq.get_or_insert(HEARTBEAT_INTERVAL);
    options.retry_writes = Some(true);
    options.write_concern = Some(WriteConcern::majority());
    options.read_concern = Some(ReadConcern::majority());
    options.selection_criteria = Some(SelectionCriteria::ReadPreference(ReadPreference::Primary));
    let database = options.default_database.clone().unwrap_or_else(|| DEFAULT_DATABASE.into());
    Ok((Client::with_options(options).map_err(store_error)?, database))
}

/// The driver's error as the port's.
///
/// The server's text is left out, since it may quote a document; the name and the number of the error are enough.
fn store_error(error: Error) -> StoreError {
    let replied = |name: &str, code: i32| StoreError::Unavailable {
        message: format!("MongoDB replied {name} ({code})"),
        source: None,
    };
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
            code => replied(&command.code_name, code),
        },
        ErrorKind::Write(WriteFailure::WriteError(error)) => {
            replied(error.code_name.as_deref().unwrap_or("a write error"), error.code)
        }
        ErrorKind::Write(WriteFailure::WriteConcernError(error)) => replied(&error.code_name, error.code),
        ErrorKind::InsertMany(failure) => match (&failure.write_concern_error, failure.write_errors.as_deref()) {
            (Some(error), _) => replied(&error.code_name, error.code),
            (None, Some([error, ..])) => replied(error.code_name.as_deref().unwrap_or("a write error"), error.code),
            (None, _) => replied("a write error", 0),
        },
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

    /// Errors of the server and not of a document: they pass, or somebody has to repair something for all data alike. Any
    /// other is taken to be the fault of the document, which fails its attempt and holds up no other.
    ///
    /// They are the server's categories `NetworkError`, `ShutdownError`, `NotPrimaryError` and `ExceededTimeLimitError`;
    /// `Unauthorized`, `LockTimeout`, `LockBusy`, `StaleShardVersion`, `WriteConflict`,
    /// `ReadConcernMajorityNotAvailableYet`, `StaleEpoch`, `StaleConfig`, `OutOfDiskSpace`, `InternalError`,
    /// `UnknownError`, `AuthenticationFailed`, `NoProgressMade`, `FailedToSatisfyReadPreference`, `KeyNotFound` (a key of
    /// the cluster); and 8000, Atlas's own, such as for a full quota.
    pub(super) const SERVER_FAULTS: [i32; 36] = [
        6, 7, 9001, 89, 11600, 91, 10107, 13435, 10058, 11602, 13436, 189, 50, 64, 202, 262, 290, 11601, 13, 24, 46,
        63, 112, 134, 150, 13388, 14031, 246, 384, 1, 8, 18, 82, 133, 211, 8000,
    ];
}
