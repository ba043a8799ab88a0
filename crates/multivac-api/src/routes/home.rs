//! `GET /`: a greeting, and for a browser the console.

use actix_web::{HttpRequest, HttpResponse};

use super::text;
use crate::negotiate::preferred;

const CONSOLE: &str = include_str!("../assets/console.html");

/// The console needs nothing from elsewhere, and nothing else may run in it.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; \
                      img-src data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

pub(super) async fn home(request: HttpRequest) -> HttpResponse {
    let mut reply = match preferred(&request, &["text/plain", "text/html"]) {
        "text/html" => HttpResponse::Ok()
            .content_type("text/html; charset=utf-8")
            .insert_header(("Content-Security-Policy", POLICY))
            .body(CONSOLE),
        _ => text("Welcome to MultiVAC!"),
    };
    reply
        .headers_mut()
        .insert(actix_web::http::header::VARY, actix_web::http::header::HeaderValue::from_static("Accept"));
    reply
}
