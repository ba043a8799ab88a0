//! `GET /docs`: a page that shows the OpenAPI document and sends requests to this server. It needs no other.

use std::sync::LazyLock;

use actix_web::http::header::{CONTENT_SECURITY_POLICY, HeaderValue, VARY};
use actix_web::{HttpRequest, HttpResponse};
use utoipa::openapi::response::ResponseBuilder;

use crate::negotiate::revalidated;
use crate::openapi::{Described, text_content, text_header};
use crate::page::Page;

static DOCS: LazyLock<Page> = LazyLock::new(|| {
    let (style, script) = (include_str!("../assets/docs/style.css"), include_str!("../assets/docs/docs.js"));
    Page::new(include_str!("../assets/docs/index.html"), style, script)
});

pub(super) async fn docs(request: HttpRequest) -> HttpResponse {
    let mut reply = revalidated(&request, "text/html; charset=utf-8", DOCS.html.clone());
    let policy = HeaderValue::from_str(&DOCS.policy).expect("a policy is ASCII");
    reply.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
    reply.headers_mut().remove(VARY);
    reply
}

pub(super) fn describe() -> Described {
    let etag = || text_header("Names this page; in `If-None-Match` it gets 304 while the page is the same");
    let page = ResponseBuilder::new().description("A page for a browser").content("text/html", text_content(""));
    Described::read("docs", "This document as a page, to read and to try things out")
        .with_password()
        .reply(200, page.header("ETag", etag()))
        .reply(
            304,
            ResponseBuilder::new().description("The page is the one that `If-None-Match` names").header("ETag", etag()),
        )
}
