//! A load client for MultiVAC's HTTP interface: feeds, asks, and measures from the outside.
//!
//! `scripts/load.sh` starts the processes and runs this against them, a mode at a time:
//! `cargo bench -p multivac-api --bench load -- --target 127.0.0.1:5000 feed 100000`.
//!
//! Each mode prints one row, its cells parted by tabs: what was measured, how many, seconds, how many a second,
//! then the latencies in milliseconds (median, 99th percentile, longest) and how many replies were not 200.
//! The status is 1 when any was not, or when what was waited for did not come.
//!
//! The client shares the machine with what it measures, so it is lean: one thread, and HTTP/1.1 written by hand
//! on tokio's sockets. It knows just the framing that a server may choose: `Content-Length` and chunks.
#![allow(clippy::print_stdout)] // The rows are its output.

use std::{
    fmt::Write as _,
    io,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use clap::{Parser, Subcommand};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    task::JoinSet,
    time::{sleep, timeout},
};

/// How long a server may take to become ready, and one reply to come.
const PATIENCE: Duration = Duration::from_secs(60);

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
    /// Waits until as many are learned; the clock starts when the first was accepted.
    Learned { count: usize },
    /// Asks the standing question.
    Ask { count: usize },
    /// Asks various questions.
    AskVarious { count: usize },
    /// Asks the questions of a file, one a line, over and over.
    AskFrom { file: PathBuf, count: usize },
    /// Feeds the data of a file, one `{"data": …}` a line, each in a request of its own, so many a second.
    FeedFrom { file: PathBuf, count: usize, rate: u32 },
    /// Feeds one datum at a time and asks for it until the answer holds it.
    Latency { rounds: usize },
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(Args::parse()).await {
        Ok(measured) => {
            let clean = measured.not_200 == 0;
            println!("{}", measured.row());
            if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("load: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> io::Result<Measured> {
    ready(&args.target).await?;
    let seed = args.seed;
    match args.mode {
        Mode::Feed { count } => {
            let request = move |i| form(&sentence(seed, i));
            every("feed /multivac/data: accepted", &args, count, None, request).await
        }
        Mode::Bulk { count } => bulk(&args.target, seed, count).await,
        Mode::Learned { count } => learned(&args, count).await,
        Mode::Ask { count } => every("ask the standing question", &args, count, None, |_| get("/multivac")).await,
        Mode::AskVarious { count } => {
            every("ask various questions", &args, count, None, move |i| ask(&question(seed, i))).await
        }
        Mode::AskFrom { ref file, count } => {
            let lines = lines(file)?;
            every("ask a file's questions", &args, count, None, move |i| ask(&lines[i % lines.len()])).await
        }
        Mode::FeedFrom { ref file, count, rate } => {
            let lines = lines(file)?;
            every("feed a file's data", &args, count, Some(rate), move |i| json(&lines[i % lines.len()])).await
        }
        Mode::Latency { rounds } => latency(&args, rounds).await,
    }
}

// --- what is measured ---------------------------------------------------------------------------------------

/// What one mode found, and the row of the table that says it.
struct Measured {
    what: &'static str,
    count: usize,
    took: Duration,
    latencies: Vec<Duration>,
    not_200: usize,
}

impl Measured {
    fn row(mut self) -> String {
        self.latencies.sort_unstable();
        let at = |percent: usize| match self.latencies.len().checked_sub(1) {
            Some(last) => format!("{:.2}", self.latencies[last * percent / 100].as_secs_f64() * 1000.0),
            None => "-".to_owned(),
        };
        let seconds = self.took.as_secs_f64();
        let (what, count, rate) = (self.what, self.count, self.count as f64 / seconds);
        format!("{what}\t{count}\t{seconds:.2}\t{rate:.0}\t{}\t{}\t{}\t{}", at(50), at(99), at(100), self.not_200)
    }
}

/// The lines of a file, for as long as the program runs.
fn lines(file: &Path) -> io::Result<&'static [String]> {
    let lines: Vec<String> = std::fs::read_to_string(file)?.lines().map(str::to_owned).collect();
    if lines.is_empty() { Err(io::Error::other(format!("{} is empty", file.display()))) } else { Ok(lines.leak()) }
}

/// Sends `count` requests over the connections, each connection one after the other, so many a second at most.
async fn every(
    what: &'static str,
    args: &Args,
    count: usize,
    rate: Option<u32>,
    request: impl Fn(usize) -> Vec<u8> + Copy + Send + 'static,
) -> io::Result<Measured> {
    let next = Arc::new(AtomicUsize::new(0));
    let mut running = JoinSet::new();
    let started = Instant::now();
    for _ in 0..args.connections {
        let (next, target) = (Arc::clone(&next), args.target.clone());
        running.spawn(async move {
            let mut connection = Connection::open(&target).await?;
            let (mut latencies, mut not_200) = (Vec::new(), 0);
            loop {
                let i = next.fetch_add(1, Ordering::Relaxed);
                if i >= count {
                    return io::Result::Ok((latencies, not_200));
                }
                let request = request(i);
                if let Some(rate) = rate {
                    tokio::time::sleep_until((started + Duration::from_secs(1) * i as u32 / rate).into()).await;
                }
                let sent = Instant::now();
                let reply = connection.send(&request).await?;
                latencies.push(sent.elapsed());
                if reply.status != 200 {
                    if not_200 == 0 {
                        eprintln!("load: {what}: {} {}", reply.status, String::from_utf8_lossy(&reply.body));
                    }
                    not_200 += 1;
                }
            }
        });
    }
    let (mut latencies, mut not_200) = (Vec::with_capacity(count), 0);
    while let Some(done) = running.join_next().await {
        let (its_latencies, its_not_200) = done.map_err(io::Error::other)??;
        latencies.extend(its_latencies);
        not_200 += its_not_200;
    }
    Ok(Measured { what, count: count - not_200, took: started.elapsed(), latencies, not_200 })
}

/// Streams `count` data through one request.
async fn bulk(target: &str, seed: u64, count: usize) -> io::Result<Measured> {
    /// About what a file upload hands over at a time.
    const CHUNK_BYTES: usize = 64 * 1024;
    const HEAD: &[u8] = b"POST /multivac/data/bulk HTTP/1.1\r\nHost: multivac\r\n\
        Content-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n";

    let Connection { mut reader, mut writer } = Connection::open(target).await?;
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
    let read = async { timeout(PATIENCE, reply(&mut reader)).await.map_err(io::Error::from)? };
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
    Ok(Measured { what: "feed /multivac/data/bulk: accepted", count, took, latencies: Vec::new(), not_200: 0 })
}

/// Polls the ledger until `count` are learned, and checks at every poll that it balances.
async fn learned(args: &Args, count: usize) -> io::Result<Measured> {
    let mut connection = Connection::open(&args.target).await?;
    let started = Instant::now();
    let mut first = None;
    loop {
        let reply = connection.send(&get("/multivac/stats")).await?;
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
            if of("learned") >= count as u64 {
                return Ok(Measured {
                    what: "learned",
                    count,
                    took: first.elapsed(),
                    latencies: Vec::new(),
                    not_200: 0,
                });
            }
        }
        if started.elapsed() > Duration::from_secs(args.within) {
            return Err(io::Error::other(format!("{count} were not learned in {} s: {stats}", args.within)));
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// How long it takes from sending a datum until it is the answer; a datum at a time, everything else at rest.
async fn latency(args: &Args, rounds: usize) -> io::Result<Measured> {
    /// Often enough not to blur what is measured, seldom enough not to be the load itself.
    const POLL: Duration = Duration::from_millis(2);

    let mut connection = Connection::open(&args.target).await?;
    // A word that no run before this one has fed.
    let run = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |now| now.as_nanos() as u64);
    let mut latencies = Vec::with_capacity(rounds);
    let started = Instant::now();
    for round in 0..rounds {
        let word = new_word(run, round);
        let datum = form(&format!("The beacon {word} stands on the northern cliff above the harbour."));
        let question = ask(&format!("Where does the beacon {word} stand?"));
        let sent = Instant::now();
        let reply = connection.send(&datum).await?;
        if reply.status != 200 {
            return Err(unexpected("latency", &reply));
        }
        loop {
            let reply = connection.send(&question).await?;
            if reply.status != 200 {
                return Err(unexpected("latency", &reply));
            }
            let answer = reply.json()?;
            if answer["answer"].as_str().is_some_and(|text| text.contains(&word)) {
                break;
            }
            if sent.elapsed() > Duration::from_secs(args.within) {
                return Err(io::Error::other(format!("not answered in {} s: {answer}", args.within)));
            }
            sleep(POLL).await;
        }
        latencies.push(sent.elapsed());
        // Back to rest.
        sleep(Duration::from_millis(50)).await;
    }
    let what = "from sending a datum to its answer";
    Ok(Measured { what, count: rounds, took: started.elapsed(), latencies, not_200: 0 })
}

/// Waits until the api says that it is ready.
async fn ready(target: &str) -> io::Result<()> {
    let asking = async {
        loop {
            if let Ok(mut connection) = Connection::open(target).await
                && let Ok(reply) = connection.send(&get("/readyz")).await
                && reply.status == 200
            {
                return;
            }
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, asking).await.map_err(|_| io::Error::other(format!("{target} does not become ready")))
}

fn unexpected(mode: &str, reply: &Reply) -> io::Error {
    io::Error::other(format!("{mode}: {} {}", reply.status, String::from_utf8_lossy(&reply.body)))
}

// --- HTTP ---------------------------------------------------------------------------------------------------

fn get(target: &str) -> Vec<u8> {
    format!("GET {target} HTTP/1.1\r\nHost: multivac\r\n\r\n").into_bytes()
}

fn ask(question: &str) -> Vec<u8> {
    let question = utf8_percent_encode(question, NON_ALPHANUMERIC);
    format!("GET /multivac?question={question} HTTP/1.1\r\nHost: multivac\r\nAccept: application/json\r\n\r\n")
        .into_bytes()
}

fn form(datum: &str) -> Vec<u8> {
    let body = format!("data={}", utf8_percent_encode(datum, NON_ALPHANUMERIC));
    format!(
        "POST /multivac/data HTTP/1.1\r\nHost: multivac\r\nContent-Type: application/x-www-form-urlencoded\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

fn json(datum: &str) -> Vec<u8> {
    format!(
        "POST /multivac/data HTTP/1.1\r\nHost: multivac\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{datum}",
        datum.len()
    )
    .into_bytes()
}

/// A connection that is kept alive.
struct Connection {
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
}

impl Connection {
    async fn open(target: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(target).await?;
        stream.set_nodelay(true)?;
        let (reader, writer) = stream.into_split();
        Ok(Self { reader: BufReader::new(reader), writer })
    }

    async fn send(&mut self, request: &[u8]) -> io::Result<Reply> {
        self.writer.write_all(request).await?;
        timeout(PATIENCE, reply(&mut self.reader)).await?
    }
}

struct Reply {
    status: u16,
    body: Vec<u8>,
}

impl Reply {
    fn json(&self) -> io::Result<Value> {
        Ok(serde_json::from_slice(&self.body)?)
    }
}

/// Reads one reply: the head, then a body as long as the head says, or in chunks (RFC 9112, 6 and 7.1).
async fn reply(reader: &mut BufReader<OwnedReadHalf>) -> io::Result<Reply> {
    let malformed = || io::Error::new(io::ErrorKind::InvalidData, "the reply is not HTTP/1.1");
    let status = line(reader).await?;
    let status = status.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)).ok_or_else(malformed)?;
    let status = status.parse().map_err(|_| malformed())?;
    let (mut length, mut chunked) = (0, false);
    loop {
        let header = line(reader).await?;
        if header.is_empty() {
            break;
        }
        let (name, value) = header.split_once(':').ok_or_else(malformed)?;
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().map_err(|_| malformed())?;
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            chunked = value.trim().eq_ignore_ascii_case("chunked");
        }
    }
    let mut body = Vec::new();
    if chunked {
        loop {
            let size = line(reader).await?;
            let size = usize::from_str_radix(size.split(';').next().unwrap_or_default().trim(), 16);
            let size = size.map_err(|_| malformed())?;
            append(reader, &mut body, size).await?;
            line(reader).await?; // What ends a chunk; after the last one, the empty trailer.
            if size == 0 {
                break;
            }
        }
    } else {
        append(reader, &mut body, length).await?;
    }
    Ok(Reply { status, body })
}

/// The next line, without its end.
async fn line(reader: &mut BufReader<OwnedReadHalf>) -> io::Result<String> {
    let mut line = String::new();
    if reader.read_line(&mut line).await? == 0 {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed the connection"));
    }
    line.truncate(line.trim_end().len());
    Ok(line)
}

async fn append(reader: &mut BufReader<OwnedReadHalf>, body: &mut Vec<u8>, size: usize) -> io::Result<()> {
    let start = body.len();
    body.resize(start + size, 0);
    reader.read_exact(&mut body[start..]).await?;
    Ok(())
}

// --- text ---------------------------------------------------------------------------------------------------

const ADJECTIVES: [&str; 24] = [
    "ancient",
    "bright",
    "careful",
    "distant",
    "early",
    "faint",
    "gentle",
    "hidden",
    "idle",
    "jagged",
    "keen",
    "lonely",
    "massive",
    "narrow",
    "orderly",
    "patient",
    "quiet",
    "rapid",
    "silent",
    "thermal",
    "uneven",
    "vivid",
    "wandering",
    "young",
];
const NOUNS: [&str; 32] = [
    "astronomer",
    "bridge",
    "comet",
    "desert",
    "engine",
    "entropy",
    "forest",
    "galaxy",
    "harbour",
    "island",
    "journal",
    "kettle",
    "lantern",
    "machine",
    "nebula",
    "orchard",
    "planet",
    "question",
    "river",
    "sailor",
    "telescope",
    "universe",
    "valley",
    "window",
    "winter",
    "yard",
    "archive",
    "baker",
    "captain",
    "doctor",
    "engineer",
    "farmer",
];
const VERBS: [&str; 20] = [
    "admired",
    "built",
    "carried",
    "described",
    "examined",
    "followed",
    "guarded",
    "heated",
    "imagined",
    "joined",
    "kept",
    "lifted",
    "measured",
    "noticed",
    "observed",
    "painted",
    "questioned",
    "repaired",
    "studied",
    "traced",
];
const PLACES: [&str; 16] = [
    "at the edge of the city",
    "before the long winter",
    "behind the old mill",
    "beside the frozen lake",
    "during the eclipse",
    "for a hundred years",
    "in the northern province",
    "near the southern gate",
    "on a clear morning",
    "over the wide plain",
    "since the last flood",
    "through the narrow pass",
    "under a pale moon",
    "until the rain came",
    "with great patience",
    "without any warning",
];

/// Pseudo-random numbers that the same seed makes again: SplitMix64 (Steele, Lea and Flood, 2014).
struct Random(u64);

impl Random {
    /// The `i`th sequence of a seed.
    fn new(seed: u64, i: usize) -> Self {
        let mut mixed = Self(seed.wrapping_shl(32) ^ i as u64);
        Self(mixed.next())
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn of<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words[(self.next() % words.len() as u64) as usize]
    }
}

/// The `i`th sentence: 60 to 120 characters.
fn sentence(seed: u64, i: usize) -> String {
    let mut random = Random::new(seed, i);
    loop {
        let r = &mut random;
        let (subject, object) = (r.of(&NOUNS), r.of(&NOUNS));
        let (how, which, verb) = (r.of(&ADJECTIVES), r.of(&ADJECTIVES), r.of(&VERBS));
        let text = match r.next() % 3 {
            0 => format!("The {how} {subject} {verb} the {which} {object} {}.", r.of(&PLACES)),
            1 => format!(
                "In {} the {how} {subject} {verb} every {which} {object} {}.",
                1000 + r.next() % 1000,
                r.of(&PLACES)
            ),
            _ => format!(
                "{} the {subject} and the {how} {} {verb} a {which} {object}, {}.",
                r.of(&["Later", "Once", "Often", "Yesterday"]),
                r.of(&NOUNS),
                r.of(&PLACES)
            ),
        };
        if (60..=120).contains(&text.len()) {
            return text;
        }
    }
}

/// The `i`th question, of the words that the sentences are made of.
fn question(seed: u64, i: usize) -> String {
    // Another seed than the sentences', so that the `i`th question is not about the `i`th sentence.
    let mut random = Random::new(!seed, i);
    let r = &mut random;
    let (noun, how, verb) = (r.of(&NOUNS), r.of(&ADJECTIVES), r.of(&VERBS));
    match r.next() % 3 {
        0 => format!("Who {verb} the {how} {noun} {}?", r.of(&PLACES)),
        1 => format!("When was the {how} {noun} {verb} by the {}?", r.of(&NOUNS)),
        _ => format!("What {verb} the {noun}?"),
    }
}

/// A word that is in no dictionary; there are 430 million of them, so that no two rounds meet.
fn new_word(run: u64, round: usize) -> String {
    const SYLLABLES: [&str; 12] = ["ba", "de", "fi", "go", "ku", "la", "mo", "ni", "po", "ru", "ta", "vo"];
    let mut random = Random::new(run, round);
    (0..8).map(|_| random.of(&SYLLABLES)).collect()
}
