//! Which media type a client wants, and whether it already holds the reply.

use actix_web::http::StatusCode;
use actix_web::http::header::{ACCEPT, Accept, CONTENT_TYPE, ETAG, EntityTag, Header, IfNoneMatch};
use actix_web::mime::{self, Mime};
use actix_web::{HttpRequest, HttpResponse};
use sha2::{Digest, Sha256};

/// The media type of `offered` (the default first) that the request's `Accept` header prefers; the default where there is
/// no such header, or it names none of them: a reply in another form helps more than 406 does.
pub(crate) fn preferred(request: &HttpRequest, offered: &[Mime]) -> Mime {
    let default = offered[0].clone();
    if !request.headers().contains_key(ACCEPT) {
        return default;
    }
    let Ok(accept) = Accept::parse(request) else { return default };
    let covers = |wanted: &Mime, offer: &Mime| {
        wanted.type_() == mime::STAR
            || (wanted.type_() == offer.type_()
                && (wanted.subtype() == mime::STAR || wanted.subtype() == offer.subtype()))
    };
    let found =
        accept.ranked().into_iter().find_map(|wanted| offered.iter().find(|offer| covers(&wanted, offer)).cloned());
    found.unwrap_or(default)
}

/// A reply with an `ETag`: whoever holds a copy asks for it again each time, and gets 304 while it has not changed.
///
/// nginx in front keeps a copy too, to serve while no replica answers. `X-Accel-Expires` says that the copy expired long
/// ago, so that nginx revalidates it each time as well; with `Cache-Control` alone it would keep none. nginx does not pass
/// that header on.
pub(crate) fn revalidated(request: &HttpRequest, content_type: &'static str, body: String) -> HttpResponse {
    let digest = Sha256::digest(body.as_bytes());
    let tag: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    let tag = EntityTag::new_strong(tag);
    let is_held = match IfNoneMatch::parse(request) {
        Ok(IfNoneMatch::Any) => request.headers().contains_key("If-None-Match"),
        Ok(IfNoneMatch::Items(tags)) => tags.iter().any(|held| held.weak_eq(&tag)),
        Err(_) => false,
    };
    let mut reply = HttpResponse::build(if is_held { StatusCode::NOT_MODIFIED } else { StatusCode::OK });
    reply.insert_header((ETAG, tag)).insert_header(("Vary", "Accept"));
    reply.insert_header(("Cache-Control", "no-cache")).insert_header(("X-Accel-Expires", "@1"));
    if is_held {
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
            const OFFERED: [Mime; 2] = [mime::TEXT_PLAIN, mime::APPLICATION_JSON];
            let request = TestRequest::default().insert_header(("Accept", accept)).to_http_request();
            proptest::prop_assert!(OFFERED.contains(&preferred(&request, &OFFERED)));
        }
    }
}
