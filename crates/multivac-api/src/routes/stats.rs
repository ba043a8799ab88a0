//! `GET /multivac/stats`: the ledger.

use actix_web::{HttpResponse, web};
use serde_json::json;

use crate::problem::Problem;
use crate::state::State;

pub(super) async fn stats(state: web::Data<State>) -> Result<HttpResponse, Problem> {
    let ledger = state.registry.ledger().await?;
    Ok(HttpResponse::Ok().json(json!({
        "accepted": ledger.accepted,
        "queued": ledger.queued,
        "processing": ledger.processing,
        "learned": ledger.learned,
        "retracted": ledger.retracted,
        "dead": ledger.dead,
        "passages": state.registry.index.snapshot().passages,
    })))
}
