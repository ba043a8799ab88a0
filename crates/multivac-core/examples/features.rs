//! What `src/answer/fit.py` learns from: a data set of text and questions in, every candidate's features out.
//!
//! In, on the standard input: `{"data": [{"key", "text"}], "questions": [{"question", "answers": […], "gold": [key…]}]}`.
//! Out, on the standard output: the names of the features in one line; the names of the features of terms in another; a
//! count of values; so many 32-bit little-endian floats, a row for each candidate: the question's number, whether one of
//! its answers stands in the candidate (0 or 1), whether it is out of a paragraph that answers it, the candidate's
//! features, and how it holds each term (-1 beyond the last); then a row for each term of each question: its question's
//! number and its features. A question without candidates has no row.

use std::collections::HashMap;
use std::io::{self, BufWriter, Read, Write};

use multivac_core::answer::{Features, MAX_TERMS, TermFeatures, weigh};
use multivac_core::datum::{Datum, DatumId, Timestamp};
use multivac_core::index::Index;
use multivac_core::process::process;
use multivac_core::queue::Job;
use multivac_core::store::Change;
use serde::Deserialize;

#[derive(Deserialize)]
struct DataSet {
    data: Vec<Text>,
    questions: Vec<Asked>,
}

#[derive(Deserialize)]
struct Text {
    #[serde(default)]
    key: String,
    text: String,
}

#[derive(Deserialize)]
struct Asked {
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
    for (number, asked) in set.questions.iter().enumerate() {
        let answers: Vec<(String, &str)> = asked.answers.iter().map(|a| (plain(a), a.as_str())).collect();
        let weighed = weigh(&asked.question.parse()?, &snapshot)?;
        for sentence in weighed.sentences {
            let text = format!(" {} ", plain(&sentence.text));
            let right = answers.iter().any(|(plain, answer)| match plain.as_str() {
                "" => sentence.text.to_lowercase().contains(&answer.trim().to_lowercase()),
                plain => text.contains(&format!(" {plain} ")),
            });
            let gold = keys.get(&sentence.id).is_some_and(|key| asked.gold.iter().any(|gold| gold == key));
            rows.extend([number as f32, f32::from(u8::from(right)), f32::from(u8::from(gold))]);
            rows.extend(sentence.features.values());
            let held = sentence.held.into_iter().map(f32::from).chain(std::iter::repeat(-1.0));
            rows.extend(held.take(MAX_TERMS));
        }
        for term in weighed.terms {
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

/// As SQuAD compares answers (Rajpurkar et al. 2016): lower case, without ASCII punctuation and articles, single spaces.
fn plain(text: &str) -> String {
    let bare: String = text.to_lowercase().chars().filter(|c| !c.is_ascii_punctuation()).collect();
    let words = bare.split_whitespace().filter(|word| !matches!(*word, "a" | "an" | "the"));
    words.collect::<Vec<_>>().join(" ")
}
