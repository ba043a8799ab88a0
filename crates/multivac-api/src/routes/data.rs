//! `POST /multivac/data`: takes a datum.

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue, LOCATION};
use actix_web::{HttpRequest, HttpResponse, web};
use multivac_core::accept::{AcceptRequest, Receipt};
use multivac_core::queue::{Durability, IdempotencyKey, ReachedDurability};
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::response::ResponseBuilder;
use utoipa::openapi::{Content, Required};

use crate::body::{self, JsonDatum};
use crate::openapi::{Described, reference, string, text_content, text_header};
use crate::problem::Problem;
use crate::replies::Accepted;
use crate::state::State;

/// The longest `Idempotency-Key`, in bytes.
const MAX_KEY_LENGTH: usize = 255;

const EXPECTED_KEY: &str = "expected 1 to 255 visible characters";

/// Where the edge says who sent the request, once it has checked the password. It passes no such header of a client's on.
const USER_HEADER: HeaderName = HeaderName::from_static("x-multivac-user");

const KEY_HEADER: HeaderName = HeaderName::from_static("idempotency-key");

pub(super) async fn feed(
    request: HttpRequest,
    payload: web::Payload,
    state: web::Data<State>,
) -> Result<HttpResponse, Problem> {
    let key = KeyOwner::of(&request).key_of_request(&request)?.map(|key| key.of_line(None));
    let datum = body::datum(&request, payload, state.max_datum_size).await?;
    let Receipt { id, durability, .. } = state.acceptor.accept(AcceptRequest { datum, key }).await?;
    let location = format!("/multivac/data/{id}");
    let mut reply = HttpResponse::Ok().insert_header((LOCATION, location)).json(Accepted::new(id));
    set_durability(reply.headers_mut(), durability);
    Ok(reply)
}

/// Sets the `Durability` header, except where durability is up to the server of the queue: how durable a datum is then
/// is not known here.
pub(super) fn set_durability(headers: &mut HeaderMap, durability: ReachedDurability) {
    if durability != ReachedDurability::Queue(Durability::Server) {
        headers.insert(HeaderName::from_static("durability"), HeaderValue::from_static(durability.as_str()));
    }
}

/// Whose the keys of a request are.
#[derive(Clone)]
pub(super) struct KeyOwner(Option<Vec<u8>>);

impl KeyOwner {
    /// The user that the edge names.
    pub(super) fn of(request: &HttpRequest) -> Self {
        let user = request.headers().get(USER_HEADER).map(|user| user.as_bytes().to_vec());
        Self(user.filter(|user| !user.is_empty()))
    }

    /// The request's `Idempotency-Key`: sending the request again with the same key makes no second datum.
    pub(super) fn key_of_request(&self, request: &HttpRequest) -> Result<Option<ClientKey>, Problem> {
        let Some(key) = request.headers().get(KEY_HEADER) else { return Ok(None) };
        let key = key.to_str().ok().and_then(|key| self.key(key));
        key.map(Some).ok_or_else(|| Problem::bad_request(format!("Idempotency-Key: {EXPECTED_KEY}")))
    }

    /// A key of one line of a request.
    pub(super) fn key_of_line(&self, key: &str) -> Result<IdempotencyKey, Problem> {
        let key = self.key(key).ok_or_else(|| Problem::bad_request(format!("\"idempotency_key\": {EXPECTED_KEY}")))?;
        Ok(key.of_line(None))
    }

    fn key(&self, key: &str) -> Option<ClientKey> {
        let is_key = !key.trim().is_empty()
            && key.len() <= MAX_KEY_LENGTH
            && key.bytes().all(|b| b == b'\t' || (b' '..=b'~').contains(&b));
        is_key.then(|| ClientKey { user: self.0.clone(), key: key.to_owned() })
    }
}

/// An `Idempotency-Key`, and whose it is.
pub(super) struct ClientKey {
    user: Option<Vec<u8>>,
    key: String,
}

impl ClientKey {
    /// As the queue knows it; with the line's number where it was given for many lines at once.
    pub(super) fn of_line(&self, line: Option<u64>) -> IdempotencyKey {
        IdempotencyKey::new(self.user.as_deref(), &self.key, line)
    }
}

pub(super) fn describe() -> Described {
    let object = || Content::new(Some(reference::<JsonDatum<'_>>()));
    let body = RequestBodyBuilder::new()
        .required(Some(Required::True))
        .content("application/x-www-form-urlencoded", object())
        .content("multipart/form-data", object())
        .content("application/json", object())
        .content("text/plain", text_content("Stars go out."));
    let accepted = ResponseBuilder::new()
        .description("The queue holds it durably")
        .header("Location", text_header("Where its status is"))
        .header("Durability", durability_header());
    Described::write("feed", "Takes a datum")
        .parameter(key_parameter())
        .body::<JsonDatum<'_>>(body.build())
        .json::<Accepted>(200, accepted)
        .problem(400, "No text or more than one, a blank one, not UTF-8, or malformed")
        .problem(408, "The body came too slowly")
        .problem(413, "The datum is over the limit")
        .problem(415, "A content type that is not listed, a charset that is not UTF-8, or a compressed body")
        .problem(422, "The `Idempotency-Key` was sent with another text before")
        .problem(
            503,
            "The queue is full or out of reach, and nothing was accepted; or its outcome is unknown: `detail` says so",
        )
}

/// How `Idempotency-Key` is described.
pub(super) fn key_parameter() -> Parameter {
    ParameterBuilder::new()
        .name("Idempotency-Key")
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(
            "The same key of the same user again within a day is the same datum; with another text it is refused.",
        ))
        .schema(Some(string().min_length(Some(1)).max_length(Some(MAX_KEY_LENGTH)).pattern(Some("^[!-~]+$"))))
        .build()
}

/// How `Durability` is described.
pub(super) fn durability_header() -> utoipa::openapi::header::Header {
    HeaderBuilder::new()
        .schema(Some(string().enum_values(Some(["fsync", "replicated", "stored"]))))
        .description(Some("How durably it is held, at least; left out if that is up to the server of the queue"))
        .build()
}
