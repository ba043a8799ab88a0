//! What came of it: counted while it runs, told at the end.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, HumanCount, HumanDuration, ProgressBar, ProgressStyle};
use serde::Serialize;

use super::Place;
use crate::client::{ClientError, printable_name};

/// What is named one by one; of more, the number is told.
const MAX_NAMED: usize = 10_000;

/// The same for people.
const MAX_SHOWN: usize = 20;

/// How often the line below the bar changes.
const DRAW_INTERVAL: Duration = Duration::from_millis(120);

/// The progress bar on the standard error; none unless that is a terminal.
pub(super) struct Bar {
    bar: ProgressBar,
    is_loud: bool,
}

impl Bar {
    pub(super) fn new(is_loud: bool) -> Self {
        if !is_loud || !io::stderr().is_terminal() {
            return Self { bar: ProgressBar::hidden(), is_loud };
        }
        let bar = ProgressBar::new(0);
        let style =
            ProgressStyle::with_template("[{bar:24}] {percent:>3} %  {bytes} of {total_bytes}, {msg}, {eta} left");
        bar.set_style(style.expect("the template is right").progress_chars("##."));
        bar.set_message("0 data");
        bar.enable_steady_tick(DRAW_INTERVAL);
        Self { bar, is_loud }
    }

    /// Tells something meanwhile.
    pub(super) fn say(&self, text: &str) {
        if self.is_loud {
            self.bar.suspend(|| eprintln!("multivac-api: {text}"));
        }
    }
}

/// A file, or a place in it, and what is the matter with it.
#[derive(Serialize)]
struct Named {
    file: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    part: Option<u64>,
    detail: String,
}

/// Some of them, and how many there are.
#[derive(Default)]
struct List {
    named: Vec<Named>,
    count: u64,
}

impl List {
    fn push(&mut self, place: &Place, detail: &str) {
        self.count += 1;
        if self.named.len() < MAX_NAMED {
            let file = printable_name(&place.file);
            self.named.push(Named { file, line: place.line, part: place.part, detail: detail.to_owned() });
        }
    }
}

#[derive(Default)]
struct Counts {
    files: u64,
    accepted: u64,
    known: u64,
    rejected: List,
    unreadable: List,
    passed_over: List,
    /// Those that were named on the command line.
    named_passed_over: u64,
    left_out: BTreeMap<&'static str, u64>,
    split: List,
    bytes: u64,
    is_complete: bool,
}

pub(super) struct Report {
    bar: Bar,
    is_quiet: bool,
    started: Instant,
    counts: Mutex<Counts>,
}

