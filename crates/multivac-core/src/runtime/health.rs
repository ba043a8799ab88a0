//! The subcommand `health`, for containers' health checks: it asks the process that runs beside it over HTTP, since the
//! image holds no other program that could.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use clap::Args;

/// How long connecting, sending and receiving may take, each.
const STEP_TIMEOUT: Duration = Duration::from_secs(4);

/// What `health` asks.
#[derive(Args, Clone, Copy, Debug)]
pub struct HealthArgs {
    /// Ask whether the process runs (/healthz), not whether it is ready for work (/readyz).
    #[arg(long)]
    pub live: bool,
}

/// Why a process is not healthy.
#[derive(Debug, thiserror::Error)]
pub enum HealthError {
    /// Nothing answers there.
    #[error("nothing answers at {address}: {source}")]
    Unreachable {
        /// Where it should listen.
        address: String,
        /// What happened.
        source: io::Error,
    },
    /// It answers, and not with 200.
    #[error("{address} answers {reply}")]
    Unhealthy {
        /// Where it listens.
        address: String,
        /// Its status line and its body, which says what is missing.
        reply: String,
    },
}

impl HealthArgs {
    /// Asks the process that listens at `listen`, a setting such as `0.0.0.0:5000`.
    ///
    /// # Errors
    /// When it does not answer with 200.
    pub fn ask(self, listen: &str) -> Result<(), HealthError> {
        let path = if self.live { "/healthz" } else { "/readyz" };
        let reply =
            get(listen, path).map_err(|source| HealthError::Unreachable { address: listen.to_owned(), source })?;
        let healthy = reply.split(' ').nth(1) == Some("200");
        let quoted = || {
            let (head, body) = reply.split_once("\r\n\r\n").unwrap_or((&reply, ""));
            format!("{} {}", head.lines().next().unwrap_or_default(), body.trim())
        };
        if healthy { Ok(()) } else { Err(HealthError::Unhealthy { address: listen.to_owned(), reply: quoted() }) }
    }
}

fn get(listen: &str, path: &str) -> io::Result<String> {
    let none = || io::Error::new(io::ErrorKind::InvalidInput, "no such address");
    let address = reachable(listen.to_socket_addrs()?.next().ok_or_else(none)?);
    let mut connection = TcpStream::connect_timeout(&address, STEP_TIMEOUT)?;
    connection.set_read_timeout(Some(STEP_TIMEOUT))?;
    connection.set_write_timeout(Some(STEP_TIMEOUT))?;
    // Sent in one write: a server that has read enough may reply and close before a second one.
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    connection.write_all(request.as_bytes())?;
    let mut reply = Vec::new();
    connection.take(64 << 10).read_to_end(&mut reply)?;
    Ok(String::from_utf8_lossy(&reply).into_owned())
}

/// The address to ask: the loopback one where the process listens on every address.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// A server that gives this reply once, and then returns what it was asked.
    fn server_that_replies(reply: &'static str) -> (String, std::thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let asked = std::thread::spawn(move || {
            let (mut connection, _) = listener.accept().unwrap();
            let mut request = vec![0; 1024];
            let read = connection.read(&mut request).unwrap();
            connection.write_all(reply.as_bytes()).unwrap();
            String::from_utf8_lossy(&request[..read]).into_owned()
        });
        (address, asked)
    }

    #[test]
    fn a_process_that_answers_200_is_healthy() {
        let (address, asked) = server_that_replies("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
        assert!(HealthArgs { live: true }.ask(&address).is_ok());
        assert!(asked.join().unwrap().starts_with("GET /healthz "));
    }

    #[test]
    fn any_other_answer_is_quoted() {
        let (address, asked) =
            server_that_replies("HTTP/1.1 503 Service Unavailable\r\n\r\n{\"missing\":[\"the queue\"]}");
        let unhealthy = HealthArgs { live: false }.ask(&address).unwrap_err().to_string();
        assert!(unhealthy.contains("503") && unhealthy.contains("the queue"), "{unhealthy}");
        assert!(asked.join().unwrap().starts_with("GET /readyz "));
    }

    #[test]
    fn a_process_that_does_not_answer_is_not_healthy() {
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        assert!(HealthArgs { live: true }.ask(&closed).is_err());
    }

    #[test]
    fn an_address_that_means_every_address_is_asked_on_loopback() {
        assert_eq!(reachable("0.0.0.0:5000".parse().unwrap()), "127.0.0.1:5000".parse().unwrap());
        assert_eq!(reachable("[::]:5000".parse().unwrap()), "[::1]:5000".parse().unwrap());
    }
}
