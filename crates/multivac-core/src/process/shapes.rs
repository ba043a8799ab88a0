//! How a line looks by itself: what it begins with, what it ends with, and which signs divide it. `lines` compares the lines
//! of a paragraph by this.

use std::ops::Range;

use super::markup::tag;

/// What a line begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opening {
    /// White space alone.
    Blank,
    /// Signs alone: the line under a table's head, a brace, the beginning of a wiki's table.
    Rule,
    /// A bullet; where its text begins, in characters from the line's beginning.
    Bullet(usize),
    /// A number or a letter as of a list, with its value; where its text begins.
    Number(usize, u32),
    /// `>`, before a quoted line of a mail.
    Quote,
    /// A heading of Markdown or of a wiki, or the name of a section of settings.
    Heading,
    /// What only a language for machines begins a line with: an option, a comment, a command of LaTeX, a row of a wiki.
    Directive,
    /// A time, a date, an address or a level, as in a log.
    Stamp,
    /// A few words before a colon or an equals sign.
    Key,
    /// Anything else.
    Plain,
}

/// The signs that divide a row into fields. The last is two or more spaces, or a tab.
pub(super) const SEPARATORS: [&str; 5] = ["\t", "|", ";", ",", "  "];

/// A line and how it looks.
#[derive(Debug, Clone)]
pub(super) struct Shape<'a> {
    /// Its bytes in the text, without the line end.
    pub(super) bytes: Range<usize>,
    /// It without the white space around it.
    pub(super) text: &'a str,
    /// Its length in characters with its indentation, but without white space at its end.
    pub(super) width: usize,
    pub(super) indent: usize,
    pub(super) opening: Opening,
    /// Whether it begins in lower case.
    pub(super) lower: bool,
    /// Whether it ends as a sentence does.
    pub(super) ends_mark: bool,
}

/// A single line shorter than this, in bytes, without an end mark, is a heading: it belongs to what follows it.
pub(super) const HEADING_BYTES: usize = 80;

/// The words before a colon that can be a key, and its longest length in bytes.
const MAX_KEY_WORDS: usize = 4;
const MAX_KEY_BYTES: usize = 48;

/// How far from a line's beginning a time or a date can stand, in bytes: after a level, a host or a process.
const STAMP_BYTES: usize = 32;

const LEVELS: &[&str] =
    &["trace", "debug", "info", "notice", "warn", "warning", "error", "err", "fatal", "critical", "crit", "alert"];

impl<'a> Shape<'a> {
    /// The shape of the line at these bytes of the text.
    pub(super) fn of(text: &'a str, bytes: Range<usize>) -> Self {
        let whole = text[bytes.clone()].trim_end();
        let line = whole.trim_start();
        let indent = whole.chars().take_while(|c| c.is_whitespace()).map(|c| if c == '\t' { 4 } else { 1 }).sum();
        let first = line.trim_start_matches(|c: char| !c.is_alphanumeric()).chars().next();
        let bare = line.trim_end_matches(['"', '\'', '”', '’', '“', '»', '«', ')', ']', '*', '_']);
        Self {
            bytes,
            text: line,
            width: indent + line.chars().count(),
            indent,
            opening: opening(line),
            lower: first.is_some_and(char::is_lowercase),
            ends_mark: bare.ends_with(['.', '!', '?', '…', '。', '！', '？', '।', '؟', '۔']),
        }
    }

    /// Whether it begins something of its own, whatever stands before it.
    pub(super) fn begins_item(&self) -> bool {
        use Opening::{Bullet, Directive, Heading, Number};
        matches!(self.opening, Bullet(_) | Number(..) | Heading | Directive)
    }

    /// Whether it is an item of a list.
    pub(super) fn is_item(&self) -> bool {
        matches!(self.opening, Opening::Bullet(_) | Opening::Number(..))
    }

    /// Whether it says something by itself, as the beginning of a wiki's table and the times of a subtitle do not.
    pub(super) fn states(&self) -> bool {
        self.opening != Opening::Rule && !self.text.contains("-->")
    }

    /// Whether it announces what follows: it ends with a colon, opens a brace, names a section or the columns of a wiki.
    pub(super) fn introduces(&self) -> bool {
        self.opening == Opening::Heading
            || self.text.starts_with("! ")
            || self.text.ends_with([':', '：', '{']) && self.opening != Opening::Rule
    }

    /// Whether it can be a heading: short, and not ended as a sentence is.
    pub(super) fn is_short(&self) -> bool {
        self.text.len() < HEADING_BYTES && !self.ends_mark && !self.text.ends_with([',', ';'])
    }

    /// Whether a word, or by quoted-printable a line, goes on in the next line.
    pub(super) fn is_broken(&self) -> bool {
        let soft = self.text.ends_with('=') && (60..=78).contains(&self.width) && self.text.contains(' ');
        soft || self.text.ends_with('\u{ad}')
            || self.text.strip_suffix(['-', '\u{2010}']).is_some_and(|rest| rest.ends_with(char::is_alphabetic))
    }

