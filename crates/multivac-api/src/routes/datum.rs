//! `GET` and `DELETE /multivac/data/{id}`: where a datum stands, and taking it back.

use std::time::Duration;

use actix_web::{HttpResponse, web};
use multivac_core::datum::DatumId;
use multivac_core::observe::metrics;
use multivac_core::status::{Retracted, StatusError};
use utoipa::openapi::Required;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::response::ResponseBuilder;

use crate::openapi::{Described, string};
use crate::problem::Problem;
use crate::replies::{DatumStatus, RetractedInPart};
use crate::state::State;

/// How long a retraction waits for the other replicas: longer than until one that has just died counts as silent
/// ([`REPLICA_SILENT`](multivac_core::store::REPLICA_SILENT)).
pub(super) const RETRACT_TIMEOUT: Duration = Duration::from_secs(8);

pub(super) async fn status(id: web::Path<String>, state: web::Data<State>) -> Result<HttpResponse, Problem> {
    let id = parse_id(&id)?;
    let status = state.registry.status(id).await?.ok_or_else(never_accepted)?;
    Ok(HttpResponse::Ok().json(DatumStatus::new(id, &status)))
}

pub(super) async fn retract(id: web::Path<String>, state: web::Data<State>) -> Result<HttpResponse, Problem> {
    let id = parse_id(&id)?;
    reply_to(id, state.registry.retract(id, RETRACT_TIMEOUT).await, never_accepted)
}

/// The reply to a retraction, which it also counts; `unknown` for where there was nothing to retract.
pub(super) fn reply_to(
    id: DatumId,
    retracted: Result<Option<Retracted>, StatusError>,
    unknown: fn() -> Problem,
) -> Result<HttpResponse, Problem> {
    let may_be = |error| Problem::from(error).and("the datum may be retracted all the same: send this again");
    let outcome = match &retracted {
        Ok(Some(Retracted::Everywhere)) => Some("everywhere"),
        Ok(Some(Retracted::PendingOn(_))) => Some("pending"),
        Ok(None) => None,
        Err(_) => Some("failed"),
    };
    if let Some(outcome) = outcome {
        metrics::RETRACTIONS.of(outcome).inc();
    }
    match retracted.map_err(may_be)?.ok_or_else(unknown)? {
        Retracted::Everywhere => Ok(HttpResponse::NoContent().finish()),
        Retracted::PendingOn(replicas) => Ok(HttpResponse::Accepted().json(RetractedInPart::new(id, replicas))),
    }
}

fn parse_id(id: &str) -> Result<DatumId, Problem> {
    id.parse().map_err(|_| never_accepted())
}

fn never_accepted() -> Problem {
    Problem::not_found("no datum was accepted under this id")
}

pub(super) fn describe_status() -> Described {
    Described::read("status", "Where a datum stands")
        .parameter(id_parameter("The id that the datum got when it was accepted."))
        .json::<DatumStatus>(200, ResponseBuilder::new().description("Its status"))
        .problem(404, "It was never accepted")
        .problem(503, "The queue or the store is out of reach; or, from the edge, no replica is available")
}

pub(super) fn describe_retract() -> Described {
    let in_part = "It is retracted for good; some replicas have not confirmed in time that they have seen it";
    Described::write("retract", "Takes a datum back")
        .parameter(id_parameter("The id that the datum got when it was accepted."))
        .json::<RetractedInPart>(202, ResponseBuilder::new().description(in_part))
        .reply(204, ResponseBuilder::new().description("It is retracted; no later answer rests on it"))
        .problem(404, "It was never accepted")
        .problem(503, "The queue or the store is out of reach, and it may be retracted all the same: send it again")
}

pub(super) fn id_parameter(description: &str) -> Parameter {
    ParameterBuilder::new()
        .name("id")
        .parameter_in(ParameterIn::Path)
        .required(Required::True)
        .description(Some(description))
        .schema(Some(string()))
        .build()
}
