//! `GET /multivac/export`: a backup of all data, streamed as it is read.
//!
//! What breaks off has no trailer, so no one can take it for a whole one; `import` and the command line refuse it.

use std::io::{self, BufWriter, Write};
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::Method;
use actix_web::http::header::CONTENT_DISPOSITION;
use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse, web};
use futures_util::{StreamExt, stream};
use multivac_core::backup::write::write;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::warn;
use utoipa::openapi::response::ResponseBuilder;
use utoipa::openapi::{Content, Ref};

use crate::openapi::{Described, text_header};
use crate::problem::Problem;
use crate::state::State;

/// The media type of a backup.
pub(super) const GZIP: &str = "application/gzip";

/// How much is sent at once, and how many such pieces wait for the client.
const CHUNK_BYTES: usize = 256 << 10;
const WAITING_CHUNKS: usize = 2;

/// How long the client may take nothing at all: the store keeps the moment for it all the while.
const STALL_TIMEOUT: Duration = Duration::from_secs(60);

type Chunk = Result<Bytes, io::Error>;

pub(super) async fn export(request: HttpRequest, state: web::Data<State>) -> Result<HttpResponse, Problem> {
    let permit = state.backups.begin()?;
    let mut reply = HttpResponse::Ok();
    reply.content_type(GZIP).insert_header((CONTENT_DISPOSITION, "attachment; filename=\"multivac.ndjson.gz\""));
    if request.method() == Method::HEAD {
        return Ok(reply.finish());
    }
    let (chunks, body) = mpsc::channel(WAITING_CHUNKS);
    let (began, begins) = oneshot::channel();
    let (store, stop) = (Arc::clone(&state.registry.store), state.stop.clone());
    actix_web::rt::spawn(async move {
        let permit = permit;
        let mut snapshot = store.snapshot();
        // A store that is out of reach is told by a status, as long as there can be one.
        let first = snapshot.next().await;
        let first = match first {
            Some(Err(error)) => {
                let _ = began.send(Err(error));
                return;
            }
            first => first,
        };
        let _ = began.send(Ok(()));
        let out = Sending { chunks: chunks.clone(), runtime: Handle::current(), stop };
        let out = BufWriter::with_capacity(CHUNK_BYTES, out);
        let written = write(stream::iter(first).chain(snapshot).boxed(), out, &|_| {}).await;
        if let Err(error) = written {
            warn!(%error, "an export over HTTP broke off");
            // The client may take as long as it likes to hear of it; others need not wait for that.
            drop(permit);
            // So that the connection is cut, and the body does not seem to end here.
            let _ = chunks.send(Err(io::Error::other("the export broke off"))).await;
        }
    });
    begins.await.map_err(|ended| Problem::fault(&ended))??;
    let body = stream::unfold(body, |mut body| async move { body.recv().await.map(|chunk| (chunk, body)) });
    Ok(reply.streaming(body))
}

/// What is written goes to the client, as fast as that takes it.
struct Sending {
    chunks: mpsc::Sender<Chunk>,
    runtime: Handle,
    stop: CancellationToken,
}

impl Write for Sending {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sending = self.chunks.send(Ok(Bytes::copy_from_slice(bytes)));
        let gone = |why: &'static str| io::Error::new(io::ErrorKind::BrokenPipe, why);
        self.runtime.block_on(async {
            tokio::select! {
                () = self.stop.cancelled() => Err(gone("this replica is stopping")),
                sent = tokio::time::timeout(STALL_TIMEOUT, sending) => match sent {
                    Ok(Ok(())) => Ok(bytes.len()),
                    Ok(Err(_)) => Err(gone("the client has gone")),
                    Err(_) => Err(gone("the client took nothing for too long")),
                },
            }
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub(super) fn describe() -> Described {
    let backup = ResponseBuilder::new()
        .description("A backup, as docs/backup-format.md describes it. Whole only if its last line is there")
        .content(GZIP, Content::new(None::<Ref>))
        .header("Content-Disposition", text_header("A name for the file"));
    Described::write("export", "All data and tombstones, as they are at one moment")
        .reply(200, backup)
        .problem(403, "As elsewhere; or the operator does not allow it: --allow-backup-over-http")
        .problem(503, "The store is out of reach, or another export or import is under way")
}
