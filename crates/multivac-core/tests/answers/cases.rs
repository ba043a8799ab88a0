//! Cases as people bring them: what was fed, what is asked, and what a reasonable person takes for the right answer.
//!
//! The data are plain files, a kind each, in `cases/` (each case has an index of its own) and in `files/` (see `files.rs`).
//! Lines that begin with `::` are the tests', all others are the text that is fed:
//!
//! ```text
//! # What the file is about.
//! :: fed
//! the text of a datum, to the next line that begins with `::`; `\u{ad}` is the character of that number
//! :: fed
//! another datum beside it
//! :: asked the question
//! :: right what must be in the answer (more than one: at least one of them)
//! :: whole what the answer must be from end to end, apart from white space (more than one: one of them)
//! :: never what must not be in the answer
//! :: insufficient
//! :: pending why it is not answered right so far: the mark has to go once it is
//! :: pending-marked why it is not so far where its words have invisible characters
//! :: asked another question about the same data
//! ```
//!
//! Whatever a case says, an answer has [`MAX_ANSWER_CHARS`] at most and is word for word what was fed.

use std::fs;
use std::path::Path;

use multivac_core::answer::{Answer, answer};
use multivac_core::index::Index;
use multivac_core::process::MAX_ANSWER_CHARS;

use super::{ask, index};

/// A question about some data, and which answers to it are right.
#[derive(Debug)]
pub(super) struct Case {
    /// The data it is about, by their place in [`Kind::fed`].
    pub(super) data: Vec<usize>,
    pub(super) question: String,
    pub(super) right: Vec<String>,
    pub(super) whole: Vec<String>,
    pub(super) never: Vec<String>,
    pub(super) insufficient: bool,
    /// Whether it is known that it is not answered right so far, or not with invisible characters in its words.
    pub(super) pending: bool,
    pub(super) pending_marked: bool,
}

/// The cases of a file.
#[derive(Debug)]
pub(super) struct Kind {
    pub(super) name: String,
    pub(super) fed: Vec<String>,
    pub(super) cases: Vec<Case>,
}

/// The kinds in a folder beside this file, by name.
pub(super) fn kinds(folder: &str) -> Vec<Kind> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/answers").join(folder);
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let kind = |path: &std::path::PathBuf| {
        kind(path.file_stem().unwrap().to_str().unwrap(), &fs::read_to_string(path).unwrap())
    };
    paths.iter().map(kind).collect()
}

fn kind(name: &str, file: &str) -> Kind {
    let mut kind = Kind { name: name.to_owned(), fed: Vec::new(), cases: Vec::new() };
    let (mut data, mut feeding, mut asked): (Vec<usize>, _, _) = (Vec::new(), false, false);
    for (number, line) in file.split('\n').enumerate() {
        let at = || format!("{name}, line {}: {line}", number + 1);
        let Some(mark) = line.strip_prefix(":: ") else {
            if feeding {
                let datum = kind.fed.last_mut().unwrap();
                datum.push_str(&unescaped(line));
                datum.push('\n');
            } else {
                assert!(line.is_empty() || line.starts_with('#'), "{}", at());
            }
            continue;
        };
        let (mark, rest) = mark.split_once(' ').unwrap_or((mark, ""));
        let rest = unescaped(rest);
        feeding = mark == "fed";
        match mark {
            "fed" => {
                if std::mem::take(&mut asked) {
                    data.clear();
                }
                data.push(kind.fed.len());
                kind.fed.push(String::new());
                continue;
            }
            "asked" => {
                asked = true;
                kind.cases.push(Case {
                    data: data.clone(),
                    question: rest,
                    right: Vec::new(),
                    whole: Vec::new(),
                    never: Vec::new(),
                    insufficient: false,
                    pending: false,
                    pending_marked: false,
                });
                continue;
            }
            _ => {}
        }
        let case = kind.cases.last_mut().unwrap_or_else(|| panic!("{}", at()));
        match mark {
            "right" => case.right.push(rest),
            "whole" => case.whole.push(rest),
            "never" => case.never.push(rest),
            "insufficient" => case.insufficient = true,
            "pending" if !rest.is_empty() => case.pending = true,
            "pending-marked" if !rest.is_empty() => case.pending_marked = true,
            _ => panic!("{}", at()),
        }
    }
    for datum in &mut kind.fed {
        datum.truncate(datum.trim_end_matches('\n').len());
        assert!(!datum.is_empty(), "{name}");
    }
    for case in &kind.cases {
        let expects = !case.right.is_empty() || !case.whole.is_empty();
        assert!(expects != case.insufficient && !case.data.is_empty(), "{name}: {case:?}");
        let there = |text: &String| case.data.iter().any(|at| squash(&kind.fed[*at]).contains(&squash(text)));
        assert!(
            case.right.iter().chain(&case.whole).chain(&case.never).all(there),
            "{name}: not in the data: {case:?}"
        );
    }
    kind
}

