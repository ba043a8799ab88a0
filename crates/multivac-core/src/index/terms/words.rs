//! Where the words of a text are: by Unicode's rules (UAX 29), with the signs that distinguish one word from another.
//!
//! A word that people also know by its parts (`max_connections`, `node.js`, `AT&T`, one that was broken at the end of a
//! line) comes first as a whole and then part by part, so words may lie within one another; they are in the order of their
//! beginnings.

use std::ops::Range;

use unicode_normalization::UnicodeNormalization;
use unicode_segmentation::UnicodeSegmentation;

use crate::process::Plain;
use crate::words::{KOREAN_PARTICLES, SIGNS};

/// The longest word as it is seen, in bytes; longer ones are encoded data and the like, and cannot be searched for. Words of
/// Malayalam or Tamil can have forty letters of three bytes.
const MAX_WORD_BYTES: usize = 120;

/// The longest Korean particle, in syllables.
const MAX_PARTICLE: usize = 5;

/// The longest word that is another one with a plus behind it: `C` and `C+`, but `Disney` is the same as `Disney+`.
const MAX_SIGNED_BYTES: usize = 3;

/// The words of a text with the byte offset of each, as they were fed, without those within HTML tags.
pub fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let plain = Plain::of(text);
    let found = Scan::of(&plain.text);
    found.into_iter().map(move |word| {
        let fed = plain.fed(word);
        (fed.start, &text[fed])
    })
}

/// What makes one word of several.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Join {
    /// `AT&T`.
    And,
    /// `10:05`, `3:16`.
    Colon,
    /// `regula-` and `tions` on the next line, or `regula=` where it is quoted-printable.
    LineEnd,
}

struct Scan<'a> {
    text: &'a str,
    found: Vec<Range<usize>>,
}

impl<'a> Scan<'a> {
    fn of(text: &'a str) -> Vec<Range<usize>> {
        let mut scan = Self { text, found: Vec::with_capacity(text.len() / 5) };
        // A mark that stands by itself counts with the sign or the space before it.
        let trim = |piece: &str| piece.find(|c: char| c.is_alphanumeric() || c == '_').unwrap_or(0);
        let pieces = text.unicode_word_indices().map(|(at, piece)| at + trim(piece)..at + piece.len());
        let mut pieces = pieces.peekable();
        let mut end = 0;
        while let Some(first) = pieces.next() {
            scan.signs(end..first.start);
            let place = scan.found.len();
            end = scan.piece(first.clone());
            let Some(join) = pieces.peek().and_then(|next| scan.join(&first, next)) else { continue };
            let mut last = first.clone();
            let mut second = 0;
            while let Some(next) = pieces.next_if(|next| scan.join(&last, next) == Some(join)) {
                if join == Join::Colon && second == 0 {
                    second = next.end;
                }
                end = scan.piece(next.clone());
                last = next;
            }
            if join == Join::Colon {
                // The hour and the minute, whether the seconds are given or not.
                scan.found.truncate(place);
                scan.push(first.start..last.end);
                if second < last.end {
                    scan.push(first.start..second);
                }
            } else if end - first.start <= MAX_WORD_BYTES {
                let start = scan.found.get(place).map_or(first.start, |word| word.start.min(first.start));
                scan.found.insert(place, start..end);
            }
        }
        scan.signs(end..text.len());
        scan.found
    }

    fn push(&mut self, word: Range<usize>) {
        if word.len() <= MAX_WORD_BYTES {
            self.found.push(word);
        }
    }

    /// The signs between two words that are words themselves: `%` after a figure, `$` beside one.
    fn signs(&mut self, gap: Range<usize>) {
        let bytes = self.text.as_bytes();
        if bytes[gap.clone()].iter().all(|b| b.is_ascii() && !matches!(b, b'%' | b'$')) {
            return;
        }
        for (at, sign) in self.text[gap.clone()].char_indices() {
            let (at, end) = (gap.start + at, gap.start + at + sign.len_utf8());
            let figure = |char: Option<char>| char.is_some_and(char::is_numeric);
            let mut back = self.text[..at].chars().rev();
            let before = back.next();
            let counts = match sign {
                '%' => figure(before) || (before.is_some_and(char::is_whitespace) && figure(back.next())),
                '$' => figure(before) || figure(self.text[end..].chars().next()),
                _ => !sign.is_ascii(),
            };
            if counts && SIGNS.contains_key(&self.text[at..end]) {
                self.push(at..end);
            }
        }
    }

