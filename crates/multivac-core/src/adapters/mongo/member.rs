//! One member of a replica set, asked directly: so that each is known by itself, also where none is the primary.

use std::time::Duration;

use mongodb::Database;
use mongodb::bson::{Bson, Document, doc};
use mongodb::error::{Error, ErrorKind};
use mongodb::options::{ClientOptions, ServerAddress};

use super::calls::Calls;
use super::{DEFAULT_DATABASE, client, code, store_error};
use crate::adapters::findings::{self, Finding};
use crate::store::StoreError;

/// How long a member may take to be connected to, which takes TLS and the user's name, and to reply. The first is the shorter
/// one, so that the driver can say what failed.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);
const MEMBER_LIMIT: Duration = Duration::from_secs(3);

/// How long a command may take.
pub(super) const COMMAND_LIMIT: Duration = Duration::from_secs(5);

/// A member that has replied.
pub(super) struct Member {
    pub(super) name: String,
    pub(super) database: Database,
    calls: Calls,
    /// What it says of itself.
    pub(super) hello: Document,
    /// By our clock, in ms: when it was asked, and when it replied.
    pub(super) asked: [i64; 2],
}

impl Member {
    /// Says why not, where it is not reached: its name, its port, TLS, the user.
    pub(super) async fn connect(host: &ServerAddress, options: &ClientOptions) -> Result<Self, String> {
        let name = host.to_string();
        if let ServerAddress::Tcp { host, port } = host {
            findings::connect(host, port.unwrap_or(27_017)).await?;
        }
        let mut options = options.clone();
        options.hosts = vec![host.clone()];
        (options.direct_connection, options.repl_set_name, options.load_balanced) = (Some(true), None, None);
        options.server_selection_timeout = Some(CONNECT_LIMIT);
        let database = options.default_database.clone();
        let (client, _) = client(options, COMMAND_LIMIT).map_err(|error| error.to_string())?;
        let database = client.database(database.as_deref().unwrap_or(DEFAULT_DATABASE));
        let calls = Calls::new(None);
        let mut member = Self { name, database, calls, hello: Document::new(), asked: [0; 2] };
        let asked = findings::now_ms();
        let hello = member.call("admin", doc! { "hello": 1 }, MEMBER_LIMIT).await;
        member.hello = hello.map_err(|error| format!("{} {}", member.name, why(error)))?;
        member.asked = [asked, findings::now_ms()];
        Ok(member)
    }

    async fn call(&self, database: &str, command: Document, limit: Duration) -> Result<Document, Failure> {
        let database = self.database.client().database(database);
        let call = async move { database.run_command(command).await };
        self.calls.read(limit, call).await.map_err(Failure::Late)?.map_err(Failure::Refused)
    }

    /// Runs a command on an admin's database or another, or ours where none is named.
    pub(super) async fn run(&self, database: Option<&str>, command: Document) -> Result<Document, Failure> {
        self.call(database.unwrap_or(self.database.name()), command, COMMAND_LIMIT).await
    }

    pub(super) fn local_time(&self) -> i64 {
        self.hello.get_datetime("localTime").map_or(0, |time| time.timestamp_millis())
    }
}

/// Why a command gave nothing.
pub(super) enum Failure {
    Late(StoreError),
    Refused(Error),
}

impl Failure {
    pub(super) fn is_late(&self) -> bool {
        const MAX_TIME_EXPIRED: i32 = 50;
        match self {
            Self::Late(_) => true,
            Self::Refused(error) => {
                matches!(*error.kind, ErrorKind::Command(ref error) if error.code == MAX_TIME_EXPIRED)
            }
        }
    }

    pub(super) fn is_unauthorized(&self) -> bool {
        matches!(self, Self::Refused(error)
            if matches!(*error.kind, ErrorKind::Command(ref error) if error.code == code::UNAUTHORIZED))
    }

    /// Where the user may not know, nothing is wrong.
    pub(super) fn finding(self, check: &'static str, of: &str) -> Finding {
        if self.is_unauthorized() {
            return Finding::skipped(check, format!("the user may not read {of}"));
        }
        Finding::failed(check, &why(self))
    }
}

/// In words; of the driver's text only what names no secret.
pub(super) fn why(failure: Failure) -> String {
    match failure {
        Failure::Late(error) => format!("connects and is out of reach: {error}"),
        Failure::Refused(error) => {
            let text = error.to_string();
            match *error.kind {
                ErrorKind::ServerSelection { .. } if text.contains("ertificate") => {
                    "refuses TLS: its certificate is not of whom tlsCAFile trusts, or of another name".to_owned()
                }
                ErrorKind::ServerSelection { .. } => {
                    format!(
                        "connects and is out of reach after {} s: it hangs, or TLS differs",
                        CONNECT_LIMIT.as_secs()
                    )
                }
                _ => store_error(error).to_string(),
            }
        }
    }
}

/// The documents of a cursor's first batch.
pub(super) fn found(reply: &Document) -> Vec<Document> {
    let batch = reply.get_document("cursor").and_then(|cursor| cursor.get_array("firstBatch"));
    batch.map(|batch| batch.iter().filter_map(Bson::as_document).cloned().collect()).unwrap_or_default()
}

pub(super) fn number(document: &Document, name: &str) -> Option<f64> {
    match document.get(name)? {
        Bson::Double(n) => Some(*n),
        Bson::Int32(n) => Some(f64::from(*n)),
        Bson::Int64(n) => Some(*n as f64),
        _ => None,
    }
}
