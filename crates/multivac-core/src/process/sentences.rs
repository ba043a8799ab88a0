//! From text to sentences, by byte range, and from long sentences to clauses.
//!
//! Rules rather than a model: a sentence ends with an end mark, closing quotes or brackets, and white space before something
//! that can begin a sentence. A full stop after an abbreviation, an initial or an ordinal ends none; the lists of these are
//! in `words/`, for several languages at once, since a text does not say which it is in. Whether the end of a line ends a
//! sentence, `lines` says; so do HTML's block tags, and places where control characters were.

use std::ops::Range;

use unicode_segmentation::UnicodeSegmentation;

use super::lines::{Line, MAX_ANSWER_CHARS, lines};
use super::markup::{markup, tag};
use super::normalise::GAP;
use super::references::reference;
use crate::datum::is_invisible;
use crate::words::{
    ABBREVIATIONS, ABBREVIATIONS_LAST, ABBREVIATIONS_NUMBER, CLAUSE_STARTS, NAME_PARTICLES, NAMES_WITH_MARKS,
    ORDINAL_LEADS, ORDINAL_NOUNS, SENTENCE_STARTS, TITLES, WordList,
};

/// The longest attribution after a quoted question, in words: "asked Mira", "the cook wanted to know".
const MAX_ATTRIBUTION_WORDS: usize = 8;

/// The longest tag before a heading of HTML, in bytes.
const MAX_HEADING_TAG: usize = 80;

/// From how many full stops on they are no end mark.
const LEADER_DOTS: usize = 5;

/// What opens a quotation or a bracket, or a question in Spanish.
const OPENING: [char; 14] = ['"', '\'', '“', '‘', '„', '‚', '«', '»', '‹', '(', '[', '¿', '¡', '*'];

/// The sentences of a text as byte ranges, in order, without the white space around them.
#[must_use]
pub fn sentences(text: &str) -> Vec<Range<usize>> {
    split(text, &lines(text))
}

