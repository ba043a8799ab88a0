//! Measures what questions cost over millions of passages, and what the worst of them cost that can be asked:
//!
//!     cargo bench -p multivac-core --bench worst -- DIRECTORY [PASSAGES]
//!
//! The directory holds what `scripts/corpus.py` makes, `data.ndjson` and `questions.txt`. Passages are made out of its
//! sentences with every fourth word replaced by another, so that words stay as frequent as they are and hardly two passages
//! are alike; one in twenty is in Chinese. The same every time.
//!
//! Each kind of question has a row: how many there are, and milliseconds: the median, the 99th percentile and the longest;
//! then the same while 64 are asked at once of as many threads as there are cores, from asking to the answer.
#![allow(clippy::print_stdout, clippy::unwrap_used)] // Rows are printed; the measurement ends when anything fails.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use fastrand::Rng;
use mimalloc::MiMalloc;
use multivac_core::answer::{answer, fitted_threshold};
use multivac_core::datum::{Datum, DatumId, Timestamp};
use multivac_core::index::{Index, Snapshot};
use multivac_core::process::{process, sentences};
use multivac_core::question::{MAX_QUESTION_CHARS, Question};
use multivac_core::queue::Job;
use multivac_core::store::Change;

/// As in multivac-api.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Data that are indexed together, as while a store is loaded.
const BATCH_SIZE: usize = 20_000;

/// Who asks at once.
const ASKERS: usize = 64;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let directory = Path::new(arguments.first().expect("the directory of scripts/corpus.py"));
    let passages = arguments.get(1).map_or(2_000_000, |passages| passages.parse().unwrap());
    let text = Text::read(directory);
    let index = text.index(passages);
    let snapshot = index.snapshot();
    println!(
        "{:<14} {:>6} {:>8} {:>8} {:>8} {:>10} {:>8} {:>8}",
        "questions", "", "p50 ms", "p99", "max", "64: p50", "p99", "max"
    );
    for (kind, questions) in text.questions(directory) {
        for question in questions.iter().take(500) {
            once(question, &snapshot);
        }
        let alone = questions.iter().map(|question| once(question, &snapshot)).collect();
        let [p50, p99, max] = percentiles(alone);
        let [p50_64, p99_64, max_64] = percentiles(at_once(&questions, &snapshot));
        let count = questions.len();
        println!("{kind:<14} {count:>6} {p50:>8.2} {p99:>8.2} {max:>8.2} {p50_64:>10.2} {p99_64:>8.2} {max_64:>8.2}");
    }
}

fn once(question: &Question, snapshot: &Snapshot) -> Duration {
    let started = Instant::now();
    answer(question, snapshot, fitted_threshold()).unwrap();
    started.elapsed()
}

/// Milliseconds: the median, the 99th percentile and the longest.
fn percentiles(mut times: Vec<Duration>) -> [f64; 3] {
    times.sort_unstable();
    [50, 99, 100].map(|percent| times[(times.len() - 1) * percent / 100].as_secs_f64() * 1e3)
}

/// How long each takes from asking to the answer, while [`ASKERS`] ask, each its next when it has an answer.
fn at_once(questions: &[Question], snapshot: &Arc<Snapshot>) -> Vec<Duration> {
    let (ask, asked) = mpsc::channel::<(Question, mpsc::Sender<()>)>();
    let asked = Mutex::new(asked);
    let (next, times) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().unwrap().get() {
            scope.spawn(|| {
                loop {
                    let Ok((question, reply)) = asked.lock().unwrap().recv() else { break };
                    once(&question, snapshot);
                    reply.send(()).unwrap();
                }
            });
        }
        let askers: Vec<_> = (0..ASKERS)
            .map(|_| {
                let (ask, next, times) = (ask.clone(), &next, &times);
                scope.spawn(move || {
                    while let Some(question) = questions.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let started = Instant::now();
                        let (reply, answered) = mpsc::channel();
                        ask.send((question.clone(), reply)).unwrap();
                        answered.recv().unwrap();
                        times.lock().unwrap().push(started.elapsed());
                    }
                })
            })
            .collect();
        askers.into_iter().for_each(|asker| asker.join().unwrap());
        drop(ask);
    });
    times.into_inner().unwrap()
}

/// The text that passages and questions are made of.
struct Text {
    sentences: Vec<String>,
    /// Every word of them, as often as it occurs.
    words: Vec<String>,
}

/// Chinese characters, the most frequent first.
fn chinese(random: &mut Rng) -> char {
    // Zipf's law by the inverse of its distribution: ranks are exponentials of uniform numbers.
    let rank = 3_000.0_f64.powf(random.f64()) as u32;
    char::from_u32(0x4e00 + rank * 7 % 20_000).unwrap()
}

impl Text {
    fn read(directory: &Path) -> Self {
        let data = std::fs::read_to_string(directory.join("data.ndjson")).unwrap();
        let mut all = Vec::new();
        for line in data.lines() {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            let text = line["data"].as_str().unwrap();
            all.extend(sentences(text).into_iter().map(|range| text[range].to_owned()));
        }
        let words = all.iter().flat_map(|sentence| sentence.split_whitespace().map(str::to_owned)).collect();
        Self { sentences: all, words }
    }

