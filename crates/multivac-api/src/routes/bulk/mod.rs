//! `POST /multivac/data/bulk`: one JSON object a line, streamed, of any length.
//!
//! Lines are accepted in batches while the rest is still arriving, so memory stays bounded and a body that breaks off is
//! not lost: what was accepted stays accepted, and the reply names it, and every line that was not. Once the queue has failed
//! at a batch, no later line is tried, so that what is missing begins at one line. With an `Idempotency-Key`, the whole body
//! can be sent again: each line's key is made of it and of the line's number. A line may have a key of its own instead, which
//! goes with it into whichever body.

mod lines;
mod opening;

use std::time::Duration;

use actix_web::{HttpRequest, HttpResponse, web};
use multivac_core::accept::{AcceptError, AcceptRequest};
use multivac_core::datum::DatumId;
use multivac_core::queue::ReachedDurability;
use utoipa::openapi::Required;
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::response::ResponseBuilder;

use super::data::{ClientKey, KeyOwner, durability_header, key_parameter, set_durability};
use crate::body::{self, JsonLine};
use crate::openapi::{Described, text_content};
use crate::pace::Paced;
use crate::problem::Problem;
use crate::replies::{BulkAccepted, BulkProblem, RejectedLine};
use crate::state::State;
use lines::{Line, Lines};
use opening::Opening;

/// Lines accepted in one step, at most.
const MAX_BATCH_LINES: usize = 1_000;

/// Bytes of text in one step, unless a single line has more.
const MAX_BATCH_BYTES: usize = 4 << 20;

/// Rejected lines that the reply names one by one: without a limit, rubbish would make a reply of any size.
const MAX_REPORTED: usize = 10_000;

pub(super) async fn feed(
    request: HttpRequest,
    payload: web::Payload,
    state: web::Data<State>,
) -> Result<HttpResponse, Problem> {
    body::refuse_encoding(&request)?;
    let media = body::media_type(&request)?;
    if media.essence != "application/x-ndjson" {
        return Err(Problem::unsupported("expected application/x-ndjson: one {\"data\": \"…\"} a line"));
    }
    if !media.is_utf8() {
        return Err(body::not_utf8(&media));
    }
    let owner = KeyOwner::of(&request);
    let mut bulk = Bulk {
        state: &state,
        key: owner.key_of_request(&request)?,
        owner,
        known: None,
        opening: Some(Opening::default()),
        batch: Vec::new(),
        bytes: 0,
        ids: Vec::new(),
        durability: ReachedDurability::Stored,
        rejected: Vec::new(),
        rejections: 0,
        failure: None,
        next_line: None,
    };
    let mut lines = Lines::new(state.max_datum_size);
    let mut body = Paced::new(payload);
    let end = loop {
        match body.next().await {
            Ok(Some(chunk)) => lines.push(&chunk),
            Ok(None) => break None,
            Err(problem) => break Some(problem),
        }
        while let Some(line) = lines.next() {
            bulk.take(line).await?;
        }
    };
    if let Some(problem) = end {
        // The line that the body breaks off in is not whole, so it is not taken.
        bulk.close_opening();
        bulk.flush().await;
        bulk.next_line.get_or_insert(lines.count() + 1);
        return Ok(bulk.reply_to_broken(&problem));
    }
    if let Some(line) = lines.last() {
        bulk.take(line).await?;
    }
    if let Some(opening) = bulk.opening.take() {
        bulk.reject_all(opening.finish()?);
    }
    bulk.flush().await;
    bulk.reply()
}

/// One bulk request while it is read.
struct Bulk<'a> {
    state: &'a State,
    key: Option<ClientKey>,
    owner: KeyOwner,
    /// How many were known by a key of their own; `None` until a line has one.
    known: Option<usize>,
    /// Until the first good line has come.
    opening: Option<Opening>,
    batch: Vec<(u64, AcceptRequest)>,
    bytes: usize,
    ids: Vec<DatumId>,
    /// How durably the least durable of them is held.
    durability: ReachedDurability,
    rejected: Vec<RejectedLine>,
    rejections: u64,
    /// The first error with which the queue failed at a line.
    failure: Option<AcceptError>,
    /// The first line that was not tried, if one was not.
    next_line: Option<u64>,
}