impl Report {
    pub(super) fn new(bar: Bar, is_quiet: bool) -> Self {
        Self { bar, is_quiet, started: Instant::now(), counts: Mutex::default() }
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn shows_progress(&self) -> bool {
        !self.bar.bar.is_hidden()
    }

    /// So much more is to be read.
    pub(super) fn expect(&self, bytes: u64) {
        self.bar.bar.inc_length(bytes);
    }

    /// All that is to be read has been summed up.
    pub(super) fn all_expected(&self) {
        self.bar.bar.tick();
    }

    pub(super) fn say(&self, text: &str) {
        if !self.is_quiet {
            self.bar.say(text);
        }
    }

    /// A file is read.
    pub(super) fn file(&self) {
        self.counts().files += 1;
    }

    /// So many bytes are done with.
    pub(super) fn done(&self, bytes: u64) {
        self.bar.bar.inc(bytes);
    }

    /// These many are new, and these many were known already.
    pub(super) fn accepted(&self, new: u64, known: u64, bytes: u64) {
        let mut counts = self.counts();
        counts.accepted += new;
        counts.known += known;
        counts.bytes += bytes;
        let data = counts.accepted + counts.known;
        drop(counts);
        let rate = data as f64 / self.started.elapsed().as_secs_f64().max(0.001);
        self.bar.bar.set_message(format!("{} data, {} a second", HumanCount(data), HumanCount(rate as u64)));
        self.bar.bar.inc(bytes);
    }

    pub(super) fn reject(&self, place: Place, detail: &str) {
        self.counts().rejected.push(&place, detail);
    }

    /// It is nothing to feed; whether that is a fault depends on whether somebody has named it.
    pub(super) fn pass_over(&self, file: &str, why: &str, is_named: bool) {
        let mut counts = self.counts();
        counts.passed_over.push(&whole(file), why);
        counts.named_passed_over += u64::from(is_named);
    }

    /// It was not even looked at.
    pub(super) fn leave_out(&self, why: &'static str) {
        *self.counts().left_out.entry(why).or_default() += 1;
    }

    pub(super) fn fail(&self, file: &str, why: &str) {
        self.counts().unreadable.push(&whole(file), why);
    }

    pub(super) fn split(&self, file: &str, parts: u64) {
        self.counts().split.push(&whole(file), &format!("fed in {parts} parts"));
    }

    /// All that was named has been read and sent.
    pub(super) fn complete(&self) {
        self.counts().is_complete = true;
    }

    pub(super) fn is_complete(&self) -> bool {
        self.counts().is_complete
    }

    pub(super) fn has_failures(&self) -> bool {
        let counts = self.counts();
        counts.rejected.count + counts.unreadable.count + counts.named_passed_over > 0
    }

    /// Tells all of it.
    pub(super) fn tell(&self, error: Option<&ClientError>, json: bool, quiet: bool) {
        self.bar.bar.finish_and_clear();
        let counts = self.counts();
        // An error means that nobody reads it.
        let _ = match (json, quiet) {
            (true, _) => self.json(&counts, error),
            (_, true) => lists(&mut io::stderr(), &counts, true),
            _ => self.table(&counts),
        };
        if let Some(error) = error {
            eprintln!("multivac-api: {error}");
        }
        if !counts.is_complete {
            eprintln!("multivac-api: not all was fed: the same command again goes on, and feeds nothing twice");
        }
    }

    fn table(&self, counts: &Counts) -> io::Result<()> {
        let mut out = io::stdout().lock();
        let took = self.started.elapsed();
        let rate = (counts.accepted + counts.known) as f64 / took.as_secs_f64().max(0.001);
        let rows = [
            ("accepted", counts.accepted),
            ("known already", counts.known),
            ("rejected", counts.rejected.count),
            ("unreadable", counts.unreadable.count),
            ("passed over", counts.passed_over.count),
        ];
        for (name, count) in
            rows.into_iter().filter(|(name, count)| *count > 0 || !["unreadable", "passed over"].contains(name))
        {
            writeln!(out, "{name:<14} {:>10}", HumanCount(count).to_string())?;
        }
        let (files, bytes) = (HumanCount(counts.files), HumanBytes(counts.bytes));
        let noun = if counts.files == 1 { "file" } else { "files" };
        writeln!(out, "{files} {noun}, {bytes} in {}, {} data a second", HumanDuration(took), HumanCount(rate as u64))?;
        lists(&mut out, counts, false)
    }

    fn json(&self, counts: &Counts, error: Option<&ClientError>) -> io::Result<()> {
        #[derive(Serialize)]
        struct Json<'a> {
            accepted: u64,
            known: u64,
            rejected: &'a [Named],
            rejected_in_all: u64,
            unreadable: &'a [Named],
            unreadable_in_all: u64,
            passed_over: &'a [Named],
            passed_over_in_all: u64,
            hidden: u64,
            version_control: u64,
            split: &'a [Named],
            files: u64,
            bytes: u64,
            seconds: f64,
            complete: bool,
            error: Option<String>,
        }
        let left_out = |why| counts.left_out.get(why).copied().unwrap_or_default();
        let json = Json {
            accepted: counts.accepted,
            known: counts.known,
            rejected: &counts.rejected.named,
            rejected_in_all: counts.rejected.count,
            unreadable: &counts.unreadable.named,
            unreadable_in_all: counts.unreadable.count,
            passed_over: &counts.passed_over.named,
            passed_over_in_all: counts.passed_over.count,
            hidden: left_out("hidden"),
            version_control: left_out("of version control"),
            split: &counts.split.named,
            files: counts.files,
            bytes: counts.bytes,
            seconds: (self.started.elapsed().as_secs_f64() * 1_000.0).round() / 1_000.0,
            complete: counts.is_complete,
            error: error.map(ToString::to_string),
        };
        let mut out = io::stdout().lock();
        serde_json::to_writer(&mut out, &json)?;
        writeln!(out)
    }
}

fn whole(file: &str) -> Place {
    Place { file: file.into(), line: None, part: None }
}

/// What has to be named; the faults alone, or all of it.
fn lists(out: &mut dyn Write, counts: &Counts, faults_only: bool) -> io::Result<()> {
    let (faults, notes) = (
        [("rejected", &counts.rejected), ("unreadable", &counts.unreadable)],
        [("passed over", &counts.passed_over), ("over the limit of a datum", &counts.split)],
    );
    for (title, list) in
        faults.into_iter().chain(notes.into_iter().filter(|_| !faults_only)).filter(|(_, list)| list.count > 0)
    {
        writeln!(out, "\n{title}:")?;
        for Named { file, line, part, detail } in list.named.iter().take(MAX_SHOWN) {
            let at = match (line, part) {
                (Some(line), _) => format!(":{line}"),
                (None, Some(part)) => format!(" (part {part})"),
                (None, None) => String::new(),
            };
            writeln!(out, "  {file}{at}: {detail}")?;
        }
        let more = list.count.saturating_sub(MAX_SHOWN as u64);
        if more > 0 {
            writeln!(out, "  and {} more (--json names them)", HumanCount(more))?;
        }
    }
    if !faults_only && !counts.left_out.is_empty() {
        let left_out: Vec<String> =
            counts.left_out.iter().map(|(why, count)| format!("{} {why}", HumanCount(*count))).collect();
        writeln!(out, "\nleft out: {} (--hidden feeds hidden ones)", left_out.join(", "))?;
    }
    Ok(())
}
