//! Text of every letter that Unicode has, of a million bytes without a space, and with invisible characters in it.

use std::collections::BTreeMap;

use multivac_core::answer::answer;
use multivac_core::datum::Datum;
use multivac_core::index::{term, words};
use multivac_core::process::MAX_ANSWER_CHARS;

use unicode_normalization::char::is_combining_mark;

use super::cases::{Outcome, kinds, report, squash};
use super::{ask, index};

/// The characters of each page of 256 code points, those of `which` alone; pages without any are left out.
fn pages(which: impl Fn(char) -> bool) -> Vec<Vec<char>> {
    let page = |page: u32| (page << 8..(page + 1) << 8).filter_map(char::from_u32).filter(|c| which(*c)).collect();
    (0..0x1100).map(page).filter(|page: &Vec<char>| !page.is_empty()).collect()
}

/// Letters and digits that can stand alone.
fn stands_alone(c: char) -> bool {
    c.is_alphanumeric() && !is_combining_mark(c)
}

/// Sentences of the letters of each page: words of five letters, five of them a sentence.
fn texts_of_letters() -> Vec<String> {
    let sentence = |letters: &[char]| {
        let words: Vec<String> = letters.chunks(5).map(|word| word.iter().collect()).collect();
        words.join(" ") + "."
    };
    let text = |page: Vec<char>| page.chunks(25).map(sentence).collect::<Vec<_>>().join(" ");
    pages(stands_alone).into_iter().map(text).collect()
}

#[test]
fn every_word_of_every_page_of_unicode_finds_its_datum() {
    let texts = texts_of_letters();
    let refs: Vec<&str> = texts.iter().map(String::as_str).collect();
    let (index, ids) = index(&refs);
    let snapshot = index.snapshot();
    assert!(texts.len() > 500);
    let mut lost: BTreeMap<u32, Vec<&str>> = BTreeMap::new();
    for (text, id) in refs.iter().zip(ids) {
        let page = u32::from(text.chars().next().unwrap()) >> 8;
        let found = |word: &str| {
            let hits = snapshot.search(&[&snapshot.look_up(&term(word)).unwrap()], texts.len()).unwrap();
            hits.iter().any(|hit| hit.id == id)
        };
        let mut seen = 0;
        for (_, word) in words(text) {
            seen += 1;
            if !found(word) {
                lost.entry(page).or_default().push(word);
            }
        }
        // A word of five letters is one word at least, whatever is made of it.
        if seen < text.split_whitespace().count() / 2 {
            lost.entry(page).or_default().push("few words");
        }
    }
    assert!(lost.is_empty(), "by page: {lost:x?}");
}

