//! `GET /zzz`: what MultiVAC said in the end.

use actix_web::HttpResponse;

use super::text;
use crate::openapi::{Described, text_reply};

const LIGHT: &str = "LET THERE BE LIGHT!";

pub(super) async fn light() -> HttpResponse {
    text(LIGHT)
}

pub(super) fn describe(id: &str) -> Described {
    Described::read(id, "What MultiVAC said in the end").reply(200, text_reply("Light", LIGHT))
}
