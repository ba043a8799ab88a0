//! Connecting: pools, times, and what Redis's errors mean to the port.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use deadpool::managed::{self, Metrics, RecycleResult};
use deadpool_redis::redis::aio::ConnectionLike;
use deadpool_redis::redis::cluster::{ClusterClient, ClusterClientBuilder};
use deadpool_redis::redis::cluster_async::ClusterConnection;
use deadpool_redis::redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, ErrorKind, IntoConnectionInfo, Pipeline,
    RedisError, RedisFuture, RedisResult, TlsCertificates, Value,
};
use deadpool_redis::{PoolConfig, Runtime, Timeouts};
use secrecy::{ExposeSecret, SecretString};

use crate::queue::QueueError;

/// No call takes longer than this, whatever became of Redis; one that blocks, than this and what it blocks.
const CALL_TIMEOUT: Duration = Duration::from_secs(3);
/// Leaves time within a call to find that an old connection is dead, and to make a new one.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const RECYCLE_TIMEOUT: Duration = Duration::from_millis(500);
/// More calls at once wait for their turn; Redis runs one at a time anyway.
const MAX_CONNECTIONS: usize = 64;

/// Connections to Redis, made when they are needed.
pub(super) enum Pool {
    Single(deadpool_redis::Pool),
    Cluster(managed::Pool<ClusterManager>),
}

/// Connects to a Cluster with our times and our certificates, which deadpool's own manager does not know.
pub(super) struct ClusterManager(ClusterClient);

impl managed::Manager for ClusterManager {
    type Type = ClusterConnection;
    type Error = RedisError;

    async fn create(&self) -> Result<ClusterConnection, RedisError> {
        self.0.get_async_connection().await
    }

    /// Asks nothing: one node that is down would speak against all others. What a call fails on is closed by the call.
    async fn recycle(&self, _: &mut ClusterConnection, _: &Metrics) -> RecycleResult<RedisError> {
        Ok(())
    }
}

impl Pool {
    /// Reads the URLs; connects to nothing. `ca` is what signed the servers' certificates (PEM), where the system does not
    /// know it.
    pub(super) fn new(urls: &[SecretString], ca: Option<&[u8]>) -> Result<Self, QueueError> {
        let mut nodes = Vec::with_capacity(urls.len());
        for (i, url) in urls.iter().enumerate() {
            // Without the library's error, so that no part of the URL, and no password, can be in the message.
            let node = url.expose_secret().into_connection_info().map_err(|_| {
                QueueError::Misconfigured(format!(
                    "Redis URL number {} cannot be read; expected redis://[user:password@]host[:port][/database], or \
                     rediss:// for TLS",
                    i + 1
                ))
            })?;
            nodes.push(node);
        }
        let unusable = |_| QueueError::Misconfigured("the Redis URLs cannot be used (together)".to_owned());
        let certificates = match ca {
            None => None,
            Some(_) if nodes.iter().any(|node| !matches!(node.addr(), ConnectionAddr::TcpTls { .. })) => {
                return Err(QueueError::Misconfigured(
                    "a CA file is given for Redis, but not every URL begins with rediss://".to_owned(),
                ));
            }
            // Without this, a file of something else would mean that nobody is trusted, and nobody would say why.
            Some(pem) if !String::from_utf8_lossy(pem).contains("-----BEGIN CERTIFICATE-----") => {
                return Err(unreadable_ca());
            }
            Some(pem) => Some(TlsCertificates { client_tls: None, root_cert: Some(pem.to_vec()) }),
        };
        let config = PoolConfig {
            timeouts: Timeouts { wait: None, create: None, recycle: Some(RECYCLE_TIMEOUT) },
            ..PoolConfig::new(MAX_CONNECTIONS)
        };
        let built = "a pool with timeouts is given a runtime";
        match <[_; 1]>::try_from(nodes) {
            Ok([node]) => {
                let times = AsyncConnectionConfig::new()
                    .set_connection_timeout(Some(CONNECT_TIMEOUT))
                    .set_response_timeout(Some(CALL_TIMEOUT));
                let node = trusting(node, certificates)?;
                let manager = deadpool_redis::Manager::new_with_config(node, times).map_err(unusable)?;
                let pool = deadpool_redis::Pool::builder(manager).config(config).runtime(Runtime::Tokio1).build();
                Ok(Self::Single(pool.expect(built)))
            }
            Err(nodes) if nodes.is_empty() => Err(QueueError::Misconfigured("no Redis URL is given".to_owned())),
            Err(nodes) => {
                // The client tries again by itself while a slot moves; how long, the call's own time says.
                let mut client = ClusterClientBuilder::new(nodes)
                    .connection_timeout(CONNECT_TIMEOUT)
                    .response_timeout(CALL_TIMEOUT)
                    .max_retry_wait(200);
                if let Some(certificates) = certificates {
                    client = client.certs(certificates);
                }
                let manager = ClusterManager(client.build().map_err(unusable)?);
                let pool = managed::Pool::builder(manager).config(config).runtime(Runtime::Tokio1).build();
                Ok(Self::Cluster(pool.expect(built)))
            }
        }
    }

