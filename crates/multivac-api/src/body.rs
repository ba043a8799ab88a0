//! One text out of a body: a form, a multipart form, JSON, or plain text.

use std::borrow::Cow;

use actix_web::HttpRequest;
use actix_web::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap};
use actix_web::web::Payload;
use multivac_core::datum::{Datum, DatumError};
use percent_encoding::percent_decode;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::media::{self, MediaType};
use crate::multipart;
use crate::pace::Paced;
use crate::problem::Problem;

/// The field that holds the text.
const FIELD: &str = "data";

/// The field in which a form may name its charset (HTML; RFC 7578, 4.6).
const CHARSET_FIELD: &str = "_charset_";

/// Bytes allowed for what surrounds a text: other fields, boundaries, names.
const OVERHEAD: usize = 64 << 10;

/// What some programs write before UTF-8 (a byte order mark); it is no part of the text.
pub(crate) const BOM: &[u8] = b"\xef\xbb\xbf";

/// One datum, as JSON and the forms carry it.
#[derive(Deserialize, ToSchema)]
#[schema(as = NewDatum)]
pub(crate) struct JsonDatum<'a> {
    /// The text.
    #[serde(borrow)]
    #[schema(value_type = String, min_length = 1, example = "Stars go out.")]
    data: Cow<'a, str>,
}

/// One line of many, which may have a key of its own.
#[derive(Deserialize, ToSchema)]
#[schema(as = NewDatumOfMany)]
pub(crate) struct JsonLine<'a> {
    /// The text.
    #[serde(borrow)]
    #[schema(value_type = String, min_length = 1)]
    data: Cow<'a, str>,
    /// As an `Idempotency-Key` of this line alone, whichever other lines it is sent with: the same key of the same user again
    /// within a day is the same datum; with another text the line is rejected.
    #[serde(borrow, default)]
    #[schema(value_type = Option<String>, min_length = 1, max_length = 255, pattern = "^[!-~]+$")]
    idempotency_key: Option<Cow<'a, str>>,
}

/// Reads one datum, in whichever of the listed forms it comes.
pub(crate) async fn datum(request: &HttpRequest, payload: Payload, limit: usize) -> Result<Datum, Problem> {
    refuse_encoding(request)?;
    let media = media_type(request)?;
    let max_size = max_size(&media, limit).ok_or_else(|| unlisted(&media))?;
    if !media.is_utf8() {
        return Err(not_utf8(&media));
    }
    // A body whose declared length is over the limit is not read at all.
    if declared_length(request.headers()).is_some_and(|length| length > max_size as u64) {
        return Err(Problem::too_large(limit));
    }
    let body = Paced::new(payload).collect(max_size).await?.ok_or_else(|| Problem::too_large(limit))?;
    match media.essence.as_str() {
        "application/x-www-form-urlencoded" => urlencoded(&body, limit),
        "multipart/form-data" => multipart(&media, &body, limit),
        "application/json" => json(&body, limit),
        _ => text(&body, limit),
    }
}

/// How many bytes a body of this type may have for a text of `limit` bytes; `None` for a type that is not listed.
fn max_size(media: &MediaType, limit: usize) -> Option<usize> {
    // In a form a byte takes up to three bytes (%41), in JSON up to six (\u0041).
    match media.essence.as_str() {
        "text/plain" => Some(limit.saturating_add(BOM.len())),
        "application/x-www-form-urlencoded" => Some(limit.saturating_mul(3).saturating_add(OVERHEAD)),
        "multipart/form-data" => Some(limit.saturating_add(2 * OVERHEAD)),
        "application/json" => Some(limit.saturating_mul(6).saturating_add(OVERHEAD)),
        _ => None,
    }
}

/// Whether the declared length of a body is more than a datum may have in its form.
pub(crate) fn is_declared_too_large(headers: &HeaderMap, limit: usize) -> bool {
    let media = headers.get(CONTENT_TYPE).and_then(|media| media.to_str().ok());
    let max_size = media.and_then(|media| max_size(&MediaType::parse(media), limit));
    declared_length(headers).zip(max_size).is_some_and(|(length, max_size)| length > max_size as u64)
}

fn declared_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The media type of a body; an empty one without a `Content-Type`. Not by `mime`, which refuses the white space around a
/// semicolon that RFC 9110 (5.6.6) allows, and values that clients send unquoted.
pub(crate) fn media_type(request: &HttpRequest) -> Result<MediaType, Problem> {
    let mut values = request.headers().get_all(CONTENT_TYPE);
    let first = values.next();
    if values.next().is_some() {
        return Err(Problem::bad_request("Content-Type: it is there more than once"));
    }
    let value = first.map_or(Ok(""), |value| value.to_str());
    value.map(MediaType::parse).map_err(|_| Problem::unsupported("Content-Type: expected ASCII"))
}

fn unlisted(media: &MediaType) -> Problem {
    let expected = "expected application/x-www-form-urlencoded, multipart/form-data, application/json or text/plain";
    match media.essence.as_str() {
        "" => Problem::unsupported("no Content-Type: expected a form, application/json or text/plain"),
        essence => Problem::unsupported(format!("{}: {expected}", essence.chars().take(100).collect::<String>())),
    }
}

/// 415 for a charset that is not UTF-8.
pub(crate) fn not_utf8(media: &MediaType) -> Problem {
    let charset: String = media.values("charset").next().unwrap_or_default().chars().take(100).collect();
    Problem::unsupported(format!("charset {charset}: text is taken as UTF-8"))
}