/// With each `\u{…}` as the character that it names.
fn unescaped(line: &str) -> String {
    let mut pieces = line.split("\\u{");
    let mut text = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (code, rest) = piece.split_once('}').unwrap();
        text.push(char::from_u32(u32::from_str_radix(code, 16).unwrap()).unwrap());
        text.push_str(rest);
    }
    text
}

/// With one space for each run of white space.
pub(super) fn squash(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

impl Case {
    /// What is wrong with an answer, if anything.
    pub(super) fn fault(&self, answer: Option<&str>, fed: &[String]) -> Option<&'static str> {
        let Some(answer) = answer else { return (!self.insufficient).then_some("no answer") };
        if self.insufficient {
            return Some("an answer where there is none");
        }
        let squashed = squash(answer);
        let holds = |text: &String| squashed.contains(&squash(text));
        if answer.chars().count() > MAX_ANSWER_CHARS {
            Some("too long")
        } else if !fed.iter().any(|datum| squash(datum).contains(&squashed)) {
            Some("not word for word")
        } else if !(self.right.is_empty() || self.right.iter().any(holds)) {
            Some("another answer")
        } else if self.never.iter().any(holds) {
            Some("more than the answer")
        } else if !(self.whole.is_empty() || self.whole.iter().any(|whole| squash(whole) == squashed)) {
            Some("not exactly the answer")
        } else {
            None
        }
    }

    /// The case with each text changed.
    pub(super) fn with(&self, change: impl Fn(&str) -> String) -> Self {
        let all = |texts: &[String]| texts.iter().map(|text| change(text)).collect();
        Self {
            data: self.data.clone(),
            question: self.question.clone(),
            right: all(&self.right),
            whole: all(&self.whole),
            never: all(&self.never),
            insufficient: self.insufficient,
            pending: self.pending,
            pending_marked: self.pending_marked,
        }
    }

    /// What is said of an answer that has a fault, with what would be answered if confidence did not matter.
    pub(super) fn failed(&self, kind: &str, fault: &str, reply: &Answer, index: &Index) -> String {
        let (asked, said, confidence) = (&self.question, reply.text(), reply.confidence);
        let likeliest = answer(&asked.parse().unwrap(), &index.snapshot(), 0.0).unwrap();
        let wanted: Vec<&String> = self.right.iter().chain(&self.whole).collect();
        let mut message = format!("{kind}: {asked}\n    {fault}: {said:?} ({confidence:.2})\n    wanted {wanted:?}");
        if reply.answer.is_none() {
            message += &format!("\n    likeliest {:?}", likeliest.text());
        }
        message
    }
}

/// What became of the cases of one kind.
#[derive(Default)]
pub(super) struct Outcome {
    name: String,
    cases: usize,
    right: usize,
    /// What is wrong with those that are not pending, and those that are pending and right.
    faults: Vec<String>,
}

impl Outcome {
    pub(super) fn new(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }

    /// Enters a case and what is said of its answer, where that is wrong.
    pub(super) fn enter(&mut self, question: &str, pending: bool, fault: Option<String>) {
        self.cases += 1;
        self.right += usize::from(fault.is_none());
        match fault {
            Some(fault) if !pending => self.faults.push(fault),
            None if pending => self.faults.push(format!("{}: {question}\n    right now: no longer pending", self.name)),
            _ => {}
        }
    }
}

/// Prints how many cases of each kind are right, and fails if one is not that is not pending.
#[allow(clippy::print_stdout, reason = "the table is what the test is read for")]
pub(super) fn report(outcomes: &[Outcome]) {
    let mut table = format!("{:<24} right   of\n", "kind");
    let all = outcomes.iter().fold((0, 0), |(right, cases), of| (right + of.right, cases + of.cases));
    let rows = outcomes.iter().map(|of| (of.name.as_str(), (of.right, of.cases)));
    for (name, (right, cases)) in rows.chain([("all", all)]) {
        table += &format!("{name:<24} {right:>5} {cases:>4}\n");
    }
    println!("{table}");
    let faults: Vec<&str> = outcomes.iter().flat_map(|of| &of.faults).map(String::as_str).collect();
    assert!(faults.is_empty(), "{} are not as expected:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn every_case_of_every_kind_is_answered_right() {
    let outcomes = kinds("cases").into_iter().map(|kind| {
        let mut outcome = Outcome::new(&kind.name);
        for same in kind.cases.chunk_by(|a, b| a.data == b.data) {
            let texts: Vec<&str> = same[0].data.iter().map(|at| kind.fed[*at].as_str()).collect();
            let (index, _) = index(&texts);
            for case in same {
                let reply = ask(&index, &case.question);
                let fault = case.fault(reply.answer.as_deref(), &kind.fed);
                let fault = fault.map(|fault| case.failed(&kind.name, fault, &reply, &index));
                outcome.enter(&case.question, case.pending, fault);
            }
        }
        outcome
    });
    report(&outcomes.collect::<Vec<_>>());
}
