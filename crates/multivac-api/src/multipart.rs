//! `multipart/form-data` (RFC 7578, and RFC 2046 beneath it), out of a body that is there as a whole.
//!
//! Strict where leniency would change a text: a part ends at its boundary alone, whatever `Content-Length` it claims
//! (RFC 7578, 4.8), and a part that is encoded, or that the body breaks off in, is refused.

use httparse::{EMPTY_HEADER, Status, parse_headers};

use crate::media::{self, MediaType, parameters};
use crate::problem::Problem;

/// Header fields that a part may have.
const MAX_FIELDS: usize = 16;

/// The longest boundary (RFC 2046, 5.1.1).
const MAX_BOUNDARY: usize = 70;

/// One part.
pub(crate) struct Part<'a> {
    /// The field that it is the value of.
    pub(crate) name: String,
    /// Its bytes as they are, which are UTF-8 if it says nothing else.
    pub(crate) content: &'a [u8],
    encoded: Option<&'static str>,
}

impl<'a> Part<'a> {
    /// Its content; 415 if that is no UTF-8 text by its own word.
    pub(crate) fn text(&self) -> Result<&'a [u8], Problem> {
        self.encoded.map_or(Ok(self.content), |why| Err(Problem::unsupported(why)))
    }
}

/// The parts of a body of this type.
pub(crate) fn parts<'a>(media: &MediaType, body: &'a [u8]) -> Result<Vec<Part<'a>>, Problem> {
    let malformed = |what: &str| Problem::bad_request(format!("malformed multipart/form-data: {what}"));
    let boundary = media.values("boundary").next().filter(|boundary| (1..=MAX_BOUNDARY).contains(&boundary.len()));
    let boundary = boundary.ok_or_else(|| malformed("no boundary of 1 to 70 characters"))?;
    let delimiter = [b"\r\n--", boundary.as_bytes()].concat();
    // The first delimiter may stand at the very beginning, without the line end that belongs to it.
    let mut rest = match body.strip_prefix(&delimiter[2..]) {
        Some(rest) => rest,
        None => split(body, &delimiter).ok_or_else(|| malformed("it does not hold its boundary"))?.1,
    };
    let mut parts = Vec::new();
    loop {
        if let Some(epilogue) = rest.strip_prefix(b"--") {
            let line = split(epilogue, b"\r\n").map_or(epilogue, |(line, _)| line);
            return if is_padding(line) { Ok(parts) } else { Err(malformed("something follows its last boundary")) };
        }
        let (padding, part) = split(rest, b"\r\n").ok_or_else(|| malformed("it breaks off after a boundary"))?;
        if !is_padding(padding) {
            return Err(malformed("something follows a boundary on its line"));
        }
        let (fields, content) = header(part).ok_or_else(|| malformed("a part's header cannot be read"))?;
        // A part without content ends with the delimiter whose line end closes its header.
        let (content, after) = match content.strip_prefix(&delimiter[2..]) {
            Some(after) => (&content[..0], after),
            None => split(content, &delimiter).ok_or_else(|| malformed("it breaks off before its last boundary"))?,
        };
        rest = after;
        parts.push(part_of(&fields, content).ok_or_else(|| malformed("a part has no name"))??);
    }
}

type Fields = Vec<(String, String)>;

/// The header of a part, names in lower case, and what follows it.
fn header(part: &[u8]) -> Option<(Fields, &[u8])> {
    let mut fields = [EMPTY_HEADER; MAX_FIELDS];
    let Ok(Status::Complete((length, fields))) = parse_headers(part, &mut fields) else { return None };
    let text = |value| String::from_utf8_lossy(value).trim().to_owned();
    Some((fields.iter().map(|field| (field.name.to_ascii_lowercase(), text(field.value))).collect(), &part[length..]))
}

