//! Text to sentences, by byte range, and long sentences to clauses.
//!
//! Rules rather than a model: an end mark, what may close after it, white space, and a beginning. A full stop after an
//! abbreviation or an initial ends nothing. Line breaks end a sentence where the lines are a list, a heading or a table.

use std::ops::Range;

/// The longest answer, in characters: the contract's bound between a sentence and a clause of it.
pub const MAX_ANSWER_CHARS: usize = 300;

/// Abbreviations that are followed by more of the sentence, lower-cased, without their last full stop.
const ABBREVIATIONS: &[&str] = &[
    "mr", "mrs", "ms", "dr", "prof", "rev", "hon", "gen", "col", "lt", "sgt", "capt", "cmdr", "adm", "maj", "gov",
    "sen", "rep", "pres", "sr", "jr", "st", "mt", "ft", "vs", "v", "cf", "e.g", "i.e", "eg", "ie", "viz", "approx",
    "ca", "c", "fig", "figs", "eq", "no", "nos", "vol", "vols", "p", "pp", "ch", "sec", "ed", "eds", "trans", "al",
    "op", "dept", "univ", "assn", "bros", "jan", "feb", "mar", "apr", "jun", "jul", "aug", "sep", "sept", "oct", "nov",
    "dec", "b", "d", "r", "est", "incl", "max", "min", "lit", "abbr",
];

/// Abbreviations that often end a sentence; they do when a word that begins sentences follows.
const MAYBE_LAST: &[&str] =
    &["etc", "inc", "ltd", "co", "corp", "u.s", "u.k", "u.n", "a.m", "p.m", "b.c", "a.d", "ph.d", "m.d", "d.c"];

/// Words that begin a sentence far more often than they stand capitalised within one.
const BEGINNERS: &[&str] = &[
    "The", "This", "That", "These", "Those", "It", "Its", "In", "He", "She", "They", "We", "A", "An", "However", "But",
    "And", "On", "At", "As", "After", "Before", "When", "While", "There", "His", "Her", "Their", "For", "From", "By",
    "Although", "Many", "Most", "Some", "One", "During", "Since", "If", "With", "To", "Other", "Another",
];

/// The sentences of a text as byte ranges, in order, without the white space around them.
#[must_use]
pub fn sentences(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut start = 0;
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let end = match c {
            '\n' if line_ends_sentence(text, start, at) => at,
            '.' | '!' | '?' | '…' => {
                let mut end = at + c.len_utf8();
                while let Some((i, closing)) = chars
                    .next_if(|(_, c)| matches!(c, '.' | '!' | '?' | '…' | '"' | '\'' | '”' | '’' | '»' | ')' | ']'))
                {
                    end = i + closing.len_utf8();
                }
                if !ends_sentence(text, start, at, c, end) {
                    continue;
                }
                end
            }
            // These are followed by no space where they are used.
            '。' | '！' | '？' | '｡' | '।' | '؟' | '۔' => {
                let mut end = at + c.len_utf8();
                while let Some((i, closing)) = chars.next_if(|(_, c)| matches!(c, '」' | '』' | '”' | '）' | '"'))
                {
                    end = i + closing.len_utf8();
                }
                end
            }
            _ => continue,
        };
        push_trimmed(text, start..end, &mut found);
        start = end;
    }
    push_trimmed(text, start..text.len(), &mut found);
    found
}

/// The parts of a text that can be an answer: its sentences, and the clauses of those over [`MAX_ANSWER_CHARS`].
#[must_use]
pub fn answerable(text: &str) -> Vec<Range<usize>> {
    sentences(text).into_iter().flat_map(|sentence| clauses(text, sentence)).collect()
}

fn push_trimmed(text: &str, range: Range<usize>, found: &mut Vec<Range<usize>>) {
    let whole = &text[range.clone()];
    let begin = range.start + (whole.len() - whole.trim_start().len());
    let trimmed = whole.trim();
    if trimmed.chars().any(char::is_alphanumeric) {
        found.push(begin..begin + trimmed.len());
    } else if let Some(last) = found.last_mut()
        && !trimmed.is_empty()
    {
        // Signs alone belong to what they follow.
        last.end = begin + trimmed.len();
    } else if !trimmed.is_empty() {
        found.push(begin..begin + trimmed.len());
    }
}

