//! Tombstones that a backup brings, and when the last backup was made: collection `backups`.

use std::collections::HashMap;
use std::time::Duration;

use mongodb::bson::{Bson, DateTime, Document, RawDocumentBuf, doc};
use mongodb::error::{Error, ErrorKind};
use mongodb::{Collection, Database};

use super::calls::Calls;
use super::documents::ENTROPY;
use super::{documents, is_duplicate, is_id_taken, store_error};
use crate::datum::{DatumId, Timestamp};
use crate::store::{BackupKind, Put, Retraction, StoreError, Tombstone};

const BACKUPS: &str = "backups";

/// `there` says which ids are taken. Most of them are of data that are not there, so they are inserted together; the others take their places one by one.
pub(super) async fn put_tombstones(
    calls: &Calls,
    database: &Database,
    tombstones: &[Tombstone],
    there: &HashMap<DatumId, Put>,
) -> Result<Vec<Retraction>, StoreError> {
    let entropy = database.collection(ENTROPY);
    let absent: Vec<RawDocumentBuf> = tombstones
        .iter()
        .filter(|one| !there.contains_key(&one.id))
        .map(|one| RawDocumentBuf::try_from(&document(one)).map_err(|error| store_error(error.into())))
        .collect::<Result<_, _>>()?;
    if !absent.is_empty() {
        let collection = entropy.clone();
        let insert = async move { collection.insert_many(absent).ordered(false).await };
        match calls.write(calls.put, insert).await? {
            Ok(_) => {}
            // Put or retracted at the same moment: looked at once more.
            Err(error) if all_ids_taken(&error) => {
                let message = "a datum came at the same moment as its tombstone".to_owned();
                return Err(StoreError::Unavailable { message, source: Some(Box::new(error)) });
            }
            Err(error) => return Err(store_error(error)),
        }
    }
    let mut before = Vec::with_capacity(tombstones.len());
    for one in tombstones {
        before.push(match there.get(&one.id) {
            None => Retraction::WasAbsent,
            Some(Put::Retracted) => Retraction::WasRetracted,
            Some(_) => {
                let (entropy, one, limit) = (entropy.clone(), *one, calls.call);
                let replaced = calls.write(limit, async move { replace(&entropy, &one, limit).await });
                if replaced.await?.map_err(store_error)? { Retraction::WasLive } else { Retraction::WasRetracted }
            }
        });
    }
    Ok(before)
}

fn document(tombstone: &Tombstone) -> Document {
    let time = |at: Timestamp| DateTime::from_millis(at.as_millis());
    let mut document = doc! { "_id": documents::key(tombstone.id) };
    if let Some(received_at) = tombstone.received_at {
        document.insert("received_at", time(received_at));
    }
    document.insert("retracted_at", time(tombstone.retracted_at));
    document
}

/// Puts a tombstone in the place of a live datum; whether there was one.
async fn replace(entropy: &Collection<RawDocumentBuf>, tombstone: &Tombstone, limit: Duration) -> Result<bool, Error> {
    let mut filter = documents::not_retracted();
    filter.insert("_id", documents::key(tombstone.id));
    let mut document = document(tombstone);
    document.entry("received_at".to_owned()).or_insert(Bson::String("$received_at".to_owned()));
    document.insert("_id", "$_id");
    let replaced = entropy.find_one_and_update(filter, vec![doc! { "$replaceWith": document }]).max_time(limit);
    Ok(replaced.await?.is_some())
}

fn all_ids_taken(error: &Error) -> bool {
    let ErrorKind::InsertMany(failure) = error.kind.as_ref() else { return is_duplicate(error) };
    failure.write_concern_error.is_none() && failure.write_errors.iter().flatten().all(is_id_taken)
}

pub(super) async fn record(
    calls: &Calls,
    database: &Database,
    kind: BackupKind,
    completed_at: Timestamp,
) -> Result<(), StoreError> {
    let backups = database.collection::<Document>(BACKUPS);
    let completed_at = DateTime::from_millis(completed_at.as_millis());
    let update = doc! { "$set": { "completed_at": completed_at } };
    let record = async move { backups.update_one(doc! { "_id": kind.as_str() }, update).upsert(true).await.map(drop) };
    calls.write(calls.call, record).await?.map_err(store_error)
}

pub(super) async fn last(
    calls: &Calls,
    database: &Database,
    kind: BackupKind,
) -> Result<Option<Timestamp>, StoreError> {
    let (backups, limit) = (database.collection::<Document>(BACKUPS), calls.call);
    let find = async move { backups.find_one(doc! { "_id": kind.as_str() }).max_time(limit).await };
    let found = calls.read(limit, find).await?.map_err(store_error)?;
    let completed_at = found.and_then(|document| document.get_datetime("completed_at").ok().copied());
    Ok(completed_at.map(|at| Timestamp::from_millis(at.timestamp_millis())))
}
