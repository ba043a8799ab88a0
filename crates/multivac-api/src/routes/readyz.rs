//! `GET /readyz`: readiness.

use std::borrow::Cow;

use actix_web::{HttpResponse, web};
use utoipa::openapi::response::ResponseBuilder;

use crate::openapi::Described;
use crate::replies::Readiness;
use crate::state::{State, probe};

/// What is said of a replica that may not answer.
const FENCED: &str =
    "fenced: it cannot know what was retracted, so it answers no question until it has caught up with the store";

/// Readiness: whether requests should come here, and in either case what is missing.
///
/// A replica is not ready before its index has been filled once, nor while it may not answer since it cannot know what was
/// retracted, nor while it stops. Otherwise a queue or a store that is out of reach is reported and does not make it unready:
/// every other replica would miss it too, and feeding gets its 503 and `Retry-After` from the route itself.
pub(super) async fn readyz(state: web::Data<State>) -> HttpResponse {
    let Judgement { mut unready, mut missing } = judge(&state);
    if state.warnings.get().is_some() && probe(state.registry.queue.ledger()).await.is_none() {
        missing.insert(0, "the queue is out of reach".into());
    }
    missing.extend(state.damage.summary().map(Cow::Owned));
    let ready = unready.is_empty();
    unready.extend(missing);
    let warnings = state.warnings.get().unwrap_or_default();
    let reply = Readiness { ready, missing: unready, warnings: &warnings };
    if ready { HttpResponse::Ok().json(reply) } else { HttpResponse::ServiceUnavailable().json(reply) }
}

/// What is known without asking anybody: why the replica is not ready, and what else it lacks.
pub(super) struct Judgement {
    pub(super) unready: Vec<Cow<'static, str>>,
    missing: Vec<Cow<'static, str>>,
}

pub(super) fn judge(state: &State) -> Judgement {
    let (mut unready, mut missing): (Vec<Cow<'static, str>>, Vec<Cow<'static, str>>) = Default::default();
    if state.stop.is_cancelled() {
        unready.push("stopping".into());
    }
    if state.warnings.get().is_none() {
        unready.push("the queue or the store is not there yet".into());
    }
    if state.registry.follower.fence().is_fenced() {
        unready.push(FENCED.into());
    }
    let progress = *state.registry.follower.progress().borrow();
    if !progress.caught_up {
        unready.push(match progress.loading {
            Some(loaded) => {
                let [data, of] = [loaded.data, loaded.of].map(with_commas);
                format!("the index is not filled yet: it is being loaded, {data} of about {of} data are in it").into()
            }
            None if progress.checking => "the index is not filled yet: the one that was kept is being checked".into(),
            None => "the index is not filled yet".into(),
        });
    } else if progress.unwritable {
        missing.push("the index cannot be written; answers rest on what was learned before".into());
    } else if !progress.following {
        missing.push("the store is out of reach; answers rest on what was learned before".into());
    }
    Judgement { unready, missing }
}

/// A number that a person can read.
fn with_commas(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

pub(super) fn describe() -> Described {
    let ready = "Requests should come here; `missing` names what is out of reach all the same";
    Described::read("readyz", "Readiness")
        .closed_at_edge()
        .json::<Readiness<'_>>(200, ResponseBuilder::new().description(ready))
        .json::<Readiness<'_>>(
            503,
            ResponseBuilder::new()
                .description("No requests should come here: the replica stops, is not filled yet, or may not answer"),
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_numbers_can_be_read() {
        let texts = [0, 7, 999, 1_000, 1_200_000, 12_345_678].map(with_commas);
        assert_eq!(texts, ["0", "7", "999", "1,000", "1,200,000", "12,345,678"]);
    }
}
