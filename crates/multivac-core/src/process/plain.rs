//! A text as a reader sees it, for comparison alone: without tags and what is invisible, with the characters that entities
//! and escapes stand for. What answers are cut from stays as it was fed.

use std::borrow::Cow;
use std::ops::Range;

use super::markup::{entity, tag};
use crate::datum::is_invisible;

/// The longest character that is written with escapes, in bytes of UTF-8.
const MAX_ESCAPED_BYTES: usize = 4;

/// A text as it is seen, with the way back to what was fed; the module's head says more.
pub struct Plain<'a> {
    /// The text as it is seen.
    pub text: Cow<'a, str>,
    edits: Vec<Edit>,
}

/// A piece that is seen as another, which may be nothing.
struct Edit {
    seen: Range<usize>,
    fed: Range<usize>,
}

impl<'a> Plain<'a> {
    /// The plain text of a text.
    #[must_use]
    pub fn of(fed: &'a str) -> Self {
        let (mut text, mut edits) = (String::new(), Vec::new());
        let mut copied = 0;
        let mut at = 0;
        while let Some(byte) = fed.as_bytes().get(at) {
            let rest = &fed[at..];
            let (length, seen) = match byte {
                b'<' => match tag(rest) {
                    Some(tag) => (tag.length, Some(if tag.within_word { Seen::Nothing } else { Seen::Space })),
                    None => (1, None),
                },
                b'&' => entity(rest).map_or((1, None), |(length, char)| (length, Some(Seen::of(char)))),
                b'=' | b'%' => escaped_bytes(rest, *byte).map_or((1, None), |(length, c)| (length, Some(Seen::of(c)))),
                b'\\' => escaped_code(rest).map_or((1, None), |(length, char)| (length, Some(Seen::of(char)))),
                0..0x80 => (1, None),
                _ => {
                    let char = rest.chars().next().unwrap_or_default();
                    let length = char.len_utf8();
                    let seen = match char {
                        // A soft hyphen is seen where it breaks a word at the end of a line.
                        '\u{ad}' if rest[length..].starts_with(['\n', '\r']) => Some(Seen::Char('-')),
                        char => is_invisible(char).then_some(Seen::Nothing),
                    };
                    (length, seen)
                }
            };
            if let Some(seen) = seen {
                text.push_str(&fed[copied..at]);
                let start = text.len();
                match seen {
                    Seen::Nothing => {}
                    Seen::Space => text.push(' '),
                    Seen::Char(char) => text.push(char),
                }
                copied = at + length;
                edits.push(Edit { seen: start..text.len(), fed: at..copied });
            }
            at += length;
        }
        if edits.is_empty() {
            return Self { text: fed.into(), edits };
        }
        text.push_str(&fed[copied..]);
        Self { text: text.into(), edits }
    }

    /// Where a piece of the plain text, which is not empty, lies in the text as it was fed.
    #[must_use]
    pub fn fed(&self, seen: Range<usize>) -> Range<usize> {
        if self.edits.is_empty() {
            return seen;
        }
        let before = |at: usize| self.edits[..self.edits.partition_point(|edit| edit.seen.start < at)].last();
        // Something that is seen as nothing is no part of the piece that begins behind it.
        let start = match self.edits[..self.edits.partition_point(|edit| edit.seen.start <= seen.start)].last() {
            Some(edit) if seen.start < edit.seen.end => edit.fed.start,
            Some(edit) => edit.fed.end + (seen.start - edit.seen.end),
            None => seen.start,
        };
        let end = match before(seen.end) {
            Some(edit) if seen.end <= edit.seen.end => edit.fed.end,
            Some(edit) => edit.fed.end + (seen.end - edit.seen.end),
            None => seen.end,
        };
        start..end
    }
}

/// What a piece is seen as.
enum Seen {
    Nothing,
    Space,
    Char(char),
}

impl Seen {
    fn of(char: char) -> Self {
        match char {
            c if c.is_whitespace() || c.is_control() => Self::Space,
            c if is_invisible(c) => Self::Nothing,
            c => Self::Char(c),
        }
    }
}

/// A character beyond ASCII whose bytes are written one by one, as in quoted-printable (`=C3=A9`) or a URL (`%C3%A9`): its
/// length as written, and what it is. A single byte is left alone, since `x=20` mostly means what it says.
fn escaped_bytes(text: &str, sign: u8) -> Option<(usize, char)> {
    let mut bytes = [0; MAX_ESCAPED_BYTES];
    let mut count = 0;
    for (byte, escape) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(3)) {
        let [first, high, low] = escape else { break };
        let (Some(high), Some(low)) = (hex(*high), hex(*low)) else { break };
        *byte = high << 4 | low;
        if *first != sign || byte.is_ascii() {
            break;
        }
        count += 1;
    }
    (2..=count).find_map(|length| {
        let char = std::str::from_utf8(&bytes[..length]).ok()?.chars().next()?;
        Some((3 * length, char))
    })
}

/// A character beyond ASCII that is written as JSON and many languages do: `\u00e9`.
fn escaped_code(text: &str) -> Option<(usize, char)> {
    let digits = text.as_bytes().strip_prefix(b"\\u")?.get(..4)?;
    let code = digits.iter().try_fold(0, |code, digit| Some(code << 4 | u32::from(hex(*digit)?)))?;
    char::from_u32(code).filter(|char| !char.is_ascii()).map(|char| (6, char))
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_written_otherwise_is_seen_as_it_is_meant() {
        for (fed, seen) in [
            ("caf&eacute; M&#252;hle M&#xFC;hle", "café Mühle Mühle"),
            ("Dor&shy;othy Dor\u{ad}othy \u{200e}Dor\u{2060}othy\u{200f}", "Dorothy Dorothy Dorothy"),
            ("Tom&nbsp;&amp; Jerry &nosuch; &#x1F;|&#0;|&#xD800;", "Tom & Jerry &nosuch;  | | "),
            ("H<sub>2</sub>O super<wbr>man a<b>c</b>", "H2O superman a c "),
            ("caf=C3=A9 x=20 caf%C3%A9 =C3 =C3=C3=A9 100%", "café x=20 café =C3 =C3é 100%"),
            ("caf\\u00e9 \\u0041 \\ud83d \\u12", "café \\u0041 \\ud83d \\u12"),
            ("it&#146;s", "it’s"),
        ] {
            assert_eq!(Plain::of(fed).text, seen, "{fed}");
        }
    }

    #[test]
    fn what_is_seen_is_found_where_it_was_fed() {
        let fed = "\u{ad}caf&eacute;\u{ad}s\u{200d} x";
        let plain = Plain::of(fed);
        assert_eq!(plain.text, "cafés x");
        assert_eq!(&fed[plain.fed(0..6)], "caf&eacute;\u{ad}s");
        assert_eq!(&fed[plain.fed(7..8)], "x");
    }

    proptest! {
        #[test]
        fn every_piece_of_any_plain_text_lies_in_the_text(
            fed in "(<|>|&|;|=C3|=A9|\\\\u00e9|eacute|shy|sub|\u{ad}|\u{200d}|b|[a-z]|\\PC){0,60}",
        ) {
            let plain = Plain::of(&fed);
            let mut at = 0;
            for (start, char) in plain.text.char_indices() {
                let range = plain.fed(start..start + char.len_utf8());
                prop_assert!(range.start >= at && !range.is_empty() && fed.get(range.clone()).is_some());
                at = range.end;
            }
        }
    }
}
