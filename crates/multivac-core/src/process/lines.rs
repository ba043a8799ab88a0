//! Tells lines that are records (of a log, a table, a chat, a list, settings, code) from prose that was wrapped: whether a
//! sentence ends with a line, and with which other line it is to be read.
//!
//! A paragraph is looked at as a whole. It is a table where the same sign divides most of its lines into as many fields; a
//! log, a chat or settings where most begin with a time or a key; code where many end as code does. Otherwise a line goes on
//! in the next one where that begins in lower case, or where its first word would not have fitted into the line: so it is
//! where text was wrapped, and hardly ever where lines end by themselves.

use std::ops::Range;

use super::shapes::{Opening, SEPARATORS, Shape};
use crate::words::COLUMN_NAMES;

/// The longest answer, in characters: the contract's bound between a sentence and a clause of it.
pub const MAX_ANSWER_CHARS: usize = 300;

/// The narrowest column to which prose is wrapped, in characters. Narrower lines are those of a list, an address or a poem.
const MIN_COLUMN: usize = 45;

/// The longest items, in words, of a list that is one sentence with its lead-in: longer ones say something by themselves.
const MAX_NAME_WORDS: usize = 3;

/// A line of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    /// Its bytes in the text, without the line end.
    pub(super) bytes: Range<usize>,
    /// Whether a sentence ends with it.
    pub(super) ends: bool,
    /// Whether it is a record, or a part of one.
    pub(super) record: bool,
    /// Whether it is one sentence, whatever marks are within it.
    pub(super) whole: bool,
    /// Whether it states something, as neither a table's head nor a list's lead-in does.
    pub(super) states: bool,
    /// The line that it is to be read with.
    pub(super) lead: Option<usize>,
}

/// The lines of a text, in order.
pub(super) fn lines(text: &str) -> Vec<Line> {
    let mut shapes = Vec::new();
    let mut start = 0;
    for line in text.split('\n') {
        shapes.push(Shape::of(text, start..start + line.len()));
        start += line.len() + 1;
    }
    let line = |shape: &Shape<'_>| Line {
        bytes: shape.bytes.clone(),
        ends: true,
        record: false,
        whole: false,
        states: shape.states(),
        lead: None,
    };
    let mut lines: Vec<Line> = shapes.iter().map(line).collect();
    let mut at = 0;
    while at < shapes.len() {
        // The end of a wiki's template or table is the end of a paragraph, too.
        let closed = |shape: &Shape<'_>| matches!(shape.text, "}}" | "|}");
        let mut end = at;
        while end < shapes.len() && shapes[end].opening != Opening::Blank && !(end > at && closed(&shapes[end - 1])) {
            end += 1;
        }
        Block { first: at, shapes: &shapes[at..end], lines: &mut lines[at..end] }.classify();
        at = end + usize::from(shapes.get(end).is_none_or(|shape| shape.opening == Opening::Blank));
    }
    lines
}

/// The lines between two blank ones.
struct Block<'a, 'b> {
    /// The number of the first line in the text.
    first: usize,
    shapes: &'b [Shape<'a>],
    lines: &'b mut [Line],
}

impl Block<'_, '_> {
    fn classify(mut self) {
        if self.shapes.len() < 2 {
            if self.shapes.first().is_some_and(Shape::is_item) {
                self.lines[0].record = true;
            }
            return;
        }
        if !(self.table() || self.keyed() || self.code()) {
            self.prose();
        }
        self.entries();
        self.leads();
        self.questions();
        self.short_lists();
    }

    /// Makes a line a record: one sentence, if it is no longer than an answer may be.
    fn record(&mut self, at: usize) {
        self.lines[at].record = true;
        self.lines[at].whole = self.shapes[at].width <= MAX_ANSWER_CHARS && !self.shapes[at].text.contains('<');
    }

