//! A client of MultiVAC over HTTP, for the commands for people.
//!
//! It knows where the server is ([`Server`]), who asks ([`credentials`]), and what a reply that is none means: a [`ClientError`]
//! says whether the same request may succeed later, and [`retry`] how long to wait until then. No redirect is followed, so a
//! password goes to the host that was named, and to no other.

pub mod credentials;
pub mod retry;

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use reqwest::header::{CONTENT_TYPE, HeaderMap};
use reqwest::{Certificate, Method, RequestBuilder, Response, StatusCode, Url};
use serde_json::Value;

use credentials::Credentials;

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Shorter than a server keeps an idle connection, so that none is used that it closes at that moment.
const IDLE_TIMEOUT: Duration = Duration::from_secs(20);

/// The largest reply that is read: an answer has ten passages at most, each of a datum of 3 MiB, which JSON may double.
const MAX_REPLY_BYTES: usize = 64 << 20;

/// Which server, and as whom.
#[derive(Args, Clone)]
pub struct Server {
    /// Where the server is, such as https://multivac.example. A password has no place in it: see --user.
    #[arg(
        long,
        env = "MULTIVAC_TO",
        default_value = "http://127.0.0.1:5000",
        value_name = "URL",
        hide_env_values = true
    )]
    pub to: String,

    /// As whom, and whom to trust.
    #[command(flatten)]
    pub access: Access,
}

/// As whom a server is asked, and whose certificate it may have.
#[derive(Args, Clone)]
pub struct Access {
    /// The user name, where the server needs one. Its password comes from MULTIVAC_PASSWORD_FILE, or from ~/.netrc (or the file
    /// that NETRC names); never from the command line. Left out: whom netrc has for the server's host, if anybody.
    #[arg(long, env = "MULTIVAC_USER", value_name = "NAME")]
    pub user: Option<String>,

    /// A file whose first line is the password of --user.
    #[arg(long, env = "MULTIVAC_PASSWORD_FILE", value_name = "FILE", requires = "user")]
    pub password_file: Option<PathBuf>,

    /// Send the password over plain http to another machine as well, where anybody on the way can read it.
    #[arg(long)]
    pub password_over_http: bool,

    /// A file with the certificates (PEM) of who signed the server's, for https. Left out: whom the system trusts.
    #[arg(long, env = "MULTIVAC_CA_FILE", value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
}

/// Why a request came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The command line, or a file that it names.
    #[error("{0}")]
    Usage(String),
    /// The server did not reply, or not to the end.
    #[error("{server} does not reply: {why}")]
    Unreachable {
        /// The server.
        server: String,
        /// Why.
        why: String,
    },
    /// No safe connection can be made, now or later.
    #[error("{server}: no safe connection: {why}; --ca-file names whom to trust")]
    Unsafe {
        /// The server.
        server: String,
        /// Why.
        why: String,
    },
    /// The server refused the request, or could not do it now.
    #[error("{server} replies {status}: {detail}")]
    Refused {
        /// The server.
        server: String,
        /// The status.
        status: StatusCode,
        /// What the server says of it.
        detail: String,
        /// After how long it may be tried again.
        retry_after: Option<Duration>,
        /// Whether the same request may succeed later.
        may_pass: bool,
    },
    /// What replied is no MultiVAC.
    #[error("{server} is no MultiVAC: {why}")]
    Other {
        /// The server.
        server: String,
        /// What was wrong.
        why: String,
    },
}

impl ClientError {
    /// Whether the same request may succeed later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Refused { may_pass, .. } => *may_pass,
            Self::Usage(_) | Self::Unsafe { .. } | Self::Other { .. } => false,
        }
    }

    /// How long the server asks to wait.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

/// A reply that was read to its end.
pub struct Reply {
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Vec<u8>,
}

/// A client of one server. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    base: Url,
    http: reqwest::Client,
    credentials: Option<Credentials>,
}

