//! How the data are divided, so that they can be read at the same time in parts of about the same size.

use futures_util::TryStreamExt;
use mongodb::Collection;
use mongodb::bson::{Bson, Document, RawDocumentBuf, doc};
use mongodb::options::{FindOptions, Hint};

use super::calls::Calls;
use super::store_error;
use crate::store::StoreError;

/// How many ids are drawn for each part. The server finds so few by a walk of its own through the collection, however large it is.
const DRAWN_EACH: usize = 25;

/// What to find for each part; one for all where there is little.
pub(super) async fn divide(
    calls: &Calls,
    entropy: &Collection<RawDocumentBuf>,
    parts: usize,
) -> Result<Vec<FindOptions>, StoreError> {
    let (drawn, limit) = (DRAWN_EACH * parts, calls.scan);
    let size = i64::try_from(drawn).unwrap_or(i64::MAX);
    let entropy = entropy.clone();
    let draw = async move {
        // In the order of the server's own, which is that of an index across all types of ids.
        let stages =
            [doc! { "$sample": { "size": size } }, doc! { "$project": { "_id": 1 } }, doc! { "$sort": { "_id": 1 } }];
        entropy.aggregate(stages).max_time(limit).await?.with_type::<Document>().try_collect::<Vec<_>>().await
    };
    let mut ids: Vec<Bson> = calls
        .read(limit, draw)
        .await?
        .map_err(store_error)?
        .into_iter()
        .filter_map(|mut document| document.remove("_id"))
        .collect();
    // The same one may be drawn twice.
    ids.dedup();
    let whole = || vec![FindOptions::default()];
    if parts < 2 || ids.len() < drawn / 2 {
        return Ok(whole());
    }
    let bounds: Vec<&Bson> = (1..parts).map(|part| &ids[part * ids.len() / parts]).collect();
    let ends = bounds.iter().map(Some).chain([None]);
    let starts = [None].into_iter().chain(bounds.iter().map(Some));
    let part = |(start, end): (Option<&&Bson>, Option<&&Bson>)| {
        let bound = |id: &&Bson| doc! { "_id": (*id).clone() };
        // By the bounds of the index, since a filter with `$gt` finds ids of the same type alone.
        let hint = Hint::Keys(doc! { "_id": 1 });
        FindOptions::builder().hint(hint).min(start.map(bound)).max(end.map(bound)).build()
    };
    Ok(starts.zip(ends).map(part).collect())
}