#[test]
fn a_sentence_of_any_letters_is_answered_with_word_for_word() {
    let texts = texts_of_letters();
    let refs: Vec<&str> = texts.iter().map(String::as_str).collect();
    let (index, ids) = index(&refs);
    let snapshot = index.snapshot();
    let mut wrong = Vec::new();
    for (text, id) in refs.iter().zip(ids) {
        let asked = text.split_inclusive('.').next_back().unwrap().trim();
        // A number is the same in all scripts, so more data have it than are shown.
        if asked.chars().filter(|c| c.is_alphanumeric()).all(char::is_numeric) {
            continue;
        }
        let reply = answer(&asked.parse().unwrap(), &snapshot, 0.0).unwrap();
        let near = reply.evidence.iter().any(|evidence| evidence.id == id);
        let said = squash(reply.text());
        let there = refs.iter().any(|text| squash(text).contains(&said));
        if !near || !there || said.chars().count() > MAX_ANSWER_CHARS {
            wrong.push(format!("{asked} ({near}, {there}): {said}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn characters_that_are_no_letters_are_taken_too() {
    let texts: Vec<String> = pages(|c| !stands_alone(c))
        .into_iter()
        .map(|page| page.iter().map(|c| format!("a{c}b {c} c{c}. ")).collect::<String>())
        .collect();
    let refs: Vec<&str> = texts.iter().map(String::as_str).collect();
    let (index, _) = index(&refs);
    assert_eq!(index.snapshot().learned, texts.len() as u64);
    for text in refs.iter().step_by(16) {
        let asked: String = text.chars().take(300).collect();
        let reply = answer(&asked.parse().unwrap(), &index.snapshot(), 0.0).unwrap();
        assert!(reply.answer.is_none_or(|answer| answer.chars().count() <= MAX_ANSWER_CHARS));
    }
}

/// If any of these took time by the square of the length, this test would take days.
#[test]
fn a_mebibyte_without_spaces_is_taken_whatever_it_is_made_of() {
    let pieces = [
        "a",
        "entropy",
        "é",
        "e\u{301}",
        "\u{301}",
        "宇",
        "우주",
        "ก",
        "ا",
        "👩\u{200d}🚀",
        "#",
        "!?",
        "-",
        "_",
        "a-",
        "a_b",
        "1",
        "1,",
        "+−",
        "C++",
        ".a",
        ";",
        "&eacute;",
        "&",
        "=\n",
        "-\n",
        "a-\r\n",
        "\u{ad}",
        "a\u{ad}",
        "\u{200b}",
        "\u{200d}",
        "\u{feff}x",
        "\u{202e}",
        "\u{0}",
        "|",
        "{{",
        "[[a|",
        "<ref>",
        "key:value\n",
        ",\n",
        ";\n",
        "\"",
        "\"a\",",
        "> ",
        "=3D",
    ];
    let (mut texts, mut asked) = (Vec::new(), Vec::new());
    for piece in pieces {
        let repeated = piece.repeat((1 << 20) / piece.len());
        asked.push(repeated.chars().take(200).collect::<String>());
        texts.push(repeated);
    }
    let refs: Vec<&str> = texts.iter().map(String::as_str).collect();
    let (index, _) = index(&refs);
    assert_eq!(index.snapshot().learned, pieces.len() as u64);
    for question in asked.iter().filter_map(|asked| asked.parse().ok()) {
        let reply = answer(&question, &index.snapshot(), 0.0).unwrap();
        assert!(reply.answer.is_none_or(|answer| answer.chars().count() <= MAX_ANSWER_CHARS));
    }
}

/// Soft hyphen, joiner and non-joiner, marks of direction, word joiner, controls of direction, byte order mark.
const INVISIBLE: [char; 11] = [
    '\u{ad}', '\u{200d}', '\u{200c}', '\u{200e}', '\u{200f}', '\u{2060}', '\u{202a}', '\u{202c}', '\u{2066}',
    '\u{2069}', '\u{feff}',
];

#[test]
fn a_datum_of_nothing_but_invisible_characters_is_blank() {
    for c in INVISIBLE {
        assert!(Datum::new(&format!("{c} {c}\n"), 1_000).is_err(), "{c:?}");
    }
    assert!(Datum::new(&INVISIBLE.iter().collect::<String>(), 1_000).is_err());
    assert!(Datum::new("\u{ad}a", 1_000).is_ok());
}

/// With an invisible character in the middle of each longer word of small letters.
fn with_invisible(text: &str) -> String {
    let (mut result, mut run, mut next) = (String::new(), 0, 0);
    let chars: Vec<char> = text.chars().collect();
    for (at, c) in chars.iter().enumerate() {
        run = if c.is_lowercase() { run + 1 } else { 0 };
        result.push(*c);
        if run == 3 && chars[at + 1..].iter().take(2).filter(|c| c.is_lowercase()).count() == 2 {
            result.push(INVISIBLE[next % INVISIBLE.len()]);
            next += 1;
        }
    }
    result
}

#[test]
fn what_is_answered_right_stays_so_with_invisible_characters_in_every_longer_word() {
    let visible = |text: &str| text.chars().filter(|c| !INVISIBLE.contains(c)).collect::<String>();
    let mut outcomes = Vec::new();
    // Within entities, tags and the fields of markup they would change what is fed.
    for kind in kinds("cases").iter().filter(|kind| !["entities", "markup"].contains(&kind.name.as_str())) {
        let mut outcome = Outcome::new(&kind.name);
        for same in kind.cases.chunk_by(|a, b| a.data == b.data) {
            let plain: Vec<&str> = same[0].data.iter().map(|at| kind.fed[*at].as_str()).collect();
            let marked: Vec<String> = plain.iter().map(|text| with_invisible(text)).collect();
            let marked: Vec<&str> = marked.iter().map(String::as_str).collect();
            let marked = index(&marked).0;
            let shown: Vec<String> = kind.fed.iter().map(|text| visible(text)).collect();
            for case in same.iter().filter(|case| !case.pending) {
                let reply = ask(&marked, &case.question);
                let told = reply.answer.as_deref().map(visible);
                let fault = case.with(visible).fault(told.as_deref(), &shown);
                let fault = fault.map(|fault| format!("{}: {}\n    {fault}: {told:?}", kind.name, case.question));
                outcome.enter(&case.question, case.pending_marked, fault);
            }
        }
        outcomes.push(outcome);
    }
    report(&outcomes);
}