/// Whether the end mark `mark` at `at`, closed at `end`, ends the sentence that began at `start`.
fn ends_sentence(text: &str, start: usize, at: usize, mark: char, end: usize) -> bool {
    let after = &text[end..];
    if after.is_empty() {
        return true;
    }
    if !after.starts_with(char::is_whitespace) {
        return false;
    }
    let next = after.trim_start();
    let Some(first) = next.trim_start_matches(['"', '\'', '“', '‘', '«', '(', '[', '¿', '¡']).chars().next()
    else {
        return true;
    };
    if first.is_lowercase() {
        return false;
    }
    if mark != '.' || end > at + 1 {
        return true;
    }
    let word = text[start..at].rsplit(|c: char| c.is_whitespace() || c == '(' || c == '"').next().unwrap_or_default();
    let lower = word.to_lowercase();
    let starts_sentence = || {
        let beginner = next.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
        BEGINNERS.contains(&beginner)
    };
    if ABBREVIATIONS.contains(&lower.as_str()) {
        // "No." and "Fig." go before numbers; "no." may end a sentence.
        return lower == "no" && !first.is_numeric();
    }
    if MAYBE_LAST.contains(&lower.as_str()) {
        return starts_sentence();
    }
    // An initial, as in "Isaac Y. Asimov"; "J.F." as well.
    let mut letters = word.split('.');
    if letters.all(|part| part.chars().count() <= 1) && word.chars().any(char::is_uppercase) {
        return word.chars().count() > 1 && starts_sentence();
    }
    // A number that begins a line of a list: "1. First".
    if word.chars().all(|c| c.is_ascii_digit()) && word.len() <= 3 && text[start..at].trim() == word {
        return false;
    }
    true
}

/// Whether the line that ends at `at` is no wrapped prose: a heading, a list's item, a table's row.
fn line_ends_sentence(text: &str, start: usize, at: usize) -> bool {
    let next = text[at + 1..].split('\n').next().unwrap_or_default();
    if next.trim().is_empty() {
        return true;
    }
    let line = text[start..at].rsplit('\n').next().unwrap_or_default().trim();
    is_item(next) || is_item(line) || is_row(line) || is_row(next) || (line.len() < 50 && begins_upper(next))
}

fn is_item(line: &str) -> bool {
    let line = line.trim_start();
    let rest = line.trim_start_matches(|c: char| c.is_ascii_digit());
    line.starts_with(['-', '*', '•', '–', '·', '#', '>']) || (rest.len() < line.len() && rest.starts_with(['.', ')']))
}

fn is_row(line: &str) -> bool {
    line.contains(['\t', '|'])
}

fn begins_upper(line: &str) -> bool {
    line.trim_start().chars().next().is_some_and(|c| !c.is_lowercase())
}

/// Cuts a sentence into clauses of at most [`MAX_ANSWER_CHARS`], at the best place that there is.
fn clauses(text: &str, sentence: Range<usize>) -> Vec<Range<usize>> {
    let mut parts = Vec::new();
    let mut rest = sentence;
    while let Some((limit, _)) = text[rest.clone()].char_indices().nth(MAX_ANSWER_CHARS) {
        let cut = rest.start + best_cut(&text[rest.start..rest.start + limit]);
        push_trimmed(text, rest.start..cut, &mut parts);
        rest.start = cut + (text[cut..rest.end].len() - text[cut..rest.end].trim_start().len());
    }
    push_trimmed(text, rest, &mut parts);
    parts
}

