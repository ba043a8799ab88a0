//! `GET /multivac/events`: the answer to a question whenever it changes, and the ledger, as server-sent events.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse, web};
use futures_util::stream;
use multivac_core::answer::{Answer, AnswerChange, ChangeId, Watcher};
use multivac_core::index::fence::Entry;
use multivac_core::question::MAX_QUESTION_CHARS;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use utoipa::openapi::ContentBuilder;
use utoipa::openapi::path::ParameterIn;
use utoipa::openapi::response::ResponseBuilder;

use super::ask::{parameter, question_in};
use crate::openapi::{Described, string, text_header};
use crate::problem::Problem;
use crate::replies::{self, AnswerEvent};
use crate::sse::{EVENT_STREAM, End, event};
use crate::state::State;

/// The time from one event of the ledger to the next, at least.
const STATS_INTERVAL: Duration = Duration::from_secs(1);

/// How long a client waits that comes while the server starts.
const FILL_TIMEOUT: Duration = Duration::from_secs(5);

/// When to try again after there was no room for another question: one has gone by then that nobody watches, if there is one.
const FULL_RETRY_AFTER: u64 = 5;

pub(super) async fn events(request: HttpRequest, state: web::Data<State>) -> Result<HttpResponse, Problem> {
    let question = question_in(request.query_string())?;
    let follower = &state.registry.follower;
    // What an index loads would look like one change after the other.
    let mut progress = follower.progress();
    let filled = timeout(FILL_TIMEOUT, progress.wait_for(|progress| progress.caught_up)).await;
    if filled.is_err() {
        return Err(Problem::unavailable("the index of this replica is not filled yet; another may be", 1));
    }
    let entry = follower.fence().enter().ok_or_else(Problem::fenced)?;
    let watcher = state.watching.answers.watch(question);
    let watcher = watcher.map_err(|full| Problem::too_many(full.to_string(), FULL_RETRY_AFTER))?;
    let last = request.headers().get("Last-Event-ID").and_then(|id| id.to_str().ok()?.parse().ok());
    let following = Following {
        entry,
        watcher,
        known: last,
        has_begun: false,
        coming: VecDeque::new(),
        withheld: None,
        stats: state.watching.stats(),
        stats_sent: None,
        has_new_stats: false,
        fenced: state.watching.fenced(),
        state: state.clone(),
    };
    let events = stream::try_unfold(following, async |mut following| Ok(Some((following.next().await?, following))));
    state.streams.reply(&request, events)
}

/// What one client has been sent, and how it goes on.
struct Following {
    state: web::Data<State>,
    /// Since when this replica has known of all retractions.
    entry: Entry,
    watcher: Watcher,
    /// The last change that the client knows, or that was passed over; before the first event, what it says that it knows.
    known: Option<ChangeId>,
    has_begun: bool,
    /// The changes that come next.
    coming: VecDeque<Arc<AnswerChange>>,
    /// What the client knows the answer to be, if changes were withheld since.
    withheld: Option<Arc<Answer>>,
    stats: watch::Receiver<Bytes>,
    /// The last event of the ledger, and when it was sent; `None` before there was a first.
    stats_sent: Option<(Bytes, Instant)>,
    has_new_stats: bool,
    fenced: watch::Receiver<bool>,
}

impl Following {
    /// The next event: first the answer and the ledger, then whatever changes.
    async fn next(&mut self) -> Result<Bytes, End> {
        if !self.has_begun {
            self.begin().await?;
            self.has_begun = true;
        }
        loop {
            while let Some(change) = self.coming.pop_front() {
                if let Some(event) = self.show(&change).await? {
                    return Ok(event);
                }
            }
            let stats = match self.stats_sent {
                // Behind the answer, since the queue may be slow.
                None => {
                    self.state.watching.refresh_stats().await;
                    Some(self.stats.borrow_and_update().clone())
                }
                Some((_, sent_at)) => self.wait(sent_at + STATS_INTERVAL).await?,
            };
            let Some(stats) = stats else { continue };
            let is_new = self.stats_sent.as_ref().is_none_or(|(sent, _)| *sent != stats) && !stats.is_empty();
            self.stats_sent = Some((stats.clone(), Instant::now()));
            if is_new {
                return Ok(stats);
            }
        }
    }

    /// What a client is sent first: what it has missed if it was here a moment ago, or else what the answer is.
    async fn begin(&mut self) -> Result<(), End> {
        let present = self.present().await?;
        let missed = self.known.and_then(|known| self.watcher.answer.changes_after(known));
        self.coming = missed.map_or_else(|| VecDeque::from([present]), VecDeque::from);
        Ok(())
    }