    /// What joins two pieces that follow one another.
    fn join(&self, a: &Range<usize>, b: &Range<usize>) -> Option<Join> {
        let bytes = self.text.as_bytes();
        let gap = &bytes[a.end..b.start];
        let (before, after) = (bytes[a.end - 1], bytes[b.start]);
        match gap {
            [b'&'] => (!before.is_ascii_digit() && !after.is_ascii_digit()).then_some(Join::And),
            [b':'] => {
                let digits = |piece: &Range<usize>| bytes[piece.clone()].iter().all(u8::is_ascii_digit);
                (digits(a) && after.is_ascii_digit()).then_some(Join::Colon)
            }
            [sign @ (b'-' | b'='), rest @ ..] | [0xe2, 0x80, sign @ (0x90 | 0x91), rest @ ..] => {
                let mut rest = rest.iter().skip_while(|b| matches!(b, b' ' | b'\r'));
                let broken = rest.next() == Some(&b'\n')
                    && match sign {
                        b'=' => rest.next().is_none(),
                        _ => rest.all(|b| matches!(b, b' ' | b'\t')),
                    };
                let letters = broken
                    && a.len() > 1
                    && self.text[..a.end].chars().next_back().is_some_and(char::is_alphabetic)
                    && self.text[b.start..].starts_with(char::is_lowercase);
                letters.then_some(Join::LineEnd)
            }
            _ => None,
        }
    }

    /// Adds the words of a piece as Unicode's rules give it, with the signs beside it; returns where they end.
    fn piece(&mut self, piece: Range<usize>) -> usize {
        let text = &self.text[piece.clone()];
        let bytes = text.as_bytes();
        let figure = bytes[0].is_ascii_digit();
        if bytes.iter().any(|b| *b == b'_' || (matches!(b, b'.' | b':') && !figure)) {
            self.parts(piece.clone());
            return piece.end;
        }
        if !text.is_ascii() && text.contains(is_hangul) {
            self.korean(piece.clone());
            return piece.end;
        }
        let end = piece.end + self.suffix(&piece);
        match self.prefix(&piece) {
            Some('.') => {
                self.push(piece.start - 1..end);
                self.push(piece.start..end);
            }
            Some(minus) => self.push(piece.start - minus.len_utf8()..end),
            None if end > piece.end && piece.len() > MAX_SIGNED_BYTES => {
                self.push(piece.start..end);
                self.push(piece);
            }
            None => self.push(piece.start..end),
        }
        end
    }

    /// The sign before a piece that makes it another word: the minus of `-40`, the full stop of `.NET`. It begins a word
    /// itself: neither `1939-40` nor `end.Next` has one.
    fn prefix(&self, piece: &Range<usize>) -> Option<char> {
        let before = &self.text[..piece.start];
        let sign = match before.as_bytes().last()? {
            b'.' if self.text.as_bytes()[piece.start].is_ascii_alphabetic() => '.',
            b'-' | 0x80.. if self.text.as_bytes()[piece.start].is_ascii_digit() => {
                before.chars().next_back().filter(|sign| is_minus(*sign))?
            }
            _ => return None,
        };
        let begins = |c: char| c.is_whitespace() || "([{\"'“‘«„:,;/|=<>~≈±`".contains(c);
        before[..before.len() - sign.len_utf8()].chars().next_back().is_none_or(begins).then_some(sign)
    }

    /// The length of the signs behind a piece that make it another word: `C++`, `C#`, `A+`, `A-`.
    fn suffix(&self, piece: &Range<usize>) -> usize {
        let (word, after) = (&self.text[piece.clone()], &self.text[piece.end..]);
        let length = match after.as_bytes().first() {
            Some(b'+') if after.starts_with("++") => 2,
            Some(b'+' | b'#') => 1,
            Some(b'-' | 0x80..) if matches!(word, "A" | "B" | "AB" | "C" | "D" | "E" | "F" | "O") => {
                after.chars().next().filter(|sign| is_minus(*sign)).map_or(0, char::len_utf8)
            }
            _ => 0,
        };
        let fits = length > 0
            && word.as_bytes().last().is_some_and(u8::is_ascii_alphabetic)
            && (word.len() <= MAX_SIGNED_BYTES || after.starts_with('+'));
        // At the end of a line a hyphen may break a word.
        let ends = |c: char| match c {
            '\n' => after.starts_with(['+', '#']),
            c => !c.is_alphanumeric() && !matches!(c, '+' | '#' | '-' | '=' | '>' | '_'),
        };
        if fits && after[length..].chars().next().is_none_or(ends) { length } else { 0 }
    }

