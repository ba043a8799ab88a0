//! Which media type a client wants, and whether it already holds the reply.

use std::cmp::Reverse;

use actix_web::http::StatusCode;
use actix_web::http::header::{ACCEPT, CONTENT_TYPE, ETAG, EntityTag, Header, IfNoneMatch};
use actix_web::mime::Mime;
use actix_web::{HttpRequest, HttpResponse};
use sha2::{Digest, Sha256};

use crate::media::{self, MediaType};

/// The media type of `offered` (the default first) that the request's `Accept` headers prefer: for each, the most specific
/// range that covers it counts (RFC 9110, 12.5.1). The default where they exclude all: a reply in another form helps more
/// than 406 does.
pub(crate) fn preferred(request: &HttpRequest, offered: &[Mime]) -> Mime {
    let header =
        request.headers().get_all(ACCEPT).filter_map(|value| value.to_str().ok()).collect::<Vec<_>>().join(",");
    let ranges: Vec<Range> = media::list(&header).filter_map(Range::parse).collect();
    // The first of the best: a type that no range covers comes after all that one does, and before what is excluded.
    let mut best = (&offered[0], None);
    for offer in offered {
        let covering = ranges.iter().enumerate().filter(|(_, range)| range.covers(offer));
        let found = covering.max_by_key(|(at, range)| (range.specificity(), Reverse(*at)));
        let rank = match found {
            None => Rank::Unnamed,
            Some((_, range)) if range.quality == 0 => Rank::Excluded,
            Some((at, range)) => Rank::Wanted(range.quality, range.specificity(), Reverse(at)),
        };
        if best.1.as_ref().is_none_or(|best_rank| rank > *best_rank) {
            best = (offer, Some(rank));
        }
    }
    best.0.clone()
}

/// How much a type is wanted, the least first.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Excluded,
    Unnamed,
    Wanted(u16, u8, Reverse<usize>),
}

/// One range of an `Accept` header.
struct Range {
    essence: String,
    /// In thousandths.
    quality: u16,
}

impl Range {
    fn parse(member: &str) -> Option<Self> {
        let range = MediaType::parse(member);
        let quality = range.values("q").next().map_or(Some(1_000), |value| {
            // "0.5", "1", "0.": a float would take more.
            let is_quality = value.len() <= 5 && value.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
            let quality: f32 = is_quality.then(|| value.parse().ok())??;
            (quality <= 1.0).then_some((quality * 1_000.0).round() as u16)
        })?;
        Some(Self { quality, essence: range.essence })
    }

    fn covers(&self, offer: &Mime) -> bool {
        match self.essence.strip_suffix("/*") {
            Some("*") => true,
            Some(kind) => offer.type_() == kind,
            None => offer.essence_str() == self.essence,
        }
    }

    fn specificity(&self) -> u8 {
        match self.essence.strip_suffix("/*") {
            Some("*") => 0,
            Some(_) => 1,
            None => 2,
        }
    }
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
    use actix_web::mime;
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn the_most_specific_range_that_covers_a_type_says_how_much_it_is_wanted() {
        for (accept, is_json) in [
            (&["application/json"] as &[&str], true),
            (&["Application/JSON"], true),
            (&["application/json; charset=utf-8"], true),
            (&["*/*"], false),
            (&["application/*, text/plain;q=0.9"], true),
            (&["text/plain;q=0.5, application/json;q=0.4"], false),
            (&["text/plain;q=0.4, application/json;q=0.5"], true),
            (&["text/plain;q=0.4, */*"], true),
            (&["application/json;q=0, */*"], false),
            (&["application/json;q=0.0, application/*;q=0.9, text/plain;q=0.1"], false),
            (&["text/plain;q=0"], true),
            (&["text/*;q=0, */*;q=0.1"], true),
            (&["*/*;q=0"], false),
            (&["application/json;q=0"], false),
            (&["text/html", "application/json"], true),
            (&["application/json, text/plain, */*"], true),
            (&["text/html"], false),
            (&[""], false),
            (&["application/json;q=2"], false),
        ] {
            let request =
                accept.iter().fold(TestRequest::default(), |request, value| request.append_header((ACCEPT, *value)));
            let got = preferred(&request.to_http_request(), &[mime::TEXT_PLAIN, mime::APPLICATION_JSON]);
            assert_eq!(got == mime::APPLICATION_JSON, is_json, "{accept:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_accepted_one_of_the_offered_is_sent(accept in "((text|application|\\*)/(plain|json|html|\\*)(;q=[0-9.]{0,5})?,? ?|[ -~]){0,12}") {
            const OFFERED: [Mime; 2] = [mime::TEXT_PLAIN, mime::APPLICATION_JSON];
            let request = TestRequest::default().insert_header(("Accept", accept)).to_http_request();
            proptest::prop_assert!(OFFERED.contains(&preferred(&request, &OFFERED)));
        }
    }
}
