//! The lines of the file.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::Trailer;
use crate::datum::{DatumId, Timestamp};
use crate::store::{StoreEntry, StoredDatum};

/// A datum, a tombstone, or the end: which, its first field says. Times are milliseconds since 1970 in UTC.
#[derive(Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    datum: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    tombstone: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    end: Option<Trailer>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    received_at: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    processed_at: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retracted_at: Option<i64>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    trace: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    text: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    passages: Option<Vec<Cow<'a, str>>>,
}

/// What a line says.
#[derive(Debug, PartialEq)]
pub(super) enum Said {
    Entry(StoreEntry),
    End(Trailer),
}

/// Appends the line of an entry; nothing for one that cannot be read.
pub(super) fn write(entry: &StoreEntry, line: &mut Vec<u8>) -> Result<(), serde_json::Error> {
    let id = entry.id().to_string();
    let said = match entry {
        StoreEntry::Unreadable { .. } => return Ok(()),
        StoreEntry::Tombstone { received_at, retracted_at, .. } => Line {
            tombstone: Some(id.into()),
            received_at: received_at.map(Timestamp::as_millis),
            retracted_at: Some(retracted_at.as_millis()),
            ..Line::default()
        },
        StoreEntry::Live(datum) => Line {
            datum: Some(id.into()),
            received_at: Some(datum.received_at.as_millis()),
            processed_at: Some(datum.processed_at.as_millis()),
            trace: datum.trace.as_deref().map(Cow::Borrowed),
            text: Some(Cow::Borrowed(&datum.text)),
            passages: Some(datum.passages.iter().map(|passage| Cow::Borrowed(passage.as_str())).collect()),
            ..Line::default()
        },
    };
    serde_json::to_writer(&mut *line, &said)?;
    line.push(b'\n');
    Ok(())
}

/// Appends the last line.
pub(super) fn write_end(trailer: Trailer, line: &mut Vec<u8>) -> Result<(), serde_json::Error> {
    serde_json::to_writer(&mut *line, &Line { end: Some(trailer), ..Line::default() })?;
    line.push(b'\n');
    Ok(())
}

/// What a line without its line feed says; else what is wrong with it, without a word of what it holds.
pub(super) fn read(line: &[u8]) -> Result<Said, &'static str> {
    let line: Line<'_> = serde_json::from_slice(line).map_err(|_| "is not what a line of a backup is")?;
    let id = |text: &str| text.parse::<DatumId>().map_err(|_| "has no datum's id");
    let time = |at: Option<i64>| at.map(Timestamp::from_millis);
    match line {
        Line { end: Some(trailer), datum: None, tombstone: None, .. } => Ok(Said::End(trailer)),
        Line {
            datum: Some(datum),
            tombstone: None,
            end: None,
            retracted_at: None,
            received_at: Some(received_at),
            processed_at: Some(processed_at),
            text: Some(text),
            passages: Some(passages),
            trace,
        } => Ok(Said::Entry(StoreEntry::Live(StoredDatum {
            id: id(&datum)?,
            text: text.into_owned(),
            passages: passages.into_iter().map(Cow::into_owned).collect(),
            received_at: Timestamp::from_millis(received_at),
            processed_at: Timestamp::from_millis(processed_at),
            trace: trace.map(Cow::into_owned),
        }))),
        Line {
            tombstone: Some(tombstone),
            datum: None,
            end: None,
            received_at,
            retracted_at: Some(retracted_at),
            processed_at: None,
            text: None,
            passages: None,
            trace: None,
        } => Ok(Said::Entry(StoreEntry::Tombstone {
            id: id(&tombstone)?,
            received_at: time(received_at),
            retracted_at: Timestamp::from_millis(retracted_at),
        })),
        _ => Err("is neither a datum nor a tombstone nor the end"),
    }
}
