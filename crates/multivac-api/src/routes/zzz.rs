//! `GET /zzz`: what MultiVAC said in the end.

use actix_web::HttpResponse;

use super::text;

pub(super) async fn light() -> HttpResponse {
    text("LET THERE BE LIGHT!")
}
