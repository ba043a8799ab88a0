//! Server-sent events (WHATWG HTML, 9.2): how an event is written, and the reply that sends them until somebody ends it.
//!
//! Of each stream no more is kept than its source and what its socket has not taken: actix asks the source for the next event
//! only while there is room (32 KiB), and the [wire](crate::wire) has the kernel drop a client that takes nothing. So a source
//! is to know what its client was sent, rather than queue for it.
//!
//! Streams end at once when the server is to stop, so that clients go to another; only one whose client has stopped reading is
//! waited for, as long as for any request. Each is the last reply on its connection.

use std::fmt::Display;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use actix_web::body::{BoxBody, None as NoBody};
use actix_web::http::Method;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse};
use futures_util::Stream;
use multivac_core::observe::metrics;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::problem::Problem;
use crate::wire::Use;

/// The media type.
pub(crate) const EVENT_STREAM: &str = "text/event-stream";

/// After how much silence a comment is sent: proxies and clients give up on a connection that says nothing.
const SILENCE: Duration = Duration::from_secs(15);

/// The comment.
const COMMENT: &[u8] = b":\n\n";

/// How long a client is to wait before it comes back, in milliseconds: for each another time in between, so that those of a
/// replica that has stopped do not all come at once.
const RETRY_MS: std::ops::Range<u32> = 500..2_000;

/// After how many seconds one that found no place may try again.
const FULL_RETRY_AFTER: u64 = 5;

/// An event as it is sent. Its data are one line, since JSON as it is written here has no line ends.
pub(crate) fn event(name: &str, id: Option<&dyn Display>, data: &impl Serialize) -> Bytes {
    let data = serde_json::to_string(data).expect("the replies' own types can be written as JSON");
    let id = id.map_or_else(String::new, |id| format!("id: {id}\n"));
    Bytes::from(format!("event: {name}\n{id}data: {data}\n\n"))
}

/// Why a source ends its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The client has not taken in time what it was sent, and would miss events.
    Slow,
    /// This replica may not tell any more what it knows.
    Fenced,
    /// A fault of ours, which is logged.
    Failed,
}

/// The streams of this server.
pub(crate) struct Streams {
    places: Arc<Semaphore>,
    stop: CancellationToken,
}

impl Streams {
    /// So many at once at most, until it is stopped.
    pub(crate) fn new(max: usize, stop: CancellationToken) -> Self {
        Self { places: Arc::new(Semaphore::new(max)), stop }
    }

    /// The reply that sends these events, each as [`event`] writes it, for as long as they come.
    ///
    /// # Errors
    /// When there are as many streams as may be, or the server is being stopped.
    pub(crate) fn reply(
        &self,
        request: &HttpRequest,
        events: impl Stream<Item = Result<Bytes, End>> + 'static,
    ) -> Result<HttpResponse, Problem> {
        if self.stop.is_cancelled() {
            return Err(Problem::unavailable("this replica is being stopped; another may answer", 1));
        }
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| {
            let detail = "this replica has as many event streams open as it may; another may have room";
            Problem::unavailable(detail, FULL_RETRY_AFTER)
        })?;
        let mut reply = HttpResponse::Ok();
        reply.insert_header((CONTENT_TYPE, EVENT_STREAM)).insert_header((CACHE_CONTROL, "no-store"));
        // For proxies like nginx, which would wait until a buffer is full.
        reply.insert_header(("X-Accel-Buffering", "no"));
        if request.method() == Method::HEAD {
            return Ok(reply.finish().set_body(BoxBody::new(NoBody::new())));
        }
        let used = request.conn_data::<Use>().cloned().unwrap_or_default();
        used.for_events();
        metrics::EVENT_STREAMS.inc();
        Ok(reply.force_close().streaming(Events {
            opening: Some(Bytes::from(format!("retry: {}\n\n", fastrand::u32(RETRY_MS)))),
            events: Box::pin(events),
            silence: Box::pin(sleep(SILENCE)),
            stopped: Box::pin(self.stop.clone().cancelled_owned()),
            ended: "left",
            used,
            _place: place,
        }))
    }
}

/// The body of such a reply.
struct Events<S> {
    opening: Option<Bytes>,
    events: Pin<Box<S>>,
    silence: Pin<Box<Sleep>>,
    stopped: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Why it has ended; as long as it has not, only the client can end it.
    ended: &'static str,
    used: Use,
    _place: OwnedSemaphorePermit,
}

