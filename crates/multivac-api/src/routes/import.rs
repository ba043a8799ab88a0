//! `POST /multivac/import`: brings a backup in. The whole of it is verified before anything changes.

use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse, web};
use multivac_core::backup::BackupError;
use multivac_core::backup::restore::{check, restore};
use tokio::io::AsyncWriteExt;
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::response::ResponseBuilder;
use utoipa::openapi::{Content, Ref, Required};

use super::export::GZIP;
use crate::body;
use crate::openapi::Described;
use crate::pace::Paced;
use crate::problem::Problem;
use crate::replies::Imported;
use crate::state::State;

pub(super) async fn import(
    request: HttpRequest,
    payload: web::Payload,
    state: web::Data<State>,
) -> Result<HttpResponse, Problem> {
    let permit = state.backups.begin()?;
    body::refuse_encoding(&request)?;
    let media = body::media_type(&request)?;
    if !matches!(media.essence.as_str(), GZIP | "application/x-gzip" | "application/octet-stream") {
        return Err(Problem::unsupported("expected application/gzip: what `export` gives"));
    }
    let file = tempfile::tempfile().map_err(|error| no_room(&error))?;
    let mut file = tokio::fs::File::from_std(file);
    let mut chunks = Paced::new(payload);
    while let Some(chunk) = chunks.next().await? {
        file.write_all(&chunk).await.map_err(|error| no_room(&error))?;
    }
    file.flush().await.map_err(|error| no_room(&error))?;
    let file = file.into_std().await;
    let (header, _) = check(&file, |_| {}).await.map_err(Problem::from)?;
    // To its end, also when the client does not wait for it.
    let backends = Arc::clone(&state.backups.backends);
    let restoring = actix_web::rt::spawn(async move {
        let _permit = permit;
        restore(&backends, &file, &|_| {}).await
    });
    let restored = restoring.await.map_err(|ended| Problem::fault(&ended))??;
    Ok(HttpResponse::Ok().json(Imported::new(&header, &restored)))
}

fn no_room(error: &std::io::Error) -> Problem {
    Problem::fault(&format!("a backup cannot be written to {}: {error}", std::env::temp_dir().display()))
}

impl From<BackupError> for Problem {
    fn from(error: BackupError) -> Self {
        match error {
            BackupError::NotABackup(_) | BackupError::Newer(_) | BackupError::Damaged(_) => {
                Self::bad_request(format!("{error}; nothing was changed"))
            }
            BackupError::Refused { .. } => Self::unprocessable(error.to_string()),
            BackupError::Backend(_) | BackupError::Away { .. } => {
                Self::out_of_reach(&error).and("what is imported stays: send the same again")
            }
            BackupError::Io(_) | BackupError::Index(_) | BackupError::Unfit(_) | BackupError::Task(_) => {
                Self::fault(&error)
            }
        }
    }
}

pub(super) fn describe() -> Described {
    let body = RequestBodyBuilder::new()
        .required(Some(Required::True))
        .description(Some("A backup, as docs/backup-format.md describes it"))
        .content(GZIP, Content::new(None::<Ref>))
        .content("application/octet-stream", Content::new(None::<Ref>));
    Described::write("import", "Brings a backup in, beside the data that are there")
        .body::<Imported>(body.build())
        .json::<Imported>(200, ResponseBuilder::new().description("All of it is there"))
        .problem(400, "The body is no whole backup, or of a newer format; nothing was changed")
        .problem(403, "As elsewhere; or the operator does not allow it: --allow-backup-over-http")
        .problem(408, "The body came too slowly; nothing was changed")
        .problem(415, "Another content type, or a Content-Encoding")
        .problem(422, "The store does not take some of the data; all others are there")
        .problem(
            503,
            "A backend is away: what is imported stays, and the same again goes on; or another export or import is under way",
        )
}
