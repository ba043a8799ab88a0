//! The one place where an error becomes a status and `application/problem+json` (RFC 9457).

use std::fmt;

use actix_web::body::BoxBody;
use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use actix_web::{HttpRequest, HttpResponse, Responder, ResponseError};
use multivac_core::accept::AcceptError;
use multivac_core::datum::DatumError;
use multivac_core::index::IndexError;
use multivac_core::observe::metrics;
use multivac_core::question::QuestionError;
use multivac_core::queue::QueueError;
use multivac_core::status::StatusError;
use multivac_core::store::StoreError;
use serde::Serialize;
use tracing::{error, warn};

use crate::openapi::PROBLEM_JSON;
use crate::replies;
use multivac_core::observe::trace::current_id as trace_id;

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

    /// 403.
    pub(crate) fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, detail)
    }

    /// 404.
    pub(crate) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail)
    }

    /// 405, with the methods that the path has.
    pub(crate) fn method_not_allowed(allow: &str) -> Self {
        let header = HeaderValue::from_str(allow).ok().map(|allow| (ALLOW, allow));
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

    /// 414.
    pub(crate) fn uri_too_long() -> Self {
        Self::new(StatusCode::URI_TOO_LONG, "the target is too long; a question has at most 1,000 characters")
    }

    /// 415.
    pub(crate) fn unsupported(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail)
    }

    /// 417.
    pub(crate) fn expectation_failed() -> Self {
        Self::new(StatusCode::EXPECTATION_FAILED, "Expect: nothing but 100-continue can be expected here")
    }

    /// 429, with the time after which it may be tried again, in seconds.
    pub(crate) fn too_many(detail: impl Into<String>, retry_after: u64) -> Self {
        let header = Some((RETRY_AFTER, HeaderValue::from(retry_after)));
        Self { header, ..Self::new(StatusCode::TOO_MANY_REQUESTS, detail) }
    }

    /// 431.
    pub(crate) fn head_too_large() -> Self {
        Self::new(
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            "the request's header is too large, or has too many fields",
        )
    }

    /// 505.
    pub(crate) fn version_not_supported() -> Self {
        Self::new(StatusCode::HTTP_VERSION_NOT_SUPPORTED, "this server speaks HTTP/1.1 and HTTP/1.0")
    }

    /// 500: a fault of ours, which the log describes and the reply does not.
    pub(crate) fn fault(cause: &dyn fmt::Display) -> Self {
        error!(error = %cause, "a request failed");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "MultiVAC failed at this; its log says why")
    }

    /// 503, with the time after which it may be tried again, in seconds.
    pub(crate) fn unavailable(detail: impl Into<String>, retry_after: u64) -> Self {
        let header = Some((RETRY_AFTER, HeaderValue::from(retry_after)));
        Self { header, ..Self::new(StatusCode::SERVICE_UNAVAILABLE, detail) }
    }

    /// 503: the replica is fenced, as its log says once and `/readyz` all the time.
    pub(crate) fn fenced() -> Self {
        let detail = "this replica cannot know what was retracted: the store was out of reach for 5 s, and it has not \
                      caught up since; another replica may answer";
        Self::unavailable(detail, 1)
    }

    /// 503 for a call to a backend that failed; its one line in the log.
    fn out_of_reach(error: &dyn fmt::Display) -> Self {
        warn!(%error, "a request needs a backend that is out of reach");
        Self::unavailable("the queue or the store is out of reach", 1)
    }

    /// The same, and what follows from it.
    pub(crate) fn and(mut self, consequence: &str) -> Self {
        self.detail.push_str("; ");
        self.detail.push_str(consequence);
        self
    }

    /// What went wrong, in a sentence.
    pub(crate) fn detail(&self) -> &str {
        &self.detail
    }

    /// The reply, with these members besides its own.
    pub(crate) fn reply_with(&self, members: impl Serialize) -> HttpResponse {
        let problem = replies::Problem {
            kind: "about:blank",
            title: self.status.canonical_reason().unwrap_or("Error"),
            status: self.status.as_u16(),
            detail: &self.detail,
            trace_id: trace_id(),
        };
        let mut response = HttpResponse::build(self.status);
        response.insert_header((CONTENT_TYPE, PROBLEM_JSON));
        if let Some(header) = self.header.clone() {
            response.insert_header(header);
        }
        response.json(Extended { problem, members })
    }
}

/// A problem with extension members (RFC 9457, 3.2).
#[derive(Serialize)]
struct Extended<'a, T> {
    #[serde(flatten)]
    problem: replies::Problem<'a>,
    #[serde(flatten)]
    members: T,
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
        self.reply_with(())
    }
}

impl Responder for Problem {
    type Body = BoxBody;

    fn respond_to(self, _: &HttpRequest) -> HttpResponse {
        self.error_response()
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

/// Not logged here: a failed step of the queue fails many requests at once, and `accept` logs and counts it once.
impl From<AcceptError> for Problem {
    fn from(error: AcceptError) -> Self {
        match &error {
            AcceptError::Full { retry_after } => Self::unavailable(error.to_string(), retry_after.as_secs().max(1)),
            AcceptError::KeyOfOtherText => Self::new(StatusCode::UNPROCESSABLE_ENTITY, error.to_string()),
            AcceptError::NotDurable { .. } => Self::unavailable(error.to_string(), 1),
            // The cause's message is our own, such as that the disk is full, and names no server.
            AcceptError::Unavailable(cause) | AcceptError::OutcomeUnknown { cause, .. } => {
                Self::unavailable(format!("{error} ({cause})"), 1)
            }
        }
    }
}

impl From<QueueError> for Problem {
    fn from(error: QueueError) -> Self {
        metrics::QUEUE_ERRORS.inc();
        Self::out_of_reach(&error)
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        metrics::STORE_ERRORS.inc();
        Self::out_of_reach(&error)
    }
}

impl From<StatusError> for Problem {
    fn from(error: StatusError) -> Self {
        match error {
            StatusError::Queue(error) => error.into(),
            StatusError::Store(error) => error.into(),
        }
    }
}

impl From<IndexError> for Problem {
    fn from(error: IndexError) -> Self {
        Self::fault(&error)
    }
}
