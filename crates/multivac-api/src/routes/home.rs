//! `GET /`: a greeting, and for a browser the console.

use actix_web::http::header::{HeaderValue, VARY};
use actix_web::{HttpRequest, HttpResponse, mime};

use super::text;
use crate::negotiate::preferred;
use crate::openapi::{Described, text_content, text_header, text_reply};

const WELCOME: &str = "Welcome to MultiVAC!";

const CONSOLE: &str = include_str!("../assets/console.html");

/// The console loads nothing from elsewhere, and no other script may run in it.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; \
                      img-src data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

pub(super) async fn home(request: HttpRequest) -> HttpResponse {
    let mut reply = if preferred(&request, &[mime::TEXT_PLAIN, mime::TEXT_HTML]) == mime::TEXT_HTML {
        HttpResponse::Ok()
            .content_type(mime::TEXT_HTML_UTF_8)
            .insert_header(("Content-Security-Policy", POLICY))
            .body(CONSOLE)
    } else {
        text(WELCOME)
    };
    reply.headers_mut().insert(VARY, HeaderValue::from_static("Accept"));
    reply
}

pub(super) fn describe() -> Described {
    let reply = text_reply("A greeting; for a browser the console", WELCOME)
        .content("text/html", text_content(""))
        .header("Vary", text_header("`Accept`"));
    Described::read("home", "A greeting; for a browser the console").reply(200, reply)
}
