//! `calibrate`: asks an operator's own questions of the data that are there, shows how far the confidence of the answers can
//! be trusted, and writes the curve that makes it so.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use futures_util::StreamExt;
use serde_json::Value;

use super::backup::{Origin, Settings};
use super::files::Draft;
use super::progress::Progress;
use super::{CommandError, Output, write_json};
use crate::answer::{GoldAnswers, Judged, Recalibration, Reliability, Triggering, Way, answer, recalibrate};
use crate::datum::Timestamp;
use crate::index::{Index, IndexError};
use crate::observe::metrics;
use crate::question::Question;
use crate::store::{Change, StoreEntry};

/// The largest file of questions: some hundred thousand of them.
const MAX_FILE_BYTES: u64 = 64 << 20;

/// What `calibrate` takes.
#[derive(Args, Clone)]
pub struct Calibrate {
    /// The file of questions, a JSON object a line: {"question": "…", "answer": …}. The answer is a text that a right answer
    /// holds, a list of such texts, or null where the data do not answer. - is the standard input.
    #[arg(value_name = "QUESTIONS")]
    pub questions: PathBuf,
    /// The file to write, for --calibration; it must not exist. - is the standard output: what is told goes to the standard error.
    #[arg(long, value_name = "FILE", default_value = "calibration.json")]
    pub out: PathBuf,
    /// Replace that file if it exists, once the new one is whole.
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    /// How it is told.
    pub output: Output,
}

/// Why the questions cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CalibrateError {
    /// A line is no question with its answer.
    #[error("{file}, line {line}: {why}")]
    Line {
        /// The file.
        file: String,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        why: String,
    },
    /// The file is too large.
    #[error("{0}: expected 64 MiB at most")]
    TooLarge(String),
    /// There is nothing to ask.
    #[error("there are no data: feed it first, and wait until they are learned")]
    NoData,
    /// The questions do not suffice.
    #[error("{file}: {source}")]
    TooFew {
        /// The file.
        file: String,
        /// What is needed.
        source: crate::answer::TooFew,
    },
    /// The index of the data.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The work ended early.
    #[error("the work ended early: {0}")]
    Task(String),
}

/// A question with what is known of its answer: `None` where the data do not answer it.
type Labelled = (Question, Option<GoldAnswers>);

impl Calibrate {
    /// Asks all questions, tells what came of it, and writes the curve.
    ///
    /// # Errors
    /// When the questions cannot be read or do not suffice, the data not be read, or the file not be written: then there is
    /// none of its name.
    pub async fn run(self, out: &mut dyn Write, settings: Settings<'_>) -> Result<(), CommandError> {
        let (file, text) = read(&self.questions)?;
        let questions = labelled(&file, &text)?;
        // Whether it can be written is known before the work, and the file is made after it: so nothing is left of a command
        // that is interrupted in between.
        let file_out = (self.out.as_os_str() != "-").then_some(&self.out);
        if let Some(path) = file_out {
            drop(Draft::new(path, self.force)?);
        }
        let origin = Origin::new(&settings).await?;
        let index = index(&origin).await?;
        let learned = index.snapshot().learned;
        if learned == 0 {
            return Err(CalibrateError::NoData.into());
        }
        let judged = blocking(move || judge(&index, &questions)).await?;
        let done = recalibrate(&judged).map_err(|source| CalibrateError::TooFew { file, source })?;
        let written = done.calibration.write(done.questions, metrics::version(), &Timestamp::now().to_string());
        let mut stderr = io::stderr();
        let told: &mut dyn Write = match file_out {
            Some(path) => {
                let draft = Draft::new(path, self.force)?;
                let failed = |source| CommandError::File { path: path.clone(), source };
                draft.file()?.write_all(written.as_bytes()).map_err(failed)?;
                draft.keep()?;
                out
            }
            None => {
                out.write_all(written.as_bytes())?;
                &mut stderr
            }
        };
        if self.output.json { write_json(told, &done) } else { Ok(report(told, &done, learned, file_out)?) }
    }
}

/// The text of the file, and its name for messages.
fn read(path: &Path) -> Result<(String, Vec<u8>), CommandError> {
    let is_standard = path.as_os_str() == "-";
    let name = if is_standard { "the standard input".to_owned() } else { path.display().to_string() };
    let read = || {
        let input: Box<dyn Read> = if is_standard { Box::new(io::stdin().lock()) } else { Box::new(File::open(path)?) };
        let mut text = Vec::new();
        input.take(MAX_FILE_BYTES + 1).read_to_end(&mut text)?;
        Ok(text)
    };
    let text = read().map_err(|source| CommandError::File { path: PathBuf::from(&name), source })?;
    if text.len() as u64 > MAX_FILE_BYTES { Err(CalibrateError::TooLarge(name).into()) } else { Ok((name, text)) }
}

