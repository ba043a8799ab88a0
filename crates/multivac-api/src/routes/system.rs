//! `GET /multivac/system`: replicas, workers and the queue, now or as server-sent events. It shows the inside, so the edge asks for
//! a password.

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::header::{CACHE_CONTROL, HeaderValue, VARY};
use actix_web::{HttpRequest, HttpResponse, mime, web};
use futures_util::stream;
use multivac_core::observe::metrics;
use multivac_core::system::System;
use tokio::time::sleep;
use utoipa::openapi::ContentBuilder;
use utoipa::openapi::response::ResponseBuilder;

use crate::negotiate::preferred;
use crate::openapi::{Described, string, text_header};
use crate::problem::Problem;
use crate::replies;
use crate::sse::{EVENT_STREAM, event};
use crate::state::State;
use crate::system::INTERVAL;

/// A consumer that waits for jobs asks for some every second. One that has not for so long is news.
const IDLE: Duration = Duration::from_secs(5);

pub(super) async fn system(request: HttpRequest, state: web::Data<State>) -> Result<HttpResponse, Problem> {
    let seen = state.system.get(&state.registry).await?;
    let event_stream: mime::Mime = EVENT_STREAM.parse().expect("a media type");
    let mut reply = if preferred(&request, &[mime::APPLICATION_JSON, event_stream.clone()]) == event_stream {
        let followed = state.clone();
        let events = stream::unfold(None, move |shown: Option<(Arc<System>, u64)>| {
            let (state, seen) = (followed.clone(), Arc::clone(&seen));
            async move {
                let seen = match shown {
                    None => seen,
                    Some((shown, questions)) => next(&state, &shown, questions).await,
                };
                let questions = questions();
                Some((Ok(event("system", None, &reply_of(&seen, questions, &state))), Some((seen, questions))))
            }
        });
        state.streams.reply(&request, events)?
    } else {
        HttpResponse::Ok().insert_header((CACHE_CONTROL, "no-store")).json(reply_of(&seen, questions(), &state))
    };
    reply.headers_mut().insert(VARY, HeaderValue::from_static("Accept"));
    Ok(reply)
}

/// What is shown next: once it differs. While it cannot be told, nothing is.
async fn next(state: &State, shown: &System, shown_questions: u64) -> Arc<System> {
    loop {
        sleep(INTERVAL).await;
        if let Ok(seen) = state.system.get(&state.registry).await
            && (as_news(&seen) != as_news(shown) || questions() != shown_questions)
        {
            return seen;
        }
    }
}

/// Without what changes all the time and means nothing.
fn as_news(system: &System) -> System {
    let mut system = system.clone();
    for worker in &mut system.workers {
        worker.idle = if worker.idle < IDLE { Duration::ZERO } else { Duration::from_secs(worker.idle.as_secs()) };
    }
    system.queue.oldest = system.queue.oldest.map(|oldest| Duration::from_secs(oldest.as_secs()));
    system
}

/// What this replica was asked and replied to.
fn questions() -> u64 {
    ["answered", "insufficient_data"].iter().map(|status| metrics::ANSWERS.of(status).get()).sum()
}

fn reply_of<'a>(system: &'a System, questions: u64, state: &State) -> replies::System<'a> {
    replies::System::new(system, questions, state.system.queue_limits, state.system.is_embedded)
}

pub(super) fn describe() -> Described {
    let events = "The same as server-sent events, for `Accept: text/event-stream`: `system`, whose data are this object, at first and \
                  whenever it changes, at most every 2 s; a comment after 15 s of silence";
    let example = "retry: 1000\n\nevent: system\ndata: {\"version\": \"…\", …}\n\n";
    let content = ContentBuilder::new().schema(Some(string())).example(Some(example.into())).build();
    Described::read("system", "Replicas, workers and the queue")
        .with_password()
        .json::<replies::System<'_>>(
            200,
            ResponseBuilder::new()
                .description(format!("What the system is made of, as of 2 s ago at most. {events}"))
                .content(EVENT_STREAM, content)
                .header("Vary", text_header("`Accept`"))
                .header("Cache-Control", text_header("`no-store`")),
        )
        .problem(503, "The queue or the store is out of reach; or, from the edge, no replica is available")
}
