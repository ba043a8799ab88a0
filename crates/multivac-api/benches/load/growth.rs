//! What `scripts/scale.sh` needs: long texts in bulk, so many that it must be possible to go on where a run ended, and
//! questions about them whose right answers are known.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use multivac_testkit::http::{Connection, ask, get};
use serde_json::Value;
use tokio::time::sleep;

use super::exchange::every_reply;
use super::{Args, Measured, texts, unexpected};

/// Data a request.
const CHUNK: u64 = 5_000;

/// More unfinished data than this are not fed: as many as keep the worker busy, and far from what the queue may hold.
const MAX_UNFINISHED: u64 = 100_000;

/// Of the questions that are not answered rightly, so many are shown.
const SHOWN: usize = 5;

/// How far it has come, kept in a file over runs.
#[derive(Default)]
struct Done {
    /// The first text that was not fed yet.
    next: u64,
    /// What the ledger had accepted when that was so.
    accepted: u64,
    sending: f64,
    all: f64,
    bytes: u64,
}

impl Done {
    /// A run that was killed in the middle of a request does not know how much of it was accepted. The ledger does: bulk accepts
    /// in the order of the lines, and nothing else feeds meanwhile.
    fn read(path: &Path, from: u64, accepted: u64) -> io::Result<Self> {
        let Ok(text) = std::fs::read_to_string(path) else {
            return Ok(Self { next: from, accepted, ..Self::default() });
        };
        let numbers: Vec<f64> = text.split_whitespace().filter_map(|number| number.parse().ok()).collect();
        let [next, before, sending, all, bytes] = numbers[..] else {
            return Err(io::Error::other(format!("{} is damaged: remove it", path.display())));
        };
        let more = accepted.saturating_sub(before as u64);
        Ok(Self { next: next as u64 + more, accepted, sending, all, bytes: bytes as u64 })
    }

    fn write(&self, path: &Path) -> io::Result<()> {
        let part = path.with_extension("part");
        let Self { next, accepted, sending, all, bytes } = self;
        std::fs::write(&part, format!("{next} {accepted} {sending:.3} {all:.3} {bytes}\n"))?;
        std::fs::rename(part, path)
    }
}

/// Feeds the texts `from..to`, as fast as the worker learns them.
pub(super) async fn bulk_text(args: &Args, from: u64, to: u64, file: &Path) -> io::Result<Vec<Measured>> {
    let mut connection = Connection::open(&args.target).await?;
    let mut done = Done::read(file, from, number(&stats(&mut connection).await?, "accepted"))?;
    let mut lines = String::new();
    let mut told = Instant::now();
    // A run that was killed after the last request may have read more than it wanted: the ledger counts all.
    while done.next < to {
        let began = Instant::now();
        while unfinished(&stats(&mut connection).await?) > MAX_UNFINISHED {
            if began.elapsed() > Duration::from_secs(args.within) {
                return Err(io::Error::other("nothing is learned any more"));
            }
            sleep(Duration::from_millis(50)).await;
        }
        let end = (done.next + CHUNK).min(to);
        lines.clear();
        (done.next..end).for_each(|i| texts::push_line(args.seed, i, &mut lines));
        let head = format!(
            "POST /multivac/data/bulk HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\nContent-Length: {}\r\n\r\n",
            lines.len()
        );
        let sending = Instant::now();
        connection.send(head).await?;
        let reply = connection.exchange(&lines).await?;
        done.sending += sending.elapsed().as_secs_f64();
        if reply.status != 200 {
            return Err(unexpected("bulk-text", &reply));
        }
        let accepted = reply.json()?["accepted"].as_u64().unwrap_or(0);
        if accepted != end - done.next {
            return Err(io::Error::other(format!("bulk-text: {accepted} of {} were accepted", end - done.next)));
        }
        done.accepted += accepted;
        done.bytes += lines.len() as u64 - accepted * r#"{"data": ""}_"#.len() as u64;
        done.next = end;
        done.all += began.elapsed().as_secs_f64();
        done.write(file)?;
        if told.elapsed() > Duration::from_secs(10) {
            told = Instant::now();
            let rate = (done.next - from) as f64 / done.all;
            eprintln!("load: {} of {to} fed, {rate:.0} a second", done.next);
        }
    }
    let count = (to - from) as usize;
    let row = |what, count, seconds| Measured::of(what, count, Duration::from_secs_f64(seconds));
    Ok(vec![
        row("long texts in bulk: accepted", count, done.sending),
        row("long texts in bulk, the worker waited for", count, done.all),
        row("bytes of their text", done.bytes as usize, done.all),
    ])
}

/// Asks about what the first texts say; of ten questions one is about nothing that was fed, one of frequent words alone.
pub(super) async fn ask_facts(args: &Args, texts: u64, count: usize) -> io::Result<Vec<Measured>> {
    let (right, wrong) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let seed = args.seed;
    let of_run = fastrand::u64(..);
    // Another order of texts in each run, so that none is answered from what the run before had read.
    let text = move |i: usize| (i as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(of_run) % texts;
    let request = move |i: usize| match i % 10 {
        8 => ask(&texts::unanswerable_question(seed, of_run ^ i as u64)),
        9 => ask(&texts::common_question(seed, of_run ^ i as u64)),
        _ => ask(&texts::fact(seed, text(i)).question),
    };
    let (counted_right, counted_wrong) = (Arc::clone(&right), Arc::clone(&wrong));
    let check = move |i: usize, body: &[u8]| {
        let answer: Value = serde_json::from_slice(body).unwrap_or_default();
        let answer = answer["answer"].as_str();
        let is_right = match i % 10 {
            8 => answer.is_none(),
            9 => return,
            _ => answer.is_some_and(|answer| answer.contains(&texts::fact(seed, text(i)).sentence)),
        };
        let before = if is_right { &counted_right } else { &counted_wrong }.fetch_add(1, Ordering::Relaxed);
        if !is_right && before < SHOWN && i % 10 != 8 {
            eprintln!("load: not answered rightly: {}", texts::fact(seed, text(i)).question);
        }
    };
    let what = if args.beside.is_some() { "questions under feed" } else { "questions at rest" };
    let asked = every_reply(what, args, count, None, request, check).await?;
    let right = Measured::of("  answered rightly", right.load(Ordering::Relaxed), asked.took);
    let wrong = Measured::of("  not answered rightly", wrong.load(Ordering::Relaxed), asked.took);
    Ok(vec![asked, right, wrong])
}

async fn stats(connection: &mut Connection) -> io::Result<Value> {
    let reply = connection.exchange(get("/multivac/stats")).await?;
    if reply.status == 200 { reply.json() } else { Err(unexpected("stats", &reply)) }
}

fn number(stats: &Value, name: &str) -> u64 {
    stats[name].as_u64().unwrap_or(0)
}

fn unfinished(stats: &Value) -> u64 {
    number(stats, "queued") + number(stats, "processing")
}
