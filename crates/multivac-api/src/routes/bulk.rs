//! `POST /multivac/data/bulk`: one JSON object a line, streamed, of any length.
//!
//! Lines are accepted in batches while the rest is still on its way, so memory stays bounded and a body never ends
//! halfway into nothing: what was accepted stays accepted, and every other line is named in the reply.

use actix_web::web::{Bytes, BytesMut};
use actix_web::{HttpMessage, HttpRequest, HttpResponse, web};
use multivac_core::accept::{AcceptError, AcceptRequest};
use multivac_core::datum::DatumId;
use multivac_core::observe::metrics;
use multivac_core::queue::{IdempotencyKey, ReachedDurability};
use serde::Serialize;

use super::data::{idempotency_key, tell_durability};
use crate::body;
use crate::problem::Problem;
use crate::state::State;
use crate::trace::traceparent;

/// Lines accepted in one step, at most.
const LINES: usize = 1_000;

/// Bytes of text in one step, unless a single line has more.
const BYTES: usize = 4 << 20;

/// Rejected lines told one by one; more would let a client make a reply of any size out of rubbish.
const TOLD: usize = 10_000;

#[derive(Serialize)]
struct Rejected {
    line: u64,
    detail: String,
}

#[derive(Serialize)]
struct Told<'a> {
    accepted: usize,
    rejected: &'a [Rejected],
    #[serde(skip_serializing_if = "Option::is_none")]
    rejected_in_all: Option<u64>,
    ids: &'a [DatumId],
}

pub(super) async fn feed(
    request: HttpRequest,
    mut payload: web::Payload,
    state: web::Data<State>,
) -> Result<HttpResponse, Problem> {
    body::refuse_encoding(&request)?;
    if request.content_type() != "application/x-ndjson" {
        return Err(Problem::unsupported("expected application/x-ndjson: one {\"data\": \"…\"} a line"));
    }
    let key = idempotency_key(&request)?;
    let mut lines = Lines::new(state.max_datum_size);
    let mut feed = Feed {
        state: &state,
        key,
        trace: traceparent(),
        batch: Vec::new(),
        bytes: 0,
        ids: Vec::new(),
        durability: ReachedDurability::Stored,
        rejected: Vec::new(),
        rejections: 0,
        refused: None,
    };
    while let Some(chunk) = body::piece(&mut payload).await? {
        lines.push(chunk);
        while let Some((number, line)) = lines.next() {
            feed.take(number, line).await;
        }
    }
    if let Some((number, line)) = lines.last() {
        feed.take(number, line).await;
    }
    feed.flush().await;
    feed.reply()
}

/// What one request has come to.
struct Feed<'a> {
    state: &'a State,
    key: Option<String>,
    trace: Option<String>,
    batch: Vec<(u64, AcceptRequest)>,
    bytes: usize,
    ids: Vec<DatumId>,
    /// How durably they are held, the least of them.
    durability: ReachedDurability,
    rejected: Vec<Rejected>,
    rejections: u64,
    /// Why the queue took none of a line, if it did not.
    refused: Option<AcceptError>,
}

impl Feed<'_> {
    async fn take(&mut self, number: u64, line: Result<Bytes, Problem>) {
        let limit = self.state.max_datum_size;
        match line.and_then(|line| if blank(&line) { Ok(None) } else { body::json(&line, limit).map(Some) }) {
            Ok(None) => {}
            Ok(Some(datum)) => {
                // The request's key and the line's number: sending the same lines again gives the same ids.
                let key = self.key.as_ref().map(|key| IdempotencyKey::new(key, Some(number)));
                self.bytes += datum.as_str().len();
                self.batch.push((number, AcceptRequest { datum, key, trace: self.trace.clone() }));
                if self.batch.len() >= LINES || self.bytes >= BYTES {
                    self.flush().await;
                }
            }
            Err(problem) => self.reject(number, problem.detail().to_owned()),
        }
    }

    async fn flush(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        self.bytes = 0;
        let (numbers, offers): (Vec<u64>, Vec<AcceptRequest>) = std::mem::take(&mut self.batch).into_iter().unzip();
        let results = self.state.acceptor.accept_many(offers).await;
        let before = self.ids.len();
        for (number, result) in numbers.into_iter().zip(results) {
            match result {
                Ok(receipt) => {
                    self.ids.push(receipt.id);
                    self.durability = self.durability.min(receipt.durability);
                }
                Err(error) => {
                    self.reject(number, error.to_string());
                    self.refused.get_or_insert(error);
                }
            }
        }
        metrics::ACCEPTED.inc_by((self.ids.len() - before) as u64);
    }

    fn reject(&mut self, line: u64, detail: String) {
        self.rejections += 1;
        if self.rejected.len() < TOLD {
            self.rejected.push(Rejected { line, detail });
        }
    }

    fn reply(self) -> Result<HttpResponse, Problem> {
        match self.refused {
            // Nothing was accepted: the whole request can be sent again.
            Some(error) if self.ids.is_empty() => Err(error.into()),
            _ => {
                let told = Told {
                    accepted: self.ids.len(),
                    rejected: &self.rejected,
                    rejected_in_all: Some(self.rejections).filter(|rejections| *rejections > TOLD as u64),
                    ids: &self.ids,
                };
                let mut reply = HttpResponse::Ok();
                if !self.ids.is_empty() {
                    tell_durability(&mut reply, self.durability);
                }
                Ok(reply.json(told))
            }
        }
    }
}

