//! Which form of a reply a client wants, and whether it has it already.

use actix_web::http::StatusCode;
use actix_web::http::header::{ACCEPT, Accept, CONTENT_TYPE, ETAG, EntityTag, Header, IfNoneMatch};
use actix_web::{HttpRequest, HttpResponse};
use sha2::{Digest, Sha256};

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

/// A reply that whoever holds a copy asks for again each time, and that is sent only where it has changed.
///
/// nginx in front keeps a copy too, to serve while no replica answers. `X-Accel-Expires` says that it was due long ago,
/// so that nginx asks each time as well; `Cache-Control` alone would have it keep none. nginx does not pass it on.
pub(crate) fn revalidated(request: &HttpRequest, content_type: &'static str, body: String) -> HttpResponse {
    let digest = Sha256::digest(body.as_bytes());
    let tag: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    let tag = EntityTag::new_strong(tag);
    let held = match IfNoneMatch::parse(request) {
        Ok(IfNoneMatch::Any) => request.headers().contains_key("If-None-Match"),
        Ok(IfNoneMatch::Items(tags)) => tags.iter().any(|held| held.weak_eq(&tag)),
        Err(_) => false,
    };
    let mut reply = HttpResponse::build(if held { StatusCode::NOT_MODIFIED } else { StatusCode::OK });
    reply.insert_header((ETAG, tag)).insert_header(("Vary", "Accept"));
    reply.insert_header(("Cache-Control", "no-cache")).insert_header(("X-Accel-Expires", "@1"));
    if held {
        return reply.finish();
    }
    reply.insert_header((CONTENT_TYPE, content_type)).body(body)
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    proptest::proptest! {
        #[test]
        fn whatever_is_accepted_one_of_the_offered_is_sent(accept in "((text|application|\\*)/(plain|json|html|\\*)(;q=[0-9.]{0,5})?,? ?|[ -~]){0,12}") {
            const OFFERED: [&str; 2] = ["text/plain", "application/json"];
            let request = TestRequest::default().insert_header(("Accept", accept)).to_http_request();
            proptest::prop_assert!(OFFERED.contains(&preferred(&request, &OFFERED)));
        }
    }
}
