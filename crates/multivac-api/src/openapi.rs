//! What the OpenAPI document is made of. `routes` describes each path with it, and [`document`] puts the whole together.
//!
//! A path describes what is its own. What any request may get, from the server beneath the routes or from the edge (nginx)
//! in front of it, is added here, as are `HEAD` and `OPTIONS`.

use std::collections::BTreeMap;

use utoipa::ToSchema;
use utoipa::openapi::header::{Header, HeaderBuilder};
use utoipa::openapi::path::{Operation, OperationBuilder, Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::request_body::RequestBody;
use utoipa::openapi::response::ResponseBuilder;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    Components, Content, ContentBuilder, HttpMethod, InfoBuilder, License, OpenApiBuilder, PathItem, Paths, Ref, RefOr,
    Required, Response,
};

use crate::replies::Problem;

/// The media type of every error.
pub(crate) const PROBLEM_JSON: &str = "application/problem+json";

/// The name of the edge's security scheme.
const PASSWORD: &str = "password";

/// The parameter that every operation takes.
const TRACEPARENT: &str = "traceparent";

/// What can come in reply to any request: (status, name in the document, description).
const SHARED: [(u16, &str, &str); 15] = [
    (400, "BadRequest", "The request is malformed"),
    (401, "Unauthorized", "From the edge: this needs a user name and a password"),
    (
        403,
        "Forbidden",
        "A browser sends it for a page of another site, or the server is not known by the name in `Host`",
    ),
    (408, "RequestTimeout", "The request came too slowly"),
    (411, "LengthRequired", "From the edge: the length of the body is missing"),
    (413, "ContentTooLarge", "From the edge: the body is too large"),
    (414, "UriTooLong", "The request's target is too long"),
    (417, "ExpectationFailed", "`Expect` names something else than `100-continue`"),
    (429, "TooManyRequests", "From the edge: too many requests from this address"),
    (431, "RequestHeaderFieldsTooLarge", "The request's header is too large"),
    (500, "InternalServerError", "MultiVAC failed at this; its log says why, under the same trace"),
    (502, "BadGateway", "From the edge: no replica replies"),
    (503, "ServiceUnavailable", "From the edge: no replica is available"),
    (504, "GatewayTimeout", "From the edge: no replica replied in time"),
    (505, "HttpVersionNotSupported", "This version of HTTP is not supported"),
];

/// What the server replies to any request that it cannot read, or must not serve.
const SERVER: [u16; 7] = [400, 403, 408, 414, 417, 431, 505];

/// What the edge replies besides, on the paths that it lets through.
const EDGE: [u16; 5] = [429, 500, 502, 503, 504];

/// What it replies besides where it wants a password.
const EDGE_PASSWORD: [u16; 1] = [401];

/// What it replies to requests with a body besides.
const EDGE_BODY: [u16; 2] = [411, 413];

/// One method of one path, as the document describes it.
pub(crate) struct Described {
    operation: OperationBuilder,
    responses: BTreeMap<u16, RefOr<Response>>,
    schemas: Vec<(String, RefOr<Schema>)>,
    has_body: bool,
    needs_password: bool,
    is_behind_edge: bool,
}

impl Described {
    /// A read that the edge lets through.
    pub(crate) fn read(id: &str, summary: &str) -> Self {
        let operation = OperationBuilder::new().operation_id(Some(id)).summary(Some(summary));
        let mut described = Self {
            operation: operation.parameter_ref(Ref::new(format!("#/components/parameters/{TRACEPARENT}"))),
            responses: BTreeMap::new(),
            schemas: Vec::new(),
            has_body: false,
            needs_password: false,
            is_behind_edge: true,
        };
        described.add_schema::<Problem<'_>>();
        described
    }

    /// A write that the edge lets through with a password.
    pub(crate) fn write(id: &str, summary: &str) -> Self {
        Self::read(id, summary).with_password()
    }

    /// A read for which the edge wants a password as well.
    pub(crate) fn with_password(self) -> Self {
        Self { needs_password: true, ..self }
    }

    /// A path that the edge closes: only those reach it that reach the server itself.
    pub(crate) fn closed_at_edge(self) -> Self {
        Self { is_behind_edge: false, ..self }
    }

