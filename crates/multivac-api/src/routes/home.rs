//! `GET /`: a greeting, and for a browser the console.

use std::sync::LazyLock;

use actix_web::http::header::{CONTENT_SECURITY_POLICY, HeaderValue, VARY};
use actix_web::{HttpRequest, HttpResponse, mime, web};

use super::text;
use crate::negotiate::{preferred, revalidated};
use crate::openapi::{Described, text_content, text_header, text_reply};
use crate::page::Page;
use crate::state::State;

const WELCOME: &str = "Welcome to MultiVAC!";

/// One page of several files, which are sent as one: the parts of the script share their names.
static CONSOLE: LazyLock<Page> = LazyLock::new(|| {
    let script = concat!(
        include_str!("../assets/console/base.js"),
        include_str!("../assets/console/events.js"),
        include_str!("../assets/console/session.js"),
        include_str!("../assets/console/answer.js"),
        include_str!("../assets/console/ask.js"),
        include_str!("../assets/console/pieces.js"),
        include_str!("../assets/console/feed.js"),
        include_str!("../assets/console/watch.js"),
        include_str!("../assets/console/system.js"),
        include_str!("../assets/console/main.js"),
    );
    Page::new(include_str!("../assets/console/index.html"), include_str!("../assets/console/style.css"), script)
});

pub(super) async fn home(request: HttpRequest, state: web::Data<State>) -> HttpResponse {
    if preferred(&request, &[mime::TEXT_PLAIN, mime::TEXT_HTML]) == mime::TEXT_HTML {
        // The console splits a text that is too long before it sends it.
        let page = CONSOLE.html.replacen("@MAX_DATUM_BYTES@", &state.max_datum_size.to_string(), 1);
        let mut reply = revalidated(&request, "text/html; charset=utf-8", page);
        let policy = HeaderValue::from_str(&CONSOLE.policy).expect("a policy is ASCII");
        reply.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
        return reply;
    }
    let mut reply = text(WELCOME);
    reply.headers_mut().insert(VARY, HeaderValue::from_static("Accept"));
    reply
}

pub(super) fn describe() -> Described {
    let reply = text_reply("A greeting; for a browser the console", WELCOME)
        .content("text/html", text_content(""))
        .header("Vary", text_header("`Accept`"));
    Described::read("home", "A greeting; for a browser the console").reply(200, reply)
}
