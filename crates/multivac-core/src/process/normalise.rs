//! Brings texts into one form, so that equal words are equal bytes.

use std::borrow::Cow;

use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

/// Replaces characters that are no text. It is white space that ends a sentence, so that no answer extends across it.
pub(super) const GAP: char = '\u{b}';

/// Text in Unicode NFC, with lines that end in `\n`, and a vertical tab in place of each control character.
///
/// Words are never changed, so that a sentence taken from the result is word for word what was fed.
pub(super) fn normalise(text: &str) -> String {
    let composed: Cow<'_, str> = match is_nfc_quick(text.chars()) {
        IsNormalized::Yes => text.into(),
        _ => text.nfc().collect::<String>().into(),
    };
    let mut out = String::with_capacity(composed.len());
    let mut chars = composed.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\r' => {
                chars.next_if_eq(&'\n');
                out.push('\n');
            }
            '\u{85}' | '\u{2028}' => out.push('\n'),
            '\u{2029}' | '\u{c}' => out.push_str("\n\n"),
            '\n' | '\t' => out.push(c),
            // At the beginning of a text U+FEFF is a byte order mark, which is no part of it.
            '\u{feff}' if out.is_empty() => {}
            c if c.is_control() || c == '\u{feff}' => out.push(GAP),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_accent_is_one_with_its_letter() {
        assert_eq!(normalise("cafe\u{301}"), "café");
    }

    #[test]
    fn every_line_end_is_one_newline() {
        assert_eq!(normalise("a\r\nb\rc\u{2028}d\ne"), "a\nb\nc\nd\ne");
    }

    #[test]
    fn control_characters_separate_words_and_are_replaced() {
        assert_eq!(normalise("\u{feff}a\0b\u{1b}c"), "a\u{b}b\u{b}c");
    }
}
