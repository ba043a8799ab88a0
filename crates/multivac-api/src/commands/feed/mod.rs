//! `feed`: files and folders to a server, each datum once, however often it is run.
//!
//! `files` finds and reads what is to be fed, on a thread of its own, and makes an `Item` of each datum. `send` takes them
//! in bulk requests, several at once, and again until the server has said what became of each. `report` counts and tells.
//! Every item has a key made of its file's path and its text, so the server knows it again in whichever request it comes; for
//! what is older than the server's memory of keys, `record` has its id.

mod files;
mod record;
mod report;
mod send;
mod split;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytesize::ByteSize;
use clap::{Args, ValueEnum};
use humantime::Duration as Time;
use multivac_core::runtime::config::{datum_size, duration};
use multivac_core::runtime::shutdown;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use crate::client::retry::Outage;
use crate::client::{Client, ClientError, Server};
use record::Record;
use report::{Bar, Report};

/// All is there.
const DONE: i32 = 0;
/// Something was not taken, or could not be read.
const REJECTED: i32 = 1;
/// The command line does not make sense.
const USAGE: i32 = 2;
/// The server did not take it to the end.
const NOT_ALL: i32 = 3;
/// As shells say it of Ctrl-C.
const INTERRUPTED: i32 = 130;

/// Text that is read and not accepted yet, in KiB, beside what is in requests.
const MAX_WAITING_KIB: usize = 16 << 10;

/// Items that wait, at most.
const MAX_WAITING_ITEMS: usize = 4_096;

/// What `feed` takes.
#[derive(Args, Clone)]
pub struct Feed {
    /// Files and folders; - is the standard input.
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,

    /// Where to.
    #[command(flatten)]
    pub server: Server,

    /// What the files are. Left out: NDJSON (a datum a line: {"data": "…"}) by the name's ending .ndjson, .jsonl or .ldjson; the
    /// standard input and .json by their first line; anything else is one text.
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<Format>,

    /// Feed hidden files and folders as well, whose names begin with a dot; those of version control never.
    #[arg(long)]
    pub hidden: bool,

    /// The largest datum that the server accepts (its --max-datum-size). A longer text is fed in parts.
    #[arg(long = "max-datum-size", id = "feed_max_datum_size", env = "MULTIVAC_MAX_DATUM_SIZE",
          default_value_t = ByteSize::mib(1), value_name = "SIZE", value_parser = datum_size)]
    pub max_datum_size: ByteSize,

    /// How many requests are under way at once.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub parallel: u16,

    /// How long the server may be away, full or too busy before this gives up.
    #[arg(long, value_name = "TIME", default_value = "2min", value_parser = duration)]
    pub away_timeout: Time,

    /// How long one request may take; it has 1 MiB of text, or one datum.
    #[arg(long, value_name = "TIME", default_value = "1min", value_parser = duration)]
    pub request_timeout: Time,

    /// Show no progress, and tell only what was rejected or could not be read.
    #[arg(long, short)]
    pub quiet: bool,

    /// Show no progress, and write one JSON object to the standard output at the end: accepted, known, rejected (each with file, line
    /// or part, and detail), unreadable, passed_over, …, complete, error.
    #[arg(long, conflicts_with = "quiet")]
    pub json: bool,
}

/// What a file is.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// One datum, or its parts.
    Text,
    /// A datum a line: {"data": "…"}, with "idempotency_key" if it has one of its own.
    Ndjson,
}

/// Where an item was found.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Place {
    file: Arc<str>,
    line: Option<u64>,
    part: Option<u64>,
}

/// A datum on its way.
struct Item {
    place: Place,
    /// Made of its file's path and its text; or its own. What it is recorded under is made of its text in either case, so that
    /// another text under the same key is not taken for the first.
    recorded: String,
    /// As a line of a bulk request.
    line: Vec<u8>,
    /// How many bytes of its file it is.
    weight: u64,
    /// Room among what waits.
    _room: Option<OwnedSemaphorePermit>,
}