fn part_of<'a>(fields: &Fields, content: &'a [u8]) -> Option<Result<Part<'a>, Problem>> {
    let values =
        |name: &'static str| fields.iter().filter(move |(given, _)| given == name).map(|(_, value)| value.as_str());
    let (kind, rest) = values("content-disposition").next()?.split_once(';')?;
    if !kind.trim().eq_ignore_ascii_case("form-data") {
        return None;
    }
    let name = parameters(rest).into_iter().find_map(|(name, value)| (name == "name").then_some(value))?;
    // RFC 7578 (4.7) forbids the encodings of mail. Whatever the part is, its bytes are not what it stands for.
    let unencoded =
        |encoding: &str| ["7bit", "8bit", "binary"].iter().any(|known| encoding.eq_ignore_ascii_case(known));
    if values("content-transfer-encoding").any(|encoding| !unencoded(encoding)) {
        let text = "Content-Transfer-Encoding of a part: expected 7bit, 8bit or binary, which change nothing";
        return Some(Err(Problem::bad_request(text)));
    }
    let media: Vec<MediaType> = values("content-type").map(MediaType::parse).collect();
    let encoded =
        if values("content-encoding").flat_map(media::list).any(|coding| !coding.eq_ignore_ascii_case("identity")) {
            Some("Content-Encoding of a part: text is taken as it is, not compressed")
        } else if media.iter().any(|media| media.essence.starts_with("multipart/")) {
            Some("a part of parts: expected text")
        } else if !media.iter().all(MediaType::is_utf8) {
            Some("charset of a part: text is taken as UTF-8")
        } else {
            None
        };
    Some(Ok(Part { name, content, encoded }))
}

/// What comes before and after the first occurrence of `pattern`.
fn split<'a>(text: &'a [u8], pattern: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = memchr::memmem::find(text, pattern)?;
    Some((&text[..at], &text[at + pattern.len()..]))
}

fn is_padding(line: &[u8]) -> bool {
    line.iter().all(|byte| matches!(byte, b' ' | b'\t'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Result<Vec<(String, String)>, String> {
        let parts = parts(&MediaType::parse("multipart/form-data; boundary=\"b\""), body.as_bytes());
        let text = |part: &Part<'_>| String::from_utf8_lossy(part.content).into_owned();
        parts.map(|parts| parts.iter().map(|part| (part.name.clone(), text(part))).collect()).map_err(|p| p.to_string())
    }

    const DATA: &str = "Content-Disposition: form-data; name=\"data\"\r\n";

    #[test]
    fn parts_are_what_stands_between_the_boundaries() {
        for (body, content) in [
            (format!("--b\r\n{DATA}\r\nhello\r\n--b--\r\n"), "hello"),
            (format!("preamble\r\n--b \t\r\n{DATA}\r\nhello\r\n--b--  \r\nepilogue"), "hello"),
            (format!("--b\r\n{DATA}Content-Length: 2\r\n\r\nhello\r\n--b--"), "hello"),
            (format!("--b\r\n{DATA}Content-Length: 99\r\n\r\nhello\r\n--b--"), "hello"),
            (format!("--b\r\n{DATA}\r\n\r\n--b--"), ""),
            (format!("--b\r\n{DATA}\r\n--b--"), ""),
            (format!("--b\r\n{DATA}\r\n\r\nx\r\n\r\n--b--"), "\r\nx\r\n"),
            (format!("--b\r\n{DATA}\r\n--\r\n-b\n--b\r\n--b--"), "--\r\n-b\n--b"),
        ] {
            assert_eq!(read(&body), Ok(vec![("data".to_owned(), content.to_owned())]), "{body:?}");
        }
    }

    #[test]
    fn what_is_not_whole_is_refused() {
        for body in [
            "",
            "--b",
            "--b--x",
            "--c\r\n",
            "--b\r\n",
            "--b\r\n\r\nhello\r\n--b--",
            "--b\r\nContent-Disposition: form-data\r\n\r\nhello\r\n--b--",
            "--b\r\nContent-Disposition: attachment; name=\"data\"\r\n\r\nhello\r\n--b--",
            &format!("--b\r\n{DATA}\r\nhello"),
            &format!("--b\r\n{DATA}\r\nhello\r\n--b"),
            &format!("--b\r\n{DATA}\r\nhello\r\n--b-"),
            &format!("--b\r\n{DATA}\r\nhello\r\n--bc\r\nx\r\n--b--"),
            &format!("--b\r\n{DATA}hello\r\n--b--"),
            &format!("--b\r\n{DATA}Content-Transfer-Encoding: base64\r\n\r\naGVsbG8=\r\n--b--"),
        ] {
            assert!(read(body).is_err(), "{body:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_parts_or_a_problem(body: Vec<u8>, start in "(--b\r\n)?") {
            let _ = parts(&MediaType::parse("multipart/form-data; boundary=b"), &[start.as_bytes(), &body].concat());
        }

        #[test]
        fn any_content_comes_through_as_it_was(content in "[b\r\n -]{0,40}") {
            proptest::prop_assume!(!format!("\r\n{content}").contains("\r\n--b"));
            let body = format!("--b\r\n{DATA}\r\n{content}\r\n--b--");
            proptest::prop_assert_eq!(read(&body), Ok(vec![("data".to_owned(), content)]));
        }
    }
}
