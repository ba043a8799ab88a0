//! A load client for MultiVAC's HTTP interface: feeds, asks, and measures from the outside.
//!
//! `scripts/load.sh` starts the processes and runs this against them, a mode at a time:
//! `cargo bench -p multivac-api --bench load -- --target 127.0.0.1:5000 feed 100000`.
//!
//! Each mode prints one row, its cells separated by tabs: what was measured, how many, seconds, how many a second,
//! then the latencies in milliseconds (median, 90th and 99th percentile, longest) and how many replies were not 200.
//! The status is 1 when any was not, or when what was waited for did not come.
//!
//! The client shares the machine with what it measures, so it is lean: one thread, and HTTP/1.1 written by hand (`exchange.rs`).
#![allow(clippy::print_stdout)] // The rows are its output.

#[path = "load/beside.rs"]
mod beside;
#[path = "load/exchange.rs"]
mod exchange;
#[path = "load/growth.rs"]
mod growth;
#[path = "load/insert_many.rs"]
mod insert_many;
#[path = "load/latency.rs"]
mod latency;
#[path = "load/texts.rs"]
mod texts;
#[path = "load/watch.rs"]
mod watch;

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use beside::Beside;
use clap::{Parser, Subcommand};
use exchange::every;
use multivac_testkit::TEST_TIMEOUT;
use multivac_testkit::http::{Connection, Reply, ask, feed, feed_form, get, read_reply};
use multivac_testkit::text::{question, sentence};
use tokio::io::AsyncWriteExt;
use tokio::time::{sleep, timeout};

#[derive(Parser)]
struct Args {
    /// Where the api listens.
    #[arg(long, default_value = "127.0.0.1:5000")]
    target: String,
    /// How many connections feed or ask at once.
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Seconds until what is waited for must have come.
    #[arg(long, default_value_t = 300)]
    within: u64,
    /// How many data a second are fed beside it meanwhile, over 64 connections; they have a row of their own.
    #[arg(long, value_name = "RATE")]
    beside: Option<u32>,
    /// The data that are fed in single requests are long texts: 610 bytes on average, in place of 60 to 120.
    #[arg(long)]
    long: bool,
    /// The same seed makes the same sentences and questions.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Given by `cargo bench` to every benchmark; means nothing here.
    #[arg(long = "bench", hide = true)]
    _bench: bool,
    #[command(subcommand)]
    mode: Mode,
}

