//! Data, questions, and the answer or abstention that each question must get.
#![allow(clippy::unwrap_used)]

mod cases;
mod files;
mod records;
mod unicode;
mod words;

use multivac_core::answer::{Answer, Stance, answer, fitted_threshold};
use multivac_core::datum::{Datum, DatumId, Timestamp};
use multivac_core::index::{Index, term, words};
use multivac_core::process::{MAX_ANSWER_CHARS, process};
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
fn evidence_names_its_words_that_met_the_question_as_they_stand_in_it() {
    let (index, _) = index(&[
        "The Danube rises in the Black Forest. Danube steamers, entropic or not, rise early.",
        "Bread is baked from flour and water.",
    ]);
    let reply = ask(&index, "Where does the Danub rise, and is it entropy?");
    let matched = &reply.evidence[0].matched;
    // A slip and the same beginning meet a term as well; each word is named once, and stop words are not.
    assert_eq!(matched, &["Danube", "rises", "entropic", "rise"]);
    assert!((reply.threshold - fitted_threshold()).abs() < f64::EPSILON, "where answers begin is told");
}

#[test]
fn evidence_without_a_word_of_the_question_names_none() {
    let (index, _) = index(&["Bread is baked from flour and water."]);
    let reply = ask(&index, "Where does the Danube rise?");
    assert!(reply.evidence.iter().all(|piece| piece.matched.is_empty()), "{:?}", reply.evidence);
}

#[test]
fn the_sentence_that_answers_is_chosen_among_others_on_the_same_subject() {
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
fn words_that_no_datum_contains_are_listed() {
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

const BRIDGE: &str = "The old bridge over the Multi was built in 1874 by a company from Linz.";
const BUILT: &str = "When was the old bridge over the Multi built?";

fn bridge(others: &[&str]) -> Answer {
    let mut texts = vec![BRIDGE, "Fish live in the Multi.", "Bread is baked from flour and water."];
    texts.extend(others);
    ask(&index(&texts).0, BUILT)
}

#[test]
fn an_independent_datum_that_says_the_same_raises_the_confidence() {
    let alone = bridge(&[]);
    let confirmed = bridge(&["Records of the city show that the old bridge over the Multi was built in 1874."]);
    assert!(confirmed.confidence > alone.confidence, "{} {}", confirmed.confidence, alone.confidence);
    assert!(confirmed.text().contains("1874"));
    assert_eq!(confirmed.evidence[1].stance, Some(Stance::Agrees));
}

#[test]
fn the_same_text_twenty_times_counts_once() {
    let (alone, repeated) = (bridge(&[]), bridge(&[BRIDGE; 20]));
    assert_eq!(repeated.confidence, alone.confidence);
    assert_eq!(repeated.text(), BRIDGE);
    let quoted =
        bridge(&["It stands written: the old bridge over the Multi was built in 1874 by a company from Linz."]);
    assert!(quoted.evidence.iter().all(|evidence| evidence.stance.is_none()), "a quotation is not independent");
}

#[test]
fn a_datum_that_contradicts_lowers_the_confidence_and_is_shown() {
    let alone = bridge(&[]);
    let other = "The old bridge over the Multi was built in 1912, as everybody knows.";
    let doubted = bridge(&[other]);
    assert!(doubted.confidence < alone.confidence, "{} {}", doubted.confidence, alone.confidence);
    let stances: Vec<_> = doubted.evidence.iter().filter(|e| e.stance == Some(Stance::Contradicts)).collect();
    assert_eq!(stances.len(), 1);
    assert!([BRIDGE, other].contains(&stances[0].passage.as_str()));
}

#[test]
fn when_a_datum_is_retracted_another_with_the_same_text_still_answers() {
    let (index, ids) = index(&[BRIDGE, BRIDGE, "Fish live in the Multi."]);
    for id in &ids[..2] {
        let reply = ask(&index, BUILT);
        assert_eq!((reply.text(), reply.evidence[0].id), (BRIDGE, *id));
        index.apply(&[Change::Removed(*id)]).unwrap();
    }
    assert_ne!(ask(&index, BUILT).text(), BRIDGE);
}

/// Text as people paste it: prose, tables, HTML, lists, other scripts, signs, and anything else.
fn text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("Dr. A. B. Smith paid $3.50 on Jan. 5, 1999.".to_owned()),
        Just("<p>The <b>entropy</b> of the universe</p>\n<li>one".to_owned()),
        Just("<script>var a = 1;\n\nb()</script><!-- no --><a href=\"/x y\">it&nbsp;grows</a>".to_owned()),
        Just("name\tyear\nMultivac | 2061\n- first\n- second".to_owned()),
        Just("宇宙のエントロピーを逆転できますか。光あれ！".to_owned()),
        Just("энтропия вселенной 👩‍🚀 🌌 \u{0}\u{7f}\u{feff}".to_owned()),
        "[a-z ]{300,700}",
        "[!.,;<>|&\u{b}\u{301} -]{300,700}",
        "(\\p{Greek}|\\p{Arabic}|\\p{Thai}|\\p{Devanagari}|\\p{Hangul}|[ .\n]){0,400}",
        "\\PC{1,80}",
        any::<String>(),
    ];
    proptest::collection::vec(piece, 1..5).prop_map(|pieces| pieces.join(" "))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn whatever_is_fed_and_asked_an_answer_is_in_the_data_word_for_word(
        texts in proptest::collection::vec(text(), 1..4),
        asked in text(),
    ) {
        let refs: Vec<&str> = texts.iter().map(String::as_str).filter(|text| !text.trim().is_empty()).collect();
        let (index, _) = index(&refs);
        let asked: String = asked.chars().take(1_000).collect();
        prop_assume!(!asked.trim().is_empty());
        // With a threshold of 0, so that there is an answer whenever there is a candidate.
        let reply = answer(&asked.parse().unwrap(), &index.snapshot(), 0.0).unwrap();
        prop_assert!((0.0..=1.0).contains(&reply.confidence));
        let squash = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        if let Some(answer) = &reply.answer {
            prop_assert!(answer.chars().count() <= MAX_ANSWER_CHARS);
            prop_assert!(refs.iter().any(|text| squash(text).contains(&squash(answer))));
        }
    }
}

