//! Brings the ends of lines and of paragraphs into one form.

/// Replaces characters that are no text. It is white space that ends a sentence, so that no answer extends across it.
pub(super) const GAP: char = '\u{b}';

/// Text with lines that end in `\n`, and a vertical tab in place of each control character.
///
/// All else stays, so that a sentence taken from the result is word for word what was fed: how letters are composed and what
/// is invisible matters only where words are compared, see [`Plain`](super::Plain) and [`term`](crate::index::term).
pub(super) fn normalise(text: &str) -> String {
    // At the beginning of a text U+FEFF is a byte order mark, which is no part of it.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\r' => {
                chars.next_if_eq(&'\n');
                out.push('\n');
            }
            '\u{85}' | '\u{2028}' => out.push('\n'),
            '\u{2029}' | '\u{c}' => out.push_str("\n\n"),
            '\n' | '\t' => out.push(c),
            c if c.is_control() => out.push(GAP),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_and_what_is_between_them_stay_as_they_were_fed() {
        for text in ["cafe\u{301} café", "\u{fa10} \u{212a}", "a\u{feff}b\u{200b}c\u{ad}"] {
            assert_eq!(normalise(text), text);
        }
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
