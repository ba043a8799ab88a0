//! Notes and templates of an encyclopedia's text: `[12]`, `<ref>…</ref>`, `{{…}}`. No end mark within them ends a sentence.

/// The longest note or template, in bytes. A longer one counts as text, so that the time to scan a text stays proportional to
/// its length.
const MAX_REFERENCE_BYTES: usize = 1_000;

/// The longest mark of a note, as in `[note 3]`, in bytes.
const MAX_MARK_BYTES: usize = 12;

/// The length of the note or template at the beginning of a text; `None` where it does not begin with one.
pub(super) fn reference(text: &str) -> Option<usize> {
    let bytes = &text.as_bytes()[..text.len().min(MAX_REFERENCE_BYTES)];
    match bytes {
        [b'[', mark @ ..] => {
            let length = mark.iter().take(MAX_MARK_BYTES).position(|b| *b == b']')?;
            let digits = mark[..length].iter().any(u8::is_ascii_digit) || mark[..length] == *b"citation needed";
            let allowed = mark[..length].iter().all(|b| b.is_ascii_alphanumeric() || *b == b' ');
            (digits && allowed).then_some(length + 2)
        }
        [b'<', b'r', b'e', b'f', b'>' | b' ' | b'/', ..] => {
            let open = bytes.iter().position(|b| *b == b'>')?;
            if bytes[open - 1] == b'/' {
                return Some(open + 1);
            }
            let end = bytes[open..].windows(6).position(|window| window == b"</ref>")?;
            Some(open + end + 6)
        }
        [b'{', b'{', ..] => {
            let (mut depth, mut at) = (0_usize, 0);
            while at + 1 < bytes.len() {
                match &bytes[at..at + 2] {
                    b"{{" => (depth, at) = (depth + 1, at + 2),
                    b"}}" if depth == 1 => return Some(at + 2),
                    b"}}" => (depth, at) = (depth - 1, at + 2),
                    [b'\n', _] => return None,
                    _ => at += 1,
                }
            }
            None
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_or_a_template_is_recognised_where_it_is_closed() {
        for (text, length) in [
            ("[12] The", Some(4)),
            ("[note 3]", Some(8)),
            ("[see 1] a", Some(7)),
            ("[sic] a", None),
            ("[12", None),
            ("<ref>A. B.</ref> C", Some(16)),
            ("<ref name=\"a\" /> C", Some(16)),
            ("<ref>A. B.", None),
            ("<reference>", None),
            ("{{cite web|url={{a}}}} b", Some(22)),
            ("{{a\n}}", None),
            ("{a}}", None),
        ] {
            assert_eq!(reference(text), length, "{text}");
        }
    }
}