/// What the reader and the senders share.
struct Run {
    client: Client,
    report: Report,
    record: Record,
    outage: Outage,
    request_timeout: Duration,
    /// By a signal, or since the server has refused.
    stop: CancellationToken,
}

impl Feed {
    /// Feeds; the status to end with.
    pub async fn run(self) -> i32 {
        let stop = match shutdown::on_signal() {
            Ok(stop) => stop,
            Err(error) => {
                eprintln!("multivac-api: cannot listen for signals: {error}");
                return USAGE;
            }
        };
        let client = match Client::new(&self.server.to, &self.server.access) {
            Ok(client) => client,
            Err(error) => {
                eprintln!("multivac-api: {error}");
                return USAGE;
            }
        };
        let bar = Bar::new(!self.quiet && !self.json);
        let record = match Record::open(&client) {
            Ok(record) => record,
            Err(why) if Record::exists() => {
                eprintln!(
                    "multivac-api: the record of what was fed cannot be used, and without it what was fed more than a day ago would be \
                     fed twice: {why}. Mend it, or move it away to go on without it"
                );
                return USAGE;
            }
            Err(why) => {
                eprintln!(
                    "multivac-api: warning: what is fed is not recorded, so feeding it again after a day would feed it twice: {why}"
                );
                Record::none()
            }
        };
        let run = Arc::new(Run {
            report: Report::new(bar, self.quiet || self.json),
            record,
            outage: Outage::new(*self.away_timeout),
            request_timeout: *self.request_timeout,
            stop: stop.child_token(),
            client,
        });
        let interrupted = Arc::clone(&run);
        let signalled = stop.clone();
        tokio::spawn(async move {
            signalled.cancelled().await;
            interrupted.report.say("stopping: what is under way is finished; once more ends it at once");
        });
        let failure = self.feed(&run).await;
        let interrupted = stop.is_cancelled() && failure.is_none() && !run.report.is_complete();
        run.report.tell(failure.as_ref(), self.json, self.quiet);
        match (failure, interrupted) {
            (Some(ClientError::Usage(_)), _) => USAGE,
            (Some(_), _) => NOT_ALL,
            (None, true) => INTERRUPTED,
            // The reader has not come to its end, and nobody has stopped it.
            (None, false) if !run.report.is_complete() => NOT_ALL,
            (None, false) if run.report.has_failures() => REJECTED,
            (None, false) => DONE,
        }
    }

    /// Reads and sends until all is done or nothing more can be; what ended it, if it was the server.
    async fn feed(&self, run: &Arc<Run>) -> Option<ClientError> {
        let (sender, items) = mpsc::channel(MAX_WAITING_ITEMS);
        let reader = files::Reader {
            run: Arc::clone(run),
            items: sender,
            room: Arc::new(Semaphore::new(MAX_WAITING_KIB)),
            runtime: tokio::runtime::Handle::current(),
            format: self.format,
            hidden: self.hidden,
            limit: usize::try_from(self.max_datum_size.0).unwrap_or(usize::MAX),
            seen: std::collections::HashSet::new(),
        };
        let paths = self.paths.clone();
        if run.report.shows_progress() {
            let (run, paths, hidden) = (Arc::clone(run), paths.clone(), self.hidden);
            tokio::task::spawn_blocking(move || files::count(&run, &paths, hidden));
        }
        let reading = tokio::task::spawn_blocking(move || reader.read(&paths));
        let failure = send::all(run, items, self.parallel).await;
        // Stopped, it may wait for the standard input for ever.
        if failure.is_none() && !run.stop.is_cancelled() && reading.await.is_ok_and(|whole| whole) {
            run.report.complete();
        }
        failure
    }
}

/// Whether it is the standard input.
fn is_stdin(path: &std::path::Path) -> bool {
    path.as_os_str() == "-"
}
