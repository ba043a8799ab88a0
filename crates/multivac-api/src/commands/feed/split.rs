//! Where a text that is too long for one datum is cut.

use std::str::from_utf8;

/// How many bytes of a text are its next part, of `limit` bytes at most: up to its last paragraph's end, else its last line's,
/// else its last word's, else its last letter's. The text has more than `limit` bytes and begins with whole letters.
pub(super) fn cut(text: &[u8], limit: usize) -> usize {
    let window = &text[..limit.min(text.len())];
    let letters = match from_utf8(window) {
        Ok(_) => window.len(),
        // What is no text at all is found so elsewhere.
        Err(error) if error.valid_up_to() == 0 => window.len(),
        Err(error) => error.valid_up_to(),
    };
    let window = &window[..letters];
    let paragraph = memchr::memmem::rfind(window, b"\n\n").map(|at| at + 2);
    let paragraph = paragraph.max(memchr::memmem::rfind(window, b"\n\r\n").map(|at| at + 3));
    let line = || memchr::memrchr(b'\n', window).map(|at| at + 1);
    let word = || window.iter().rposition(u8::is_ascii_whitespace).map(|at| at + 1);
    paragraph.or_else(line).or_else(word).unwrap_or(letters).max(1)
}

/// Of the first part of a table its head line, which is to stand in each part, unless that leaves little room for rows.
pub(super) fn head_line(part: &[u8], limit: usize) -> &[u8] {
    let from = part.iter().position(|byte| !byte.is_ascii_whitespace()).unwrap_or(0);
    let line = memchr::memchr(b'\n', &part[from..]).map_or(&[][..], |end| &part[from..=from + end]);
    if line.len() <= limit / 4 { line } else { &[] }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(text: &str, limit: usize) -> &str {
        &text[..cut(text.as_bytes(), limit)]
    }

    #[test]
    fn a_text_is_cut_where_a_reader_would_pause() {
        assert_eq!(first("one\n\ntwo\nthree four", 12), "one\n\n");
        assert_eq!(first("one\r\n\r\ntwo\r\nthree", 12), "one\r\n\r\n");
        assert_eq!(first("one\ntwo three four", 12), "one\n");
        assert_eq!(first("one two three four", 12), "one two ");
        assert_eq!(first("onetwothreefour", 12), "onetwothreef");
        assert_eq!(first("ééééé", 5), "éé");
    }

    #[test]
    fn the_head_of_a_table_is_its_first_line_that_is_not_empty() {
        assert_eq!(head_line(b"\r\nriver,length\r\nElbe,1094\r\n", 60), b"river,length\r\n");
        assert_eq!(head_line(b"river,length\nElbe,1094\n", 51), b"", "over a quarter of the limit");
        assert_eq!(head_line(b"river,length", 60), b"", "no whole line");
    }

    proptest::proptest! {
        #[test]
        fn all_parts_together_are_the_text_and_none_is_too_long(text in "[a\u{e9}\u{1f30c} \r\n]{0,200}", limit in 4_usize..40) {
            let mut rest = text.as_str();
            let mut whole = String::new();
            while rest.len() > limit {
                let part = first(rest, limit);
                proptest::prop_assert!(!part.is_empty() && part.len() <= limit);
                whole.push_str(part);
                rest = &rest[part.len()..];
            }
            proptest::prop_assert_eq!(whole + rest, text);
        }
    }
}
