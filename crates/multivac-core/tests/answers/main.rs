//! Data, questions, and the answer or abstention that each must get.
#![allow(clippy::unwrap_used)]

use multivac_core::answer::{Answer, answer, fitted_threshold};
use multivac_core::datum::{Datum, DatumId, Timestamp};
use multivac_core::index::Index;
use multivac_core::process::{MAX_ANSWER_CHARS, normalise, process};
use multivac_core::queue::Job;
use multivac_core::store::Change;
use proptest::prelude::*;

fn index(texts: &[&str]) -> (Index, Vec<DatumId>) {
    let index = Index::new().unwrap();
    let jobs: Vec<Job> = texts
        .iter()
        .map(|text| Job {
            id: DatumId::generate(),
            datum: Datum::accepted_before(text),
            received_at: Timestamp::now(),
            trace: None,
        })
        .collect();
    let put = |job: &Job| Change::Put(Box::new(process(job, Timestamp::now())));
    index.apply(&jobs.iter().map(put).collect::<Vec<_>>()).unwrap();
    (index, jobs.iter().map(|job| job.id).collect())
}

fn ask(index: &Index, question: &str) -> Answer {
    answer(&question.parse().unwrap(), &index.snapshot(), fitted_threshold()).unwrap()
}

#[test]
fn the_sentence_that_tells_is_given_out_of_others_that_speak_of_the_same() {
    let (index, ids) = index(&[
        "The Rhine rises in the Alps. It is some 1,230 km long. Its largest city is Cologne.",
        "The Danube rises in the Black Forest. It flows through ten countries. Vienna lies on it.",
        "Bread is baked from flour and water.",
    ]);
    let reply = ask(&index, "Where does the Danube rise?");
    assert_eq!(reply.text(), "The Danube rises in the Black Forest.");
    assert_eq!(reply.evidence[0].id, ids[1]);
    assert_eq!(reply.evidence[0].features["exact"], 1.0);
    assert_eq!(reply.missing, None);
}

#[test]
fn what_no_datum_speaks_of_is_named() {
    let (index, _) = index(&["Bread is baked from flour and water.", "The Rhine rises in the Alps."]);
    let reply = ask(&index, "Who invented the telephone?");
    assert_eq!(reply.answer, None);
    assert_eq!(reply.missing, Some(vec!["invented".to_owned(), "telephone".to_owned()]));
}

#[test]
fn better_data_replace_an_answer_and_taking_them_back_restores_it() {
    let (index, ids) = index(&[
        "The old bridge over the Multi was repaired in 1931.",
        "The old bridge over the Multi was built in 1874 by a company from Linz.",
        "Fish live in the Multi.",
    ]);
    let question = "When was the old bridge over the Multi built?";
    let built = "The old bridge over the Multi was built in 1874 by a company from Linz.";
    assert_eq!(ask(&index, question).text(), built);
    index.apply(&[Change::Removed(ids[1])]).unwrap();
    let after = ask(&index, question);
    assert_ne!(after.text(), built);
    assert!(after.evidence.iter().all(|evidence| evidence.id != ids[1]));
}

/// Text as people paste it: prose, tables, HTML, lists, other scripts, signs, and anything else.
fn text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("Dr. A. B. Smith paid $3.50 on Jan. 5, 1999.".to_owned()),
        Just("<p>The <b>entropy</b> of the universe</p>\n<li>one".to_owned()),
        Just("name\tyear\nMultivac | 2061\n- first\n- second".to_owned()),
        Just("宇宙のエントロピーを逆転できますか。光あれ！".to_owned()),
        Just("энтропия вселенной 👩‍🚀 🌌 \u{0}\u{7f}\u{feff}".to_owned()),
        "[a-z ]{300,700}",
        "\\PC{1,80}",
        any::<String>(),
    ];
    proptest::collection::vec(piece, 1..5).prop_map(|pieces| pieces.join(" "))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn whatever_is_fed_and_asked_an_answer_stands_in_the_data_word_for_word(
        texts in proptest::collection::vec(text(), 1..4),
        asked in text(),
    ) {
        let refs: Vec<&str> = texts.iter().map(String::as_str).filter(|text| !text.trim().is_empty()).collect();
        let (index, _) = index(&refs);
        let asked: String = asked.chars().take(1_000).collect();
        prop_assume!(!asked.trim().is_empty());
        // At no threshold: whatever comes nearest is looked at.
        let reply = answer(&asked.parse().unwrap(), &index.snapshot(), 0.0).unwrap();
        prop_assert!((0.0..=1.0).contains(&reply.confidence));
        let squash = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        if let Some(answer) = &reply.answer {
            prop_assert!(answer.chars().count() <= MAX_ANSWER_CHARS);
            prop_assert!(refs.iter().any(|text| squash(&normalise(text)).contains(answer.as_str())));
        }
    }
}
