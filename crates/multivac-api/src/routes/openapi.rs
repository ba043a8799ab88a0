//! `GET /openapi.json`: the description of every path.

use std::sync::LazyLock;

use actix_web::HttpResponse;
use utoipa::openapi::Content;
use utoipa::openapi::response::ResponseBuilder;
use utoipa::openapi::schema::{ObjectBuilder, Type};

use super::{Route, table};
use crate::openapi::{Described, document};

/// Made once, at the first request.
static DOCUMENT: LazyLock<String> =
    LazyLock::new(|| document(table().iter().map(Route::described)).expect("a document without maps of odd keys"));

pub(super) async fn openapi() -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(DOCUMENT.as_str())
}

pub(super) fn describe() -> Described {
    let content = Content::new(Some(ObjectBuilder::new().schema_type(Type::Object)));
    Described::read("openapi", "This document")
        .reply(200, ResponseBuilder::new().description("OpenAPI 3.1").content("application/json", content))
}
