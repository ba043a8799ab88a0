//! Bulk requests, several at once, until the server has said what became of each item.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, StatusCode};
use serde::Deserialize;
use tokio::sync::{Mutex, mpsc};
use tokio::time::{Instant, timeout_at};

use super::{Item, Run};
use crate::client::retry::{Next, delays};
use crate::client::{ClientError, printable};

/// Lines of one request, at most.
const MAX_LINES: usize = 1_000;

/// Bytes of one request, unless a single line has more.
const MAX_BYTES: usize = 1 << 20;

/// How long a request waits to be filled once it has a line: what trickles in is sent soon, and rarely line by line.
const FILL_TIMEOUT: Duration = Duration::from_millis(50);

/// What waits to be sent.
struct Waiting {
    items: mpsc::Receiver<Item>,
    /// One that the request before had no room for.
    next: Option<Item>,
}

impl Waiting {
    /// The items of the next request; none at the end.
    async fn batch(&mut self) -> Vec<Item> {
        let Some(first) = (match self.next.take() {
            Some(next) => Some(next),
            None => self.items.recv().await,
        }) else {
            return Vec::new();
        };
        let (mut bytes, mut batch) = (first.line.len(), vec![first]);
        let deadline = Instant::now() + FILL_TIMEOUT;
        while batch.len() < MAX_LINES {
            match timeout_at(deadline, self.items.recv()).await {
                Ok(Some(item)) if bytes + item.line.len() <= MAX_BYTES => {
                    bytes += item.line.len();
                    batch.push(item);
                }
                Ok(item) => {
                    self.next = item;
                    break;
                }
                Err(_) => break,
            }
        }
        batch
    }
}

/// Sends all; what ended it early, if something did.
pub(super) async fn all(run: &Arc<Run>, items: mpsc::Receiver<Item>, parallel: u16) -> Option<ClientError> {
    let waiting = Mutex::new(Waiting { items, next: None });
    let sender = async || {
        loop {
            let next = async { waiting.lock().await.batch().await };
            let batch = tokio::select! {
                () = run.stop.cancelled() => return Ok(()),
                batch = next => batch,
            };
            if batch.is_empty() {
                return Ok(());
            }
            run.send(batch).await?;
        }
    };
    let mut senders: FuturesUnordered<_> = (0..parallel).map(|_| sender()).collect();
    let mut failure = None;
    while let Some(ended) = senders.next().await {
        if let Err(error) = ended {
            failure.get_or_insert(error);
            // The others end what is under way.
            run.stop.cancel();
        }
    }
    failure
}

/// The reply to a bulk request.
#[derive(Deserialize)]
struct Bulk {
    known: Option<u64>,
    rejected: Vec<Rejected>,
    ids: Vec<String>,
}

#[derive(Deserialize)]
struct Rejected {
    line: usize,
    detail: String,
    retry_after: Option<u64>,
}

