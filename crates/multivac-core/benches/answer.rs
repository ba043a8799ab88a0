//! Measures how the cost of a question grows with the data, from 1,000 to 1,000,000 sentences:
//!
//!     cargo bench -p multivac-core --bench answer [-- DIRECTORY [SENTENCES…]]
//!
//! The directory holds what `scripts/corpus.py` makes, `data.ndjson` and `questions.txt`; without one, they are made
//! first, which takes a minute. Sizes beyond the text are filled with its sentences, shuffled into other data.
//!
//! It has no threads but the index's own, and no HTTP: `scripts/cost.sh` measures the running service. Each size has a row:
//! data, seconds to index, and microseconds a question: the mean, the median, the 99th percentile and the longest of 2,000;
//! last, microseconds for the standing answer while the index does not change.
#![allow(clippy::print_stdout, clippy::unwrap_used)] // Rows are printed; the measurement ends when anything fails.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mimalloc::MiMalloc;
use multivac_core::answer::{StandingAnswer, answer, fitted_threshold};
use multivac_core::datum::{Datum, DatumId, Timestamp};
use multivac_core::index::Index;
use multivac_core::process::{process, sentences};
use multivac_core::question::{Question, STANDING_QUESTION};
use multivac_core::queue::Job;
use multivac_core::store::Change;

/// As in multivac-api.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Data that are indexed together, as while a store is loaded.
const BATCH_SIZE: usize = 20_000;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let made = tempfile::tempdir().unwrap();
    let directory = arguments.first().map_or_else(|| make(made.path()), PathBuf::from);
    let mut sizes: Vec<usize> = arguments.iter().skip(1).map(|size| size.parse().unwrap()).collect();
    if sizes.is_empty() {
        sizes = vec![1_000, 10_000, 100_000, 1_000_000];
    }
    let data = std::fs::read_to_string(directory.join("data.ndjson")).unwrap();
    let data: Vec<String> = data
        .lines()
        .map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            line["data"].as_str().unwrap().to_owned()
        })
        .collect();
    let questions = std::fs::read_to_string(directory.join("questions.txt")).unwrap();
    let questions: Vec<Question> = questions.lines().map(|line| line.parse().unwrap()).collect();
    println!(
        "{:>9} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8} {:>9}",
        "sentences", "data", "index s", "mean us", "p50 us", "p99 us", "max us", "standing"
    );
    for size in sizes {
        measure(size, &data, &questions);
    }
}

/// Makes the text in a directory.
fn make(directory: &Path) -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/corpus.py");
    assert!(Command::new("python3").arg(script).arg("100000").arg(directory).status().unwrap().success());
    directory.to_owned()
}

fn measure(size: usize, data: &[String], questions: &[Question]) {
    let index = Arc::new(Index::new().unwrap());
    let started = Instant::now();
    let (mut count, mut fed) = (0, 0);
    let mut changes = Vec::new();
    for text in data.iter().cloned().chain(Shuffled::new(data)) {
        count += sentences(&text).len();
        fed += 1;
        let datum = Datum::new(&text, usize::MAX).unwrap();
        let job = Job { id: DatumId::generate(), datum, received_at: Timestamp::now(), trace: None };
        changes.push(Change::Put(Box::new(process(&job, Timestamp::now()))));
        if changes.len() == BATCH_SIZE || count >= size {
            index.apply(&changes).unwrap();
            changes.clear();
        }
        if count >= size {
            break;
        }
    }
    let indexed = started.elapsed().as_secs_f64();
    let snapshot = index.snapshot();
    let once = |question: &Question| {
        let started = Instant::now();
        answer(question, &snapshot, fitted_threshold()).unwrap();
        started.elapsed()
    };
    // The first round fills the caches of files and words.
    for question in questions {
        once(question);
    }
    let mut times: Vec<Duration> = questions.iter().map(once).collect();
    times.sort_unstable();
    let us = |time: Duration| time.as_secs_f64() * 1e6;
    let mean = us(times.iter().sum::<Duration>()) / times.len() as f64;
    let at = |percent: usize| us(times[(times.len() - 1) * percent / 100]);
    let standing = StandingAnswer::new(STANDING_QUESTION.parse().unwrap(), fitted_threshold(), Arc::clone(&index));
    standing.answer().unwrap();
    let started = Instant::now();
    for _ in 0..1_000 {
        standing.known().unwrap();
    }
    let kept = us(started.elapsed()) / 1_000.0;
    println!(
        "{size:>9} {fed:>8} {indexed:>8.1} {mean:>8.0} {:>8.0} {:>8.0} {:>8.0} {kept:>9.2}",
        at(50),
        at(99),
        at(100)
    );
}

/// An endless sequence of data out of three random sentences each, so that words stay as frequent as they are.
struct Shuffled<'a> {
    sentences: Vec<&'a str>,
    random: fastrand::Rng,
}

impl<'a> Shuffled<'a> {
    fn new(data: &'a [String]) -> Self {
        let sentences = data.iter().flat_map(|text| sentences(text).into_iter().map(move |range| &text[range]));
        Self { sentences: sentences.collect(), random: fastrand::Rng::with_seed(1) }
    }
}

impl Iterator for Shuffled<'_> {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        let mut pick = || self.sentences[self.random.usize(..self.sentences.len())];
        Some([pick(), pick(), pick()].join(" "))
    }
}
