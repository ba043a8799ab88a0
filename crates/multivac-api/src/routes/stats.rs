//! `GET /multivac/stats`: the ledger.

use actix_web::{HttpResponse, web};
use utoipa::openapi::response::ResponseBuilder;

use crate::openapi::Described;
use crate::problem::Problem;
use crate::replies::Stats;
use crate::state::State;

pub(super) async fn stats(state: web::Data<State>) -> Result<HttpResponse, Problem> {
    let ledger = state.registry.ledger().await?;
    Ok(HttpResponse::Ok().json(Stats::new(&ledger, state.registry.index.snapshot().passages)))
}

pub(super) fn describe() -> Described {
    Described::read("stats", "The ledger: accepted = queued + processing + learned + retracted + dead")
        .json::<Stats>(200, ResponseBuilder::new().description("Counts"))
        .problem(503, "The queue is out of reach; or, from the edge, no replica is available")
}
