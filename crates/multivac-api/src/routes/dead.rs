//! `/multivac/dead`: the dead letters, read, retried and dropped. Whoever reads them reads texts that were fed, so the edge asks
//! for a password for all of it.

use std::time::Duration;

use actix_web::http::header::CACHE_CONTROL;
use actix_web::{HttpRequest, HttpResponse, web};
use multivac_core::datum::DatumId;
use multivac_core::dead_letters::{self, RetriedAll};
use serde::Serialize;
use tokio::time::Instant;
use utoipa::openapi::Required;
use utoipa::openapi::path::{ParameterBuilder, ParameterIn};
use utoipa::openapi::response::ResponseBuilder;
use utoipa::openapi::schema::{ObjectBuilder, Type};

use super::datum::{RETRACT_TIMEOUT, id_parameter, reply_to};
use crate::openapi::{Described, string};
use crate::problem::Problem;
use crate::query::parsed;
use crate::replies::{DeadLetter, DeadLetterWithText, DeadLetters, RetractedInPart, Retried, RetriedProblem};
use crate::state::State;

/// How many are listed, unless the request says.
const DEFAULT_LIMIT: usize = 100;

/// How many are listed at most.
const MAX_LIMIT: usize = 1_000;

/// How long all of them may be retried: the edge waits for 30 s.
const RETRY_TIMEOUT: Duration = Duration::from_secs(15);

pub(super) async fn list(request: HttpRequest, state: web::Data<State>) -> Result<HttpResponse, Problem> {
    let query = request.query_string();
    let after: Option<DatumId> = parsed(query, "after", "the id of a dead letter")?;
    let expected = format!("a number from 1 to {MAX_LIMIT}");
    let limit = parsed(query, "limit", &expected)?.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(Problem::bad_request(format!("limit: expected {expected}")));
    }
    let queue = &state.registry.queue;
    let place = match after {
        Some(id) => queue.dead_letter_place(id).await?,
        None => None,
    };
    // One more tells whether there are more.
    let mut letters = queue.dead_letters(place, limit + 1).await?;
    let has_more = letters.len() > limit;
    letters.truncate(limit);
    let next = letters.last().filter(|_| has_more).map(|letter| letter.id);
    let dead = letters.iter().map(DeadLetter::from).collect();
    Ok(private(&DeadLetters { dead, next }))
}

pub(super) async fn show(id: web::Path<String>, state: web::Data<State>) -> Result<HttpResponse, Problem> {
    let letter = state.registry.queue.dead_letter(parse_id(&id)?).await?.ok_or_else(no_dead_letter)?;
    Ok(private(&DeadLetterWithText::from(&letter)))
}

/// A reply that no cache may keep: it is for those alone who have a password.
fn private(reply: &impl Serialize) -> HttpResponse {
    HttpResponse::Ok().insert_header((CACHE_CONTROL, "no-store")).json(reply)
}

pub(super) async fn retry(id: web::Path<String>, state: web::Data<State>) -> Result<HttpResponse, Problem> {
    if !state.registry.queue.retry_dead(parse_id(&id)?).await? {
        return Err(no_dead_letter());
    }
    Ok(HttpResponse::Accepted().json(Retried { retried: 1, left: None }))
}

pub(super) async fn retry_all(state: web::Data<State>) -> Result<HttpResponse, Problem> {
    let deadline = Instant::now() + RETRY_TIMEOUT;
    let RetriedAll { retried, left, failed } = dead_letters::retry_all(&*state.registry.queue, deadline).await;
    let retried = Retried { retried, left };
    match failed {
        None => Ok(HttpResponse::Accepted().json(retried)),
        Some(error) => Ok(Problem::from(error)
            .and("of the others some may be on the queue as well; the rest are dead letters still")
            .reply_with(retried)),
    }
}

/// Drops a dead letter: its datum is retracted.
pub(super) async fn discard(id: web::Path<String>, state: web::Data<State>) -> Result<HttpResponse, Problem> {
    let id = parse_id(&id)?;
    reply_to(id, state.registry.drop_dead(id, RETRACT_TIMEOUT).await, no_dead_letter)
}

fn parse_id(id: &str) -> Result<DatumId, Problem> {
    id.parse().map_err(|_| no_dead_letter())
}

fn no_dead_letter() -> Problem {
    Problem::not_found("there is no dead letter with this id")
}

/// The problems of all of them.
fn with_problems(described: Described) -> Described {
    described.problem(503, "The queue is out of reach; or, from the edge, no replica is available")
}

fn of_one(described: Described) -> Described {
    let described = described.parameter(id_parameter("The id of its datum."));
    described.problem(404, "There is no dead letter with this id")
}

pub(super) fn describe_list() -> Described {
    let parameter = |name, description, schema| {
        ParameterBuilder::new()
            .name(name)
            .parameter_in(ParameterIn::Query)
            .required(Required::False)
            .description(Some(description))
            .schema(Some(schema))
    };
    let after = "Only what stands after this one: the `next` of the page before. That one may be gone since.";
    let limit = ObjectBuilder::new()
        .schema_type(Type::Integer)
        .minimum(Some(1))
        .maximum(Some(MAX_LIMIT))
        .default(Some(DEFAULT_LIMIT.into()));
    let list = Described::read("dead", "The dead letters: data that could not be learned, oldest first")
        .with_password()
        .parameter(parameter("after", after, string()))
        .parameter(parameter("limit", "How many at most.", limit))
        .json::<DeadLetters<'_>>(200, ResponseBuilder::new().description("A page of them, without their texts"))
        .problem(400, "`after` is no id, or `limit` is out of range");
    with_problems(list)
}

pub(super) fn describe_show() -> Described {
    let show = Described::read("deadLetter", "One dead letter, with its text")
        .with_password()
        .json::<DeadLetterWithText<'_>>(200, ResponseBuilder::new().description("The dead letter"));
    with_problems(of_one(show))
}

pub(super) fn describe_retry() -> Described {
    let retry = Described::write("retryDead", "Puts a dead letter back on the queue, with all its attempts before it")
        .json::<Retried>(202, ResponseBuilder::new().description("It is on the queue"));
    with_problems(of_one(retry))
}

pub(super) fn describe_retry_all() -> Described {
    let done = "So many are on the queue; those that are dead now, and not what dies meanwhile";
    Described::write("retryAllDead", "Puts all dead letters back on the queue, with all their attempts before them")
        .json::<Retried>(202, ResponseBuilder::new().description(done))
        .problem_of::<RetriedProblem<'_>>(
            503,
            "The queue is out of reach, and `retried` says how many are on it again; or, from the edge, no replica is available",
        )
}

pub(super) fn describe_drop() -> Described {
    let in_part = "It is dropped for good; some replicas have not confirmed in time that they have seen it";
    let drop = Described::write("dropDead", "Drops a dead letter: its datum is retracted")
        .json::<RetractedInPart>(202, ResponseBuilder::new().description(in_part))
        .reply(204, ResponseBuilder::new().description("It is dropped, and counts as retracted"));
    of_one(drop)
        .problem(503, "The queue or the store is out of reach, and it may be dropped all the same: send it again")
}