fn split(text: &str, lines: &[Line]) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let (mut start, mut line) = (0, 0);
    let mut whole = lines[0].whole;
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let end = match c {
            '\n' => {
                let ends = lines[line].ends;
                line += 1;
                whole = lines[line].whole;
                if !ends {
                    continue;
                }
                at
            }
            GAP => at,
            '<' | '{' => {
                let (length, inline) = match tag(&text[at..]) {
                    Some(tag) => (tag.length, tag.inline),
                    None => match reference(&text[at..]) {
                        Some(length) => (length, true),
                        None => continue,
                    },
                };
                let end = at + length;
                while chars.next_if(|(i, _)| *i < end).is_some() {}
                if inline {
                    continue;
                }
                push_trimmed(text, start..at, &mut found);
                start = end;
                continue;
            }
            '.' | '!' | '?' | '…' if !whole => {
                let mut end = at + c.len_utf8();
                while let Some((i, closing)) = chars.next_if(|(_, c)| closes(*c)) {
                    end = i + closing.len_utf8();
                }
                // Notes, as an encyclopedia has them after a sentence, are a piece of their own.
                let notes = references(&text[end..]);
                if !ends_sentence(text, start, at, c, end, end + notes) {
                    continue;
                }
                if notes > 0 {
                    push_trimmed(text, start..end, &mut found);
                    start = end;
                    end += notes;
                    while chars.next_if(|(i, _)| *i < end).is_some() {}
                }
                // French puts a space before the closing quotes.
                let spaced = text[end..].strip_prefix([' ', '\u{a0}', '\u{202f}']).filter(|rest| rest.starts_with('»'));
                if let Some(rest) = spaced {
                    end = text.len() - rest.len() + '»'.len_utf8();
                    while chars.next_if(|(i, _)| *i < end).is_some() {}
                }
                end
            }
            // Scripts with these end marks put no space after them.
            '。' | '！' | '？' | '｡' | '।' | '؟' | '۔' if !whole => {
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

/// What may stand between an end mark and the white space after it.
fn closes(c: char) -> bool {
    matches!(c, '.' | '!' | '?' | '…' | '"' | '\'' | '”' | '’' | '“' | '‘' | '»' | '«' | '›' | ')' | ']' | '*' | '_')
}

/// The length of the references that a text begins with.
fn references(text: &str) -> usize {
    let mut length = 0;
    while let Some(more) = reference(&text[length..]) {
        length += more;
    }
    length
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
    let lines = lines(text);
    let mut found: Vec<Sentence> = Vec::new();
    // For each line, the first of the sentences in it and the last.
    let mut of_lines: Vec<Option<(usize, usize)>> = vec![None; lines.len()];
    let mut first = 0;
    // The last of HTML's headings.
    let mut heading = None;
    for whole in split(text, &lines) {
        while lines[first].bytes.end < whole.start {
            first += 1;
        }
        let mut last = first;
        while lines[last].bytes.end < whole.end {
            last += 1;
        }
        let line = &lines[first];
        // Of a lead-in only the sentence that the colon ends states nothing.
        let ends_line = || text[whole.end..lines[last].bytes.end].trim().is_empty();
        let states = !is_question(&text[whole.clone()])
            && (lines[last].states || !ends_line())
            && reference(&text[whole.start..]).is_none();
        let heads = is_heading(&text[..whole.start]);
        let begin = found.len();
        // What is cut from a long record is read with its beginning.
        let of_record = of_lines[first].map(|(begin, _)| begin).filter(|_| line.record);
        let lead = line.lead.and_then(|lead| of_lines[lead]).map(|(_, last)| last).or(of_record).or(heading);
        for bytes in clauses(text, whole.clone()) {
            let lead = lead.or((line.record && found.len() > begin).then_some(begin));
            found.push(Sentence { cut: bytes != whole, line: line.record, states: states && !heads, lead, bytes });
        }
        if found.len() > begin {
            for line in &mut of_lines[first..=last] {
                *line = Some((line.map_or(begin, |(begin, _)| begin), found.len() - 1));
            }
            heading = if heads { Some(begin) } else { heading };
        }
    }
    found
}

/// Whether what comes after the end of this text is a heading of HTML, or the term or the name of a column or a row.
fn is_heading(before: &str) -> bool {
    // A tag is short here, unless it is not one.
    let open = before.bytes().rev().take(MAX_HEADING_TAG).position(|byte| byte == b'<');
    let Some(tag) = open.map(|back| &before[before.len() - back..]) else { return false };
    let name = tag.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default().to_ascii_lowercase();
    matches!(name.as_str(), "h1" | "h2" | "h3" | "h4" | "h5" | "h6" | "th" | "dt" | "caption" | "title" | "summary")
}

/// Whether a sentence asks and states nothing: it ends as a question does, or it is a quoted question and who asked it.
fn is_question(sentence: &str) -> bool {
    const MARKS: [char; 3] = ['?', '？', '؟'];
    if sentence
        .trim_end_matches(['"', '\'', '”', '’', '“', '‘', '»', '«', '›', ')', '*', '_', ' ', '\u{a0}'])
        .ends_with(MARKS)
    {
        return true;
    }
    // "Who has the key?" asked Mira.
    if !sentence.starts_with(&OPENING[..9]) && !sentence.starts_with(['—', '–', '-']) {
        return false;
    }
    let Some((_, after)) = sentence.split_once(MARKS) else { return false };
    let quotes: &[char] = &['"', '”', '“', '’', '‘', '»', '«', '\''];
    let attribution = after.trim_start().trim_start_matches(quotes).trim();
    !attribution.contains(quotes) && attribution.split_whitespace().count() <= MAX_ATTRIBUTION_WORDS
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
    // The sign of a quoted line of a mail.
    if piece.starts_with('>') {
        piece = piece.trim_start_matches(['>', ' ']).trim_start();
    }
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

/// Whether the end mark `mark` at `at`, closed at `end`, ends the sentence that began at `start`; what follows is at `after`.
fn ends_sentence(text: &str, start: usize, at: usize, mark: char, end: usize, after: usize) -> bool {
    let after = text[after..].trim_start_matches(is_invisible);
    if after.is_empty() {
        return true;
    }
    if !after.starts_with(char::is_whitespace) {
        return false;
    }
    let next = after.trim_start().trim_start_matches(is_invisible);
    if mark != '.' && next.starts_with('»') && !next.starts_with("»,") {
        // The closing quotes of French, and then what follows them.
        return !next['»'.len_utf8()..].trim_start().starts_with(char::is_lowercase);
    }
    let next = next.trim_start_matches(OPENING);
    let Some(first) = next.chars().next() else { return true };
    if first.is_lowercase() {
        return false;
    }
    let beginner = next.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
    let starts_sentence = || SENTENCE_STARTS.contains(beginner) && !next[beginner.len()..].starts_with('.');
    let word = || {
        let word = text[start..at].rsplit(|c: char| c.is_whitespace() || OPENING.contains(&c)).next();
        word.unwrap_or_default().chars().filter(|c| !is_invisible(*c)).collect::<String>()
    };
    // A row of dots leads to what stands at the end of a line, as in a list of prices.
    if mark == '.' && end >= at + LEADER_DOTS {
        return false;
    }
    if mark != '.' || end > at + 1 {
        // "Yahoo! Inc.", "Jeopardy! champions"
        let firm =
            next[beginner.len()..].starts_with('.') && ABBREVIATIONS_LAST.contains(beginner.to_lowercase().as_str());
        let named = || end == at + 1 && NAMES_WITH_MARKS.contains(format!("{}{mark}", word().to_lowercase()).as_str());
        return mark == '.' || !(firm || named() && !starts_sentence());
    }
    let word = word();
    let word = word.as_str();
    if word.is_empty() {
        return true;
    }
    if word.bytes().all(|b| b.is_ascii_digit()) {
        return !is_ordinal(text, start, at, word, beginner);
    }
    let lower = word.to_lowercase();
    // A single capital is an initial, and no abbreviation of a small letter's.
    let one_of = |list: &WordList| list.contains(word) || word.len() > 1 && list.contains(lower.as_str());
    let number = first.is_numeric()
        || matches!(first, '+' | '§' | '°')
        || beginner.bytes().all(|b| b"IVXLCDM".contains(&b))
            && !beginner.is_empty()
            && !matches!(beginner, "I" | "L" | "C" | "D" | "M");
    // "CA" is no "ca.", though "DR. SMITH" is one.
    let capitals = word.len() > 1 && word.bytes().all(|b| b.is_ascii_uppercase());
    if one_of(&TITLES)
        || !capitals && one_of(&ABBREVIATIONS)
        || number
            && (one_of(&ABBREVIATIONS_NUMBER)
                || ABBREVIATIONS_NUMBER.contains(lower.as_str())
                || lower.ends_with("str"))
    {
        return false;
    }
    if one_of(&ABBREVIATIONS_LAST) {
        return starts_sentence();
    }
    // An initial, as in "Isaac Y. Asimov", or several, as in "J.F.", "U.N.E.S.C.O." and "z. B.".
    if word.split(['.', '-']).all(|part| part.chars().count() <= 1) && word.chars().any(char::is_alphabetic) {
        let initial = word.chars().count() == 1 && word == word.to_uppercase();
        return starts_sentence() && !(initial && NAME_PARTICLES.contains(beginner));
    }
    true
}

/// Whether a number before a full stop is an ordinal, as in German and other languages, or begins an item of a list.
fn is_ordinal(text: &str, start: usize, at: usize, number: &str, next: &str) -> bool {
    if number.len() > 3 {
        return false;
    }
    let before = text[start..at - number.len()].trim_end_matches(' ');
    if before.is_empty() || before.ends_with('\n') {
        return true;
    }
    let lead = before.rsplit(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
    ORDINAL_NOUNS.contains(next) || ORDINAL_LEADS.contains(lead.to_lowercase().as_str())
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
