//! From text to sentences, by byte range, and from long sentences to clauses.
//!
//! Rules rather than a model: a sentence ends with an end mark, closing quotes or brackets, and white space before something
//! that can begin a sentence. A full stop after an abbreviation or an initial ends none. Line breaks end a sentence where the
//! lines are a list, a heading or a table; so do HTML's block tags, and places where control characters were.

use std::ops::Range;

use unicode_segmentation::UnicodeSegmentation;

use super::markup::{markup, tag};
use super::normalise::GAP;
use crate::words::{ABBREVIATIONS, ABBREVIATIONS_LAST, CLAUSE_STARTS, SENTENCE_STARTS, TITLES};

/// The longest answer, in characters: the contract's bound between a sentence and a clause of it.
pub const MAX_ANSWER_CHARS: usize = 300;

/// The sentences of a text as byte ranges, in order, without the white space around them.
#[must_use]
pub fn sentences(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut start = 0;
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let end = match c {
            '\n' if line_ends_sentence(text, start, at) => at,
            GAP => at,
            '<' => match tag(&text[at..]) {
                None => continue,
                Some(tag) => {
                    let end = at + tag.length;
                    while chars.next_if(|(i, _)| *i < end).is_some() {}
                    if tag.inline {
                        continue;
                    }
                    push_trimmed(text, start..at, &mut found);
                    start = end;
                    continue;
                }
            },
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
            // Scripts with these end marks put no space after them.
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

/// A sentence of a text, or a clause of one over [`MAX_ANSWER_CHARS`]: what can be an answer, and what it is to be read with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sentence {
    /// Its bytes in the text.
    pub bytes: Range<usize>,
    /// Whether it is a clause of a longer sentence.
    pub cut: bool,
    /// Whether it is a record of its own (a log's line, a table's row, a list's item): those beside it are not its context.
    pub line: bool,
    /// Whether it states something: a question, a list's lead-in and a table's head do not, so they are no answers.
    pub states: bool,
    /// Which of the text's sentences it is to be read with: the head of its table, the lead-in of its list, its heading.
    pub lead: Option<usize>,
}

/// The sentences of a text, in order, those over [`MAX_ANSWER_CHARS`] cut into clauses.
#[must_use]
pub fn answerable(text: &str) -> Vec<Sentence> {
    let mut found = Vec::new();
    for whole in sentences(text) {
        let cut = |bytes: &Range<usize>| *bytes != whole;
        found.extend(clauses(text, whole.clone()).into_iter().map(|bytes| Sentence {
            cut: cut(&bytes),
            line: false,
            states: !is_question(&text[bytes.clone()]),
            lead: None,
            bytes,
        }));
    }
    found
}

/// Whether a sentence ends as a question does.
fn is_question(sentence: &str) -> bool {
    sentence.trim_end_matches(['"', '\'', '”', '’', ')', ' ']).ends_with(['?', '？', '؟'])
}

fn push_trimmed(text: &str, range: Range<usize>, found: &mut Vec<Range<usize>>) {
    let trimmed = trim(text, range.clone());
    let piece = &text[trimmed.clone()];
    if piece.chars().any(char::is_alphanumeric) {
        found.push(trimmed);
    } else if !piece.is_empty() {
        match found.last_mut() {
            // Signs alone belong to the sentence before them, but not over the end of a line (the line under a table's
            // head) or a gap, however many such pieces lie in between: the sentence would not be word for word.
            Some(last) if !text[last.end..trimmed.start].contains(['\n', GAP]) => last.end = trimmed.end,
            Some(_) => {}
            None => found.push(trimmed),
        }
    }
}

/// The range without the white space and the tags around it.
fn trim(text: &str, range: Range<usize>) -> Range<usize> {
    let mut piece = text[range.clone()].trim_start();
    while let Some(tag) = tag(piece) {
        piece = piece[tag.length..].trim_start();
    }
    let start = range.end - piece.len();
    piece = piece.trim_end();
    while piece.ends_with('>') {
        let Some(open) =
            piece.rfind('<').filter(|open| tag(&piece[*open..]).is_some_and(|t| open + t.length == piece.len()))
        else {
            break;
        };
        piece = piece[..open].trim_end();
    }
    start..start + piece.len()
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
        SENTENCE_STARTS.contains(beginner)
    };
    if TITLES.contains(lower.as_str()) || ABBREVIATIONS.contains(lower.as_str()) {
        // "No." is an abbreviation before a number; otherwise it is the word that ends a sentence.
        return lower == "no" && !first.is_numeric();
    }
    if ABBREVIATIONS_LAST.contains(lower.as_str()) {
        return starts_sentence();
    }
    // An initial, as in "Isaac Y. Asimov", or several, as in "J.F.".
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

/// Whether the line that ends at `at` is a heading, a list item or a table row, rather than wrapped prose.
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
    let mut parts: Vec<Range<usize>> = Vec::new();
    let tags = tags(text, &sentence);
    let mut rest = sentence;
    while !rest.is_empty() {
        let limit = text[rest.clone()].char_indices().nth(MAX_ANSWER_CHARS);
        let mut cut = limit.map_or(rest.end, |(limit, _)| rest.start + best_cut(&text[rest.start..rest.start + limit]));
        // A cut within a tag moves to its beginning or end.
        if let Some(tag) = tags.get(tags.partition_point(|tag| tag.end <= cut)).filter(|tag| tag.start < cut) {
            cut = if tag.start > rest.start { tag.start } else { tag.end };
        }
        let part = trim(text, rest.start..cut);
        // Signs alone are no clause; added to the one before they would make it too long.
        let has_words = text[part.clone()].chars().any(char::is_alphanumeric);
        if has_words || (parts.is_empty() && cut == rest.end && !part.is_empty()) {
            parts.push(part);
        }
        rest.start = cut + (text[cut..rest.end].len() - text[cut..rest.end].trim_start().len());
    }
    parts
}

/// The tags in a sentence.
fn tags(text: &str, sentence: &Range<usize>) -> Vec<Range<usize>> {
    let text = &text[sentence.clone()];
    if !text.contains('<') {
        return Vec::new();
    }
    markup(text).into_iter().map(|tag| sentence.start + tag.start..sentence.start + tag.end).collect()
}

/// Where to cut a piece that is too long for one clause: after a semicolon or a dash, else before a conjunction or a
/// relative pronoun, else after a comma, else between words. It is the last such place, unless the clause would be shorter
/// than a quarter of the piece.
fn best_cut(piece: &str) -> usize {
    let stub = piece.len() / 4;
    let after = |signs: &[&str]| {
        let ends = signs.iter().filter_map(|sign| piece.rfind(sign).map(|at| at + sign.len()));
        ends.filter(|&end| end > stub).max()
    };
    let before_clause = || {
        let starts = CLAUSE_STARTS.iter().filter_map(|word| piece.rfind(&format!(" {word} ")).map(|at| at + 1));
        starts.filter(|&start| start > stub).max()
    };
    after(&["; ", ": ", " – ", " — ", "—", ".\" "])
        .or_else(before_clause)
        .or_else(|| after(&[", ", "，", "、"]))
        .or_else(|| piece.rfind(char::is_whitespace).filter(|&at| at > stub))
        .or_else(|| piece.grapheme_indices(true).next_back().map(|(at, _)| at).filter(|&at| at > stub))
        .unwrap_or(piece.len())
}

#[cfg(test)]
#[path = "sentences_tests.rs"]
mod tests;