    /// Takes a parameter.
    pub(crate) fn parameter(self, parameter: impl Into<Parameter>) -> Self {
        Self { operation: self.operation.parameter(parameter), ..self }
    }

    /// Takes a body.
    pub(crate) fn body<T: ToSchema>(mut self, body: RequestBody) -> Self {
        self.add_schema::<T>();
        Self { operation: self.operation.request_body(Some(body)), has_body: true, ..self }
    }

    /// Replies without a body, or with one that is not JSON.
    pub(crate) fn reply(mut self, status: u16, response: impl Into<Response>) -> Self {
        self.responses.insert(status, RefOr::T(response.into()));
        self
    }

    /// Replies with JSON.
    pub(crate) fn json<T: ToSchema>(mut self, status: u16, response: ResponseBuilder) -> Self {
        self.add_schema::<T>();
        self.reply(status, response.content("application/json", Content::new(Some(reference::<T>()))))
    }

    /// Has this schema in the document.
    pub(crate) fn schema<T: ToSchema>(mut self) -> Self {
        self.add_schema::<T>();
        self
    }

    /// Replies with an error that the description tells more about than [`SHARED`] does.
    pub(crate) fn problem(self, status: u16, description: &str) -> Self {
        let response = problem(status, description);
        self.reply(status, response)
    }

    /// Replies with an error that has members of its own.
    pub(crate) fn problem_of<T: ToSchema>(mut self, status: u16, description: &str) -> Self {
        self.add_schema::<T>();
        let response = ResponseBuilder::from(problem(status, description));
        self.reply(status, response.content(PROBLEM_JSON, Content::new(Some(reference::<T>()))))
    }

    fn add_schema<T: ToSchema>(&mut self) {
        self.schemas.push((T::name().into_owned(), T::schema()));
        T::schemas(&mut self.schemas);
    }

    /// The operation with what it shares with others, and the schemas that it refers to.
    fn finish(mut self) -> (Operation, Vec<(String, RefOr<Schema>)>) {
        let mut shared = SERVER.to_vec();
        if self.is_behind_edge {
            shared.extend(EDGE);
            shared.extend(EDGE_PASSWORD.iter().filter(|_| self.needs_password));
            shared.extend(EDGE_BODY.iter().filter(|_| self.has_body));
        }
        for (status, name, _) in SHARED {
            if shared.contains(&status) {
                self.responses.entry(status).or_insert_with(|| Ref::from_response_name(name).into());
            }
        }
        let mut operation = self.operation;
        for (status, response) in self.responses {
            operation = operation.response(status.to_string(), response);
        }
        if self.needs_password {
            operation = operation.security(SecurityRequirement::new(PASSWORD, Vec::<String>::new()));
        }
        (operation.build(), self.schemas)
    }
}

/// A path: what it has, and the `Allow` header that says so.
pub(crate) struct DescribedPath {
    pub(crate) path: &'static str,
    pub(crate) allow: String,
    pub(crate) operations: Vec<(HttpMethod, Described)>,
}

/// The whole document as JSON.
pub(crate) fn document(paths: impl IntoIterator<Item = DescribedPath>) -> serde_json::Result<String> {
    let mut all = Paths::new();
    let mut components = Components::new();
    for DescribedPath { path, allow, operations } in paths {
        let mut item = PathItem::default();
        let (mut id, mut path_parameters) = (String::new(), Vec::new());
        for (method, described) in operations {
            let (operation, schemas) = described.finish();
            components.schemas.extend(schemas);
            id = operation.operation_id.clone().unwrap_or_default();
            path_parameters =
                operation.parameters.iter().flatten().filter(|parameter| is_in_path(parameter)).cloned().collect();
            if method == HttpMethod::Get {
                item.merge_operations(PathItem::new(HttpMethod::Head, head(&operation)));
            }
            item.merge_operations(PathItem::new(method, operation));
        }
        item.merge_operations(PathItem::new(HttpMethod::Options, options(&id, &allow, path_parameters)));
        all.paths.insert(path.to_owned(), item);
    }
    components.responses.extend(SHARED.map(|(status, name, text)| (name.to_owned(), problem(status, text).into())));
    components.parameters.insert(TRACEPARENT.to_owned(), RefOr::T(traceparent()));
    let password = HttpBuilder::new().scheme(HttpAuthScheme::Basic).description(Some(
        "Required by the edge for every method that writes, and to read what is not for everybody; a server that is reached past \
         the edge requires none.",
    ));
    components.add_security_scheme(PASSWORD, SecurityScheme::Http(password.build()));
    let mut license = License::new("MIT OR Apache-2.0");
    license.identifier = Some("MIT OR Apache-2.0".to_owned());
    let info = InfoBuilder::new().title("MultiVAC").version(env!("CARGO_PKG_VERSION")).license(Some(license)).description(
        Some(
            "Feed it text, ask it questions. It answers with a sentence out of what it was fed, or says that the data are \
             insufficient.",
        ),
    );
    OpenApiBuilder::new().info(info).paths(all).components(Some(components)).build().to_pretty_json()
}