    /// Whether the lines are the rows of a table, and then its head leads them.
    fn table(&mut self) -> bool {
        for separator in SEPARATORS {
            if !self.shapes.iter().any(|shape| shape.text.contains(separator)) {
                continue;
            }
            let fields: Vec<(usize, bool)> = self.shapes.iter().map(|shape| shape.separators(separator)).collect();
            let mut counts: Vec<usize> = fields
                .iter()
                .zip(self.shapes)
                .filter(|(_, shape)| shape.opening != Opening::Rule)
                .map(|(f, _)| f.0)
                .collect();
            let lines = counts.len();
            counts.retain(|count| *count > 0);
            counts.sort_unstable();
            let usual = counts.get(counts.len() / 2).copied().unwrap_or(0);
            let same = counts.iter().filter(|count| **count == usual).count();
            let tight = fields.iter().all(|(_, tight)| *tight);
            let prose = || self.shapes.iter().any(|shape| shape.ends_mark);
            let rows = match separator {
                "|" if self.shapes.iter().filter(|shape| shape.opening == Opening::Key).count() * 2 > lines => 0,
                "\t" | "|" => counts.len(),
                ";" if tight || usual > 1 => same,
                "," if tight && !prose() || usual > 1 && lines > 2 && !prose() => same,
                "  " if lines > 2 && !prose() => counts.len(),
                _ => 0,
            };
            let items =
                self.shapes.iter().filter(|shape| shape.begins_item() && !shape.text.starts_with(['|', '!'])).count();
            if rows < 2 || rows * 4 < lines * 3 || items * 2 > lines {
                continue;
            }
            let first = fields.iter().position(|(count, _)| *count > 0).unwrap_or(0);
            for at in 0..self.lines.len() {
                self.record(at);
            }
            if self.is_head(first, separator) {
                self.lines[first].states = false;
                for row in &mut self.lines[first + 1..] {
                    row.lead = Some(self.first + first);
                }
            }
            return true;
        }
        false
    }

    /// Whether a row is the head of a table: it is underlined, or is of words alone and the others have numbers, or it has a
    /// word that columns are often named by.
    fn is_head(&self, row: usize, separator: &str) -> bool {
        let digits = |shape: &Shape<'_>| shape.text.contains(|c: char| c.is_ascii_digit());
        let rows = &self.shapes[row + 1..];
        if rows.is_empty() || digits(&self.shapes[row]) {
            return false;
        }
        let fields = || self.shapes[row].text.split(separator);
        let name = |field: &str| {
            let field = field.trim_matches(|c: char| !c.is_alphanumeric());
            let last = field.rsplit([' ', '_', '-']).next().unwrap_or_default();
            [field, last].iter().any(|word| COLUMN_NAMES.contains(word.to_lowercase().as_str()))
        };
        rows[0].opening == Opening::Rule
            || fields().any(name)
            || (fields().all(|field| field.split_whitespace().count() <= 3)
                && rows.iter().filter(|shape| digits(shape)).count() * 2 >= rows.len())
    }

    /// Whether most lines begin with a time or a key.
    fn keyed(&mut self) -> bool {
        let count = |opening: Opening| self.shapes.iter().filter(|shape| shape.opening == opening).count();
        let (stamps, keys) = (count(Opening::Stamp), count(Opening::Key));
        let rules = count(Opening::Rule) + count(Opening::Heading);
        let others = self.shapes.len() - rules;
        if !(stamps > 1 && stamps * 2 >= others || stamps + keys > 1 && (stamps + keys) * 5 >= others * 3) {
            return false;
        }
        // The length of the record so far, and whether it begins with a time.
        let (mut width, mut timed) = (0, false);
        for at in 0..self.shapes.len() {
            self.record(at);
            let shape = &self.shapes[at];
            if at > 0 && !self.lines[at - 1].ends {
                width += 1 + shape.width;
            } else {
                width = shape.width;
                timed =
                    shape.opening == Opening::Stamp && !shape.text.starts_with(char::is_alphabetic) && shape.states();
            }
            let Some(next) = self.shapes.get(at + 1) else { break };
            // What follows in a line without a time goes on with the message before, if that does not become too long; a
            // line that is indented goes on with the key before, as in the head of a mail.
            let told = timed && width + 1 + next.width <= MAX_ANSWER_CHARS;
            let folds = stamps == 0 && next.indent > shape.indent && !next.is_code() && !shape.introduces();
            let broken = shape.is_broken() && shape.width >= MIN_COLUMN;
            self.lines[at].ends = !(next.opening == Opening::Plain && (told || folds) || broken);
        }
        true
    }

    /// Whether many lines end as those of code do.
    fn code(&mut self) -> bool {
        if self.shapes.iter().filter(|shape| shape.is_code()).count() * 5 < self.shapes.len() * 2 {
            return false;
        }
        (0..self.lines.len()).for_each(|at| self.record(at));
        true
    }

