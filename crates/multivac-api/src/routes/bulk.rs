//! `POST /multivac/data/bulk`: one JSON object a line, streamed, of any length.
//!
//! Lines are accepted in batches while the rest is still arriving, so memory stays bounded and a body that breaks off is
//! not lost: what was accepted stays accepted, and the reply names every line that was not.

use actix_web::web::{Bytes, BytesMut};
use actix_web::{HttpRequest, HttpResponse, web};
use multivac_core::accept::{AcceptError, AcceptRequest};
use multivac_core::datum::DatumId;
use multivac_core::observe::metrics;
use multivac_core::queue::ReachedDurability;
use utoipa::openapi::Required;
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::response::ResponseBuilder;

use super::data::{ClientKey, durability_header, idempotency_key, key_parameter, set_durability};
use crate::body::{self, JsonDatum};
use crate::openapi::{Described, text_content};
use crate::problem::Problem;
use crate::replies::{BulkAccepted, RejectedLine};
use crate::state::State;
use crate::trace::traceparent;

/// Lines accepted in one step, at most.
const MAX_BATCH_LINES: usize = 1_000;

/// Bytes of text in one step, unless a single line has more.
const MAX_BATCH_BYTES: usize = 4 << 20;

/// Rejected lines that the reply names one by one: without a limit, rubbish would make a reply of any size.
const MAX_REPORTED: usize = 10_000;

pub(super) async fn feed(
    request: HttpRequest,
    mut payload: web::Payload,
    state: web::Data<State>,
) -> Result<HttpResponse, Problem> {
    body::refuse_encoding(&request)?;
    if body::media_type(&request) != "application/x-ndjson" {
        return Err(Problem::unsupported("expected application/x-ndjson: one {\"data\": \"…\"} a line"));
    }
    let key = idempotency_key(&request)?;
    let mut lines = Lines::new(state.max_datum_size);
    let mut bulk = Bulk {
        state: &state,
        key,
        trace: traceparent(),
        batch: Vec::new(),
        bytes: 0,
        ids: Vec::new(),
        durability: ReachedDurability::Stored,
        rejected: Vec::new(),
        rejections: 0,
        first_error: None,
    };
    while let Some(chunk) = body::next_chunk(&mut payload).await? {
        lines.push(chunk);
        while let Some((number, line)) = lines.next() {
            bulk.take(number, line).await;
        }
    }
    if let Some((number, line)) = lines.last() {
        bulk.take(number, line).await;
    }
    bulk.flush().await;
    bulk.reply()
}

/// One bulk request while it is read.
struct Bulk<'a> {
    state: &'a State,
    key: Option<ClientKey>,
    trace: Option<String>,
    batch: Vec<(u64, AcceptRequest)>,
    bytes: usize,
    ids: Vec<DatumId>,
    /// How durably the least durable of them is held.
    durability: ReachedDurability,
    rejected: Vec<RejectedLine>,
    rejections: u64,
    /// The first error with which the queue did not accept a line.
    first_error: Option<AcceptError>,
}