impl Client {
    /// For the server at `to`.
    ///
    /// # Errors
    /// [`ClientError::Usage`].
    pub fn new(to: &str, access: &Access) -> Result<Self, ClientError> {
        let base = base_url(to).map_err(ClientError::Usage)?;
        let is_loopback = is_loopback(&base);
        let credentials = Credentials::find(&base, is_loopback, access)?;
        // Another provider that is there already does as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut http = reqwest::Client::builder()
            .user_agent(concat!("multivac-api/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(IDLE_TIMEOUT);
        if is_loopback {
            http = http.no_proxy();
        }
        if let Some(file) = &access.ca_file {
            let unusable = |why: String| ClientError::Usage(format!("--ca-file: {}: {why}", file.display()));
            let pem = std::fs::read(file).map_err(|error| unusable(error.to_string()))?;
            let certificates = Certificate::from_pem_bundle(&pem).map_err(|error| unusable(root_cause(&error)))?;
            if certificates.is_empty() {
                return Err(unusable("expected certificates (PEM)".to_owned()));
            }
            http = http.tls_certs_only(certificates);
        }
        let http = http
            .build()
            .map_err(|error| ClientError::Usage(format!("no https can be spoken: {}", root_cause(&error))))?;
        Ok(Self { base, http, credentials })
    }

    /// The server as it is named in messages.
    #[must_use]
    pub fn server(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    /// As whom it asks, if as anybody.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        self.credentials.as_ref().map(Credentials::user)
    }

    /// A request for a path, which does not begin with a slash.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let url = self.base.join(path).expect("a plain path can be joined to a base URL");
        let request = self.http.request(method, url);
        match &self.credentials {
            Some(credentials) => credentials.add_to(request),
            None => request,
        }
    }

    /// Sends a request, and reads the head of its reply.
    ///
    /// # Errors
    /// See [`ClientError`]; a reply that is no success is one as well.
    pub async fn begin(&self, request: RequestBuilder) -> Result<Response, ClientError> {
        let response = request.send().await.map_err(|error| self.failed(&error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let headers = response.headers().clone();
        if let Some(to) = headers.get("Location").filter(|_| status.is_redirection()) {
            let to = printable(&String::from_utf8_lossy(to.as_bytes()));
            let detail = format!("it sends on to {to}, which is not followed: name that server with --to");
            return Err(self.refused(status, detail, None, false));
        }
        let retry_after = retry::after(&headers);
        let body = self.read(response).await.map(|reply| reply.body).unwrap_or_default();
        let problem: Value = serde_json::from_slice(&body).unwrap_or_default();
        let mut detail = problem["detail"].as_str().map_or_else(|| "it does not say why".to_owned(), printable);
        if status == StatusCode::UNAUTHORIZED {
            detail = match self.user() {
                Some(user) => format!("the user name {} or its password is wrong", printable(user)),
                None => "it needs a user name and a password: --user and MULTIVAC_PASSWORD_FILE, or netrc".to_owned(),
            };
        }
        // The body broke off somewhere between here and there: that is told with what came of it so far.
        let broke_off = problem["ids"].is_array();
        let may_pass = broke_off || matches!(status.as_u16(), 408 | 425 | 429 | 500 | 502..=504);
        Err(self.refused(status, detail, retry_after, may_pass))
    }

    /// Sends a request, and reads its whole reply.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn send(&self, request: RequestBuilder) -> Result<Reply, ClientError> {
        let response = self.begin(request).await?;
        self.read(response).await
    }

    /// Sends a request whose reply is JSON.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn json(&self, request: RequestBuilder) -> Result<Reply, ClientError> {
        let reply = self.send(request).await?;
        let media = reply.headers.get(CONTENT_TYPE).and_then(|media| media.to_str().ok()).unwrap_or_default();
        if !media.starts_with("application/json") {
            return Err(self.other("its reply is no JSON"));
        }
        Ok(reply)
    }

    /// What replied is something else.
    #[must_use]
    pub fn other(&self, why: &str) -> ClientError {
        ClientError::Other { server: self.server().to_owned(), why: why.to_owned() }
    }

    /// It did not reply as it should.
    #[must_use]
    pub fn unreachable(&self, why: impl Into<String>) -> ClientError {
        ClientError::Unreachable { server: self.server().to_owned(), why: why.into() }
    }

    async fn read(&self, mut response: Response) -> Result<Reply, ClientError> {
        let headers = response.headers().clone();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.failed(&error))? {
            if body.len() + chunk.len() > MAX_REPLY_BYTES {
                return Err(self.other("its reply is too large"));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Reply { headers, body })
    }

    /// It has taken a part, and says why it could not take the rest now.
    #[must_use]
    pub fn busy(&self, detail: &str, retry_after: Duration) -> ClientError {
        self.refused(StatusCode::SERVICE_UNAVAILABLE, printable(detail), Some(retry_after), true)
    }

    fn refused(
        &self,
        status: StatusCode,
        detail: String,
        retry_after: Option<Duration>,
        may_pass: bool,
    ) -> ClientError {
        ClientError::Refused { server: self.server().to_owned(), status, detail, retry_after, may_pass }
    }

    /// What an error of the library means.
    #[must_use]
    pub fn failed(&self, error: &reqwest::Error) -> ClientError {
        match tls_error(error) {
            Some(why) => ClientError::Unsafe { server: self.server().to_owned(), why },
            None if error.is_timeout() => self.unreachable("no reply in time"),
            None => self.unreachable(root_cause(error)),
        }
    }
}

/// The URL of a server, which ends with a slash. What is wrong with it is told without it, since it may hold a password.
fn base_url(to: &str) -> Result<Url, String> {
    let expected = || "--to: expected a URL such as https://multivac.example".to_owned();
    let mut url: Url = to.parse().map_err(|_| expected())?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
        return Err(expected());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(
            "--to: a URL with a user name or a password in it is not taken, since the list of processes and the \
                    shell's history would show it: --user NAME and MULTIVAC_PASSWORD_FILE, or netrc"
                .to_owned(),
        );
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("--to: expected the URL of a server, without ? and #".to_owned());
    }
    if !url.path().ends_with('/') {
        let path = format!("{}/", url.path());
        url.set_path(&path);
    }
    Ok(url)
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || host.ends_with(".localhost")
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// What was wrong with TLS, if it was that.
fn tls_error(error: &reqwest::Error) -> Option<String> {
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<rustls::Error>() {
            return Some(error.to_string());
        }
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        next = match inner {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

/// The last cause of an error: what the system or the server said.
fn root_cause(error: &dyn Error) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

/// Without control characters, of which a terminal would make what it likes.
#[must_use]
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' && c != '\t' { '\u{fffd}' } else { c }).collect()
}

/// The same in one line, as a name of a file.
#[must_use]
pub fn printable_name(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_named_by_a_plain_url() {
        for (to, base) in [
            ("http://localhost:5000", "http://localhost:5000/"),
            ("https://multivac.example/behind/it", "https://multivac.example/behind/it/"),
            ("https://[::1]:8443/", "https://[::1]:8443/"),
        ] {
            assert_eq!(base_url(to).expect("it is one").as_str(), base);
        }
        for to in ["", "localhost:5000", "ftp://x", "http://", "https://x/?y", "https://x/#y", "unix:/x"] {
            assert!(base_url(to).is_err(), "{to}");
        }
    }

    #[test]
    fn a_password_in_a_url_is_refused_and_not_repeated() {
        for to in ["https://me:s3cret@x", "https://s3cret@x", "https://:s3cret@x"] {
            let refused = base_url(to).expect_err("it is refused");
            assert!(refused.contains("MULTIVAC_PASSWORD_FILE") && !refused.contains("s3cret"), "{refused}");
        }
    }

    #[test]
    fn this_machine_is_known_by_its_names() {
        for (to, expected) in [
            ("http://localhost", true),
            ("http://127.9.9.9", true),
            ("http://[::1]:1", true),
            ("http://localhost.example", false),
            ("http://10.0.0.1", false),
        ] {
            assert_eq!(is_loopback(&base_url(to).expect("it is a URL")), expected, "{to}");
        }
    }
}