fn is_in_path(parameter: &RefOr<Parameter>) -> bool {
    matches!(parameter, RefOr::T(parameter) if parameter.parameter_in == ParameterIn::Path)
}

/// `HEAD`: as `GET`, without bodies.
fn head(get: &Operation) -> Operation {
    let mut head = get.clone();
    head.operation_id = get.operation_id.as_ref().map(|id| format!("{id}Head"));
    head.summary = Some("The same without a body".to_owned());
    for response in head.responses.responses.values_mut() {
        if let RefOr::T(response) = response {
            response.content.clear();
        }
    }
    head
}

/// `OPTIONS`: what the path has. The 405 that any other method gets stands here too, since a method that a path does not
/// have cannot be described.
fn options(id: &str, allow: &str, path_parameters: Vec<RefOr<Parameter>>) -> Operation {
    let allowed = ObjectBuilder::new().schema_type(Type::String).enum_values(Some([allow]));
    let allowed = HeaderBuilder::new().schema(Some(allowed)).description(Some("The methods that the path has")).build();
    let other = problem(405, "What any other method of this path gets");
    let mut operation = OperationBuilder::new()
        .operation_id(Some(format!("{id}Options")))
        .summary(Some("Which methods the path has"))
        .response("204", ResponseBuilder::new().description("`Allow` names them").header("Allow", allowed.clone()))
        .response("405", RefOr::T(ResponseBuilder::from(other).header("Allow", allowed).build()))
        .build();
    operation.parameters = Some(path_parameters).filter(|parameters| !parameters.is_empty());
    operation
}

/// An error in the form of RFC 9457, with the headers that its status comes with.
fn problem(status: u16, description: &str) -> Response {
    let mut response = ResponseBuilder::new().description(description);
    response = response.content(PROBLEM_JSON, Content::new(Some(reference::<Problem<'_>>())));
    let header = match status {
        401 => Some(("WWW-Authenticate", text_header("`Basic`, with the realm"))),
        429 | 502..=504 => Some(("Retry-After", integer_header("Seconds after which to try again"))),
        _ => None,
    };
    if let Some((name, header)) = header {
        response = response.header(name, header);
    }
    response.build()
}

/// A header that holds text.
pub(crate) fn text_header(description: &str) -> Header {
    HeaderBuilder::new().schema(Some(string())).description(Some(description)).build()
}

fn integer_header(description: &str) -> Header {
    let seconds = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0));
    HeaderBuilder::new().schema(Some(seconds)).description(Some(description)).build()
}

/// Text of any kind.
pub(crate) fn string() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

/// A reply's or a request's content: text, with an example of it.
pub(crate) fn text_content(example: &str) -> Content {
    let content = ContentBuilder::new().schema(Some(string()));
    if example.is_empty() { content.build() } else { content.example(Some(example.into())).build() }
}

/// A reply with this text.
pub(crate) fn text_reply(description: &str, example: &str) -> ResponseBuilder {
    ResponseBuilder::new().description(description).content("text/plain", text_content(example))
}

/// Where the schema of a type stands in the document.
pub(crate) fn reference<T: ToSchema>() -> Ref {
    Ref::from_schema_name(T::name())
}

fn traceparent() -> Parameter {
    ParameterBuilder::new()
        .name(TRACEPARENT)
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some("The trace that the request belongs to (W3C Trace Context); a new one if it is left out."))
        .schema(Some(string().pattern(Some("^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$"))))
        .build()
}