impl Run {
    /// Sends these items until it is known what became of each, or the run is stopped.
    async fn send(self: &Arc<Self>, items: Vec<Item>) -> Result<(), ClientError> {
        let mut items = self.unknown(items).await?;
        while !items.is_empty() {
            let reply = match self.persistently(async || self.post(&items).await).await {
                Ok(Some(reply)) => reply,
                Ok(None) => return Ok(()),
                // Something on the way takes less than the server does.
                Err(ClientError::Refused { status: StatusCode::PAYLOAD_TOO_LARGE, detail, .. }) => {
                    let rest = items.split_off(items.len() / 2);
                    if items.is_empty() {
                        rest.into_iter().for_each(|item| self.reject(item, &detail));
                    } else {
                        Box::pin(self.send(items)).await?;
                        items = rest;
                        continue;
                    }
                    return Ok(());
                }
                Err(error) => return Err(error),
            };
            let (left, busy) = self.sort_out(items, reply).await;
            items = left;
            if let Some(busy) = busy
                && !self.wait(busy, &mut delays()).await?
            {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Without those that were fed so long ago that the server knows them by their ids alone.
    async fn unknown(self: &Arc<Self>, items: Vec<Item>) -> Result<Vec<Item>, ClientError> {
        let run = Arc::clone(self);
        let looked_up = tokio::task::spawn_blocking(move || (run.record.old_ids(&items), items));
        let (ids, items) = looked_up.await.map_err(|error| self.client.other(&error.to_string()))?;
        let ids = ids.map_err(ClientError::Usage)?;
        let mut unknown = Vec::with_capacity(items.len());
        for (item, id) in items.into_iter().zip(ids) {
            let is_known = match id {
                None => Some(false),
                Some(id) => self.persistently(async || self.is_known(&id).await).await?,
            };
            match is_known {
                Some(true) => self.report.accepted(0, 1, item.weight),
                Some(false) => unknown.push(item),
                None => return Ok(Vec::new()),
            }
        }
        Ok(unknown)
    }

    async fn is_known(&self, id: &str) -> Result<bool, ClientError> {
        let request = self.client.request(Method::GET, &format!("/multivac/data/{id}")).within(self.request_timeout);
        match self.client.json(request).await {
            Ok(_) => Ok(true),
            Err(ClientError::Refused { status: StatusCode::NOT_FOUND, .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn post(&self, items: &[Item]) -> Result<Bulk, ClientError> {
        let body: Vec<u8> = items.iter().map(|item| item.line.as_slice()).collect::<Vec<_>>().concat();
        let request = self.client.request(Method::POST, "/multivac/data/bulk").within(self.request_timeout);
        let request = request.header(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson")).body(body);
        let reply = self.client.json(request).await?;
        let reply: Bulk = serde_json::from_slice(&reply.body)
            .map_err(|_| self.client.unreachable("its reply is not whole, or none to a bulk request"))?;
        if reply.known.is_none() && !reply.ids.is_empty() {
            return Err(self.client.other(
                "it is an older release, which does not know keys of lines: feeding again would feed twice. Stopped",
            ));
        }
        let lines = reply.rejected.iter().map(|rejected| rejected.line);
        if reply.ids.len() + lines.clone().count() != items.len()
            || lines.clone().any(|line| !(1..=items.len()).contains(&line))
        {
            return Err(self.client.unreachable("its reply does not fit what was sent"));
        }
        Ok(reply)
    }

    /// Counts what became of each item. Those that have to be sent again, and why.
    async fn sort_out(self: &Arc<Self>, items: Vec<Item>, reply: Bulk) -> (Vec<Item>, Option<ClientError>) {
        let mut rejected: HashMap<usize, Rejected> = reply.rejected.into_iter().map(|line| (line.line, line)).collect();
        let (mut ids, mut accepted, mut left, mut busy) = (reply.ids.into_iter(), Vec::new(), Vec::new(), None);
        let mut weight = 0;
        for (line, item) in (1..).zip(items) {
            match rejected.remove(&line) {
                Some(Rejected { detail, retry_after: Some(seconds), .. }) => {
                    // The first one says why; those behind it were not tried.
                    busy.get_or_insert_with(|| self.client.busy(&detail, Duration::from_secs(seconds)));
                    left.push(item);
                }
                Some(Rejected { detail, .. }) => self.reject(item, &detail),
                None => {
                    weight += item.weight;
                    accepted.extend(ids.next().map(|id| (item.recorded, id)));
                }
            }
        }
        let known = reply.known.unwrap_or_default();
        self.report.accepted((accepted.len() as u64).saturating_sub(known), known, weight);
        if !accepted.is_empty() {
            let run = Arc::clone(self);
            let _ = tokio::task::spawn_blocking(move || run.record.add(&accepted)).await;
        }
        (left, busy)
    }

    fn reject(&self, item: Item, detail: &str) {
        self.report.reject(item.place, &printable(detail));
        self.report.done(item.weight);
    }

    /// Makes a call until it succeeds, or there is no point in it; `None` once the run is stopped.
    async fn persistently<T>(&self, call: impl AsyncFn() -> Result<T, ClientError>) -> Result<Option<T>, ClientError> {
        let mut retry = delays();
        loop {
            if !self.outage.pass(&self.stop).await {
                return Ok(None);
            }
            match call().await {
                Ok(reply) => {
                    if self.outage.succeeded() {
                        self.report.say("the server replies again");
                    }
                    return Ok(Some(reply));
                }
                Err(error) if error.is_transient() => {
                    if !self.wait(error, &mut retry).await? {
                        return Ok(None);
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits after a failure that may pass, if the server has not said how long to (`Outage::pass` does then); false once the run
    /// is stopped.
    async fn wait(
        &self,
        error: ClientError,
        retry: &mut multivac_core::runtime::retry::Retry,
    ) -> Result<bool, ClientError> {
        let retry_after = error.retry_after().filter(|after| !after.is_zero());
        match self.outage.failed(retry_after) {
            Next::GiveUp => Err(error),
            Next::Again(is_first) => {
                if is_first {
                    let limit = humantime::format_duration(self.outage.limit());
                    self.report.say(&format!("{error}; trying again for {limit}"));
                }
                // Where the server says how long, nobody has to guess.
                Ok(if retry_after.is_some() { !self.stop.is_cancelled() } else { retry.wait(&self.stop).await })
            }
        }
    }
}
