//! Refuses what a browser sends for another site's page.
//!
//! A browser lets any page send a form to any server, and adds the password that it has stored for that server; where none
//! is needed, as on a laptop, reaching it is enough. Such a page cannot read the reply, so reading is left alone. A write is
//! refused by what the browser says of it, which no page can change: `Sec-Fetch-Site`, or `Origin` from browsers that do
//! not send the former, and to servers that are reached by plain http under a name other than localhost. Programs that are
//! no browsers send neither. No reply permits other sites to do more (CORS), so what a browser asks about first
//! (`OPTIONS`) it does not send at all.
//!
//! [`KnownHosts`] is for pages that turn into the same site (DNS rebinding).

use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::http::header::{HOST, HeaderName, HeaderValue, ORIGIN};
use actix_web::middleware::Next;
use actix_web::{Error, HttpRequest, ResponseError, web};
use multivac_core::runtime::hosts::KnownHosts;

use crate::problem::Problem;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Passes a request on, or replies 403.
pub(crate) async fn refuse_foreign<B: MessageBody>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, Error> {
    match check(request.request()) {
        Ok(()) => Ok(next.call(request).await?.map_into_left_body()),
        Err(problem) => Ok(request.into_response(problem.error_response()).map_into_right_body()),
    }
}

fn check(request: &HttpRequest) -> Result<(), Problem> {
    let (headers, known) = (request.headers(), request.app_data::<web::Data<KnownHosts>>());
    let is_known = |host: &str| known.is_none_or(|known| known.knows(host));
    let is_known_header = |host: &HeaderValue| host.to_str().is_ok_and(is_known);
    // A target may name the host as well (`GET http://name/ HTTP/1.1`), and then counts more.
    let in_target = request.uri().authority().is_none_or(|authority| is_known(authority.as_str()));
    if !in_target || !headers.get_all(HOST).all(is_known_header) {
        return Err(Problem::forbidden("this server is not known by the name in Host; --allowed-hosts allows more"));
    }
    if matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS) {
        return Ok(());
    }
    let is_own = if headers.contains_key(SEC_FETCH_SITE) {
        // `none`: the person did it, by the address bar for example.
        headers.get_all(SEC_FETCH_SITE).all(|site| site == "same-origin" || site == "none")
    } else if !headers.contains_key(ORIGIN) {
        // Programs that are no browsers, which is most of what feeds.
        true
    } else {
        let connection = request.connection_info();
        let own = normal(&format!("{}://{}", connection.scheme(), connection.host()));
        headers.get_all(ORIGIN).all(|origin| origin.to_str().is_ok_and(|origin| normal(origin) == own))
    };
    let foreign = || Problem::forbidden("a browser sent this for a page of another site; nothing was changed");
    if is_own { Ok(()) } else { Err(foreign()) }
}

/// An origin without the port that its scheme has by default.
fn normal(origin: &str) -> String {
    let origin = origin.to_ascii_lowercase();
    let default = if origin.starts_with("https:") { ":443" } else { ":80" };
    origin.strip_suffix(default).map(str::to_owned).unwrap_or(origin)
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    /// Whether a POST to `multivac.example.org` with these headers passes.
    fn passes(headers: &[(&str, &str)]) -> bool {
        let request = TestRequest::post().insert_header(("Host", "multivac.example.org"));
        let request = headers.iter().fold(request, |request, header| request.append_header(*header));
        check(&request.to_http_request()).is_ok()
    }

    #[test]
    fn a_write_passes_for_the_same_origin_and_for_no_browser() {
        assert!(passes(&[]));
        for site in ["same-origin", "none"] {
            assert!(passes(&[("Sec-Fetch-Site", site)]));
            // The origin is that of the page, whatever a proxy has made of Host.
            assert!(passes(&[("Sec-Fetch-Site", site), ("Origin", "https://elsewhere.example.org")]));
        }
        assert!(passes(&[("Origin", "http://multivac.example.org")]));
        assert!(passes(&[("Origin", "HTTP://MultiVAC.example.org:80")]));
        assert!(passes(&[("Origin", "https://multivac.example.org:443"), ("X-Forwarded-Proto", "https")]));
        let forwarded = [("X-Forwarded-Proto", "https"), ("X-Forwarded-Host", "ask.example.org:8443")];
        assert!(passes(&[forwarded[0], forwarded[1], ("Origin", "https://ask.example.org:8443")]));
    }

    #[test]
    fn a_write_for_another_site_does_not() {
        for site in ["cross-site", "same-site", "SAME-ORIGIN", "", "same-origin, cross-site", "something new"] {
            assert!(!passes(&[("Sec-Fetch-Site", site)]), "{site}");
            assert!(!passes(&[("Sec-Fetch-Site", site), ("Origin", "http://multivac.example.org")]), "{site}");
        }
        assert!(!passes(&[("Sec-Fetch-Site", "same-origin"), ("Sec-Fetch-Site", "cross-site")]));
        for origin in [
            "null",
            "",
            "http://evil.test",
            "https://multivac.example.org",
            "http://multivac.example.org:8080",
            "http://multivac.example.org.evil.test",
            "http://x.multivac.example.org",
            "http://multivac.example.org http://evil.test",
            "multivac.example.org",
        ] {
            assert!(!passes(&[("Origin", origin)]), "{origin}");
        }
        assert!(!passes(&[("Origin", "http://multivac.example.org"), ("Origin", "http://evil.test")]));
        assert!(!passes(&[("Origin", "http://multivac.example.org"), ("X-Forwarded-Proto", "https")]));
    }

    #[test]
    fn reading_is_open_to_every_site_and_every_unknown_method_is_a_write() {
        for (method, is_open) in [("GET", true), ("HEAD", true), ("OPTIONS", true), ("DELETE", false), ("get", false)] {
            let method = Method::from_bytes(method.as_bytes()).expect("a token");
            let request = TestRequest::default().method(method.clone()).insert_header(("Sec-Fetch-Site", "cross-site"));
            assert_eq!(check(&request.to_http_request()).is_ok(), is_open, "{method}");
        }
    }
}