const SCRIPTS: &[&str] = &[
    "Η εντροπία του σύμπαντος αυξάνεται.",
    "Энтропия вселенной растёт.",
    "أنتروبيا الكون تزداد.",
    "האנטרופיה של היקום גדלה.",
    "ब्रह्मांड की एन्ट्रॉपी बढ़ती है।",
    "பிரபஞ்சத்தின் என்ட்ரோபி அதிகரிக்கிறது.",
    "പ്രപഞ്ചത്തിന്റെ എൻട്രോപ്പി വർദ്ധിച്ചുകൊണ്ടിരിക്കുന്നുവെന്ന്.",
    "เอนโทรปีของจักรวาลเพิ่มขึ้น",
    "អង់ត្រូពីនៃសកលលោកកើនឡើង",
    "宇宙的熵在增加。",
    "宇宙のエントロピーは増大する。",
    "우주의 엔트로피는 증가한다.",
    "Տիեզերքի էնտրոպիան աճում է։",
    "სამყაროს ენტროპია იზრდება.",
    "የአጽናፈ ዓለም ኢንትሮፒ ይጨምራል።",
    "Die Entropie des Universums nimmt zu; Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft.",
    "Entropi evrenin İÇİNDE artıyor.",
];

#[test]
fn words_of_any_script_find_their_datum() {
    let (index, ids) = index(SCRIPTS);
    let snapshot = index.snapshot();
    for (text, id) in SCRIPTS.iter().zip(ids) {
        let mut found = 0;
        for (_, word) in words(text) {
            let hits = snapshot.search(&[&snapshot.look_up(&term(word)).unwrap()], 30).unwrap();
            assert!(hits.iter().any(|hit| hit.id == id), "{word} in {text}");
            found += 1;
        }
        assert!(found >= 3, "{text}");
        assert_eq!(ask(&index, text).evidence[0].id, id, "{text}");
    }
}