/// The questions of all lines; blank lines are none.
fn labelled(file: &str, text: &[u8]) -> Result<Vec<Labelled>, CalibrateError> {
    let text = text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(text);
    let mut first_lines = HashMap::new();
    let mut all = Vec::new();
    for (line, bytes) in (1..).zip(text.split(|byte| *byte == b'\n')) {
        if bytes.trim_ascii().is_empty() {
            continue;
        }
        let wrong = |why: String| CalibrateError::Line { file: file.to_owned(), line, why };
        let one = labelled_line(bytes).map_err(wrong)?;
        // It would count twice, and the curve would be tried on what it was fitted to.
        if let Some(first) = first_lines.insert(one.0.as_str().to_owned(), line) {
            return Err(wrong(format!("it is the question of line {first} again")));
        }
        all.push(one);
    }
    Ok(all)
}

fn labelled_line(line: &[u8]) -> Result<Labelled, String> {
    const EXPECTED: &str = "expected {\"question\": \"…\", \"answer\": \"…\", a list of texts, or null}";
    // Where in the line is said by the column alone: to serde each line is the first.
    let no_json = |error: serde_json::Error| format!("{EXPECTED}; it is no JSON from column {} on", error.column());
    let said: Value = serde_json::from_slice(line).map_err(no_json)?;
    let question = said.get("question").and_then(Value::as_str).ok_or(format!("{EXPECTED}; it has no question"))?;
    let question: Question = question.parse().map_err(|error: crate::question::QuestionError| error.to_string())?;
    let texts: Vec<&str> = match said.get("answer") {
        // A field that was forgotten, or is called otherwise, must not mean that there is no answer.
        None => return Err(format!("{EXPECTED}; it has no answer")),
        Some(Value::Null) => return Ok((question, None)),
        Some(Value::String(text)) => vec![text],
        Some(Value::Array(texts)) => {
            let texts: Option<Vec<&str>> = texts.iter().map(Value::as_str).collect();
            texts.ok_or(format!("{EXPECTED}; its list has something else than texts"))?
        }
        Some(_) => return Err(format!("{EXPECTED}; its answer is something else")),
    };
    if texts.is_empty() || texts.iter().any(|text| GoldAnswers::new([text]).is_empty()) {
        return Err("its answer is empty; null says that the data do not answer".to_owned());
    }
    Ok((question, Some(GoldAnswers::new(texts))))
}

/// An index of all data, as they are at one moment.
async fn index(origin: &Origin) -> Result<Index, CommandError> {
    let mut index = Index::new().map_err(CalibrateError::from)?;
    let mut snapshot = origin.snapshot();
    let progress = Progress::new("indexed", None);
    let mut done = 0;
    while let Some(batch) = snapshot.next().await {
        let live = batch?.into_iter().filter_map(|entry| match entry {
            StoreEntry::Live(datum) => Some(Change::Put(Box::new(datum))),
            StoreEntry::Tombstone { .. } | StoreEntry::Unreadable { .. } => None,
        });
        let changes: Vec<Change> = live.collect();
        done += changes.len() as u64;
        index = blocking(move || index.apply(&changes).map(|()| index)).await?;
        progress.tell(done);
    }
    progress.end();
    Ok(index)
}

/// Asks each question with threshold 0.
fn judge(index: &Index, questions: &[Labelled]) -> Result<Vec<Judged>, IndexError> {
    let snapshot = index.snapshot();
    let progress = Progress::new("asked", Some(questions.len() as u64));
    let mut judged = Vec::with_capacity(questions.len());
    for (question, gold) in questions {
        let reply = answer(question, &snapshot, 0.0)?;
        let right = gold.as_ref().is_some_and(|gold| reply.answer.as_ref().is_some_and(|text| gold.is_in(text)));
        let (found, answerable) = (reply.answer.is_some(), gold.is_some());
        judged.push(Judged { confidence: reply.confidence, found, answerable, right });
        progress.tell(judged.len() as u64);
    }
    progress.end();
    Ok(judged)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, IndexError> + Send + 'static,
) -> Result<T, CalibrateError> {
    let done = tokio::task::spawn_blocking(work).await;
    Ok(done.map_err(|ended| CalibrateError::Task(ended.to_string()))??)
}