    /// Sees which lines of prose, or of a list, go on in the next.
    fn prose(&mut self) {
        let column = self.column();
        let written = self.is_written();
        let lower =
            self.shapes.iter().all(|shape| shape.lower || shape.begins_item() || shape.opening == Opening::Rule);
        let mut item: Option<usize> = None;
        let mut expected = 1;
        let mut numbered = self.shapes[0].opening != Opening::Plain;
        for at in 0..self.shapes.len() {
            let shape = &self.shapes[at];
            match shape.opening {
                Opening::Number(_, number) => {
                    expected = number + 1;
                    numbered = true;
                    item = Some(at);
                }
                Opening::Bullet(_) => item = Some(at),
                _ if shape.begins_item() => item = None,
                _ => {}
            }
            if item.is_some() || !written || shape.begins_item() {
                self.lines[at].record = true;
            }
            let Some(next) = self.shapes.get(at + 1) else { break };
            let begins = match next.opening {
                // A number at the beginning of a line is a list's where others are, or where the line before ended.
                Opening::Number(_, number) => {
                    number == expected && numbered || number == 1 || shape.ends_mark || shape.introduces()
                }
                Opening::Rule => true,
                _ => next.begins_item(),
            };
            let fits = || {
                let word = next.text.split(' ').next().unwrap_or_default().chars().count();
                column >= MIN_COLUMN && shape.width + word + 4 > column
            };
            let quoted = |shape: &Shape<'_>| shape.opening == Opening::Quote;
            let alone = matches!(shape.opening, Opening::Rule | Opening::Heading) || quoted(shape) != quoted(next);
            // "Dear Jon," stands on a line of its own.
            let greets = at == 0 && shape.text.ends_with(',') && shape.width * 2 < next.width;
            let heads = at == 0 && item.is_none() && shape.is_short() && next.indent > shape.indent + 1;
            let joins = !begins && !alone && !heads && !greets && {
                let folded = item.is_some_and(|item| match self.shapes[item].opening {
                    Opening::Bullet(text) | Opening::Number(text, _) => {
                        next.indent >= self.shapes[item].indent + text.min(2)
                    }
                    _ => false,
                });
                if next.lower && !lower {
                    written || folded || shape.is_broken() || fits()
                } else {
                    // A number goes on with a sentence that has come over the end of a line before.
                    let number = next.text.starts_with(|c: char| c.is_ascii_digit()) && written && !shape.ends_mark;
                    let within = at > 0 && !self.lines[at - 1].ends;
                    shape.is_broken() || folded && !shape.ends_mark || fits() && written || number && within
                }
            };
            if joins {
                self.lines[at].ends = false;
            } else if item.is_some() && !begins {
                item = None;
            }
        }
        for at in 0..self.lines.len() {
            let alone = self.lines[at].ends && (at == 0 || self.lines[at - 1].ends);
            if self.lines[at].record && alone {
                self.record(at);
            }
        }
    }

    /// The column to which the lines may be wrapped: the longest, or the second where one of many stands out.
    fn column(&self) -> usize {
        let mut longest = [0; 2];
        for shape in self.shapes {
            if shape.width > longest[0] {
                longest = [shape.width, longest[0]];
            } else {
                longest[1] = longest[1].max(shape.width);
            }
        }
        if self.shapes.len() > 3 && longest[0] > longest[1] + 20 { longest[1] } else { longest[0] }
    }

    /// Whether the lines hold sentences with end marks: the last ends with one, or a fifth have one.
    fn is_written(&self) -> bool {
        let within = |shape: &Shape<'_>| shape.text.contains(". ") || shape.text.contains("? ");
        let ends = self.shapes.iter().filter(|shape| shape.ends_mark || within(shape)).count();
        self.shapes.last().is_some_and(|shape| shape.ends_mark) || ends * 5 >= self.shapes.len()
    }

    /// Joins the lines of a short entry, from `BEGIN:` to `END:` or from a brace to the one that closes it; of a
    /// message and its translation.
    fn entries(&mut self) {
        let mut open = None;
        for at in 0..self.shapes.len() {
            let line = self.shapes[at].text;
            if line.starts_with("BEGIN:") || line.starts_with("msgid ") || line == "{" {
                open = Some(at);
            } else if line.starts_with("END:") || line.starts_with("msgstr ") || matches!(line, "}" | "},") {
                let Some(from) = open.take() else { continue };
                let width: usize = self.shapes[from..=at].iter().map(|shape| shape.width + 1).sum();
                if width <= MAX_ANSWER_CHARS && self.lines[from..=at].iter().all(|line| line.record) {
                    for line in &mut self.lines[from..at] {
                        line.ends = false;
                    }
                    self.lines[from..=at].iter_mut().for_each(|line| line.states = true);
                }
            }
        }
    }

