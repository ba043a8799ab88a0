//! One text out of a body: a form, a multipart form, JSON, or plain text.

use std::borrow::Cow;
use std::time::Duration;

use actix_multipart::Multipart;
use actix_web::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use actix_web::web::{BytesMut, Payload};
use actix_web::{HttpMessage, HttpRequest};
use futures_util::{StreamExt, TryStreamExt};
use multivac_core::datum::{Datum, DatumError};
use percent_encoding::percent_decode;
use serde::Deserialize;
use tokio::time::Instant;
use utoipa::ToSchema;

use crate::problem::Problem;

/// How long a client may take for the next chunk of a body.
pub(crate) const CHUNK_TIMEOUT: Duration = Duration::from_secs(30);

/// How fast a body has to arrive once that time is over, in bytes a second: a slower one would hold its connection, and
/// the memory of what has arrived, for hours.
const MIN_BYTES_PER_SECOND: usize = 4 << 10;

/// The field that holds the text.
const FIELD: &str = "data";

/// Bytes allowed for what surrounds a text: other fields, boundaries, names.
const OVERHEAD: usize = 64 << 10;

/// One datum, as JSON and the forms carry it.
#[derive(Deserialize, ToSchema)]
#[schema(as = NewDatum)]
pub(crate) struct JsonDatum<'a> {
    /// The text.
    #[serde(borrow)]
    #[schema(value_type = String, min_length = 1)]
    data: Cow<'a, str>,
}

/// Reads one datum, in whichever of the listed forms it comes.
pub(crate) async fn datum(request: &HttpRequest, payload: Payload, limit: usize) -> Result<Datum, Problem> {
    refuse_encoding(request)?;
    let media = media_type(request);
    // In a form a byte takes up to three bytes (%41), in JSON up to six (\u0041).
    let max_size = match media.as_str() {
        "text/plain" => limit,
        "application/x-www-form-urlencoded" => limit.saturating_mul(3) + OVERHEAD,
        "multipart/form-data" => limit.saturating_add(2 * OVERHEAD),
        _ => limit.saturating_mul(6) + OVERHEAD,
    };
    // A body whose declared length is over the limit is not read at all.
    if declared_length(request).is_some_and(|length| length > max_size as u64) {
        return Err(Problem::too_large(limit));
    }
    match media.as_str() {
        "application/x-www-form-urlencoded" => {
            let body = collect(payload, max_size, limit).await?;
            urlencoded(&body, limit)
        }
        "multipart/form-data" => multipart(request, payload, limit).await,
        "application/json" => {
            require_utf8(request)?;
            let body = collect(payload, max_size, limit).await?;
            json(&body, limit)
        }
        "text/plain" => {
            require_utf8(request)?;
            let body = collect(payload, max_size, limit).await?;
            text(&body, limit)
        }
        "" => Err(Problem::unsupported("no Content-Type: expected a form, application/json or text/plain")),
        _ => Err(unlisted(request)),
    }
}

/// The media type of a body, in lower case and without parameters; empty without a `Content-Type`. Not by `mime`, which
/// refuses the white space around a semicolon that RFC 9110 (5.6.6) allows, and values that clients send unquoted.
pub(crate) fn media_type(request: &HttpRequest) -> String {
    request.content_type().to_ascii_lowercase()
}

fn unlisted(request: &HttpRequest) -> Problem {
    Problem::unsupported(format!(
        "{}: expected application/x-www-form-urlencoded, multipart/form-data, application/json or text/plain",
        request.content_type().chars().take(100).collect::<String>()
    ))
}

/// One datum out of a JSON object.
pub(crate) fn json(body: &[u8], limit: usize) -> Result<Datum, Problem> {
    let body = std::str::from_utf8(body).map_err(|_| DatumError::NotUtf8)?;
    let object: JsonDatum<'_> = serde_json::from_str(body).map_err(|error| {
        use serde_json::error::Category;
        match error.classify() {
            Category::Data => Problem::bad_request("expected a JSON object with the text in \"data\""),
            Category::Io | Category::Syntax | Category::Eof => {
                Problem::bad_request(format!("malformed JSON at line {}, column {}", error.line(), error.column()))
            }
        }
    })?;
    Ok(Datum::new(&object.data, limit)?)
}

/// 415 for a compressed body: a few bytes could unpack to any size.
pub(crate) fn refuse_encoding(request: &HttpRequest) -> Result<(), Problem> {
    match request.headers().get(CONTENT_ENCODING) {
        Some(encoding) if encoding != "identity" => {
            Err(Problem::unsupported("Content-Encoding: a body is taken as it is, not compressed"))
        }
        _ => Ok(()),
    }
}