/// 415 for a compressed body: a few bytes could unpack to any size.
pub(crate) fn refuse_encoding(request: &HttpRequest) -> Result<(), Problem> {
    for value in request.headers().get_all(CONTENT_ENCODING) {
        if !media::list(value.to_str().unwrap_or("?")).all(|coding| coding.eq_ignore_ascii_case("identity")) {
            return Err(Problem::unsupported("Content-Encoding: a body is taken as it is, not compressed"));
        }
    }
    Ok(())
}

/// One datum out of a JSON object.
pub(crate) fn json(body: &[u8], limit: usize) -> Result<Datum, Problem> {
    let object: JsonDatum<'_> = object(body, |error| format!("line {}, column {}", error.line(), error.column()))?;
    Ok(Datum::new(&object.data, limit)?)
}

/// One datum out of a JSON object in one line, whose number is told elsewhere; and the line's own key.
pub(crate) fn json_line(line: &[u8], limit: usize) -> Result<(Datum, Option<Cow<'_, str>>), Problem> {
    let object: JsonLine<'_> = object(line, |error| format!("column {}", error.column()))?;
    Ok((Datum::new(&object.data, limit)?, object.idempotency_key))
}

fn object<'a, T: Deserialize<'a>>(body: &'a [u8], place: impl Fn(&serde_json::Error) -> String) -> Result<T, Problem> {
    let body = std::str::from_utf8(body.strip_prefix(BOM).unwrap_or(body)).map_err(|_| DatumError::NotUtf8)?;
    // Without this, an array of one text would do: serde takes a sequence for the fields of a struct.
    let is_object = body.trim_start_matches([' ', '\t', '\r', '\n']).starts_with('{');
    match serde_json::from_str(body) {
        Ok(object) if is_object => Ok(object),
        Err(error) if !error.is_data() => Err(Problem::bad_request(format!("malformed JSON at {}", place(&error)))),
        Err(error) if is_object && error.to_string().starts_with("duplicate field") => {
            let field = if error.to_string().contains("`idempotency_key`") { "idempotency_key" } else { "data" };
            Err(Problem::bad_request(format!("the object has \"{field}\" more than once")))
        }
        Err(error) if is_object && has_text(body) && error.is_data() => {
            Err(Problem::bad_request("expected text in \"idempotency_key\""))
        }
        _ => Err(Problem::bad_request("expected an object {\"data\": \"…\"} with the text in \"data\"")),
    }
}

/// Whether it is not the text that is missing.
fn has_text(body: &str) -> bool {
    serde_json::from_str::<JsonDatum<'_>>(body).is_ok()
}

/// A text that is the whole body, or a file.
fn text(body: &[u8], limit: usize) -> Result<Datum, Problem> {
    datum_of(body.strip_prefix(BOM).unwrap_or(body), limit)
}

fn datum_of(text: &[u8], limit: usize) -> Result<Datum, Problem> {
    let text = std::str::from_utf8(text).map_err(|_| DatumError::NotUtf8)?;
    Ok(Datum::new(text, limit)?)
}

/// The one field named `data`.
///
/// The original application took the first; whoever sent more than one would not learn that the others were lost.
#[derive(Default)]
struct DataField<T>(Option<T>);

impl<T> DataField<T> {
    fn set(&mut self, value: T) -> Result<(), Problem> {
        match self.0.replace(value) {
            None => Ok(()),
            Some(_) => Err(Problem::bad_request(format!("the form has more than one field \"{FIELD}\""))),
        }
    }

    fn get(self) -> Result<T, Problem> {
        self.0.ok_or_else(|| Problem::bad_request(format!("the form has no field \"{FIELD}\"")))
    }
}

/// Checks what a form says of its charset.
fn check_charset(value: &[u8]) -> Result<(), Problem> {
    if std::str::from_utf8(value).is_ok_and(media::is_utf8) {
        return Ok(());
    }
    Err(Problem::unsupported(format!("{CHARSET_FIELD}: text is taken as UTF-8")))
}

/// Decoded by the rules of the URL standard, except that bytes that are not UTF-8 are refused where the standard would
/// replace them: a text is kept unchanged or not at all.
fn urlencoded(body: &[u8], limit: usize) -> Result<Datum, Problem> {
    let mut data = DataField::default();
    for pair in body.split(|&byte| byte == b'&') {
        let Some(at) = pair.iter().position(|&byte| byte == b'=') else {
            // No form has such a field, but a text has that was sent without being encoded.
            if data.0.is_some() && !pair.is_empty() {
                let text = "something without \"=\" follows the text: a \"&\" of the text has to be sent as %26";
                return Err(Problem::bad_request(text));
            }
            if *decode(pair) == *FIELD.as_bytes() {
                data.set(Cow::Borrowed(&[][..]))?;
            }
            continue;
        };
        let (name, value) = (decode(&pair[..at]), &pair[at + 1..]);
        if *name == *FIELD.as_bytes() {
            data.set(decode(value))?;
        } else if *name == *CHARSET_FIELD.as_bytes() {
            check_charset(&decode(value))?;
        }
    }
    datum_of(&data.get()?, limit)
}

/// One name or value of a form: a plus is a space, and `%41` an A.
fn decode(part: &[u8]) -> Cow<'_, [u8]> {
    if !part.contains(&b'+') {
        return percent_decode(part).into();
    }
    let spaced: Vec<u8> = part.iter().map(|&byte| if byte == b'+' { b' ' } else { byte }).collect();
    Cow::Owned(percent_decode(&spaced).collect())
}

fn multipart(media: &MediaType, body: &[u8], limit: usize) -> Result<Datum, Problem> {
    let mut data = DataField::default();
    for part in multipart::parts(media, body)? {
        if part.name == FIELD {
            data.set(part.text()?)?;
        } else if part.name == CHARSET_FIELD {
            check_charset(part.content)?;
        }
    }
    text(data.get()?, limit)
}

#[cfg(test)]
#[path = "body_tests.rs"]
mod tests;
