//! `GET /multivac`: the standing question, or any other.

use std::sync::Arc;
use std::time::Instant;

use actix_web::http::header::{HeaderValue, WARNING};
use actix_web::{HttpRequest, HttpResponse, web};
use multivac_core::answer::{Answer, Status, answer};
use multivac_core::observe::metrics;
use multivac_core::question::Question;
use percent_encoding::percent_decode;

use super::TEXT;
use crate::negotiate::{preferred, revalidated};
use crate::problem::Problem;
use crate::state::State;

/// Said with an answer that rests on a part of the data, since the index is not filled yet. nginx keeps none of those.
const INCOMPLETE: &str = "199 multivac \"the index is not filled yet\"";

pub(super) async fn ask(request: HttpRequest, state: web::Data<State>) -> Result<HttpResponse, Problem> {
    let started = Instant::now();
    let is_complete = state.registry.follower.progress().borrow().caught_up;
    let answer = match asked(request.query_string())? {
        None => standing(&state).await?,
        Some(question) => {
            let (snapshot, min_confidence) = (state.registry.index.snapshot(), state.min_confidence);
            let answered = web::block(move || answer(&question, &snapshot, min_confidence)).await;
            Arc::new(answered.map_err(|error| Problem::fault(&error))??)
        }
    };
    let status = match answer.status {
        Status::Answered => "answered",
        Status::InsufficientData => "insufficient_data",
    };
    metrics::ANSWERS.with_label_values(&[status]).inc();
    metrics::ANSWER_SECONDS.observe(started.elapsed().as_secs_f64());
    // A later datum may make it another answer, and a retraction must.
    let mut reply = match preferred(&request, &["text/plain", "application/json"]) {
        "application/json" => {
            let body = serde_json::to_string(&*answer).map_err(|error| Problem::fault(&error))?;
            revalidated(&request, "application/json", body)
        }
        _ => revalidated(&request, TEXT, answer.text().to_owned()),
    };
    if !is_complete {
        reply.headers_mut().insert(WARNING, HeaderValue::from_static(INCOMPLETE));
    }
    Ok(reply)
}

/// From memory where the index has not changed, as it has not for almost every request.
async fn standing(state: &web::Data<State>) -> Result<Arc<Answer>, Problem> {
    if let Some(answer) = state.standing.known() {
        return Ok(answer);
    }
    let state = state.clone();
    let answered = web::block(move || state.standing.answer()).await;
    Ok(answered.map_err(|error| Problem::fault(&error))??)
}

/// The question in a query, where there is one.
fn asked(query: &str) -> Result<Option<Question>, Problem> {
    for pair in query.split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if decode(name).as_deref() == Some("question") {
            let text = decode(value).ok_or_else(|| Problem::bad_request("the question is not valid UTF-8"))?;
            return Ok(Some(text.parse()?));
        }
    }
    Ok(None)
}

fn decode(text: &str) -> Option<String> {
    let text = text.replace('+', " ");
    percent_decode(text.as_bytes()).decode_utf8().ok().map(std::borrow::Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(query: &str) -> Result<Option<String>, String> {
        asked(query).map(|q| q.map(|q| q.to_string())).map_err(|p| p.to_string())
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
    fn an_empty_question_or_one_that_is_no_text_is_refused() {
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