impl<S: Stream<Item = Result<Bytes, End>>> Events<S> {
    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bytes, &'static str>> {
        if let Some(opening) = self.opening.take() {
            return Poll::Ready(Ok(opening));
        }
        if self.stopped.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err("stopping"));
        }
        if let Poll::Ready(next) = self.events.as_mut().poll_next(cx) {
            return Poll::Ready(next.unwrap_or(Err(End::Failed)).map_err(|end| match end {
                End::Slow => "slow",
                End::Fenced => "fenced",
                End::Failed => "failed",
            }));
        }
        ready!(self.silence.as_mut().poll(cx));
        Poll::Ready(Ok(Bytes::from_static(COMMENT)))
    }
}

impl<S: Stream<Item = Result<Bytes, End>>> Stream for Events<S> {
    type Item = Result<Bytes, actix_web::Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let sent = match ready!(self.poll_event(cx)) {
            Ok(bytes) => bytes,
            Err(ended) => {
                self.ended = ended;
                return Poll::Ready(None);
            }
        };
        self.silence.as_mut().reset(Instant::now() + SILENCE);
        Poll::Ready(Some(Ok(sent)))
    }
}

impl<S> Drop for Events<S> {
    fn drop(&mut self) {
        metrics::EVENT_STREAMS.dec();
        let ended = if self.used.timed_out() { "slow" } else { self.ended };
        metrics::EVENT_STREAMS_ENDED.of(ended).inc();
    }
}

#[cfg(test)]
mod tests {
    use actix_web::body::to_bytes;
    use actix_web::test::TestRequest;
    use futures_util::{StreamExt, stream};

    use super::*;

    fn streams(max: usize) -> Streams {
        Streams::new(max, CancellationToken::new())
    }

    async fn text_of(reply: HttpResponse) -> String {
        String::from_utf8(to_bytes(reply.into_body()).await.expect("it does not fail").to_vec()).expect("it is text")
    }

    #[test]
    fn an_event_has_its_name_its_id_and_one_line_of_data() {
        let event = |id| event("answer", id, &serde_json::json!({"text": "one\r\ntwo"}));
        assert_eq!(event(Some(&"a-1")), "event: answer\nid: a-1\ndata: {\"text\":\"one\\r\\ntwo\"}\n\n");
        assert_eq!(event(None), "event: answer\ndata: {\"text\":\"one\\r\\ntwo\"}\n\n");
    }

    #[tokio::test(start_paused = true)]
    async fn a_comment_is_sent_after_every_15_seconds_of_silence() {
        let started = Instant::now();
        let at = |seconds| async move {
            tokio::time::sleep_until(started + Duration::from_secs(seconds)).await;
            Ok(Bytes::from_static(b"data: x\n\n"))
        };
        let events = stream::iter([at(10), at(40)]).then(|event| event);
        let reply = streams(1).reply(&TestRequest::default().to_http_request(), events).expect("there is a place");
        let text = text_of(reply).await;
        let (retry, rest) = text.split_once('\n').expect("lines");
        let retry: u32 = retry.strip_prefix("retry: ").and_then(|ms| ms.parse().ok()).expect("it comes first");
        assert!(RETRY_MS.contains(&retry));
        // At 10 s the first event, at 25 s the comment, and at 40 s both are due: the event goes first.
        assert_eq!(rest, "\ndata: x\n\n:\n\ndata: x\n\n");
        assert_eq!(started.elapsed(), Duration::from_secs(40));
    }

    #[tokio::test]
    async fn a_stream_ends_when_the_server_stops_and_none_begins_then() {
        let streams = streams(2);
        let request = TestRequest::default().to_http_request();
        let open = streams.reply(&request, stream::pending()).expect("there is a place");
        streams.stop.cancel();
        assert!(text_of(open).await.starts_with("retry: "));
        let refused = streams.reply(&request, stream::pending()).expect_err("it stops");
        assert_eq!(refused.reply_with(()).status(), 503);
    }

    #[tokio::test]
    async fn a_stream_beyond_the_limit_is_refused_until_another_has_ended() {
        let streams = streams(1);
        let request = TestRequest::default().to_http_request();
        let open = streams.reply(&request, stream::pending()).expect("there is a place");
        let refused = streams.reply(&request, stream::pending()).expect_err("there is none").reply_with(());
        assert_eq!((refused.status().as_u16(), refused.headers().contains_key("retry-after")), (503, true));
        drop(open);
        assert!(streams.reply(&request, stream::pending()).is_ok());
    }

    #[tokio::test]
    async fn head_gets_the_head_alone_and_takes_no_place() {
        let streams = streams(1);
        let request = TestRequest::default().method(Method::HEAD).to_http_request();
        for _ in 0..2 {
            let reply = streams.reply(&request, stream::pending()).expect("there is a place");
            assert_eq!(reply.headers().get(CONTENT_TYPE).expect("it has one"), EVENT_STREAM);
            assert_eq!(text_of(reply).await, "");
        }
    }
}