    /// A piece with signs in it that join its parts: `max_connections`, `node.js`, `key:value`, but not `U.S`.
    fn parts(&mut self, piece: Range<usize>) {
        let text = self.text;
        let within = |piece: &Range<usize>, sign: char| {
            let start = piece.start;
            text[piece.clone()].split(sign).scan(start, move |at, part| {
                let range = *at..*at + part.len();
                *at = range.end + 1;
                Some(range)
            })
        };
        // A colon joins no words: "tobias:the".
        for piece in within(&piece, ':').filter(|piece| !piece.is_empty()) {
            let inner = text[piece.clone()].trim_matches('_');
            let start = piece.end - text[piece.clone()].trim_start_matches('_').len();
            let piece = start..start + inner.len();
            if inner.is_empty() {
                continue;
            }
            let dots = inner.split('.').all(|part| part.len() > 1 && part.starts_with(char::is_alphabetic));
            self.push(piece.clone());
            for part in within(&piece, '_') {
                if dots {
                    within(&part, '.')
                        .filter(|part| *part != piece && !part.is_empty())
                        .for_each(|part| self.push(part));
                } else if part != piece && !part.is_empty() {
                    self.push(part);
                }
            }
        }
    }

    /// The nouns of a Korean word, two syllables at a time: particles and what is joined to it follow without a space.
    fn korean(&mut self, piece: Range<usize>) {
        let text = &self.text[piece.clone()];
        let syllables: Vec<(usize, &str)> = text.grapheme_indices(true).collect();
        let mut at = 0;
        while at < syllables.len() {
            let korean = |syllable: &&(usize, &str)| syllable.1.starts_with(is_hangul);
            let first = syllables[at];
            let run = syllables[at..].iter().take_while(|s| korean(s) == korean(&&first)).count();
            let end = |last: usize| piece.start + syllables.get(last).map_or(text.len(), |(start, _)| *start);
            let start = |at: usize| piece.start + syllables[at].0;
            if korean(&&first) {
                let composed: Vec<String> =
                    syllables[at..at + run].iter().map(|(_, syllable)| syllable.nfc().collect()).collect();
                match noun(&composed, at > 0) {
                    0 => {}
                    1 if run == 2 => {
                        self.push(start(at)..end(at + 2));
                        self.push(start(at)..end(at + 1));
                    }
                    1 => self.push(start(at)..end(at + 1)),
                    length => (at..at + length - 1).for_each(|at| self.push(start(at)..end(at + 2))),
                }
            } else {
                self.push(start(at)..end(at + run));
            }
            at += run;
        }
    }
}

/// How many syllables are left of a Korean word without its particles. What follows a foreign word or a figure may be
/// nothing but particles.
fn noun(syllables: &[String], follows: bool) -> usize {
    let mut length = syllables.len();
    loop {
        let least = usize::from(!follows);
        let longest = (1..=MAX_PARTICLE.min(length.saturating_sub(least))).rev();
        let particle = longest.into_iter().find(|particle| {
            KOREAN_PARTICLES.contains(syllables[length - particle..length].concat().as_str())
                // One syllable is mostly left by chance: the last of 나이 (age) is no particle. Of 강은 both are kept.
                && (follows || length - particle > 1 || *particle > 1 || (syllables.len() == 2 && is_plain(&syllables[1])))
        });
        match particle {
            Some(particle) => length -= particle,
            None => return length,
        }
    }
}

/// Whether a syllable at the end of a word is hardly ever anything but a particle.
fn is_plain(syllable: &str) -> bool {
    matches!(syllable, "은" | "는" | "을" | "를" | "에")
}

/// Hangul: syllables, and the letters they are made of.
fn is_hangul(c: char) -> bool {
    matches!(c, '\u{1100}'..='\u{11ff}' | '\u{a960}'..='\u{a97c}' | '\u{ac00}'..='\u{d7fb}')
}

/// What people write for a minus.
pub(super) fn is_minus(c: char) -> bool {
    matches!(c, '-' | '\u{2010}' | '\u{2011}' | '\u{2013}' | '\u{2212}' | '\u{fe63}' | '\u{ff0d}')
}
