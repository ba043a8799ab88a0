//! Requests over HTTP/1.1, with TLS where the URL says so, and how long each may take.
//!
//! Proxies that the environment names (HTTPS_PROXY) are not used.

use std::error::Error;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use actix_web::web::Bytes;
use futures_util::{Stream, StreamExt};
use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, Method, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// After how long a connection that says nothing is probed: whether its other end is still there.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// Shorter than a server keeps an idle connection, so that none is used that it closes at that moment.
const IDLE_TIMEOUT: Duration = Duration::from_secs(20);

type Body = UnsyncBoxBody<Bytes, io::Error>;

/// What connections are made by. Cheap to clone.
pub(super) type Http = Client<HttpsConnector<HttpConnector>, Body>;

/// A request on its way to the server.
pub struct Call {
    request: Request<Body>,
    /// For all of it, the reply's body as well; `None` where whoever reads that sees to it.
    pub(super) timeout: Option<Duration>,
}

impl Call {
    pub(super) fn new(method: Method, uri: &str) -> Result<Self, http::Error> {
        let request = Request::builder().method(method).uri(uri);
        let request = request.header("User-Agent", concat!("multivac-api/", env!("CARGO_PKG_VERSION")));
        Ok(Self { request: request.body(empty())?, timeout: None })
    }

    /// With a parameter in its query.
    #[must_use]
    pub fn query(mut self, name: &str, value: &str) -> Self {
        let uri = format!("{}?{name}={}", self.request.uri(), utf8_percent_encode(value, NON_ALPHANUMERIC));
        *self.request.uri_mut() = uri.parse().expect("a URI with an encoded query is one");
        self
    }

    /// With a header.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.request.headers_mut().insert(name, value);
        self
    }

    /// With a body.
    #[must_use]
    pub fn body(mut self, body: Vec<u8>) -> Self {
        *self.request.body_mut() = Full::new(Bytes::from(body)).map_err(|never| match never {}).boxed_unsync();
        self
    }

    /// With a body that is read as it is sent.
    #[must_use]
    pub fn stream(mut self, body: impl Stream<Item = io::Result<Bytes>> + Send + 'static) -> Self {
        *self.request.body_mut() = StreamBody::new(body.map(|chunk| chunk.map(Frame::data))).boxed_unsync();
        self
    }

    /// Within a time, for the whole of it.
    #[must_use]
    pub fn within(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    pub(super) async fn send(self, http: &Http) -> Result<Response<Incoming>, hyper_util::client::legacy::Error> {
        http.request(self.request).await
    }
}

fn empty() -> Body {
    Full::default().map_err(|never| match never {}).boxed_unsync()
}

/// A reply whose body is still to be read.
pub struct Reading {
    /// Its headers.
    pub headers: HeaderMap,
    body: Incoming,
}

impl Reading {
    pub(super) fn new(response: Response<Incoming>) -> Self {
        let (head, body) = response.into_parts();
        Self { headers: head.headers, body }
    }

    /// The next piece of the body.
    pub(super) async fn next(&mut self) -> Option<Result<Bytes, hyper::Error>> {
        loop {
            match self.body.frame().await? {
                Ok(frame) => match frame.into_data() {
                    Ok(data) => return Some(Ok(data)),
                    // Trailers say nothing here.
                    Err(_) => continue,
                },
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

/// Connections whose other end has a certificate that this file, or the system, vouches for.
///
/// # Errors
/// When the file cannot be used.
pub(super) fn connect(ca_file: Option<&Path>) -> Result<Http, String> {
    let mut roots = RootCertStore::empty();
    match ca_file {
        Some(file) => {
            let unusable = |why: &dyn std::fmt::Display| format!("--ca-file: {}: {why}", file.display());
            let pem = std::fs::read(file).map_err(|error| unusable(&error))?;
            for certificate in CertificateDer::pem_slice_iter(&pem) {
                let certificate = certificate.map_err(|error| unusable(&error))?;
                roots.add(certificate).map_err(|error| unusable(&error))?;
            }
            if roots.is_empty() {
                return Err(unusable(&"expected certificates (PEM)"));
            }
        }
        None => {
            let _ = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let tls = tls.map_err(|error| error.to_string())?.with_root_certificates(roots).with_no_client_auth();
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
    tcp.set_keepalive(Some(KEEPALIVE));
    let https = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().wrap_connector(tcp);
    let mut client = Client::builder(TokioExecutor::new());
    client.pool_idle_timeout(IDLE_TIMEOUT).pool_timer(TokioTimer::new());
    Ok(client.build(https))
}

/// What was wrong with TLS, if it was that.
pub(super) fn tls_error(error: &(dyn Error + 'static)) -> Option<String> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<rustls::Error>() {
            return Some(error.to_string());
        }
        next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

/// The last cause of an error: what the system or the server said.
pub(super) fn root_cause(error: &dyn Error) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}
