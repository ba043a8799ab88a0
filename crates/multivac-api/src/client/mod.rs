//! A client of MultiVAC over HTTP, for the commands for people.
//!
//! It knows where the server is ([`Server`]), who asks ([`credentials`]), and what a reply that is none means: a [`ClientError`]
//! says whether the same request may succeed later, and [`retry`] how long to wait until then. No redirect is followed, so a
//! password goes to the host that was named, and to no other.

pub mod credentials;
pub mod retry;
mod transport;

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use http::header::{CONTENT_TYPE, HeaderMap};
use http::{Method, StatusCode, Uri};
use serde_json::Value;
use tokio::time::timeout;

use credentials::Credentials;
pub use transport::{Call, Reading};
use transport::{Http, root_cause, tls_error};

/// How long the head of a reply may take where nothing else is said.
const HEAD_TIMEOUT: Duration = Duration::from_secs(120);

/// The largest reply that is read: an answer has ten passages at most, each of a datum of 3 MiB, which JSON may double.
const MAX_REPLY_BYTES: usize = 64 << 20;

/// Which server, and as whom.
#[derive(Args, Clone)]
pub struct Server {
    /// Where the server is, such as `https://multivac.example`. A password has no place in it: see --user.
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
    #[arg(long, env = "MULTIVAC_PASSWORD_FILE", value_name = "FILE")]
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
    /// Without a slash at its end.
    base: String,
    http: Http,
    credentials: Option<Credentials>,
}

impl Client {
    /// For the server at `to`.
    ///
    /// # Errors
    /// [`ClientError::Usage`].
    pub fn new(to: &str, access: &Access) -> Result<Self, ClientError> {
        let (base, url) = base_url(to).map_err(ClientError::Usage)?;
        let credentials = Credentials::find(&url, access)?;
        let http = transport::connect(access.ca_file.as_deref()).map_err(ClientError::Usage)?;
        Ok(Self { base, http, credentials })
    }

    /// The server as it is named in messages.
    #[must_use]
    pub fn server(&self) -> &str {
        &self.base
    }

    /// As whom it asks, if as anybody.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        self.credentials.as_ref().map(Credentials::user)
    }

    /// A request for a path.
    pub fn request(&self, method: Method, path: &str) -> Call {
        let call = Call::new(method, &format!("{}{path}", self.base)).expect("a plain path follows a URL");
        match &self.credentials {
            Some(credentials) => credentials.add_to(call),
            None => call,
        }
    }

    /// Sends a request, and reads the head of its reply.
    ///
    /// # Errors
    /// See [`ClientError`]; a reply that is no success is one as well.
    pub async fn begin(&self, call: Call) -> Result<Reading, ClientError> {
        let limit = call.timeout.unwrap_or(HEAD_TIMEOUT);
        let response = timeout(limit, call.send(&self.http)).await.map_err(|_| self.unreachable("no reply in time"))?;
        let response = response.map_err(|error| self.failed(&error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(Reading::new(response));
        }
        let headers = response.headers().clone();
        if let Some(to) = headers.get("Location").filter(|_| status.is_redirection()) {
            let to = printable(&String::from_utf8_lossy(to.as_bytes()));
            let detail = format!("it sends on to {to}, which is not followed: name that server with --to");
            return Err(self.refused(status, detail, None, false));
        }
        let retry_after = retry::after(&headers);
        let body = timeout(limit, self.read(Reading::new(response))).await;
        let body = body
            .unwrap_or_else(|_| Err(self.unreachable("its reply stops half way")))
            .map(|reply| reply.body)
            .unwrap_or_default();
        let problem: Value = serde_json::from_slice(&body).unwrap_or_default();
        let mut detail = problem["detail"].as_str().map_or_else(|| "it does not say why".to_owned(), printable_detail);
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
    pub async fn send(&self, call: Call) -> Result<Reply, ClientError> {
        let limit = call.timeout.unwrap_or(HEAD_TIMEOUT);
        let whole = async { self.read(self.begin(call).await?).await };
        timeout(limit, whole).await.map_err(|_| self.unreachable("no reply in time"))?
    }

    /// The next piece of a reply's body.
    ///
    /// # Errors
    /// When it breaks off.
    pub async fn next(&self, reading: &mut Reading) -> Result<Option<actix_web::web::Bytes>, ClientError> {
        reading.next().await.transpose().map_err(|error| self.failed(&error))
    }

    /// Sends a request whose reply is JSON.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn json(&self, call: Call) -> Result<Reply, ClientError> {
        let reply = self.send(call).await?;
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

    async fn read(&self, mut reading: Reading) -> Result<Reply, ClientError> {
        let mut body = Vec::new();
        while let Some(chunk) = self.next(&mut reading).await? {
            if body.len() + chunk.len() > MAX_REPLY_BYTES {
                return Err(self.other("its reply is too large"));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Reply { headers: reading.headers, body })
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

    /// What an error on the way means.
    fn failed(&self, error: &(dyn Error + 'static)) -> ClientError {
        match tls_error(error) {
            Some(why) => ClientError::Unsafe { server: self.server().to_owned(), why },
            None => self.unreachable(root_cause(error)),
        }
    }
}

/// The URL of a server, without a slash at its end. What is wrong with it is told without it, since it may hold a password.
fn base_url(to: &str) -> Result<(String, Uri), String> {
    let expected = || "--to: expected a URL such as https://multivac.example".to_owned();
    let url: Uri = to.parse().map_err(|_| expected())?;
    let authority = url.authority().ok_or_else(expected)?;
    if authority.as_str().contains('@') {
        return Err(
            "--to: a URL with a user name or a password in it is not taken, since the list of processes and the \
                    shell's history would show it: --user NAME and MULTIVAC_PASSWORD_FILE, or netrc"
                .to_owned(),
        );
    }
    // What is no port would be passed over, and the usual one taken.
    let port = &authority.as_str()[authority.host().len()..];
    if !port.is_empty() && authority.port_u16().is_none_or(|port| port == 0) {
        return Err(expected());
    }
    if !matches!(url.scheme_str(), Some("http" | "https")) || authority.host().is_empty() {
        return Err(expected());
    }
    if url.query().is_some() || to.contains('#') {
        return Err("--to: expected the URL of a server, without ? and #".to_owned());
    }
    Ok((to.trim_end_matches('/').to_owned(), url))
}

/// The host as resolvers know it.
fn host(url: &Uri) -> &str {
    url.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']')
}

fn is_loopback(url: &Uri) -> bool {
    let host = host(url);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// What a server says of a failure, of which nobody reads pages.
fn printable_detail(text: &str) -> String {
    printable_name(text).chars().take(500).collect()
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
            ("http://localhost:5000", "http://localhost:5000"),
            ("https://multivac.example/behind/it/", "https://multivac.example/behind/it"),
            ("https://[::1]:8443/", "https://[::1]:8443"),
        ] {
            assert_eq!(base_url(to).expect("it is one").0, base);
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
            assert_eq!(is_loopback(&base_url(to).expect("it is a URL").1), expected, "{to}");
        }
    }
}
