//! The head of a request: whether it can be served, how long the body behind it is, and how it is passed on.
//!
//! What is checked here is all that actix-http refuses too, which it would do with an empty body, and what it misreads.

use actix_web::http::uri::Authority;
use httparse::{EMPTY_HEADER, Header, Status, parse_headers};

use crate::media;
use crate::problem::Problem;

/// Bytes that the first line may have. A question of 1,000 characters of four bytes has 12,000 when they are encoded. The
/// edge's limit is 16 KiB, and what it lets through is to be served.
pub(super) const MAX_LINE: usize = (16 << 10) + 256;

/// Bytes that the whole head may have: four buffers of the edge, and the first line. Rewritten, the target takes up to three
/// times its length, and actix-http takes heads of up to 128 KiB.
pub(super) const MAX_HEAD: usize = (64 << 10) + MAX_LINE;

/// Header fields that a request may have; actix-http takes no more.
const MAX_FIELDS: usize = 96;

/// Where the body behind a head ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Body {
    /// After so many bytes; there is none if that is 0.
    Length(u64),
    /// Where its chunks say so.
    Chunked,
}

/// The first line, without its end.
#[derive(Debug, Clone, Copy)]
pub(super) struct RequestLine<'a> {
    method: &'a [u8],
    target: &'a [u8],
    /// The y of HTTP/1.y.
    minor: u8,
}

impl<'a> RequestLine<'a> {
    /// Reads and checks the first line.
    pub(super) fn parse(line: &'a [u8]) -> Result<Self, Problem> {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let mut parts = line.split(|&byte| byte == b' ');
        let (method, target) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        if method.is_empty() || !method.iter().all(|&byte| is_token(byte)) || target.is_empty() {
            return Err(unreadable("expected a line such as \"GET /multivac HTTP/1.1\""));
        }
        if line.len() > MAX_LINE {
            return Err(Problem::uri_too_long());
        }
        // Without a version it is what HTTP/0.9 was.
        let version = parts.next().unwrap_or(b"HTTP/0.9");
        if parts.next().is_some() || !version.starts_with(b"HTTP/") {
            return Err(unreadable("a space in the target has to be sent as %20"));
        }
        let minor = match version[5..] {
            // A minor version that is not known is served as the highest that is (RFC 9110, 2.5).
            [b'1', b'.', minor @ b'0'..=b'9'] => (minor - b'0').min(1),
            [b'0'..=b'9', b'.', b'0'..=b'9'] => return Err(Problem::version_not_supported()),
            _ => return Err(unreadable("the version is no version of HTTP")),
        };
        check_target(method, target)?;
        Ok(Self { method, target, minor })
    }

    /// The same with a target that every parser takes.
    fn write(&self, head: &mut Vec<u8>) {
        head.extend_from_slice(self.method);
        head.push(b' ');
        for &byte in self.target {
            if is_in_target(byte) {
                head.push(byte);
            } else {
                head.extend_from_slice(format!("%{byte:02X}").as_bytes());
            }
        }
        head.extend_from_slice(if self.minor == 0 { b" HTTP/1.0\r\n" } else { b" HTTP/1.1\r\n" });
    }
}

/// 400 for the first line.
fn unreadable(why: &str) -> Problem {
    Problem::bad_request(format!("the request line cannot be read: {why}"))
}

/// A character of a method, or of a field's name (RFC 9110, 5.6.2).
pub(super) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// What may stand in a target (RFC 3986). Other bytes that can be seen, and those of UTF-8, are passed on encoded: `curl`
/// and others send them as they are typed.
fn is_in_target(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~:/?[]@!$&'()*+,;=%".contains(&byte)
}

fn check_target(method: &[u8], target: &[u8]) -> Result<(), Problem> {
    if method == b"CONNECT" {
        return Err(Problem::method_not_allowed("GET, HEAD, POST, DELETE, OPTIONS"));
    }
    if target.iter().any(|&byte| byte <= b' ' || byte == 0x7f) {
        return Err(unreadable("a control character in the target has to be sent encoded"));
    }
    if target.contains(&b'#') {
        return Err(unreadable("a \"#\" in the target has to be sent as %23"));
    }
    let path_and_query = if target[0] == b'/' {
        target
    } else {
        // The form that a proxy gets; it has to be served as well (RFC 9112, 3.2.2).
        let starts =
            |scheme: &&[u8]| target.len() > scheme.len() && target[..scheme.len()].eq_ignore_ascii_case(scheme);
        let host = [&b"http://"[..], b"https://"].iter().find(|scheme| starts(scheme)).map_or(0, |scheme| scheme.len());
        let end =
            target[host..].iter().position(|&byte| byte == b'/' || byte == b'?').map_or(target.len(), |at| host + at);
        let authority = std::str::from_utf8(&target[host..end]).ok().and_then(|text| text.parse::<Authority>().ok());
        if host == 0 || authority.is_none_or(|authority| authority.host().is_empty()) {
            return Err(unreadable("expected a target that begins with \"/\""));
        }
        &target[end..]
    };
    let path = path_and_query.split(|&byte| byte == b'?').next().unwrap_or_default();
    check_path(path)
}

