//! Bodies that are something else than lines of JSON objects. They are told as what they are, in one sentence, where each of
//! their lines would be rejected; and before anything of them was accepted.

use serde::de::IgnoredAny;

use super::lines::Line;
use crate::problem::Problem;

/// How many bad lines have to come before the first good one for the body to be no lines of JSON at all.
const MAX_BAD_LINES: usize = 10;

const EXPECTED: &str = "expected one JSON object {\"data\": \"…\"} a line (application/x-ndjson, in UTF-8)";

/// The lines before the first good one.
#[derive(Default)]
pub(super) struct Opening {
    bad: Vec<(u64, String)>,
    /// The first line, if it may be the beginning of an object over several lines.
    unfinished: Option<Vec<u8>>,
    /// How many of the lines were no JSON.
    texts: usize,
    has_separators: bool,
}

impl Opening {
    /// Takes a line that is not good, and what is wrong with it.
    ///
    /// # Errors
    /// Once it is clear what the body is instead: nothing of it can be accepted.
    pub(super) fn take(&mut self, line: &Line, detail: String) -> Result<(), Problem> {
        let is_first = self.bad.is_empty();
        self.bad.push((line.number, detail));
        if is_first {
            if let Some(kind) = kind(&line.bytes) {
                return Err(mistake(kind));
            }
            self.unfinished = is_unfinished(&line.bytes).then(|| line.bytes.to_vec());
            self.has_separators = line.bytes.iter().any(|byte| b",;\t".contains(byte));
        } else if let Some(mut object) = self.unfinished.take() {
            object.push(b'\n');
            object.extend_from_slice(&line.bytes);
            if is_unfinished(&object) || is_json(&object) {
                return Err(mistake("an object is written over several lines"));
            }
        }
        if !line.bytes.trim_ascii_start().starts_with(b"{") && !is_json(&line.bytes) {
            self.texts += 1;
        }
        if self.bad.len() == MAX_BAD_LINES { self.check_text() } else { Ok(()) }
    }

    /// The lines that are rejected, now that a good one has come.
    pub(super) fn close(self) -> Vec<(u64, String)> {
        self.bad
    }

    /// The same at the end of the body.
    pub(super) fn finish(self) -> Result<Vec<(u64, String)>, Problem> {
        self.check_text()?;
        Ok(self.bad)
    }

    fn check_text(&self) -> Result<(), Problem> {
        if self.bad.len() < 2 || self.texts < self.bad.len() {
            return Ok(());
        }
        let csv = "it looks like CSV, and no line of its beginning is JSON";
        Err(mistake(if self.has_separators {
            csv
        } else {
            "it looks like plain text, and no line of its beginning is JSON"
        }))
    }
}

fn mistake(kind: &str) -> Problem {
    Problem::bad_request(format!("nothing was accepted: {kind}; {EXPECTED}"))
}

/// What a body is whose first line is this one and is not good, if the line says so by itself.
fn kind(line: &[u8]) -> Option<&'static str> {
    let text = line.trim_ascii();
    match text {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => return Some("it is UTF-16"),
        [0x1f, 0x8b, ..] => return Some("it is compressed with gzip"),
        [0x1e, ..] => return Some("it is a JSON text sequence (RFC 7464)"),
        [b'['] => return Some("it is a JSON array"),
        [b'[', elements @ ..] if elements.trim_ascii_start().starts_with(b"{") => return Some("it is a JSON array"),
        _ => {}
    }
    if text.strip_suffix(b",").is_some_and(is_json) {
        return Some("its lines end with commas");
    }
    let end = memchr::memchr(b'\r', text)?;
    let is_followed = !text[end..].trim_ascii().is_empty();
    (is_followed && text.starts_with(b"{") && is_json(&text[..end])).then_some("its lines end with CR alone")
}

fn is_json(text: &[u8]) -> bool {
    serde_json::from_slice::<IgnoredAny>(text).is_ok()
}

/// Whether a text is the beginning of an object, up to the end of one of its tokens.
fn is_unfinished(text: &[u8]) -> bool {
    let is_object = text.trim_ascii_start().starts_with(b"{");
    is_object
        && serde_json::from_slice::<IgnoredAny>(text)
            .is_err_and(|error| error.is_eof() && !error.to_string().contains("string"))
}

#[cfg(test)]
mod tests {
    use actix_web::web::Bytes;

    use super::*;

    /// What is said of a body whose lines are all bad.
    fn told(body: &[u8]) -> Option<String> {
        let mut opening = Opening::default();
        let lines = body.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
        for (number, line) in (1..).zip(lines) {
            let line = Line { number, bytes: Bytes::copy_from_slice(line), is_too_long: false };
            if let Err(problem) = opening.take(&line, "bad".to_owned()) {
                return Some(problem.to_string());
            }
        }
        opening.finish().err().map(|problem| problem.to_string())
    }

    #[test]
    fn a_body_of_another_kind_is_told_as_what_it_is() {
        for (body, kind) in [
            (b"[{\"data\": \"a\"}, {\"data\": \"b\"}]" as &[u8], "a JSON array"),
            (b"[\n{\"data\": \"a\"},\n{\"data\": \"b\"}\n]", "a JSON array"),
            (b"[{\"data\": \"a\"},\n{\"data\": \"b\"}]\n", "a JSON array"),
            (b"{\"data\": \"a\"}\r{\"data\": \"b\"}\r", "CR alone"),
            (b"\x1e{\"data\": \"a\"}\n", "JSON text sequence"),
            (b"{\"data\": \"a\"},\n{\"data\": \"b\"}\n", "commas"),
            (b"{\n  \"data\": \"a\"\n}\n", "several lines"),
            (b"{ \"data\":\n\"a\" }\n", "several lines"),
            (b"id,text\n1,one\n2,two\n", "CSV"),
            (b"\"text\";\"id\"\n\"a\";1\n", "CSV"),
            (b"Stars go out.\nMoons fall down.\n", "plain text"),
            (b"\xff\xfe{\0", "UTF-16"),
            (b"\x1f\x8b\x08\0", "gzip"),
        ] {
            let told = told(body).unwrap_or_default();
            assert!(told.contains(kind) && told.contains("nothing was accepted"), "{kind}: {told:?}");
        }
    }

    #[test]
    fn single_bad_lines_are_rejected_one_by_one() {
        for body in [
            "",
            "nonsense",
            "[\"x\"]",
            "\"x\"",
            "1\nnull\ntrue",
            "{\"data\": 1}",
            "{\"data\": \"a",
            "{\nnonsense",
            "{\"data\": \"a\"}}\n{}",
        ] {
            assert_eq!(told(body.as_bytes()), None, "{body}");
        }
    }
}