fn blank(line: &[u8]) -> bool {
    line.iter().all(u8::is_ascii_whitespace)
}

/// Bytes as they come to numbered lines.
struct Lines {
    buffer: BytesMut,
    /// Bytes of the buffer that hold no line's end, so that a long line is not looked through again and again.
    searched: usize,
    number: u64,
    /// Bytes a line may have: six for each of its datum's (`\u0041`), and what is around it.
    most: usize,
    limit: usize,
    /// Within a line that is too long: the rest of it is passed over.
    skipping: bool,
}

impl Lines {
    fn new(limit: usize) -> Self {
        let most = limit.saturating_mul(6).saturating_add(64 << 10);
        Self { buffer: BytesMut::new(), searched: 0, number: 0, most, limit, skipping: false }
    }

    fn push(&mut self, chunk: Bytes) {
        self.buffer.extend_from_slice(&chunk);
    }

    /// The next whole line, or word of one that is too long.
    fn next(&mut self) -> Option<(u64, Result<Bytes, Problem>)> {
        loop {
            let end = self.buffer[self.searched..].iter().position(|&byte| byte == b'\n');
            let Some(end) = end.map(|end| end + self.searched) else {
                self.searched = self.buffer.len();
                if self.skipping {
                    self.buffer.clear();
                    self.searched = 0;
                } else if self.buffer.len() > self.most {
                    self.skipping = true;
                    self.number += 1;
                    return Some((self.number, Err(Problem::too_large(self.limit))));
                }
                return None;
            };
            let line = self.buffer.split_to(end + 1).freeze();
            self.searched = 0;
            if std::mem::take(&mut self.skipping) {
                continue;
            }
            self.number += 1;
            return Some((self.number, Ok(line.slice(..end))));
        }
    }

    /// What stands behind the last line's end.
    fn last(mut self) -> Option<(u64, Result<Bytes, Problem>)> {
        if self.skipping || self.buffer.is_empty() {
            return None;
        }
        self.number += 1;
        Some((self.number, Ok(self.buffer.split().freeze())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(chunks: &[&str], limit: usize) -> Vec<(u64, Option<String>)> {
        let mut lines = Lines::new(limit);
        lines.most = limit;
        let mut got = Vec::new();
        for chunk in chunks {
            lines.push(Bytes::copy_from_slice(chunk.as_bytes()));
            while let Some(line) = lines.next() {
                got.push(line);
            }
        }
        got.extend(lines.last());
        let text = |line: Result<Bytes, Problem>| line.ok().map(|line| String::from_utf8_lossy(&line).into_owned());
        got.into_iter().map(|(number, line)| (number, text(line))).collect()
    }

    #[test]
    fn lines_are_put_together_from_pieces() {
        let expected = vec![(1, Some("abc".to_owned())), (2, Some(String::new())), (3, Some("d".to_owned()))];
        assert_eq!(lines(&["a", "bc\n", "\nd"], 10), expected);
    }

    #[test]
    fn a_line_that_is_too_long_is_told_once_and_passed_over() {
        let expected = vec![(1, None), (2, Some("ok".to_owned()))];
        assert_eq!(lines(&["123456", "789", "000\nok\n"], 5), expected);
    }

    proptest::proptest! {
        #[test]
        fn however_it_is_cut_up_the_lines_are_the_same(text in "[a\n]{0,60}", cuts in proptest::collection::vec(0_usize..60, 0..6)) {
            let mut cuts: Vec<usize> = cuts.into_iter().filter(|&cut| cut < text.len()).chain([0, text.len()]).collect();
            cuts.sort_unstable();
            let chunks: Vec<&str> = cuts.windows(2).map(|cut| &text[cut[0]..cut[1]]).collect();
            let expected: Vec<(u64, Option<String>)> = (1..).zip(text.split_terminator('\n').map(|line| Some(line.to_owned()))).collect();
            proptest::prop_assert_eq!(lines(&chunks, 100), expected);
        }
    }
}