    /// Does `work` on a connection; `what` it is goes into the error.
    ///
    /// A connection on which it failed, ran out of time or was dropped half-way is closed, not used again: an answer could
    /// still be due on it, or its Redis may have become a replica.
    pub(super) async fn call<T>(
        &self,
        what: &str,
        blocks: Duration,
        work: impl AsyncFnOnce(&mut Connection) -> RedisResult<T>,
    ) -> Result<T, QueueError> {
        let asked = AtomicBool::new(false);
        let call = async {
            let mut connection = self.get().await?;
            asked.store(true, Ordering::Relaxed);
            let answer = work(&mut connection).await?;
            connection.fit = true;
            Ok::<T, RedisError>(answer)
        };
        let (error, answered) = match tokio::time::timeout(CALL_TIMEOUT + blocks, call).await {
            Ok(Ok(answer)) => return Ok(answer),
            // An error with a code is Redis's own word. In a Cluster it may be about the last of several tries.
            Ok(Err(error)) => {
                let answered = error.code().is_some() && matches!(self, Self::Single(_));
                (to_queue_error(what, error), answered)
            }
            Err(_) => {
                let message = format!("Redis did not {what} within {} s", (CALL_TIMEOUT + blocks).as_secs());
                (QueueError::Unavailable { message, source: None }, false)
            }
        };
        Err(match error {
            QueueError::Unavailable { message, source } if asked.load(Ordering::Relaxed) && !answered => {
                QueueError::OutcomeUnknown { message, source }
            }
            error => error,
        })
    }

    async fn get(&self) -> Result<Connection, RedisError> {
        fn cause(error: managed::PoolError<RedisError>) -> RedisError {
            match error {
                managed::PoolError::Backend(error) => error,
                _ => (ErrorKind::Client, "no connection in time").into(),
            }
        }
        let pooled = match self {
            Self::Single(pool) => Pooled::Single(pool.get().await.map_err(cause)?),
            Self::Cluster(pool) => Pooled::Cluster(pool.get().await.map_err(cause)?),
        };
        Ok(Connection { pooled: Some(pooled), fit: false })
    }
}

enum Pooled {
    Single(deadpool_redis::Connection),
    Cluster(managed::Object<ClusterManager>),
}

/// A node that is reached with these certificates.
fn trusting(node: ConnectionInfo, certificates: Option<TlsCertificates>) -> Result<ConnectionInfo, QueueError> {
    let Some(certificates) = certificates else { return Ok(node) };
    let client = Client::build_with_tls(node, certificates).map_err(|_| unreadable_ca())?;
    Ok(client.get_connection_info().clone())
}

fn unreadable_ca() -> QueueError {
    QueueError::Misconfigured("the CA file for Redis holds no certificate in PEM that can be read".to_owned())
}

/// A connection that goes back to its pool only when it is fit for it.
pub(super) struct Connection {
    pooled: Option<Pooled>,
    fit: bool,
}

impl Drop for Connection {
    fn drop(&mut self) {
        match self.pooled.take() {
            Some(Pooled::Single(connection)) if !self.fit => drop(deadpool_redis::Connection::take(connection)),
            Some(Pooled::Cluster(connection)) if !self.fit => drop(managed::Object::take(connection)),
            _ => {}
        }
    }
}

impl Connection {
    fn as_dyn(&self) -> &dyn ConnectionLike {
        match self.pooled.as_ref().expect("it is there until it is dropped") {
            Pooled::Single(connection) => connection,
            Pooled::Cluster(connection) => &**connection,
        }
    }

    fn as_dyn_mut(&mut self) -> &mut (dyn ConnectionLike + Send) {
        match self.pooled.as_mut().expect("it is there until it is dropped") {
            Pooled::Single(connection) => connection,
            Pooled::Cluster(connection) => &mut **connection,
        }
    }
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        self.as_dyn_mut().req_packed_command(cmd)
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        cmd: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        self.as_dyn_mut().req_packed_commands(cmd, offset, count)
    }

    fn get_db(&self) -> i64 {
        self.as_dyn().get_db()
    }
}

/// Whether the consumer group is gone: Redis came back empty, or someone deleted it.
///
/// The words are looked for, since Redis 6.2 wraps what goes wrong in a script into an error of its own.
pub(super) fn is_group_missing(error: &RedisError) -> bool {
    error.to_string().contains("NOGROUP")
}

/// Whether the script has to be sent first, as to a Redis that was started anew.
pub(super) fn is_script_missing(error: &RedisError) -> bool {
    error.code() == Some("NOSCRIPT")
}

fn to_queue_error(what: &str, error: RedisError) -> QueueError {
    let refused = matches!(error.code(), Some("WRONGPASS" | "NOAUTH" | "NOPERM"));
    if refused || error.kind() == ErrorKind::AuthenticationFailed {
        return QueueError::Misconfigured(format!(
            "Redis does not let us {what}: the user or the password is wrong, or the user lacks a permission"
        ));
    }
    // The library's words stay in the source; of them, only Redis's error code or the kind goes into the message.
    let kind = error.code().unwrap_or_else(|| error.category()).to_owned();
    QueueError::Unavailable { message: format!("Redis did not {what} ({kind})"), source: Some(Box::new(error)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unreadable_url_is_refused_without_its_password() {
        let Err(QueueError::Misconfigured(message)) = Pool::new(&["rdis://user:geheim@host".into()], None) else {
            panic!("this is no Redis URL");
        };
        assert!(message.contains("number 1") && !message.contains("geheim"), "{message}");
    }

    #[test]
    fn a_ca_file_is_for_tls_and_holds_a_certificate() {
        for (url, ca, expected) in
            [("redis://localhost", "", "rediss://"), ("rediss://localhost", "no certificate", "PEM")]
        {
            let Err(QueueError::Misconfigured(message)) = Pool::new(&[url.into()], Some(ca.as_bytes())) else {
                panic!("{url}");
            };
            assert!(message.contains(expected), "{message}");
        }
    }

    #[test]
    fn no_url_at_all_is_refused() {
        assert!(matches!(Pool::new(&[], None), Err(QueueError::Misconfigured(_))));
    }
}