    /// What the answer is, from the index as it is.
    async fn present(&self) -> Result<Arc<AnswerChange>, End> {
        let answer = &self.watcher.answer;
        loop {
            if answer.is_behind() && !self.state.watching.refresh(answer).await {
                return Err(End::Failed);
            }
            if let Some(present) = answer.present().filter(|present| present.still_holds(&self.state.registry.index)) {
                return Ok(present);
            }
            // Others have their turn in between.
            tokio::task::yield_now().await;
        }
    }

    /// A change as it is sent; `None` if it is passed over.
    async fn show(&mut self, change: &AnswerChange) -> Result<Option<Bytes>, End> {
        self.known = Some(change.id);
        let answer = if change.still_holds(&self.state.registry.index) {
            Some(Arc::clone(&change.answer))
        } else {
            self.as_far_as_it_holds(change).await?
        };
        // The process may have been suspended.
        if !self.state.registry.follower.fence().still_holds(self.entry) {
            return Err(End::Fenced);
        }
        let Some(answer) = answer else {
            // The change that follows, since there is one, tells what the answer was when the client last heard of it.
            self.withheld = self.withheld.take().or_else(|| change.before.clone());
            return Ok(None);
        };
        if Arc::ptr_eq(&answer, &change.answer) && self.withheld.is_none() {
            return Ok(Some(
                change.written.get_or_init(|| self.written(change, &answer, change.before.as_deref())).clone(),
            ));
        }
        let before = self.withheld.take().or_else(|| change.before.clone());
        Ok(Some(self.written(change, &answer, before.as_deref())))
    }

    /// A change some of whose evidence was retracted since. The last one, whose answer still stands, is told with the evidence
    /// of now; one before it without what was retracted, unless its answer was.
    async fn as_far_as_it_holds(&mut self, change: &AnswerChange) -> Result<Option<Arc<Answer>>, End> {
        let present = self.present().await?;
        if change.before.is_none() || present.id == change.id {
            self.known = Some(present.id);
            return Ok(Some(Arc::clone(&present.answer)));
        }
        Ok(change.without_retracted(&self.state.registry.index).map(Arc::new))
    }

    fn written(&self, change: &AnswerChange, answer: &Answer, before: Option<&Answer>) -> Bytes {
        let id = self.known.unwrap_or(change.id);
        event("answer", Some(&id), &AnswerEvent::new(answer, before, change.because))
    }

    /// Waits for changes of the answer, or of the ledger: its event, not before it may be sent.
    async fn wait(&mut self, stats_due: Instant) -> Result<Option<Bytes>, End> {
        tokio::select! {
            biased;
            // Their senders live as long as the state.
            _ = self.fenced.wait_for(|fenced| *fenced) => Err(End::Fenced),
            () = self.watcher.changed() => {
                let changes = self.known.and_then(|known| self.watcher.answer.changes_after(known));
                self.coming = changes.ok_or(End::Slow)?.into();
                Ok(None)
            }
            _ = self.stats.changed(), if !self.has_new_stats => {
                self.has_new_stats = true;
                Ok(None)
            }
            () = sleep_until(stats_due), if self.has_new_stats => {
                self.has_new_stats = false;
                Ok(Some(self.stats.borrow_and_update().clone()))
            }
        }
    }
}

pub(super) fn describe() -> Described {
    let example = "retry: 1000\n\nevent: answer\nid: 5be0cd19137e2179-0\ndata: {\"question\": \"…\", …, \"before\": null, \"because\": null}\n\n\
                   event: stats\ndata: {\"accepted\": 1, …}\n\n";
    let events = "Events until one side ends them: `answer`, whose data are an `AnswerEvent`, whenever the answer changes; `stats`, \
                  whose data are the `Stats`, at most once a second; what both are at present first; a comment after 15 s of silence";
    let content = ContentBuilder::new().schema(Some(string())).example(Some(example.into())).build();
    let reply = ResponseBuilder::new().description(events).content(EVENT_STREAM, content);
    Described::read("events", "Follows the answer to the standing question, or the given one, and the ledger")
        .parameter(
            parameter("question", ParameterIn::Query, "The question; the standing one if it is left out.")
                .schema(Some(string().min_length(Some(1)).max_length(Some(MAX_QUESTION_CHARS)))),
        )
        .parameter(
            parameter(
                "Last-Event-ID",
                ParameterIn::Header,
                "The `id` of the last event. Who comes back to the same replica within a minute is sent the changes since then in \
                 place of the present answer.",
            )
            .schema(Some(string())),
        )
        .schema::<AnswerEvent<'_>>()
        .schema::<replies::Stats>()
        .reply(200, reply.header("Cache-Control", text_header("`no-store`")))
        .problem(400, "The question is empty, too long, or not UTF-8")
        .problem(429, "As many different questions are watched as may be; or, from the edge, too many requests from this address")
        .problem(503, "This replica cannot know what was retracted, is being stopped, or has no place for another stream; or, from the edge, no replica is available")
}
