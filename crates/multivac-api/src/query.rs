//! Parameters in the query of a request's target.

use std::str::FromStr;

use percent_encoding::percent_decode;

use crate::problem::Problem;

/// The first parameter of this name; `None` where there is none.
pub(crate) fn parameter_in(query: &str, name: &str) -> Result<Option<String>, Problem> {
    for pair in query.split('&') {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        if decode(key).as_deref() == Some(name) {
            let value = decode(value).ok_or_else(|| Problem::bad_request(format!("{name}: it is not valid UTF-8")))?;
            return Ok(Some(value));
        }
    }
    Ok(None)
}

/// The same, read as something else than text.
pub(crate) fn parsed<T: FromStr>(query: &str, name: &str, expected: &str) -> Result<Option<T>, Problem> {
    let read = |text: String| text.parse().map_err(|_| Problem::bad_request(format!("{name}: expected {expected}")));
    parameter_in(query, name)?.map(read).transpose()
}

fn decode(text: &str) -> Option<String> {
    let text = text.replace('+', " ");
    percent_decode(text.as_bytes()).decode_utf8().ok().map(std::borrow::Cow::into_owned)
}