impl Bulk<'_> {
    /// Takes a line: into the batch, or among the rejected.
    ///
    /// # Errors
    /// When the line shows that the body is no lines of JSON; nothing was accepted then.
    async fn take(&mut self, line: Line) -> Result<(), Problem> {
        let limit = self.state.max_datum_size;
        let bytes = line.bytes.strip_prefix(body::BOM).unwrap_or(&line.bytes);
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Ok(());
        }
        if self.failure.is_some() {
            self.next_line.get_or_insert(line.number);
            let retry_after = self.failure.as_ref().and_then(AcceptError::retry_after);
            self.reject(line.number, "not tried, since the queue failed at an earlier line".to_owned(), retry_after);
            return Ok(());
        }
        match if line.is_too_long { Err(Problem::too_large(limit)) } else { self.request(bytes, line.number) } {
            Ok(request) => {
                self.close_opening();
                self.bytes += request.datum.as_str().len();
                self.batch.push((line.number, request));
                if self.batch.len() >= MAX_BATCH_LINES || self.bytes >= MAX_BATCH_BYTES {
                    self.flush().await;
                }
            }
            Err(problem) => {
                let detail = problem.detail().to_owned();
                match &mut self.opening {
                    Some(opening) => opening.take(&line, detail)?,
                    None => self.reject(line.number, detail, None),
                }
            }
        }
        Ok(())
    }

    /// What a line wants accepted.
    fn request(&mut self, line: &[u8], number: u64) -> Result<AcceptRequest, Problem> {
        let (datum, own) = body::json_line(line, self.state.max_datum_size)?;
        let key = match own {
            Some(own) => {
                let key = self.owner.key_of_line(&own)?;
                self.known.get_or_insert(0);
                Some(key)
            }
            // The request's key and the line's number: sending the same lines again gives the same ids.
            None => self.key.as_ref().map(|key| key.of_line(Some(number))),
        };
        Ok(AcceptRequest { datum, key })
    }

    async fn flush(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        self.bytes = 0;
        let (numbers, requests): (Vec<u64>, Vec<AcceptRequest>) = std::mem::take(&mut self.batch).into_iter().unzip();
        let results = self.state.acceptor.accept_many(requests).await;
        for (number, result) in numbers.into_iter().zip(results) {
            match result {
                Ok(receipt) => {
                    self.ids.push(receipt.id);
                    if let Some(known) = &mut self.known {
                        *known += usize::from(receipt.was_known);
                    }
                    self.durability = self.durability.min(receipt.durability);
                }
                // Sent again, the line would be refused again; the queue has not failed.
                Err(error @ AcceptError::KeyOfOtherText) => self.reject(number, error.to_string(), None),
                Err(error) => {
                    self.reject(number, error.to_string(), error.retry_after());
                    self.failure.get_or_insert(error);
                }
            }
        }
    }

    /// Ends the opening, since nothing is known against the body.
    fn close_opening(&mut self) {
        if let Some(opening) = self.opening.take() {
            self.reject_all(opening.close());
        }
    }

    fn reject_all(&mut self, lines: Vec<(u64, String)>) {
        for (line, detail) in lines {
            self.reject(line, detail, None);
        }
    }

    fn reject(&mut self, line: u64, detail: String, retry_after: Option<Duration>) {
        self.rejections += 1;
        if self.rejected.len() < MAX_REPORTED {
            let retry_after = retry_after.map(|after| after.as_secs().max(1));
            self.rejected.push(RejectedLine { line, detail, retry_after });
        }
    }

    fn outcome(&self) -> BulkAccepted<'_> {
        BulkAccepted {
            accepted: self.ids.len(),
            known: self.known,
            rejected: &self.rejected,
            rejected_in_all: Some(self.rejections).filter(|rejections| *rejections > MAX_REPORTED as u64),
            ids: &self.ids,
            next_line: self.next_line,
        }
    }

    fn reply(self) -> Result<HttpResponse, Problem> {
        match self.failure {
            // Nothing was accepted: the whole request can be sent again.
            Some(error) if self.ids.is_empty() => Err(error.into()),
            _ => Ok(self.with_durability(HttpResponse::Ok().json(self.outcome()))),
        }
    }

    /// The reply to a body that did not come to its end.
    fn reply_to_broken(&self, problem: &Problem) -> HttpResponse {
        self.with_durability(problem.reply_with(self.outcome()))
    }

    fn with_durability(&self, mut reply: HttpResponse) -> HttpResponse {
        if !self.ids.is_empty() {
            set_durability(reply.headers_mut(), self.durability);
        }
        reply
    }
}

pub(super) fn describe() -> Described {
    let example = "{\"data\": \"first\"}\n{\"data\": \"second\", \"idempotency_key\": \"page-2\"}\n";
    let body = RequestBodyBuilder::new()
        .required(Some(Required::True))
        .description(Some("A NewDatumOfMany a line, of any number; blank lines are passed over"))
        .content("application/x-ndjson", text_content(example));
    let accepted = ResponseBuilder::new()
        .description("What was accepted, and which lines were not")
        .header("Durability", durability_header());
    Described::write("feedBulk", "Takes one datum a line, streamed")
        .parameter(key_parameter())
        .body::<JsonLine<'_>>(body.build())
        .json::<BulkAccepted<'_>>(200, accepted)
        .problem_of::<BulkProblem<'_>>(
            400,
            "A header cannot be read, or the body is no lines of JSON: nothing was accepted then. Or the body breaks off: then \
             `ids` names what was accepted",
        )
        .problem_of::<BulkProblem<'_>>(408, "The body came too slowly; `ids` names what was accepted")
        .problem(415, "A content type that is not listed, or a compressed body")
        .problem(
            503,
            "The queue is full or out of reach, and nothing was accepted; or its outcome is unknown: `detail` says so",
        )
}