    /// Whether it ends as a line of source code does.
    pub(super) fn is_code(&self) -> bool {
        !self.text.starts_with('\\') && self.ends_code()
    }

    fn ends_code(&self) -> bool {
        self.text.ends_with([';', '{', '}', '(', '[', ']'])
            || self.text.ends_with("},")
            || self.text.ends_with("),")
            || self.text.ends_with(");")
    }

    /// How many of a separator stand between its fields, and whether none of them has a space after it.
    pub(super) fn separators(&self, separator: &str) -> (usize, bool) {
        let body = self.text.trim_end_matches([';', ',']);
        let (mut count, mut tight, mut quoted) = (0, true, false);
        let bytes = body.as_bytes();
        let sign = separator.as_bytes();
        for (at, byte) in bytes.iter().enumerate() {
            match byte {
                b'"' => quoted = !quoted,
                b if *b == sign[0] && !quoted => {
                    if sign.len() == 1 {
                        count += 1;
                        tight &= bytes.get(at + 1) != Some(&b' ');
                    } else if bytes.get(at + 1) == Some(&b' ') && bytes.get(at + 2) != Some(&b' ') {
                        count += 1;
                    }
                }
                _ => {}
            }
        }
        (count, tight)
    }
}

/// What a trimmed line begins with.
fn opening(line: &str) -> Opening {
    let bytes = line.as_bytes();
    let Some(&first) = bytes.first() else { return Opening::Blank };
    if !line.chars().any(char::is_alphanumeric) || line.starts_with("{|") {
        return Opening::Rule;
    }
    if let Some(text) = bullet(line) {
        return Opening::Bullet(text);
    }
    // A parameter of a wiki's template.
    if first == b'|' && !line[1..].contains('|') && is_key(line[1..].trim_start()) {
        return Opening::Key;
    }
    let second = bytes.get(1).copied().unwrap_or_default();
    match first {
        b'>' => return Opening::Quote,
        b'#' if line.trim_start_matches('#').starts_with([' ', '\t']) => return Opening::Heading,
        b'=' if line.len() > 4 && line.ends_with('=') => return Opening::Heading,
        b'[' if line.ends_with(']') && !line.contains(['(', ',']) && !line.ends_with("]]") => return Opening::Heading,
        b'\\' if second.is_ascii_alphabetic() => {
            let name = line[1..].split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or_default();
            let heads = name.ends_with("section") || matches!(name, "chapter" | "part" | "title");
            return if heads { Opening::Heading } else { Opening::Directive };
        }
        b'|' | b'!' | b'%' | b'$' if second == b' ' || first == b'|' => return Opening::Directive,
        b'/' if second == b'/' || second == b'*' => return Opening::Directive,
        b'@' if second == b'@' => return Opening::Directive,
        b'-' | b'+' if second.is_ascii_alphabetic() || second == first => return Opening::Directive,
        b'.' if second.is_ascii_uppercase() && bytes.get(2).is_some_and(u8::is_ascii_uppercase) => {
            return Opening::Directive;
        }
        _ => {}
    }
    if let Some((text, number)) = number(line) {
        return Opening::Number(text, number);
    }
    if is_stamp(line) {
        return Opening::Stamp;
    }
    if is_key(line) { Opening::Key } else { Opening::Plain }
}

/// Where the text after a bullet begins, in characters.
fn bullet(line: &str) -> Option<usize> {
    let mut chars = line.chars();
    let spaced = match chars.next()? {
        '-' | '*' | '+' | '–' | '—' => true,
        '•' | '·' | '▪' | '‣' | '◦' | '●' | '■' | '☐' | '☑' | '✓' | '✔' => false,
        '\\' => return line.starts_with("\\item").then_some(6),
        _ => return None,
    };
    let mut rest = chars.as_str();
    // A wiki repeats its bullets, one for each level.
    if line.starts_with('*') {
        rest = rest.trim_start_matches('*');
    }
    let text = rest.trim_start();
    (!spaced || text.len() < rest.len()).then(|| line.chars().count() - text.chars().count())
}

/// Where the text after a list's number begins, and the number: `1. `, `(2) `, `c) `.
fn number(line: &str) -> Option<(usize, u32)> {
    let inner = line.strip_prefix('(').unwrap_or(line);
    let digits = inner.bytes().take(4).take_while(u8::is_ascii_digit).count();
    let letter = inner.as_bytes().first().is_some_and(u8::is_ascii_lowercase);
    let length = if digits > 0 { digits } else { usize::from(letter) };
    let rest = inner.get(length..).filter(|_| (1..=3).contains(&length))?;
    let close = rest.starts_with(')') || (rest.starts_with('.') && digits > 0 && inner.len() == line.len());
    let after = rest.get(1..).filter(|after| close && after.starts_with([' ', '\t']))?;
    let value = if digits > 0 { inner[..digits].parse().ok()? } else { u32::from(inner.as_bytes()[0] - b'a') + 1 };
    Some((line.len() - after.trim_start().len(), value))
}