    /// Finds which line introduces which: a heading or a lead-in those after it, the first of several keys the others.
    fn leads(&mut self) {
        let last = self.shapes.len() - 1;
        // Those that are open, by their indentation.
        let mut open: Vec<usize> = Vec::new();
        let mut begins = 0;
        for at in 0..self.shapes.len() {
            let shape = &self.shapes[at];
            let followed = at < last && self.lines[at].ends;
            let introduces = followed && shape.introduces();
            // What is indented belongs to the line above it.
            let deeper = || self.shapes[at + 1].indent > shape.indent + 1;
            let heads = followed && shape.opening != Opening::Rule && shape.is_short() && deeper()
                || at == 0 && at < last && self.lines[0].ends && shape.is_short() && self.heads();
            while let Some(&lead) = open.last() {
                let above = &self.shapes[lead];
                let beside = above.introduces() || lead == 0;
                let deeper = shape.indent > above.indent
                    || shape.indent == above.indent && beside && (shape.is_item() && !above.is_item() || !introduces);
                if deeper {
                    break;
                }
                open.pop();
            }
            if self.lines[at].lead.is_none() {
                self.lines[at].lead = open.last().map(|lead| self.first + lead);
            }
            if introduces || heads {
                open.push(at);
                // A lead-in states nothing without what it introduces. Nor does a heading of few words; a longer one may.
                let names = !shape.text.contains(['(', '{']);
                if names && (introduces || at == 0 && shape.text.split_whitespace().count() <= 3) {
                    (begins..=at).for_each(|line| self.lines[line].states = false);
                }
            }
            if self.lines[at].ends {
                begins = at + 1;
            }
        }
        let keys = || self.shapes.iter().filter(|shape| shape.opening == Opening::Key);
        if keys().count() == self.shapes.len() && self.distinct_keys() {
            for line in self.lines.iter_mut().skip(1).filter(|line| line.lead.is_none()) {
                line.lead = Some(self.first);
            }
        }
    }

    /// Whether the first line is a heading of the others: they are prose or a list, and it is neither.
    fn heads(&self) -> bool {
        let (first, next) = (&self.shapes[0], &self.shapes[1]);
        matches!(first.opening, Opening::Plain | Opening::Heading)
            && (next.begins_item()
                || next.opening == Opening::Rule
                || self.is_written()
                || !self.lines[1..].iter().all(|l| l.record && l.lead.is_none())
                || self.shapes[1..].iter().all(|s| matches!(s.opening, Opening::Stamp | Opening::Key)))
    }

    /// Whether each key is there once: they are then of one thing, rather than of a chat.
    fn distinct_keys(&self) -> bool {
        let mut seen = foldhash::HashSet::default();
        self.shapes.iter().all(|shape| seen.insert(shape.text.split([':', '=']).next()))
    }

    /// A record after a question is read with it, as the answer of an interview or a chat.
    fn questions(&mut self) {
        for at in 1..self.lines.len() {
            let asked = self.shapes[at - 1].text.ends_with('?') && self.lines[at - 1].ends;
            if asked && self.lines[at].record {
                self.lines[at].lead = Some(self.first + at - 1);
            }
        }
    }

    /// Makes one sentence of a lead-in and its list, where both are short.
    fn short_lists(&mut self) {
        let mut at = 0;
        while at + 1 < self.shapes.len() {
            let items = self.shapes[at + 1..].iter().take_while(|shape| shape.is_item()).count();
            let lead = at;
            at += items + 1;
            let end = lead + items;
            let listed = &self.shapes[lead + 1..=end];
            let names = |shape: &Shape<'_>| {
                let words = shape.text.split_whitespace().count();
                words <= MAX_NAME_WORDS + 1 && !shape.text.contains([',', ':', '(']) && shape.indent == listed[0].indent
            };
            if items < 2
                || self.shapes[lead].is_item()
                || self.lines[lead + 1].lead != Some(self.first + lead)
                || !listed.iter().all(names)
            {
                continue;
            }
            let width: usize = self.shapes[lead + 1..=end].iter().map(|shape| shape.width + 1).sum();
            let begin = (0..lead).rev().find(|line| self.lines[*line].ends).map_or(0, |line| line + 1);
            let whole = width + self.shapes[begin..=lead].iter().map(|shape| shape.width + 1).sum::<usize>();
            let alone = self.shapes.get(end + 1).is_none_or(|_| self.lines[end].ends);
            if whole <= MAX_ANSWER_CHARS && alone {
                self.lines[lead..end].iter_mut().for_each(|line| line.ends = false);
                for line in &mut self.lines[begin..=end] {
                    (line.states, line.whole, line.lead) = (true, false, None);
                }
            }
        }
    }
}

#[cfg(test)]
#[path = "lines_tests.rs"]
mod tests;