impl Bulk<'_> {
    async fn take(&mut self, number: u64, line: Result<Bytes, Problem>) {
        let limit = self.state.max_datum_size;
        match line.and_then(|line| if is_blank(&line) { Ok(None) } else { body::json(&line, limit).map(Some) }) {
            Ok(None) => {}
            Ok(Some(datum)) => {
                // The request's key and the line's number: sending the same lines again gives the same ids.
                let key = self.key.as_ref().map(|key| key.of_line(Some(number)));
                self.bytes += datum.as_str().len();
                self.batch.push((number, AcceptRequest { datum, key, trace: self.trace.clone() }));
                if self.batch.len() >= MAX_BATCH_LINES || self.bytes >= MAX_BATCH_BYTES {
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
        let (numbers, requests): (Vec<u64>, Vec<AcceptRequest>) = std::mem::take(&mut self.batch).into_iter().unzip();
        let results = self.state.acceptor.accept_many(requests).await;
        let before = self.ids.len();
        for (number, result) in numbers.into_iter().zip(results) {
            match result {
                Ok(receipt) => {
                    self.ids.push(receipt.id);
                    self.durability = self.durability.min(receipt.durability);
                }
                // Sent again, the line would be refused again.
                Err(error @ AcceptError::KeyOfOtherText) => self.reject(number, error.to_string()),
                Err(error) => {
                    self.reject(number, error.to_string());
                    self.first_error.get_or_insert(error);
                }
            }
        }
        metrics::ACCEPTED.inc_by((self.ids.len() - before) as u64);
    }

    fn reject(&mut self, line: u64, detail: String) {
        self.rejections += 1;
        if self.rejected.len() < MAX_REPORTED {
            self.rejected.push(RejectedLine { line, detail });
        }
    }

    fn reply(self) -> Result<HttpResponse, Problem> {
        match self.first_error {
            // Nothing was accepted: the whole request can be sent again.
            Some(error) if self.ids.is_empty() => Err(error.into()),
            _ => {
                let body = BulkAccepted {
                    accepted: self.ids.len(),
                    rejected: &self.rejected,
                    rejected_in_all: Some(self.rejections).filter(|rejections| *rejections > MAX_REPORTED as u64),
                    ids: &self.ids,
                };
                let mut reply = HttpResponse::Ok();
                if !self.ids.is_empty() {
                    set_durability(&mut reply, self.durability);
                }
                Ok(reply.json(body))
            }
        }
    }
}

pub(super) fn describe() -> Described {
    let example = "{\"data\": \"first\"}\n{\"data\": \"second\"}\n";
    let body = RequestBodyBuilder::new()
        .required(Some(Required::True))
        .description(Some("A NewDatum a line, of any number; blank lines are passed over"))
        .content("application/x-ndjson", text_content(example));
    let accepted = ResponseBuilder::new()
        .description("What was accepted, and which lines were not")
        .header("Durability", durability_header());
    Described::write("feedBulk", "Takes one datum a line, streamed")
        .parameter(key_parameter())
        .body::<JsonDatum<'_>>(body.build())
        .json::<BulkAccepted<'_>>(200, accepted)
        .problem(400, "The body or a header cannot be read")
        .problem(408, "The body came too slowly")
        .problem(415, "A content type that is not listed, or a compressed body")
        .problem(
            503,
            "The queue is full or out of reach, and nothing was accepted; or its outcome is unknown: `detail` says so",
        )
}

fn is_blank(line: &[u8]) -> bool {
    line.iter().all(u8::is_ascii_whitespace)
}

/// Turns chunks of a body into numbered lines.
struct Lines {
    buffer: BytesMut,
    /// Bytes of the buffer that hold no end of a line, so that a long line is not searched again with each chunk.
    searched: usize,
    number: u64,
    /// Bytes a line may have: six for each byte of its datum (`\u0041`), and what surrounds it.
    max_line: usize,
    limit: usize,
    /// Within a line that is too long: the rest of it is dropped.
    skipping: bool,
}

impl Lines {
    fn new(limit: usize) -> Self {
        let max_line = limit.saturating_mul(6).saturating_add(64 << 10);
        Self { buffer: BytesMut::new(), searched: 0, number: 0, max_line, limit, skipping: false }
    }

    fn push(&mut self, chunk: Bytes) {
        self.buffer.extend_from_slice(&chunk);
    }

    /// The next whole line, or 413 for one that is too long.
    fn next(&mut self) -> Option<(u64, Result<Bytes, Problem>)> {
        loop {
            let end = self.buffer[self.searched..].iter().position(|&byte| byte == b'\n');
            let Some(end) = end.map(|end| end + self.searched) else {
                self.searched = self.buffer.len();
                if self.skipping {
                    self.buffer.clear();
                    self.searched = 0;
                } else if self.buffer.len() > self.max_line {
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

    /// What follows the last end of a line.
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
        lines.max_line = limit;
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
    fn a_line_that_is_too_long_is_reported_once_and_dropped() {
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