#[test]
fn somebody_is_not_taken_for_one_of_many_who_have_one_name_in_common_with_him() {
    let filled = "The committee met again and spoke for hours about roads, taxes and the price of corn. ".repeat(4);
    let right = format!("{filled}Bademo Lakufi moved to Lisbon in 1788. {filled}");
    let cities = ["Oslo", "Geneva", "Naples", "Dublin", "Warsaw", "Athens", "Prague", "Bergen", "Toledo", "Riga"];
    let other = |n: usize| {
        let name = if n.is_multiple_of(2) { format!("Bademo Nipo{n}ru") } else { format!("Tavo{n}go Lakufi") };
        format!("{name} moved to {} in {}.", cities[n % cities.len()], 1700 + n)
    };
    let others: Vec<String> = (0..80).map(other).collect();
    let texts: Vec<&str> = others.iter().chain([&right]).map(String::as_str).collect();
    let (index, ids) = index(&texts);
    let reply = ask(&index, "When did Bademo Lakufi move?");
    assert_eq!(reply.text(), "Bademo Lakufi moved to Lisbon in 1788.", "{reply:?}");
    assert_eq!(reply.evidence[0].id, ids[80]);
}

#[test]
fn the_answer_from_a_page_of_html_is_a_sentence_that_a_browser_shows() {
    let page = "<!DOCTYPE html><html><head><title>Rivers</title><style>p { color: red }</style></head><body>\n\
        <script>var danube = 'rises';\n\nwhere();</script>\n<div class=\"rise\"><h1>Danube</h1>\n\
        <p>The Danube rises in the Black&nbsp;Forest. It flows through ten countries.</p><ul><li>Vienna lies on it</li></ul></div></body>";
    let (index, _) = index(&[page, "The Rhine rises in the Alps. Its largest city is Cologne."]);
    let reply = answer(&"Where does the Danube rise?".parse().unwrap(), &index.snapshot(), 0.0).unwrap();
    assert_eq!(reply.text(), "The Danube rises in the Black&nbsp;Forest.");
}

/// If processing any of these took time by the square of the length, this test would take hours.
#[test]
fn the_time_for_a_text_is_proportional_to_its_length_whatever_it_repeats() {
    let kinds = [
        ".",
        "<",
        "&",
        "a",
        " ",
        "\n",
        "\0",
        "\u{301}",
        "a\u{301}",
        ". ",
        ". a",
        ".A ",
        "(",
        "\"",
        "e.g. ",
        "1. ",
        "- \n",
        "|",
        "a\n",
        "<a ",
        "<b>",
        "<p>",
        "</p",
        "<script>",
        "<!--",
        "<a \"",
        "&a;",
        "。",
        "宇",
        "ก",
        "👩\u{200d}🚀",
        "🇦",
        "word ",
        "; ",
        "A. B. ",
        "max_",
        "ab&",
        "10:",
        "ab-\n",
        "ab=\n",
        "\u{ad}",
        "a\u{200d}",
        "&eacute;",
        "=C3=A9",
        "=C3",
        "\\u00e9",
        "5 % ",
        "C+",
        ".a",
        "수도는",
        "l'",
        "a: b\n",
        "a;b\n",
        "a,b\n",
        "a  b\n",
        "- a\n",
        "a:\n",
        "a:\n- b\n",
        " a:\n  b\n",
        "10:00 a\n",
        "a?\nb: c\n",
        "{\na: b\n}\n",
        "\"A?\" ",
        "a. [1]",
        "a.<ref>",
        "<ref",
        "{{",
        "a.{{b}} ",
        "am 3. ",
        "> a\n",
    ];
    let texts: Vec<String> = kinds.iter().map(|kind| "x".to_owned() + &kind.repeat((64 << 10) / kind.len())).collect();
    let refs: Vec<&str> = texts.iter().map(String::as_str).collect();
    let (index, _) = index(&refs);
    assert_eq!(index.snapshot().learned, kinds.len() as u64);
    for question in ["x word?", "宇 a b", "entropy"] {
        assert!(ask(&index, question).evidence.iter().all(|evidence| evidence.passage.len() <= 10_000));
    }
}
