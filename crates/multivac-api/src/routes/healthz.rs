//! `GET /healthz`: liveness.

use actix_web::HttpResponse;

use super::text;
use crate::openapi::{Described, text_reply};

/// 200 as long as the process serves.
pub(super) async fn healthz() -> HttpResponse {
    text("ok")
}

pub(super) fn describe() -> Described {
    Described::read("healthz", "Liveness").reply(200, text_reply("The process serves", "ok"))
}