fn require_utf8(request: &HttpRequest) -> Result<(), Problem> {
    let declared = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let charset = declared.split(';').skip(1).find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("charset").then(|| value.trim().trim_matches('"').to_ascii_lowercase())
    });
    match charset.as_deref() {
        None | Some("utf-8" | "utf8" | "us-ascii") => Ok(()),
        Some(_) => Err(Problem::unsupported("charset: text is taken as UTF-8")),
    }
}

/// The next chunk of a body; 408 if the client does not send it within [`CHUNK_TIMEOUT`].
pub(crate) async fn next_chunk<S, T, E>(stream: &mut S) -> Result<Option<T>, Problem>
where
    S: futures_util::Stream<Item = Result<T, E>> + Unpin,
    E: std::fmt::Display,
{
    let next = tokio::time::timeout(CHUNK_TIMEOUT, stream.next()).await;
    let next = next.map_err(|_| Problem::timeout("the body came too slowly"))?;
    next.transpose().map_err(|error| Problem::bad_request(format!("the body cannot be read: {error}")))
}

/// How fast a body arrives.
struct Pace {
    started: Instant,
    bytes: usize,
}

impl Pace {
    fn start() -> Self {
        Self { started: Instant::now(), bytes: 0 }
    }

    /// Counts a chunk; 408 once the body is slower than [`MIN_BYTES_PER_SECOND`].
    fn add(&mut self, bytes: usize) -> Result<(), Problem> {
        self.bytes = self.bytes.saturating_add(bytes);
        let allowed = CHUNK_TIMEOUT.saturating_add(Duration::from_secs((self.bytes / MIN_BYTES_PER_SECOND) as u64));
        if self.started.elapsed() > allowed { Err(Problem::timeout("the body came too slowly")) } else { Ok(()) }
    }
}

fn declared_length(request: &HttpRequest) -> Option<u64> {
    request.headers().get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// A whole body of at most `max_size` bytes.
async fn collect(mut payload: Payload, max_size: usize, limit: usize) -> Result<BytesMut, Problem> {
    let mut body = BytesMut::new();
    let mut pace = Pace::start();
    while let Some(chunk) = next_chunk(&mut payload).await? {
        pace.add(chunk.len())?;
        if body.len() + chunk.len() > max_size {
            return Err(Problem::too_large(limit));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn text(body: &[u8], limit: usize) -> Result<Datum, Problem> {
    let text = std::str::from_utf8(body).map_err(|_| DatumError::NotUtf8)?;
    Ok(Datum::new(text, limit)?)
}

fn no_field() -> Problem {
    Problem::bad_request(format!("the form has no field \"{FIELD}\""))
}

/// The first field named `data`, which is the one that the original application took.
///
/// Decoded by the rules of the URL standard, except that bytes that are not UTF-8 are refused where the standard would
/// replace them: a text is kept unchanged or not at all.
fn urlencoded(body: &[u8], limit: usize) -> Result<Datum, Problem> {
    let decode = |part: &[u8]| -> Vec<u8> {
        let spaced: Vec<u8> = part.iter().map(|&byte| if byte == b'+' { b' ' } else { byte }).collect();
        percent_decode(&spaced).collect()
    };
    for pair in body.split(|&byte| byte == b'&') {
        let (name, value) = match pair.iter().position(|&byte| byte == b'=') {
            Some(at) => (&pair[..at], &pair[at + 1..]),
            None => (pair, &[][..]),
        };
        if decode(name) == FIELD.as_bytes() {
            return text(&decode(value), limit);
        }
    }
    Err(no_field())
}

async fn multipart(request: &HttpRequest, payload: Payload, limit: usize) -> Result<Datum, Problem> {
    let mut form = Multipart::new(request.headers(), payload.map_err(actix_web::error::PayloadError::from));
    let mut skipped = 0;
    let mut pace = Pace::start();
    while let Some(mut field) = next_chunk(&mut form).await? {
        let is_datum = field.name() == Some(FIELD);
        let mut body = BytesMut::new();
        while let Some(chunk) = next_chunk(&mut field).await? {
            pace.add(chunk.len())?;
            if !is_datum {
                skipped += chunk.len();
                if skipped > limit.saturating_add(OVERHEAD) {
                    return Err(Problem::too_large(limit));
                }
            } else if body.len() + chunk.len() > limit {
                return Err(Problem::too_large(limit));
            } else {
                body.extend_from_slice(&chunk);
            }
        }
        if is_datum {
            return text(&body, limit);
        }
    }
    Err(no_field())
}

#[cfg(test)]
#[path = "body_tests.rs"]
mod tests;