#[derive(Subcommand)]
enum Mode {
    /// Feeds short data, each in a request of its own.
    Feed { count: usize },
    /// Feeds short data in one streamed request.
    Bulk { count: usize },
    /// Feeds the long texts from one number to another in bulk, as fast as they are learned; a file keeps how far it has come.
    BulkText { from: u64, to: u64, done: PathBuf },
    /// Asks about what so many long texts say, and counts what is answered rightly.
    AskFacts { texts: u64, count: usize },
    /// Waits until as many are learned, all that was accepted unless a number is given; the clock starts when the first was
    /// accepted.
    Learned { count: Option<usize> },
    /// Waits until a worker, whose health port is the target, has learned as many since it was started.
    LearnedBy { count: u64 },
    /// Inserts the documents of as many learned data once more, with nothing but MongoDB's driver.
    InsertMany {
        count: usize,
        /// Batches under way at once: as many as the worker has loops.
        #[arg(long, default_value_t = 2)]
        at_once: usize,
        /// The row's name.
        #[arg(long, default_value = "the same by insertMany alone")]
        what: String,
        /// A database whose data an api follows: they become data there, in place of copies that are removed again.
        #[arg(long)]
        into: Option<String>,
        #[arg(long, env = "MULTIVAC_TEST_MONGO_URL")]
        mongo_url: String,
    },
    /// Waits until so many data can be answered with.
    Indexed { count: u64 },
    /// Asks the standing question.
    Ask { count: usize },
    /// Asks various questions.
    AskVarious { count: usize },
    /// Asks the questions of a file, one a line, over and over.
    AskFrom { file: PathBuf, count: usize },
    /// Feeds the data of a file, one `{"data": …}` a line, each in a request of its own, so many a second.
    FeedFrom { file: PathBuf, count: usize, rate: u32 },
    /// Feeds one datum at a time and asks for it until the answer holds it.
    Latency {
        rounds: usize,
        /// The next is fed as soon as the one before it is answered; otherwise everything comes to rest in between.
        #[arg(long)]
        chained: bool,
    },
    /// Waits until an api that was just started is ready.
    Ready { what: String },
    /// Has so many streams watch one question, changes its answer time and again, and keeps the streams open for `hold` seconds.
    Watch { streams: usize, rounds: usize, hold: u64 },
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args = Args::parse();
    let run = async {
        if let Mode::Watch { streams, rounds, hold } = args.mode {
            return watch::watch(&args, streams, rounds, Duration::from_secs(hold)).await;
        }
        let beside = match args.beside {
            Some(rate) => Some(Beside::start(&args, rate).await?),
            None => None,
        };
        let mut rows = run(&args).await?;
        if let Some(beside) = beside {
            rows.push(beside.stop()?);
        }
        let clean = rows.iter().all(|row| row.not_200 == 0);
        for row in rows {
            println!("{}", row.row());
        }
        Ok(clean)
    };
    match run.await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("load: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: &Args) -> io::Result<Vec<Measured>> {
    if let Mode::InsertMany { count, at_once, ref what, ref into, ref mongo_url } = args.mode {
        let took = insert_many::insert_many(mongo_url, count, at_once, into.as_deref()).await?;
        return Ok(vec![Measured::of(what, count, took)]);
    }
    let began = Instant::now();
    ready(args).await?;
    let seed = args.seed;
    let row = match args.mode {
        Mode::Feed { count } => {
            let data = data(args);
            // Made before the clock starts: redis-benchmark, beside which this stands, sends the same request again and again.
            let requests: &[String] = (0..count).map(|i| data.request(i)).collect::<Vec<_>>().leak();
            every("feed /multivac/data: accepted", args, count, None, move |i| requests[i].as_str()).await?
        }
        Mode::BulkText { from, to, ref done } => return growth::bulk_text(args, from, to, done).await,
        Mode::AskFacts { texts, count } => return growth::ask_facts(args, texts, count).await,
        Mode::Bulk { count } => bulk(&args.target, seed, count).await?,
        Mode::Learned { count } => learned(args, count).await?,
        Mode::LearnedBy { count } => learned_by(args, count, began).await?,
        Mode::Indexed { count } => indexed(args, count, began).await?,
        Mode::Ask { count } => every("ask the standing question", args, count, None, |_| get("/multivac")).await?,
        Mode::AskVarious { count } => {
            every("ask various questions", args, count, None, move |i| ask(&question(seed, i))).await?
        }
        Mode::AskFrom { ref file, count } => {
            let lines = lines(file)?;
            every("ask a file's questions", args, count, None, move |i| ask(&lines[i % lines.len()])).await?
        }
        Mode::FeedFrom { ref file, count, rate } => {
            let lines = lines(file)?;
            every("feed a file's data", args, count, Some(rate), move |i| {
                feed("application/json", &lines[i % lines.len()])
            })
            .await?
        }
        Mode::Latency { rounds, chained } => return latency::latency(args, rounds, chained).await,
        Mode::Ready { ref what } => Measured::of(what, 1, began.elapsed()),
        Mode::InsertMany { .. } | Mode::Watch { .. } => {
            unreachable!("they have no use for the api, or print rows of their own")
        }
    };
    Ok(vec![row])
}

/// The data that are fed in single requests.
#[derive(Clone, Copy)]
enum Data {
    Short { seed: u64 },
    Long { seed: u64, first: u64 },
}

fn data(args: &Args) -> Data {
    let seed = args.seed;
    // Long texts of their own in each run: behind those of `bulk-text`, and hardly ever where another run was.
    if args.long { Data::Long { seed, first: fastrand::u64(100_000_000..400_000_000) } } else { Data::Short { seed } }
}

impl Data {
    fn request(self, i: usize) -> String {
        match self {
            Self::Short { seed } => feed_form(&sentence(seed, i)),
            Self::Long { seed, first } => {
                let mut line = String::new();
                texts::push_line(seed, first + i as u64, &mut line);
                feed("application/json", &line)
            }
        }
    }
}

/// What one mode found, and the row of the table that says it.
struct Measured {
    what: String,
    count: usize,
    took: Duration,
    latencies: Vec<Duration>,
    not_200: usize,
}

impl Measured {
    /// What has no latencies: a thing done once.
    fn of(what: &str, count: usize, took: Duration) -> Self {
        Self { what: what.to_owned(), count, took, latencies: Vec::new(), not_200: 0 }
    }

    fn row(mut self) -> String {
        self.latencies.sort_unstable();
        let at = |percent: usize| match self.latencies.len().checked_sub(1) {
            Some(last) => format!("{:.2}", self.latencies[last * percent / 100].as_secs_f64() * 1000.0),
            None => "-".to_owned(),
        };
        let seconds = self.took.as_secs_f64();
        let (what, count, rate) = (self.what, self.count, self.count as f64 / seconds);
        let (p50, p90, p99, max, not_200) = (at(50), at(90), at(99), at(100), self.not_200);
        format!("{what}\t{count}\t{seconds:.2}\t{rate:.0}\t{p50}\t{p90}\t{p99}\t{max}\t{not_200}")
    }
}

/// The lines of a file, for as long as the program runs.
fn lines(file: &Path) -> io::Result<&'static [String]> {
    let lines: Vec<String> = std::fs::read_to_string(file)?.lines().map(str::to_owned).collect();
    if lines.is_empty() { Err(io::Error::other(format!("{} is empty", file.display()))) } else { Ok(lines.leak()) }
}

