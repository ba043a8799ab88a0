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

/// Prints how many cases of each kind are right, and fails if one is not.
#[allow(clippy::print_stdout, reason = "the table is what the test is read for")]
pub(super) fn report(rows: &[(String, usize, Vec<String>)]) {
    let mut table = format!("{:<24} right   of\n", "kind");
    for (name, cases, faults) in rows {
        table += &format!("{name:<24} {:>5} {cases:>4}\n", cases - faults.len());
    }
    let (cases, faults) = rows.iter().fold((0, 0), |(cases, faults), row| (cases + row.1, faults + row.2.len()));
    table += &format!("{:<24} {:>5} {cases:>4}\n", "all", cases - faults);
    let faults: Vec<&str> = rows.iter().flat_map(|row| &row.2).map(String::as_str).collect();
    println!("{table}");
    assert!(faults.is_empty(), "{table}\n{}", faults.join("\n"));
}

#[test]
fn every_case_of_every_kind_is_answered_right() {
    let rows = kinds("cases").into_iter().map(|kind| {
        let mut faults = Vec::new();
        for same in kind.cases.chunk_by(|a, b| a.data == b.data) {
            let texts: Vec<&str> = same[0].data.iter().map(|at| kind.fed[*at].as_str()).collect();
            let (index, _) = index(&texts);
            for case in same {
                let reply = ask(&index, &case.question);
                if let Some(fault) = case.fault(reply.answer.as_deref(), &kind.fed) {
                    faults.push(case.failed(&kind.name, fault, &reply, &index));
                }
            }
        }
        (kind.name, kind.cases.len(), faults)
    });
    report(&rows.collect::<Vec<_>>());
}