/// 400 for a path that cannot be decoded, holds NUL, or climbs above its root: as the edge does it.
fn check_path(path: &[u8]) -> Result<(), Problem> {
    let mut rest = path;
    while let Some(at) = rest.iter().position(|&byte| byte == b'%') {
        let digits = rest.get(at + 1..at + 3).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        match digits {
            None => return Err(unreadable("a \"%\" in the path is not followed by two hexadecimal digits")),
            Some(b"00") => return Err(unreadable("the path holds NUL")),
            Some(_) => rest = &rest[at + 3..],
        }
    }
    let mut depth = 0_i32;
    for segment in path.split(|&byte| byte == b'/').skip(1) {
        match segment.to_ascii_lowercase().as_slice() {
            b"" | b"." | b"%2e" => {}
            b".." | b".%2e" | b"%2e." | b"%2e%2e" => depth -= 1,
            _ => depth += 1,
        }
        if depth < 0 {
            return Err(unreadable("the path climbs above its root"));
        }
    }
    Ok(())
}

/// Checks a whole head, whose first line has this length, and returns what it is to be replaced by, if by anything.
pub(super) fn check(head: &[u8], line_length: usize) -> Result<(Body, Option<Vec<u8>>), Problem> {
    let (line, lines) = head.split_at(line_length);
    let request_line = RequestLine::parse(line)?;
    let mut fields = [EMPTY_HEADER; MAX_FIELDS];
    let fields = match parse_headers(lines, &mut fields) {
        Ok(Status::Complete((_, fields))) => fields,
        Err(httparse::Error::TooManyHeaders) => return Err(Problem::head_too_large()),
        Ok(Status::Partial) | Err(_) => {
            return Err(field(
                "a line is no \"Name: value\", or is continued by the next, or holds a control character",
            ));
        }
    };
    let body = check_fields(&request_line, fields)?;
    // "Upgrade" is an offer that is never taken here. actix-http would wait for the other protocol instead of a body.
    let asks_for_upgrade = |field: &&Header<'_>| {
        is(field, "upgrade")
            || is(field, "connection") && members(field).any(|option| option.eq_ignore_ascii_case("upgrade"))
    };
    let is_plain = request_line.target.iter().all(|&byte| is_in_target(byte)) && is_plain(line, &request_line);
    if is_plain && !fields.iter().any(|field| asks_for_upgrade(&field)) {
        return Ok((body, None));
    }
    let mut rewritten = Vec::with_capacity(head.len() + 64);
    request_line.write(&mut rewritten);
    for field in fields.iter().filter(|field| !is(field, "upgrade")) {
        rewritten.extend_from_slice(field.name.as_bytes());
        rewritten.extend_from_slice(b": ");
        if asks_for_upgrade(&field) {
            let others: Vec<&str> = members(field).filter(|option| !option.eq_ignore_ascii_case("upgrade")).collect();
            rewritten.extend_from_slice(others.join(", ").as_bytes());
        } else {
            rewritten.extend_from_slice(field.value);
        }
        rewritten.extend_from_slice(b"\r\n");
    }
    rewritten.extend_from_slice(b"\r\n");
    Ok((body, Some(rewritten)))
}

/// Whether the version stands there as it will be read.
fn is_plain(line: &[u8], parsed: &RequestLine<'_>) -> bool {
    let version = line.trim_ascii_end();
    version.ends_with(if parsed.minor == 0 { b"/1.0" } else { b"/1.1" })
}

/// What the fields say of the body, without any doubt: two servers that read a length differently can be made to take a body
/// for a request (RFC 9112, 11.2).
fn check_fields(line: &RequestLine<'_>, fields: &[Header<'_>]) -> Result<Body, Problem> {
    let (mut hosts, mut length, mut is_chunked) = (0, None, false);
    for given in fields {
        if is(given, "host") {
            hosts += 1;
        } else if is(given, "content-length") {
            let digits = std::str::from_utf8(given.value).ok().map(str::trim);
            let digits = digits.filter(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()));
            let bytes: Option<u64> = digits.and_then(|digits| digits.parse().ok());
            let bytes = bytes.ok_or_else(|| field("Content-Length: expected one number"))?;
            if length.replace(bytes).is_some() {
                return Err(field("Content-Length: it is there more than once"));
            }
        } else if is(given, "transfer-encoding") {
            if is_chunked || line.minor == 0 || !given.value.trim_ascii().eq_ignore_ascii_case(b"chunked") {
                return Err(field("Transfer-Encoding: expected \"chunked\" once, in HTTP/1.1"));
            }
            is_chunked = true;
        } else if is(given, "expect")
            && line.minor > 0
            && !members(given).all(|member| member.eq_ignore_ascii_case("100-continue"))
        {
            return Err(Problem::expectation_failed());
        }
    }
    if hosts > 1 || hosts == 0 && line.minor > 0 {
        return Err(field("Host: expected once"));
    }
    if is_chunked && length.is_some() {
        return Err(field("Content-Length and Transfer-Encoding: expected one of them"));
    }
    if line.minor == 0 && line.method == b"POST" && length.is_none() {
        return Err(field("Content-Length: expected with a POST of HTTP/1.0"));
    }
    Ok(if is_chunked { Body::Chunked } else { Body::Length(length.unwrap_or(0)) })
}

/// 400 for a header field.
fn field(why: &str) -> Problem {
    Problem::bad_request(format!("the request's header cannot be read: {why}"))
}

fn is(field: &Header<'_>, name: &str) -> bool {
    field.name.eq_ignore_ascii_case(name)
}

/// The members of a field whose value is a list; what is not ASCII is one that nobody knows.
fn members<'a>(field: &Header<'a>) -> impl Iterator<Item = &'a str> {
    media::list(std::str::from_utf8(field.value).unwrap_or("?"))
}

#[cfg(test)]
#[path = "head_tests.rs"]
mod tests;
