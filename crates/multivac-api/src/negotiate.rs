//! Which form of a reply a client wants.

use actix_web::HttpRequest;
use actix_web::http::header::{ACCEPT, Accept, Header};

/// The form of `offered` (full media types, the default first) that the request's `Accept` header prefers; the default
/// where it has none, or wants none of them: a reply in another form helps more than 406 does.
pub(crate) fn preferred(request: &HttpRequest, offered: &[&'static str]) -> &'static str {
    let default = offered[0];
    if !request.headers().contains_key(ACCEPT) {
        return default;
    }
    let Ok(accept) = Accept::parse(request) else { return default };
    for wanted in accept.ranked() {
        let found = offered.iter().find(|offer| {
            let (kind, form) = offer.split_once('/').unwrap_or((offer, ""));
            wanted.type_() == "*" || (wanted.type_() == kind && (wanted.subtype() == "*" || wanted.subtype() == form))
        });
        if let Some(found) = found {
            return found;
        }
    }
    default
}