/// Whether a line begins as those of a log or a chat do.
fn is_stamp(line: &str) -> bool {
    let head = line.as_bytes();
    let head = &head[..head.len().min(STAMP_BYTES)];
    let word = head.split(|b| !b.is_ascii_alphabetic()).find(|word| !word.is_empty()).unwrap_or_default();
    let marked = word.iter().all(u8::is_ascii_uppercase) || matches!(head[0], b'[' | b'<');
    if marked && LEVELS.iter().any(|level| word.eq_ignore_ascii_case(level.as_bytes())) {
        return true;
    }
    // Groups of digits with signs between them: 10:32, 2026-11-28, 28/Nov/2026, 192.168.0.1, 00:01:02,500.
    let tokens = head.split(|b| !b.is_ascii_alphanumeric() && !matches!(b, b':' | b'.' | b'-' | b'/'));
    tokens.filter(|token| token.first().is_some_and(u8::is_ascii_digit)).any(|token| {
        let groups = token.split(|b| !b.is_ascii_alphanumeric()).filter(|group| !group.is_empty());
        let groups: Vec<&[u8]> = groups.take(4).collect();
        let digits = |group: &&[u8]| group.iter().all(u8::is_ascii_digit);
        let clock = || token.contains(&b':') && groups.len() >= 2 && groups.iter().take(2).all(digits);
        let date = || groups.len() >= 3 && digits(&groups[0]) && groups[2].first().is_some_and(u8::is_ascii_digit);
        clock() || date()
    })
}

/// Whether a line begins with a key and a colon or an equals sign, or with a name in angle brackets, as in a chat.
fn is_key(line: &str) -> bool {
    if line.starts_with('<') {
        let name = line[1..].bytes().take(MAX_KEY_BYTES).position(|b| b == b'>').filter(|length| *length > 0);
        return name.is_some_and(|name| line[name + 2..].starts_with(' ')) && tag(line).is_none();
    }
    let Some(at) = line.bytes().take(MAX_KEY_BYTES).position(|b| matches!(b, b':' | b'=')) else { return false };
    let (key, value) = (line[..at].trim_end(), &line[at + 1..]);
    let allowed =
        |c: char| c.is_alphanumeric() || " ._-/()[]\"'@*#$+&<>`".contains(c) || c == ';' && !key.contains(' ');
    if key.is_empty()
        || key.split_whitespace().count() > MAX_KEY_WORDS
        || !key.chars().all(allowed)
        || key.contains(". ")
    {
        return false;
    }
    let code = key.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b"-;._".contains(&b));
    line.as_bytes()[at] == b'=' || value.is_empty() || value.starts_with([' ', '\t', '"']) || code
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_line_is_known_by_its_beginning() {
        for (line, expected) in [
            ("", Opening::Blank),
            ("|---|---|", Opening::Rule),
            ("- Petra Lind", Opening::Bullet(2)),
            ("** Jon Abt", Opening::Bullet(3)),
            ("•Mira", Opening::Bullet(1)),
            ("12. Petra", Opening::Number(4, 12)),
            ("(2) Jon", Opening::Number(4, 2)),
            ("b) Mira", Opening::Number(3, 2)),
            ("1.5 million people", Opening::Plain),
            ("1990. In", Opening::Plain),
            ("> quoted", Opening::Quote),
            ("## Title", Opening::Heading),
            ("== Title ==", Opening::Heading),
            ("[database]", Opening::Heading),
            ("\\section{Stars}", Opening::Heading),
            ("\\begin{document}", Opening::Directive),
            ("--all  show all", Opening::Directive),
            ("2026-11-28T10:00:00Z ERROR payments: no", Opening::Stamp),
            ("[10:32] tobias: yes", Opening::Stamp),
            ("Nov 28 01:02:03 orm sshd[12]: no", Opening::Stamp),
            ("192.168.0.1 - - [28/Nov/2026:10:00:00 +0000] \"GET /\"", Opening::Stamp),
            ("ERROR payments could not write", Opening::Stamp),
            ("00:00:01,000 --> 00:00:04,000", Opening::Stamp),
            ("tobias: the key", Opening::Key),
            ("<tobias> the key", Opening::Key),
            ("max_connections = 20", Opening::Key),
            ("MAX=20", Opening::Key),
            ("\"port\": 80,", Opening::Key),
            ("TEL;TYPE=home:555", Opening::Key),
            ("<b>bold</b> text", Opening::Plain),
            ("see https://example.com", Opening::Plain),
            ("It was, he said: no", Opening::Plain),
            ("Error handling is hard", Opening::Plain),
            ("The 1.2 release", Opening::Plain),
        ] {
            assert_eq!(opening(line), expected, "{line}");
        }
    }

    proptest! {
        #[test]
        fn any_line_has_a_shape(line in "(\\PC|[ -~\t]){0,80}") {
            let shape = Shape::of(&line, 0..line.len());
            for separator in SEPARATORS {
                shape.separators(separator);
            }
            prop_assert!(shape.text.len() <= line.len());
        }
    }
}