/// Streams `count` data through one request.
async fn bulk(target: &str, seed: u64, count: usize) -> io::Result<Measured> {
    /// About what a file upload hands over at a time.
    const CHUNK_BYTES: usize = 64 * 1024;
    const HEAD: &[u8] = b"POST /multivac/data/bulk HTTP/1.1\r\nHost: localhost\r\n\
        Content-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n";

    let Connection { mut reader, mut writer, .. } = Connection::open(target).await?;
    let started = Instant::now();
    let write = async {
        writer.write_all(HEAD).await?;
        let mut lines = String::with_capacity(CHUNK_BYTES + 256);
        for i in 0..count {
            // The sentences are plain ASCII without quotes, so that they need no escapes.
            let _ = writeln!(lines, r#"{{"data": "{}"}}"#, sentence(seed, i));
            if lines.len() >= CHUNK_BYTES || i + 1 == count {
                writer.write_all(format!("{:x}\r\n{lines}\r\n", lines.len()).as_bytes()).await?;
                lines.clear();
            }
        }
        writer.write_all(b"0\r\n\r\n").await
    };
    // Reading at the same time: a server may begin its reply before the last line, or refuse in the middle.
    let read = async { timeout(TEST_TIMEOUT, read_reply(&mut reader)).await.map_err(io::Error::from)? };
    let (written, reply) = tokio::join!(write, read);
    let took = started.elapsed();
    let reply = reply?;
    if reply.status != 200 {
        return Err(unexpected("bulk", &reply));
    }
    written?;
    let accepted = reply.json()?["accepted"].as_u64().unwrap_or(0);
    if accepted != count as u64 {
        return Err(io::Error::other(format!("bulk: {accepted} of {count} were accepted")));
    }
    Ok(Measured::of("feed /multivac/data/bulk: accepted", count, took))
}

/// Polls the ledger until `count` are learned, or all, and checks at every poll that it balances.
async fn learned(args: &Args, count: Option<usize>) -> io::Result<Measured> {
    let mut connection = Connection::open(&args.target).await?;
    let started = Instant::now();
    let mut first = None;
    loop {
        let reply = connection.exchange(get("/multivac/stats")).await?;
        if reply.status != 200 {
            return Err(unexpected("stats", &reply));
        }
        let stats = reply.json()?;
        let of = |name: &str| stats[name].as_u64().unwrap_or(0);
        let sum: u64 = ["queued", "processing", "learned", "retracted", "dead"].into_iter().map(of).sum();
        if of("accepted") != sum {
            return Err(io::Error::other(format!("the ledger does not balance: {stats}")));
        }
        if of("accepted") > 0 {
            let first = *first.get_or_insert_with(Instant::now);
            let is_done = match count {
                Some(count) => of("learned") >= count as u64,
                None => of("queued") + of("processing") == 0,
            };
            if is_done {
                let count = count.unwrap_or(of("learned") as usize);
                return Ok(Measured::of("learned", count, first.elapsed()));
            }
        }
        if started.elapsed() > Duration::from_secs(args.within) {
            return Err(io::Error::other(format!("they were not learned in {} s: {stats}", args.within)));
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// Asks a worker's metrics how many it has learned, since there may be no api that knows; since when it is asked for.
async fn learned_by(args: &Args, count: u64, began: Instant) -> io::Result<Measured> {
    let learned = |reply: &Reply| {
        let metrics = String::from_utf8_lossy(&reply.body);
        let learned = metrics.lines().find_map(|line| line.strip_prefix("multivac_learned_total "));
        learned.and_then(|n| n.trim().parse().ok()).ok_or_else(|| unexpected("metrics", reply))
    };
    until(args, count, began, "learned, no api running", &get("/metrics"), learned).await
}

/// Asks until the answer rests on so many data.
async fn indexed(args: &Args, count: u64, began: Instant) -> io::Result<Measured> {
    let learned = |reply: &Reply| reply.json()?["learned"].as_u64().ok_or_else(|| unexpected("ask", reply));
    until(args, count, began, "in the index", &ask("What lies in the north?"), learned).await
}

/// Sends a request until so many are in its reply.
async fn until(
    args: &Args,
    count: u64,
    began: Instant,
    what: &str,
    request: &str,
    number_in: impl Fn(&Reply) -> io::Result<u64>,
) -> io::Result<Measured> {
    let mut connection = Connection::open(&args.target).await?;
    loop {
        let number = number_in(&connection.exchange(request).await?)?;
        if number >= count {
            return Ok(Measured::of(what, count as usize, began.elapsed()));
        }
        if began.elapsed() > Duration::from_secs(args.within) {
            return Err(io::Error::other(format!("{what}: {number} of {count} in {} s", args.within)));
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until what was just started says that it is ready.
async fn ready(args: &Args) -> io::Result<()> {
    let asking = async {
        loop {
            if let Ok(mut connection) = Connection::open(&args.target).await
                && let Ok(reply) = connection.exchange(get("/readyz")).await
                && reply.status == 200
            {
                return;
            }
            sleep(Duration::from_millis(5)).await;
        }
    };
    let late = |_| io::Error::other(format!("{} does not become ready in {} s", args.target, args.within));
    timeout(Duration::from_secs(args.within), asking).await.map_err(late)
}

fn unexpected(mode: &str, reply: &Reply) -> io::Error {
    io::Error::other(format!("{mode}: {} {}", reply.status, String::from_utf8_lossy(&reply.body)))
}