    fn passage(&self, random: &mut Rng) -> String {
        if random.u8(..20) == 0 {
            return (0..random.usize(20..200)).map(|at| if at % 15 == 14 { '。' } else { chinese(random) }).collect();
        }
        let mut text = String::new();
        for _ in 0..random.usize(2..6) {
            for word in random.choice(&self.sentences).unwrap().split_whitespace() {
                let other = random.u8(..4) == 0;
                text.push_str(if other { random.choice(&self.words).unwrap() } else { word });
                text.push(' ');
            }
        }
        text
    }

    fn index(&self, passages: usize) -> Index {
        let index = Index::new().unwrap();
        let mut random = Rng::with_seed(1);
        let started = Instant::now();
        for from in (0..passages).step_by(BATCH_SIZE) {
            let changes: Vec<Change> = (from..passages.min(from + BATCH_SIZE))
                .map(|_| {
                    let datum = Datum::new(&self.passage(&mut random), usize::MAX).unwrap();
                    let job = Job { id: DatumId::generate(), datum, received_at: Timestamp::now(), trace: None };
                    Change::Put(Box::new(process(&job, Timestamp::now())))
                })
                .collect();
            index.apply(&changes).unwrap();
        }
        eprintln!("{passages} passages indexed in {:.0} s", started.elapsed().as_secs_f64());
        index
    }

    /// Questions by their kind: what people ask, and what is hard to search for.
    fn questions(&self, directory: &Path) -> Vec<(&'static str, Vec<Question>)> {
        let asked = std::fs::read_to_string(directory.join("questions.txt")).unwrap();
        let mut random = Rng::with_seed(2);
        let mut counts: std::collections::HashMap<&str, usize> = std::collections::HashMap::new();
        for word in &self.words {
            *counts.entry(word).or_default() += 1;
        }
        let mut frequent: Vec<(&str, usize)> = counts.into_iter().collect();
        frequent.sort_unstable_by_key(|(word, count)| (std::cmp::Reverse(*count), *word));
        let frequent: Vec<&str> = frequent.into_iter().map(|(word, _)| word).collect();
        let mut some =
            |count: usize, of: &[&str]| (0..count).map(|_| *random.choice(of).unwrap()).collect::<Vec<_>>().join(" ");
        let mut longest = |of: &[&str]| some(500, of).chars().take(MAX_QUESTION_CHARS).collect::<String>();
        let many =
            |make: &mut dyn FnMut() -> String| (0..200).map(|_| make().parse().unwrap()).collect::<Vec<Question>>();
        let letters: Vec<String> = ('a'..='z').map(String::from).collect();
        let letters: Vec<&str> = letters.iter().map(String::as_str).collect();
        let content: Vec<&str> = frequent.iter().copied().filter(|word| word.len() > 4).take(100).collect();
        let long = many(&mut || longest(&frequent[..20_000]));
        let common = many(&mut || longest(&frequent[..300]));
        let content_long = many(&mut || longest(&content));
        let letters_long = many(&mut || longest(&letters));
        let mut random = Rng::with_seed(3);
        let few = many(&mut || {
            (0..random.usize(1..5)).map(|_| *random.choice(&frequent[..60]).unwrap()).collect::<Vec<_>>().join(" ")
        });
        let content_few = many(&mut || {
            (0..random.usize(2..8)).map(|_| *random.choice(&content).unwrap()).collect::<Vec<_>>().join(" ")
        });
        let numbers =
            many(&mut || (0..random.usize(1..30)).map(|_| random.u16(..300).to_string()).collect::<Vec<_>>().join(" "));
        let chinese_long = many(&mut || (0..random.usize(5..1_000)).map(|_| chinese(&mut random)).collect());
        let chinese_few = many(&mut || {
            (0..random.usize(4..20)).map(|_| char::from_u32(0x4e00 + random.u32(1..30) * 7).unwrap()).collect()
        });
        let emoji = many(&mut || {
            (0..random.usize(1..1_000)).map(|_| char::from_u32(0x1f600 + random.u32(..64)).unwrap()).collect()
        });
        let respelled = many(&mut || {
            let word = |random: &mut Rng| {
                let pair = *random.choice(&["ae", "oe", "ue", "aa", "dj"]).unwrap();
                format!("{}{pair} ", char::from(random.u8(b'a'..=b'z')))
            };
            (0..250).map(|_| word(&mut random)).collect()
        });
        let repeated = many(&mut || format!("{} ", random.choice(&frequent[..100]).unwrap()).repeat(60));
        vec![
            ("asked", asked.lines().map(|line| line.parse().unwrap()).collect()),
            ("1000 any", long),
            ("1000 common", common),
            ("1000 content", content_long),
            ("1000 letters", letters_long),
            ("few common", few),
            ("few content", content_few),
            ("numbers", numbers),
            ("chinese", chinese_long),
            ("chinese common", chinese_few),
            ("emoji", emoji),
            ("respelled", respelled),
            ("repeated", repeated),
        ]
    }
}
