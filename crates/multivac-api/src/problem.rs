//! The one place where an error becomes a status and `application/problem+json` (RFC 9457).

use std::fmt;

use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use actix_web::{HttpResponse, ResponseError};
use multivac_core::accept::AcceptError;
use multivac_core::datum::DatumError;
use multivac_core::index::IndexError;
use multivac_core::question::QuestionError;
use multivac_core::queue::QueueError;
use multivac_core::status::StatusError;
use serde_json::json;
use tracing::error;

use crate::trace::trace_id;

/// An error as the client sees it.
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    detail: String,
    header: Option<(HeaderName, HeaderValue)>,
}

impl Problem {
    fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into(), header: None }
    }

    /// 400.
    pub(crate) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    /// 404.
    pub(crate) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail)
    }

    /// 405, with what the path has.
    pub(crate) fn method_not_allowed(allow: &'static str) -> Self {
        let header = Some((ALLOW, HeaderValue::from_static(allow)));
        Self { header, ..Self::new(StatusCode::METHOD_NOT_ALLOWED, format!("this path has {allow}")) }
    }

    /// 408.
    pub(crate) fn timeout(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, detail)
    }

    /// 413.
    pub(crate) fn too_large(limit: usize) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, DatumError::TooLarge { limit }.to_string())
    }

    /// 415.
    pub(crate) fn unsupported(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail)
    }

    /// 500: a fault of ours; told in the log, not to the client.
    pub(crate) fn fault(cause: &dyn fmt::Display) -> Self {
        error!(error = %cause, "a request failed");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "MultiVAC failed at this; its log says why")
    }

    /// 503, with the time after which it may be tried again, in seconds.
    pub(crate) fn unavailable(detail: impl Into<String>, retry_after: u64) -> Self {
        let header = Some((RETRY_AFTER, HeaderValue::from(retry_after)));
        Self { header, ..Self::new(StatusCode::SERVICE_UNAVAILABLE, detail) }
    }

    /// What went wrong, in a sentence.
    pub(crate) fn detail(&self) -> &str {
        &self.detail
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse {
        let mut body = json!({
            "type": "about:blank",
            "title": self.status.canonical_reason().unwrap_or("Error"),
            "status": self.status.as_u16(),
            "detail": self.detail,
        });
        if let Some(trace_id) = trace_id() {
            body["trace_id"] = trace_id.into();
        }
        let mut response = HttpResponse::build(self.status);
        response.insert_header((CONTENT_TYPE, "application/problem+json"));
        if let Some(header) = self.header.clone() {
            response.insert_header(header);
        }
        response.body(body.to_string())
    }
}

impl From<DatumError> for Problem {
    fn from(error: DatumError) -> Self {
        match error {
            DatumError::TooLarge { limit } => Self::too_large(limit),
            DatumError::Blank | DatumError::NotUtf8 => Self::bad_request(error.to_string()),
        }
    }
}

impl From<QuestionError> for Problem {
    fn from(error: QuestionError) -> Self {
        Self::bad_request(error.to_string())
    }
}

impl From<AcceptError> for Problem {
    fn from(error: AcceptError) -> Self {
        match &error {
            AcceptError::Full { retry_after } => Self::unavailable(error.to_string(), retry_after.as_secs().max(1)),
            AcceptError::NotDurable { .. } => Self::unavailable(error.to_string(), 1),
            // The cause's message is ours and names no server: that the disk is full, say.
            AcceptError::Unavailable(cause) | AcceptError::OutcomeUnknown(cause) => {
                Self::unavailable(format!("{error} ({cause})"), 1)
            }
        }
    }
}

impl From<QueueError> for Problem {
    fn from(error: QueueError) -> Self {
        StatusError::from(error).into()
    }
}

impl From<StatusError> for Problem {
    fn from(error: StatusError) -> Self {
        tracing::warn!(%error, "a request needs what is out of reach");
        Self::unavailable("the queue or the store is out of reach", 1)
    }
}

impl From<IndexError> for Problem {
    fn from(error: IndexError) -> Self {
        Self::fault(&error)
    }
}
