//! `GET /multivac`: the standing question, or any other.

use std::sync::Arc;
use std::time::Instant;

use actix_web::http::header::{HeaderValue, WARNING};
use actix_web::{HttpRequest, HttpResponse, mime, web};
use multivac_core::answer::{Answer, INSUFFICIENT_DATA, Status, answer_calibrated};
use multivac_core::observe::metrics;
use multivac_core::question::{MAX_QUESTION_CHARS, Question};
use utoipa::openapi::path::{ParameterBuilder, ParameterIn};
use utoipa::openapi::response::ResponseBuilder;
use utoipa::openapi::{Content, Required};

use super::TEXT;
use crate::negotiate::{preferred, revalidated};
use crate::openapi::{Described, reference, string, text_header, text_reply};
use crate::problem::Problem;
use crate::query::parameter_in;
use crate::replies;
use crate::state::State;

/// The `Warning` of an answer that rests on a part of the data or on none, since the index is not filled yet; nginx keeps no such
/// answer.
const INCOMPLETE: &str = "199 multivac \"the index is not filled yet\"";

pub(super) async fn ask(request: HttpRequest, state: web::Data<State>) -> Result<HttpResponse, Problem> {
    let started = Instant::now();
    let fence = state.registry.follower.fence();
    let entry = fence.enter().ok_or_else(fenced)?;
    let is_complete = state.registry.follower.progress().borrow().caught_up;
    let question = question_in(request.query_string())?;
    let answer = loop {
        let answer = match &question {
            None => standing(&state).await?,
            Some(question) => other(&state, question.clone()).await?,
        };
        // What was retracted while the answer waited for a thread, and was worked out, must not be in it.
        if answer.evidence.iter().all(|evidence| state.registry.index.contains(evidence.id)) {
            break answer;
        }
        // Others have their turn in between, and a replica that may not answer any more gives up.
        tokio::task::yield_now().await;
        if !fence.still_holds(entry) {
            return Err(fenced());
        }
    };
    let status = match answer.status {
        Status::Answered => "answered",
        Status::InsufficientData => "insufficient_data",
    };
    metrics::ANSWERS.of(status).inc();
    metrics::ANSWER_SECONDS.observe(started.elapsed().as_secs_f64());
    // A later datum may change the answer, and a retraction must, so every copy is revalidated.
    let wanted = preferred(&request, &[mime::TEXT_PLAIN, mime::APPLICATION_JSON]);
    let mut reply = if wanted == mime::APPLICATION_JSON {
        let body = serde_json::to_string(&replies::Answer::from(&*answer)).map_err(|error| Problem::fault(&error))?;
        revalidated(&request, "application/json", body)
    } else {
        revalidated(&request, TEXT, answer.text().to_owned())
    };
    if !is_complete {
        reply.headers_mut().insert(WARNING, HeaderValue::from_static(INCOMPLETE));
    }
    // A 304 is an answer as well.
    if fence.still_holds(entry) { Ok(reply) } else { Err(fenced()) }
}

fn fenced() -> Problem {
    metrics::ANSWERS.of("fenced").inc();
    Problem::fenced()
}

/// The answer to any question.
async fn other(state: &State, question: Question) -> Result<Arc<Answer>, Problem> {
    let (snapshot, calibration) = (state.registry.index.snapshot(), Arc::clone(&state.calibration));
    let answered = state.answering.run(move || answer_calibrated(&question, &snapshot, &calibration)).await;
    Ok(Arc::new(answered.map_err(|panicked| Problem::fault(&panicked))??))
}

/// The standing question's answer; from memory unless the index has changed since.
async fn standing(state: &web::Data<State>) -> Result<Arc<Answer>, Problem> {
    if let Some(answer) = state.standing.known() {
        return Ok(answer);
    }
    let shared = state.clone();
    let answered = state.answering.run(move || shared.standing.answer()).await;
    Ok(answered.map_err(|panicked| Problem::fault(&panicked))??)
}

/// The question in a query string, if there is one.
pub(super) fn question_in(query: &str) -> Result<Option<Question>, Problem> {
    Ok(parameter_in(query, "question")?.map(|text| text.parse()).transpose()?)
}

pub(super) fn describe() -> Described {
    let etag = || text_header("Names this answer; in `If-None-Match` it gets 304 while the answer is the same");
    let answer = text_reply("The answer, or that the data are insufficient", INSUFFICIENT_DATA)
        .content("application/json", Content::new(Some(reference::<replies::Answer<'_>>())))
        .header("ETag", etag())
        .header("Vary", text_header("`Accept`"))
        .header("Cache-Control", text_header("`no-cache`: a later datum may change the answer, and a retraction must"))
        .header("Warning", text_header("199 while the index is not filled yet; 110 if the edge sends a kept answer"));
    let unchanged = ResponseBuilder::new().description("The answer is the one that `If-None-Match` names");
    Described::read("ask", "Answers the standing question, or the given one")
        .parameter(
            parameter("question", ParameterIn::Query, "The question; the standing one if it is left out.")
                .schema(Some(string().min_length(Some(1)).max_length(Some(MAX_QUESTION_CHARS)))),
        )
        .parameter(
            parameter("If-None-Match", ParameterIn::Header, "The `ETag` of an answer that the client holds.")
                .schema(Some(string())),
        )
        .schema::<replies::Answer<'_>>()
        .reply(200, answer)
        .reply(304, unchanged.header("ETag", etag()))
        .problem(400, "The question is empty, too long, or not UTF-8")
        .problem(503, "This replica cannot know what was retracted; or, from the edge, no replica is available")
}

pub(super) fn parameter(name: &str, place: ParameterIn, description: &str) -> ParameterBuilder {
    ParameterBuilder::new().name(name).parameter_in(place).required(Required::False).description(Some(description))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(query: &str) -> Result<Option<String>, String> {
        question_in(query).map(|q| q.map(|q| q.to_string())).map_err(|p| p.to_string())
    }

    #[test]
    fn a_query_without_a_question_asks_the_standing_one() {
        assert_eq!(question(""), Ok(None));
        assert_eq!(question("q=x&questions=y"), Ok(None));
    }

    #[test]
    fn a_question_is_decoded() {
        assert_eq!(question("x=1&question=what+is%20%C3%A9%2B%3F"), Ok(Some("what is é+?".to_owned())));
    }

    #[test]
    fn an_empty_question_or_one_that_is_not_utf8_is_refused() {
        for query in ["question=", "question", "question=+%20", "question=%ff"] {
            assert!(question(query).is_err(), "{query}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_query_is_a_question_or_none_or_a_problem(query in "(question|%[0-9a-f]{0,2}|[&=+]|.){0,40}") {
            let _ = question(&query);
        }
    }
}
