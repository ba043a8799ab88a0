//! `POST /multivac/data`, and `GET` and `DELETE /multivac/data/{id}`.

use std::time::Duration;

use actix_web::http::header::LOCATION;
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder, web};
use multivac_core::accept::{AcceptRequest, Receipt};
use multivac_core::datum::DatumId;
use multivac_core::observe::metrics;
use multivac_core::queue::{Durability, IdempotencyKey, ReachedDurability};
use multivac_core::status::Retracted;
use serde_json::json;

use crate::body;
use crate::problem::Problem;
use crate::state::State;
use crate::trace::traceparent;

/// How long a retraction waits for the other replicas.
const PATIENCE: Duration = Duration::from_secs(5);

/// The longest `Idempotency-Key`, in bytes.
const LONGEST_KEY: usize = 255;

pub(super) async fn feed(
    request: HttpRequest,
    payload: web::Payload,
    state: web::Data<State>,
) -> Result<HttpResponse, Problem> {
    let key = idempotency_key(&request)?.map(|key| IdempotencyKey::new(&key, None));
    let datum = body::datum(&request, payload, state.max_datum_size).await?;
    let Receipt { id, durability } = state.acceptor.accept(AcceptRequest { datum, key, trace: traceparent() }).await?;
    metrics::ACCEPTED.inc();
    let location = format!("/multivac/data/{id}");
    // Written out, since the original's clients know its fields in this order.
    let body = format!(r#"{{"response":"MultiVAC updated!","id":"{id}"}}"#);
    let mut reply = HttpResponse::Ok();
    tell_durability(&mut reply, durability);
    Ok(reply.insert_header((LOCATION, location)).content_type("application/json").body(body))
}

/// What was reached, where it is more than what the queue's server does by itself: of that nothing is known here.
pub(super) fn tell_durability(reply: &mut HttpResponseBuilder, durability: ReachedDurability) {
    if durability != ReachedDurability::Queue(Durability::Server) {
        reply.insert_header(("Durability", durability.as_str()));
    }
}

pub(super) async fn status(id: web::Path<String>, state: web::Data<State>) -> Result<HttpResponse, Problem> {
    let id = known(&id)?;
    let status = state.registry.status(id).await?.ok_or_else(never)?;
    Ok(HttpResponse::Ok().json(json!({
        "id": id.to_string(),
        "status": status.state,
        "received_at": status.received_at.map(|at| at.to_string()),
        "processed_at": status.processed_at.map(|at| at.to_string()),
        "passages": status.passages,
    })))
}

pub(super) async fn retract(id: web::Path<String>, state: web::Data<State>) -> Result<HttpResponse, Problem> {
    let id = known(&id)?;
    match state.registry.retract(id, PATIENCE).await?.ok_or_else(never)? {
        Retracted::Everywhere => Ok(HttpResponse::NoContent().finish()),
        Retracted::PendingOn(replicas) => Ok(HttpResponse::Accepted().json(json!({
            "id": id.to_string(),
            "status": "retracted",
            "detail": "retracted for good; these replicas have not said yet that they have seen it",
            "replicas": replicas,
        }))),
    }
}

/// What the client calls this request, so that sending it again is no second datum.
pub(super) fn idempotency_key(request: &HttpRequest) -> Result<Option<String>, Problem> {
    let Some(key) = request.headers().get("Idempotency-Key") else { return Ok(None) };
    match key.to_str() {
        Ok(key) if !key.trim().is_empty() && key.len() <= LONGEST_KEY => Ok(Some(key.to_owned())),
        _ => Err(Problem::bad_request(format!("Idempotency-Key: expected 1 to {LONGEST_KEY} visible characters"))),
    }
}

fn known(id: &str) -> Result<DatumId, Problem> {
    id.parse().map_err(|_| never())
}

fn never() -> Problem {
    Problem::not_found("no datum was accepted under this id")
}