/// Where to cut a piece that is too long for one clause: after a semicolon or a dash, else before a conjunction or a
/// relative word, else after a comma, else between words; the latest such place, unless it leaves but a stub.
fn best_cut(piece: &str) -> usize {
    let stub = piece.len() / 4;
    let after = |signs: &[&str]| {
        let ends = signs.iter().filter_map(|sign| piece.rfind(sign).map(|at| at + sign.len()));
        ends.filter(|&end| end > stub).max()
    };
    let before = |words: &[&str]| {
        let starts = words.iter().filter_map(|word| piece.rfind(word).map(|at| at + 1));
        starts.filter(|&start| start > stub).max()
    };
    after(&["; ", ": ", " – ", " — ", "—", ".\" "])
        .or_else(|| {
            before(&[
                " and the ",
                " but ",
                " which ",
                " while ",
                " who ",
                " where ",
                " whereas ",
                " although ",
                " because ",
            ])
        })
        .or_else(|| after(&[", ", "，", "、"]))
        .or_else(|| piece.rfind(char::is_whitespace).filter(|&at| at > stub))
        .unwrap_or(piece.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn split(text: &str) -> Vec<&str> {
        sentences(text).into_iter().map(|range| &text[range]).collect()
    }

    #[test]
    fn end_marks_end_sentences() {
        assert_eq!(split("One. Two! Three? \"Four.\" Five"), ["One.", "Two!", "Three?", "\"Four.\"", "Five"]);
    }

    #[test]
    fn abbreviations_initials_and_decimals_do_not() {
        for text in [
            "Dr. Asimov and Mrs. Jehoshaphat met.",
            "It is 3.14 or so.",
            "Isaac Y. Asimov wrote it.",
            "See Fig. 3 and vol. 2, e.g. Chapter 1.",
            "The U.S. Senate met at 3 p.m. Monday.",
            "Acme Inc. Holdings grew.",
            "J.F. Kennedy spoke.",
        ] {
            assert_eq!(split(text), [text]);
        }
    }

    #[test]
    fn some_abbreviations_may_end_one() {
        assert_eq!(split("He left the U.S. The war ended."), ["He left the U.S.", "The war ended."]);
        assert_eq!(split("Tea, milk, etc. He drank."), ["Tea, milk, etc.", "He drank."]);
    }

    #[test]
    fn wrapped_lines_are_one_sentence_and_items_are_several() {
        let wrapped = "This sentence was wrapped by some old mail program at\nsixty columns.";
        assert_eq!(split(wrapped), [wrapped]);
        assert_eq!(split("- first thing\n- second thing"), ["- first thing", "- second thing"]);
        assert_eq!(split("Heading\nThe text begins."), ["Heading", "The text begins."]);
        assert_eq!(split("a\t1\nb\t2"), ["a\t1", "b\t2"]);
    }

    #[test]
    fn other_scripts_have_end_marks_of_their_own() {
        assert_eq!(split("光あれ。そして光があった。"), ["光あれ。", "そして光があった。"]);
    }

    #[test]
    fn long_sentences_become_clauses_at_their_seams() {
        let long = format!(
            "{}; {}.",
            "a first clause of many words ".repeat(8).trim(),
            "and a second of as many ".repeat(8).trim()
        );
        let clauses: Vec<_> = answerable(&long).into_iter().map(|range| &long[range]).collect();
        assert_eq!(clauses.len(), 2);
        assert!(clauses[0].ends_with(';'), "{clauses:?}");
    }

    proptest! {
        #[test]
        fn any_text_gives_ranges_in_order_that_hold_all_its_letters(text in "(\\PC|[a-zA-Z .!?\n\t;,'\"]){0,600}") {
            for ranges in [sentences(&text), answerable(&text)] {
                let mut at = 0;
                let mut letters = 0;
                for range in ranges {
                    prop_assert!(range.start >= at && range.end > range.start);
                    letters += text[range.clone()].chars().filter(|c| c.is_alphanumeric()).count();
                    at = range.end;
                }
                prop_assert_eq!(letters, text.chars().filter(|c| c.is_alphanumeric()).count());
            }
            for range in answerable(&text) {
                // A trailing sign or two may be taken in behind the limit.
                prop_assert!(text[range].chars().filter(|c| c.is_alphanumeric()).count() <= MAX_ANSWER_CHARS);
            }
        }
    }
}
