//! Computes what `src/answer/fit.py` learns from: reads a data set of texts and questions, writes every candidate's features.
//!
//! Standard input: `{"data": [{"key", "text"}], "questions": [{"question", "answers": […], "gold": [key…]}]}`.
//!
//! Standard output: a line with the names of the features; a line with the names of the terms' features; a line with the
//! number of values that follow for candidates; then 32-bit little-endian floats. Each candidate has a row: the question's
//! number, whether one of its answers is in the candidate (0 or 1), whether it is from a paragraph that answers (0 or 1),
//! the candidate's features, and in which ways it holds each term (-1 beyond the last). Then each term of each question has a
//! row: the question's number and the term's features. A question without candidates has no row of the first kind.

use std::collections::HashMap;
use std::io::{self, BufWriter, Read, Write};

use multivac_core::answer::{Features, MAX_TERMS, TermFeatures, training_question};
use multivac_core::datum::{Datum, DatumId, Timestamp};
use multivac_core::index::Index;
use multivac_core::process::process;
use multivac_core::queue::Job;
use multivac_core::store::Change;
use serde::Deserialize;

#[derive(Deserialize)]
struct DataSet {
    data: Vec<Text>,
    questions: Vec<LabelledQuestion>,
}

#[derive(Deserialize)]
struct Text {
    #[serde(default)]
    key: String,
    text: String,
}

#[derive(Deserialize)]
struct LabelledQuestion {
    question: String,
    #[serde(default)]
    answers: Vec<String>,
    #[serde(default)]
    gold: Vec<String>,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut json = String::new();
    io::stdin().read_to_string(&mut json)?;
    let set: DataSet = serde_json::from_str(&json)?;
    let index = Index::new()?;
    let mut changes = Vec::new();
    let mut keys = HashMap::new();
    for text in &set.data {
        let datum = Datum::new(&text.text, usize::MAX)?;
        let id = DatumId::generate();
        keys.insert(id, text.key.as_str());
        let job = Job { id, datum, received_at: Timestamp::now(), trace: None };
        changes.push(Change::Put(Box::new(process(&job, Timestamp::now()))));
    }
    index.apply(&changes)?;
    let snapshot = index.snapshot();
    let (mut rows, mut terms): (Vec<f32>, Vec<f32>) = (Vec::new(), Vec::new());
    for (number, labelled) in set.questions.iter().enumerate() {
        let answers: Vec<(String, &str)> = labelled.answers.iter().map(|a| (plain(a), a.as_str())).collect();
        let training = training_question(&labelled.question.parse()?, &snapshot)?;
        for candidate in training.candidates {
            let text = format!(" {} ", plain(&candidate.text));
            let right = answers.iter().any(|(plain, answer)| match plain.as_str() {
                "" => candidate.text.to_lowercase().contains(&answer.trim().to_lowercase()),
                plain => text.contains(&format!(" {plain} ")),
            });
            let gold = keys.get(&candidate.id).is_some_and(|key| labelled.gold.iter().any(|gold| gold == key));
            rows.extend([number as f32, f32::from(u8::from(right)), f32::from(u8::from(gold))]);
            rows.extend(candidate.features.values());
            let held = candidate.held.into_iter().map(f32::from).chain(std::iter::repeat(-1.0));
            rows.extend(held.take(MAX_TERMS));
        }
        for term in training.terms {
            terms.push(number as f32);
            terms.extend(term.values());
        }
    }
    let mut out = BufWriter::new(io::stdout().lock());
    writeln!(out, "{}", Features::NAMES.join(" "))?;
    writeln!(out, "{}", TermFeatures::NAMES.join(" "))?;
    writeln!(out, "{}", rows.len())?;
    for value in rows.iter().chain(&terms) {
        out.write_all(&value.to_le_bytes())?;
    }
    out.flush()?;
    Ok(())
}

/// Normalised as SQuAD compares answers (Rajpurkar et al. 2016): lower case, no ASCII punctuation, no articles, single
/// spaces.
fn plain(text: &str) -> String {
    let bare: String = text.to_lowercase().chars().filter(|c| !c.is_ascii_punctuation()).collect();
    let words = bare.split_whitespace().filter(|word| !matches!(*word, "a" | "an" | "the"));
    words.collect::<Vec<_>>().join(" ")
}
