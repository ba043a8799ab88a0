//! The change stream: what has happened to the data since a position.

use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use mongodb::bson::{RawDocumentBuf, Timestamp as ClusterTime, serialize_to_document};
use mongodb::change_stream::ChangeStream;
use mongodb::change_stream::event::{ChangeStreamEvent, OperationType, ResumeToken};
use mongodb::error::{Error, ErrorKind};
use serde::Deserialize;

use super::calls::in_time;
use super::documents::Reader;
use super::{code, documents, store_error};
use crate::store::{Change, ChangeBatch, Changes, Position, StoreEntry, StoreError};

/// An event of the change stream; the fields that are used.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    operation_type: OperationType,
    cluster_time: ClusterTime,
    document_key: Option<RawDocumentBuf>,
    full_document: Option<RawDocumentBuf>,
}

/// One step of a change stream: gives the stream back, and its next event if there is one.
type Advance = BoxFuture<'static, (ChangeStream<Event>, Result<Option<Event>, Error>)>;

fn advance(mut stream: ChangeStream<Event>) -> Advance {
    async move {
        let event = stream.next_if_any().await;
        (stream, event)
    }
    .boxed()
}

/// The error of a change stream. An event that is too large ends every stream that comes to it, so no position before it is
/// of any use.
pub(super) fn follow_error(error: Error) -> StoreError {
    match error.kind.as_ref() {
        ErrorKind::Command(command) if command.code == code::OBJECT_TOO_LARGE => StoreError::PositionLost,
        _ => store_error(error),
    }
}

/// Follows a change stream.
///
/// The step under way is kept here, so that dropping the future of [`Changes::next`] stops nothing in the middle: the
/// driver's futures must be run to their end, or the stream may skip events.
pub(super) struct MongoChanges {
    step: Advance,
    /// How long a step may take.
    step_timeout: Duration,
    /// Whether the step under way was begun before the present call of [`Changes::next`]. If so, that it finds nothing new
    /// does not mean that nothing was written before the call.
    begun_before: bool,
    position: Position,
    reader: Reader,
}

impl MongoChanges {
    /// Follows a stream that was opened at `from`; each step of it may take `step_timeout`.
    pub(super) fn new(
        stream: ChangeStream<ChangeStreamEvent<RawDocumentBuf>>,
        from: Position,
        step_timeout: Duration,
        reader: Reader,
    ) -> Self {
        Self { step: advance(stream.with_type()), step_timeout, begun_before: true, position: from, reader }
    }

    /// Takes the result of a step and begins the next one. `None`: the server had nothing new.
    fn take(
        &mut self,
        (stream, event): (ChangeStream<Event>, Result<Option<Event>, Error>),
    ) -> Result<Option<Option<Change>>, StoreError> {
        // Only a stream without a new event says how far it has come, since reading its token copies it.
        let quiet = matches!(event, Ok(None)).then(|| (stream.is_alive(), stream.resume_token()));
        self.step = advance(stream);
        self.begun_before = false;
        match (event.map_err(follow_error)?, quiet) {
            (Some(event), _) => {
                self.position = position(event.cluster_time);
                Ok(Some(self.read(event)?))
            }
            (None, Some((true, token))) => {
                self.position = self.position.max(token.as_ref().and_then(position_of_token).unwrap_or_default());
                Ok(None)
            }
            (None, _) => {
                Err(StoreError::Unavailable { message: "MongoDB closed the change stream".into(), source: None })
            }
        }
    }

    /// The change that an event makes; `None` for a document that is not a datum.
    fn read(&self, event: Event) -> Result<Option<Change>, StoreError> {
        match event.operation_type {
            OperationType::Insert | OperationType::Update | OperationType::Replace | OperationType::Delete => {}
            OperationType::Drop | OperationType::Rename | OperationType::DropDatabase | OperationType::Invalidate => {
                return Err(StoreError::PositionLost);
            }
            _ => return Ok(None),
        }
        if let Some(StoreEntry::Live(datum)) = event.full_document.and_then(|document| self.reader.read(&document)) {
            return Ok(Some(Change::Put(Box::new(datum))));
        }
        let id = event.document_key.and_then(|key| documents::read_key(key.get("_id").ok()??));
        Ok(id.map(Change::Removed))
    }
}

#[async_trait]
impl Changes for MongoChanges {
    async fn next(&mut self, max: usize) -> Result<ChangeBatch, StoreError> {
        let mut changes = Vec::new();
        while changes.len() < max {
            let begun_now = !std::mem::replace(&mut self.begun_before, true);
            let step = if changes.is_empty() {
                in_time(self.step_timeout, &mut self.step).await?
            } else {
                let Some(step) = (&mut self.step).now_or_never() else { break };
                step
            };
            match self.take(step)? {
                Some(change) => changes.extend(change),
                None if begun_now || !changes.is_empty() => break,
                None => {}
            }
        }
        Ok(ChangeBatch { changes, position: self.position })
    }
}

/// How far a change stream without new events has come: the time in its resume token.
///
/// A token is documented as opaque, but since MongoDB 4.0 it begins with the cluster time, in hexadecimal behind the tag
/// `82` (see `resume_token.h` of the server), and the driver shows that time in no other way. A token that begins
/// otherwise leaves the follower at its last change, which is never too far.
fn position_of_token(token: &ResumeToken) -> Option<Position> {
    let token = serialize_to_document(token).ok()?;
    let time = token.get_str("_data").ok()?.strip_prefix("82")?.get(..16)?;
    u64::from_str_radix(time, 16).ok().map(Position)
}

pub(super) fn position(time: ClusterTime) -> Position {
    Position(u64::from(time.time) << 32 | u64::from(time.increment))
}

#[expect(clippy::cast_possible_truncation, reason = "the two halves are taken apart")]
pub(super) fn cluster_time(Position(position): Position) -> ClusterTime {
    ClusterTime { time: (position >> 32) as u32, increment: position as u32 }
}
