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

use crate::problem::Problem;

/// How long a client may take for its next piece of a body.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// How fast a body has to come once that time is over, in bytes a second: one that trickles would hold its connection, and
/// what has come of it, for hours.
const SLOWEST: usize = 4 << 10;

/// The field that holds the text.
const FIELD: &str = "data";

/// Room for what is around a text: other fields, boundaries, names.
const SLACK: usize = 64 << 10;

/// What a datum looks like in JSON.
#[derive(Deserialize)]
pub(crate) struct JsonDatum<'a> {
    #[serde(borrow)]
    data: Cow<'a, str>,
}

/// Reads one datum, in whichever of the listed forms it comes.
pub(crate) async fn datum(request: &HttpRequest, payload: Payload, limit: usize) -> Result<Datum, Problem> {
    refuse_encoding(request)?;
    let media = request.content_type();
    // A byte takes three in a form at most; in JSON six: \u0041. What is over the limit by its own word is not read at all.
    let most = match media {
        "text/plain" => limit,
        "application/x-www-form-urlencoded" => limit.saturating_mul(3) + SLACK,
        "multipart/form-data" => limit.saturating_add(2 * SLACK),
        _ => limit.saturating_mul(6) + SLACK,
    };
    if declared_length(request).is_some_and(|length| length > most as u64) {
        return Err(Problem::too_large(limit));
    }
    match media {
        "application/x-www-form-urlencoded" => {
            let body = collect(payload, most, limit).await?;
            urlencoded(&body, limit)
        }
        "multipart/form-data" => multipart(request, payload, limit).await,
        "application/json" => {
            charset(request)?;
            let body = collect(payload, most, limit).await?;
            json(&body, limit)
        }
        "text/plain" => {
            charset(request)?;
            let body = collect(payload, most, limit).await?;
            text(&body, limit)
        }
        "" => Err(Problem::unsupported("no Content-Type: expected a form, application/json or text/plain")),
        other => Err(Problem::unsupported(format!(
            "{}: expected application/x-www-form-urlencoded, multipart/form-data, application/json or text/plain",
            other.chars().take(100).collect::<String>()
        ))),
    }
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

/// Bodies come as they are: what could unpack to any size is not unpacked.
pub(crate) fn refuse_encoding(request: &HttpRequest) -> Result<(), Problem> {
    match request.headers().get(CONTENT_ENCODING) {
        Some(encoding) if encoding != "identity" => {
            Err(Problem::unsupported("Content-Encoding: a body is taken as it is, not compressed"))
        }
        _ => Ok(()),
    }
}

fn charset(request: &HttpRequest) -> Result<(), Problem> {
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

/// The next piece of a body, if the client sends it in time.
pub(crate) async fn piece<S, T, E>(stream: &mut S) -> Result<Option<T>, Problem>
where
    S: futures_util::Stream<Item = Result<T, E>> + Unpin,
    E: std::fmt::Display,
{
    let next = tokio::time::timeout(PATIENCE, stream.next()).await;
    let next = next.map_err(|_| Problem::timeout("the body came too slowly"))?;
    next.transpose().map_err(|error| Problem::bad_request(format!("the body cannot be read: {error}")))
}

/// How fast a body comes.
struct Pace {
    begun: Instant,
    bytes: usize,
}

impl Pace {
    fn start() -> Self {
        Self { begun: Instant::now(), bytes: 0 }
    }

    /// Counts what has come.
    fn keep(&mut self, bytes: usize) -> Result<(), Problem> {
        self.bytes = self.bytes.saturating_add(bytes);
        let allowed = PATIENCE.saturating_add(Duration::from_secs((self.bytes / SLOWEST) as u64));
        if self.begun.elapsed() > allowed { Err(Problem::timeout("the body came too slowly")) } else { Ok(()) }
    }
}

fn declared_length(request: &HttpRequest) -> Option<u64> {
    request.headers().get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// A whole body of at most `most` bytes.
async fn collect(mut payload: Payload, most: usize, limit: usize) -> Result<BytesMut, Problem> {
    let mut body = BytesMut::new();
    let mut pace = Pace::start();
    while let Some(chunk) = piece(&mut payload).await? {
        pace.keep(chunk.len())?;
        if body.len() + chunk.len() > most {
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

fn missing() -> Problem {
    Problem::bad_request(format!("the form has no field \"{FIELD}\""))
}

/// The first field of the name, as the original took it. By the URL standard's rules, except that bytes which are no
/// UTF-8 are refused where the standard would replace them: a text is kept as it was meant or not at all.
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
    Err(missing())
}

async fn multipart(request: &HttpRequest, payload: Payload, limit: usize) -> Result<Datum, Problem> {
    let mut form = Multipart::new(request.headers(), payload.map_err(actix_web::error::PayloadError::from));
    let mut passed_over = 0;
    let mut pace = Pace::start();
    while let Some(mut field) = piece(&mut form).await? {
        let ours = field.name() == Some(FIELD);
        let mut body = BytesMut::new();
        while let Some(chunk) = piece(&mut field).await? {
            pace.keep(chunk.len())?;
            if !ours {
                passed_over += chunk.len();
                if passed_over > limit.saturating_add(SLACK) {
                    return Err(Problem::too_large(limit));
                }
            } else if body.len() + chunk.len() > limit {
                return Err(Problem::too_large(limit));
            } else {
                body.extend_from_slice(&chunk);
            }
        }
        if ours {
            return text(&body, limit);
        }
    }
    Err(missing())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(body: &str) -> Result<String, String> {
        urlencoded(body.as_bytes(), 100).map(|datum| datum.as_str().to_owned()).map_err(|p| p.to_string())
    }

    #[test]
    fn a_form_is_decoded_once() {
        assert_eq!(form("x=1&data=a+b%2Bc%26d%3De%25&data=second").as_deref(), Ok("a b+c&d=e%"));
        assert_eq!(form("data=caf%C3%A9 \u{1f30c}").as_deref(), Ok("café 🌌"));
    }

    #[test]
    fn a_form_without_the_field_says_so() {
        for body in ["", "Data=x", "datax=1", "other=data"] {
            assert_eq!(form(body), Err("the form has no field \"data\"".to_owned()), "{body}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_refused() {
        assert_eq!(form("data=%ff"), Err(DatumError::NotUtf8.to_string()));
    }

    #[test]
    fn json_is_an_object_with_a_text() {
        assert_eq!(
            json(br#"{"x":1,"data":"a\u00e9\n"}"#, 100).map(|d| d.as_str().to_owned()).ok().as_deref(),
            Some("aé\n")
        );
        for body in ["", "{", "[]", "\"data\"", "{\"data\":1}", "{\"data\":null}", "{}", "{\"data\":\" \"}"] {
            assert!(json(body.as_bytes(), 100).is_err(), "{body}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_a_datum_or_a_problem(body: Vec<u8>) {
            let _ = urlencoded(&body, 100);
            let _ = json(&body, 100);
            let _ = super::text(&body, 100);
        }

        #[test]
        fn any_text_comes_through_as_it_was(text in "\\PC{1,20}") {
            proptest::prop_assume!(!text.trim().is_empty());
            let encoded = percent_encoding::utf8_percent_encode(&text, percent_encoding::NON_ALPHANUMERIC);
            proptest::prop_assert_eq!(form(&format!("x&data={encoded}&y=")), Ok(text.clone()));
            let body = serde_json::json!({ "data": text }).to_string();
            let datum = json(body.as_bytes(), 1_000).map(|datum| datum.as_str().to_owned());
            proptest::prop_assert_eq!(datum.ok(), Some(text));
        }
    }
}
