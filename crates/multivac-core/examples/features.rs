//! Computes what `src/answer/fit.py` learns from: reads a data set of texts and questions, writes every candidate's features.
//!
//! Standard input: `{"data": [{"key", "text"}], "questions": [{"kind", "question", "answers": […] or "sentences": […], "gold":
//! [key…]}]}`.
//!
//! Every question is asked, and then each of the kind "in" again, without the texts that answer it, as a near one: the subject
//! is there, the answer is not. The near questions are numbered after the others, in the same order. A set that has near ones
//! itself gets no others.
//!
//! Standard output: a line with the names of the features; a line with the names of the terms' features; a line with the
//! number of values that follow for candidates; then 32-bit little-endian floats. Each candidate has a row: the question's
//! number, whether it is right (0 or 1: it holds one of the answers, or is one of the sentences), whether it is from a text
//! that answers (0 or 1), the candidate's features, and in which ways it holds each term (-1 beyond the last). Then each term
//! of each question has a row: the question's number and the term's features. A question without candidates has no row of the
//! first kind.

use std::collections::HashMap;
use std::error::Error;
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
    kind: String,
    question: String,
    #[serde(default)]
    answers: Vec<String>,
    #[serde(default)]
    sentences: Vec<String>,
    #[serde(default)]
    gold: Vec<String>,
}

/// How much of its words a sentence must share with one that is right (F1), as the answers are judged.
const SAME_SENTENCE: f64 = 0.6;

/// In how many indexes near questions are asked, each without an equal share of the texts that answer one.
const NEAR_INDEXES: usize = 8;

impl LabelledQuestion {
    /// Whether a candidate is right.
    fn is_answered_by(&self, candidate: &str) -> bool {
        let plain_candidate = format!(" {} ", plain(candidate));
        let holds = |answer: &String| match plain(answer).as_str() {
            "" => candidate.to_lowercase().contains(&answer.trim().to_lowercase()),
            plain => plain_candidate.contains(&format!(" {plain} ")),
        };
        self.answers.iter().any(holds) || self.sentences.iter().any(|other| shared(candidate, other) >= SAME_SENTENCE)
    }
}

/// The F1 of the words that two texts share.
fn shared(a: &str, b: &str) -> f64 {
    let mut counts: HashMap<String, (usize, usize)> = HashMap::new();
    plain(a).split(' ').for_each(|word| counts.entry(word.to_owned()).or_default().0 += 1);
    plain(b).split(' ').for_each(|word| counts.entry(word.to_owned()).or_default().1 += 1);
    let sum = |of: fn(&(usize, usize)) -> usize| counts.values().map(of).sum::<usize>() as f64;
    2.0 * sum(|(a, b)| *a.min(b)) / (sum(|(a, _)| *a) + sum(|(_, b)| *b))
}

/// An index of some texts, and which key each datum has.
struct Corpus<'a> {
    index: Index,
    keys: HashMap<DatumId, &'a str>,
}

impl<'a> Corpus<'a> {
    fn new(texts: impl Iterator<Item = &'a Text>) -> Result<Self, Box<dyn Error>> {
        let (index, mut keys, mut changes) = (Index::new()?, HashMap::new(), Vec::new());
        for text in texts {
            let id = DatumId::generate();
            keys.insert(id, text.key.as_str());
            let job =
                Job { id, datum: Datum::new(&text.text, usize::MAX)?, received_at: Timestamp::now(), trace: None };
            changes.push(Change::Put(Box::new(process(&job, Timestamp::now()))));
        }
        index.apply(&changes)?;
        Ok(Self { index, keys })
    }

    /// Asks a question, and writes the rows of its candidates and of its terms.
    fn ask(&self, number: usize, labelled: &LabelledQuestion, out: &mut Rows) -> Result<(), Box<dyn Error>> {
        let training = training_question(&labelled.question.parse()?, &self.index.snapshot())?;
        for candidate in training.candidates {
            let right = labelled.is_answered_by(&candidate.text);
            let gold = self.keys.get(&candidate.id).is_some_and(|key| labelled.gold.iter().any(|gold| gold == key));
            out.candidates.extend([number as f32, f32::from(u8::from(right)), f32::from(u8::from(gold))]);
            out.candidates.extend(candidate.features.values());
            let held = candidate.held.into_iter().map(f32::from).chain(std::iter::repeat(-1.0));
            out.candidates.extend(held.take(MAX_TERMS));
        }
        for term in training.terms {
            out.terms.push(number as f32);
            out.terms.extend(term.values());
        }
        Ok(())
    }
}

#[derive(Default)]
struct Rows {
    candidates: Vec<f32>,
    terms: Vec<f32>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut json = String::new();
    io::stdin().read_to_string(&mut json)?;
    let set: DataSet = serde_json::from_str(&json)?;
    let mut rows = Rows::default();
    let corpus = Corpus::new(set.data.iter())?;
    for (number, labelled) in set.questions.iter().enumerate() {
        corpus.ask(number, labelled, &mut rows)?;
    }
    let part: HashMap<&str, usize> =
        set.data.iter().enumerate().map(|(at, text)| (text.key.as_str(), at % NEAR_INDEXES)).collect();
    let of = |kind: &'static str| set.questions.iter().filter(move |labelled| labelled.kind == kind);
    let near: Vec<&LabelledQuestion> = of("in").take_while(|_| of("near").next().is_none()).collect();
    let mut near_rows: Vec<Rows> = near.iter().map(|_| Rows::default()).collect();
    for without in 0..NEAR_INDEXES {
        let is_without = |key: &str| part.get(key) == Some(&without);
        let all_gold = |labelled: &LabelledQuestion, key: &str| labelled.gold.iter().any(|gold| gold == key);
        let asked: Vec<usize> =
            (0..near.len()).filter(|at| near[*at].gold.first().is_some_and(|gold| is_without(gold))).collect();
        // A question with several texts that answer it needs them all gone.
        let gone = |key: &str| is_without(key) || asked.iter().any(|at| all_gold(near[*at], key));
        let corpus = Corpus::new(set.data.iter().filter(|text| !gone(&text.key)))?;
        for at in asked {
            corpus.ask(set.questions.len() + at, near[at], &mut near_rows[at])?;
        }
    }
    for near in near_rows {
        rows.candidates.extend(near.candidates);
        rows.terms.extend(near.terms);
    }
    let mut out = BufWriter::new(io::stdout().lock());
    writeln!(out, "{}", Features::NAMES.join(" "))?;
    writeln!(out, "{}", TermFeatures::NAMES.join(" "))?;
    writeln!(out, "{}", rows.candidates.len())?;
    for value in rows.candidates.iter().chain(&rows.terms) {
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