fn report(out: &mut dyn Write, done: &Recalibration, learned: u64, file: Option<&PathBuf>) -> io::Result<()> {
    let Recalibration { questions, answerable, right, before, after, .. } = done;
    writeln!(
        out,
        "{questions} questions, {answerable} of them with an answer, asked of {learned} data; with every answer"
    )?;
    writeln!(out, "given, however low its confidence, {right} are right.\n")?;
    writeln!(out, "            before                      after (held out)")?;
    writeln!(out, "confidence  stated  questions  right    stated  questions  right")?;
    for (n, (before, after)) in before.tenths.iter().zip(&after.tenths).enumerate() {
        let of = |tenth: &crate::answer::Tenth| match tenth.questions {
            0 => format!("{:>6}  {:>9}  {:>5}", "-", 0, "-"),
            n => format!("{:>6.2}  {n:>9}  {:>5.2}", tenth.stated, tenth.right),
        };
        writeln!(out, "0.{n} to {:.1}  {}    {}", (n as f64 + 1.0) / 10.0, of(before), of(after))?;
    }
    let pair = |of: fn(&Reliability) -> f64| format!("{:>6.3}{:24}{:>6.3}", of(before), "", of(after));
    writeln!(out, "\ncalibration error  {}", pair(|r| r.calibration_error).trim_start())?;
    writeln!(out, "AUROC              {}", pair(|r| r.auroc).trim_start())?;
    writeln!(out, "Brier score        {}\n", pair(|r| r.brier).trim_start())?;
    writeln!(out, "{:28}from  answered  right  recall    F1", "answering")?;
    let mut line = |name: &str, at: &Triggering| {
        let Triggering { from, answered, precision, recall, f1 } = at;
        let percent = |share: &f64| format!("{:.0} %", share * 100.0);
        let (answered, right, recall) = (percent(answered), percent(precision), percent(recall));
        writeln!(out, "{name:26}{from:>6.2}  {answered:>8}  {right:>5}  {recall:>6}  {f1:>4.2}")
    };
    line("as fitted, before", &done.at_fitted)?;
    line("best F1, after (default)", &done.at_best)?;
    for at in &done.at_precisions {
        line("more right, after", at)?;
    }
    let way = match done.way {
        Way::AsStated => {
            "the confidence as it is stated, since no curve has less error on questions that it was not fitted to"
        }
        Way::Logistic => "a logistic curve",
        Way::Isotonic => "isotonic regression",
    };
    let points = done.calibration.points();
    writeln!(out, "\nThe curve: {way}; {points} points.")?;
    file.map_or(Ok(()), |file| writeln!(out, "Start with: --calibration {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_a_question_and_what_is_right_or_null() {
        let text = "\u{feff}{\"question\": \"Who?\", \"answer\": \"Mira\"}\r\n\n  \n\
                    {\"id\": 7, \"question\": \"Where?\", \"answer\": [\"Lodz\", \"Łódź\"]}\n{\"question\": \"Why?\", \"answer\": null}";
        let all = labelled("q", text.as_bytes()).expect("questions");
        let gold: Vec<Option<GoldAnswers>> = all.into_iter().map(|(_, gold)| gold).collect();
        assert_eq!(gold, [Some(GoldAnswers::new(["Mira"])), Some(GoldAnswers::new(["Lodz", "Łódź"])), None]);
    }

    #[test]
    fn what_is_none_is_refused_with_its_line() {
        let long = format!("{{\"question\": \"{}\", \"answer\": null}}", "x".repeat(1_001));
        for (line, expected) in [
            ("{", "no JSON"),
            ("7", "no question"),
            ("\u{fffd}", "no JSON"),
            ("{\"question\": 7, \"answer\": null}", "no question"),
            ("{\"question\": \" \", \"answer\": null}", "the question is empty"),
            (&long, "over 1000 characters"),
            ("{\"question\": \"a\", \"answers\": [\"x\"]}", "no answer"),
            ("{\"question\": \"a\", \"answer\": 7}", "something else"),
            ("{\"question\": \"a\", \"answer\": [7]}", "something else"),
            ("{\"question\": \"a\", \"answer\": []}", "null says"),
            ("{\"question\": \"a\", \"answer\": [\"x\", \" \"]}", "null says"),
            ("{\"question\": \"Who?\", \"answer\": \"x\"}", "the question of line 1"),
        ] {
            let text = format!("{{\"question\": \"Who?\", \"answer\": \"Mira\"}}\n\n{line}\n");
            let said = labelled("q.ndjson", text.as_bytes()).expect_err(line).to_string();
            assert!(said.starts_with("q.ndjson, line 3: ") && said.contains(expected), "{line}: {said}");
        }
        assert!(labelled("q", b"\xff").is_err());
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_questions_or_refused(text in "(\\{\"question\": \"[a-z]{0,3}\", \"answer\": (null|7|\"x?\")\\}|.|\n){0,4}") {
            let _ = labelled("q", text.as_bytes());
        }
    }
}
