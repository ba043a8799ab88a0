//! Connecting: pools, timeouts, and what Redis's errors mean to the port.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use deadpool::managed::{self, Metrics, RecycleResult};
use deadpool_redis::redis::aio::{ConnectionLike, MultiplexedConnection};
use deadpool_redis::redis::cluster::{ClusterClient, ClusterClientBuilder};
use deadpool_redis::redis::cluster_async::ClusterConnection;
use deadpool_redis::redis::{
    self, AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, ErrorKind, IntoConnectionInfo, Pipeline,
    RedisError, RedisFuture, RedisResult, ServerErrorKind, TlsCertificates, Value,
};
use deadpool_redis::{PoolConfig, Runtime, Timeouts};
use secrecy::{ExposeSecret, SecretString};

use crate::queue::QueueError;

/// How long a call takes at most, whatever became of Redis. One that blocks in Redis may take as much longer.
pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(3);

/// How long connecting takes at most. With [`RECYCLE_TIMEOUT`] it leaves time within a call to find that an old connection
/// is dead and to make a new one.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a pooled connection may take to show that it still works.
const RECYCLE_TIMEOUT: Duration = Duration::from_millis(500);

/// A connection on which a call has succeeded so recently works, or breaks at this very moment, which the call itself finds. To
/// have it show that before each call would double the round trips of a busy api. Longer, and a Redis that has gone in between
/// would be found by a call whose outcome is not known then, instead of one that was not made.
const FRESH: Duration = Duration::from_millis(100);

/// How long a Cluster's client waits at most before it tries a slot that moves once more. It is [`CALL_TIMEOUT`] that
/// bounds all tries together.
const CLUSTER_MAX_RETRY_WAIT_MS: u64 = 200;

/// How many connections there are at most, made when they are needed: one for each consumer loop that waits for jobs (256), and
/// as many as a busy api uses at once. Further calls wait for one; Redis runs one command at a time anyway.
const MAX_CONNECTIONS: usize = 320;

/// What to do with a password that a URL cannot hold as it is.
const PERCENT_ENCODE: &str = "percent-encode special characters of the user name and the password, such as %2F for /, %40 for \
                              @, %23 for #, %3F for ?, %2C for a comma, and %25 for %";

/// Whether the host seems to come after what ends it: a `/`, `?` or `#` in a password that was not percent-encoded. What stands
/// before that is read as the host and the port then.
fn hides_its_host(url: &str) -> bool {
    let after_scheme = url.split_once("://").map_or(url, |(_, rest)| rest);
    let is_tcp = ["redis:", "rediss:", "valkey:", "valkeys:"].iter().any(|scheme| url.starts_with(scheme));
    is_tcp && after_scheme.split_once(['/', '?', '#']).is_some_and(|(_, rest)| rest.contains('@'))
}

/// Connections to Redis, made when they are needed.
pub(super) enum Pool {
    Single(managed::Pool<NodeManager>),
    Cluster(managed::Pool<ClusterManager>),
}

/// Connects to a single node with our timeouts.
pub(super) struct NodeManager {
    client: Client,
    config: AsyncConnectionConfig,
}

impl managed::Manager for NodeManager {
    type Type = MultiplexedConnection;
    type Error = RedisError;

    async fn create(&self) -> Result<MultiplexedConnection, RedisError> {
        self.client.get_multiplexed_async_connection_with_config(&self.config).await
    }

    async fn recycle(&self, connection: &mut MultiplexedConnection, metrics: &Metrics) -> RecycleResult<RedisError> {
        if metrics.last_used() < FRESH {
            return Ok(());
        }
        redis::cmd("PING").query_async::<Value>(connection).await.map(drop).map_err(managed::RecycleError::Backend)
    }
}

/// Connects to a Cluster with our timeouts and certificates, which deadpool's own manager cannot set.
pub(super) struct ClusterManager(ClusterClient);

impl managed::Manager for ClusterManager {
    type Type = ClusterConnection;
    type Error = RedisError;

    async fn create(&self) -> Result<ClusterConnection, RedisError> {
        self.0.get_async_connection().await
    }

    /// Checks nothing: a single node that is down would make the connection to all others look dead. A call that fails
    /// closes its connection.
    async fn recycle(&self, _: &mut ClusterConnection, _: &Metrics) -> RecycleResult<RedisError> {
        Ok(())
    }
}

impl Pool {
    /// Reads the URLs; connects to nothing. `ca` holds the authorities that sign the servers' certificates (PEM), where the
    /// system does not trust them.
    pub(super) fn new(urls: &[SecretString], ca: Option<&[u8]>) -> Result<Self, QueueError> {
        let mut nodes = Vec::with_capacity(urls.len());
        for (i, url) in urls.iter().enumerate() {
            // Without the library's error, so that no part of the URL, and no password, can be in the message.
            let url = url.expose_secret();
            let node = url.into_connection_info().ok().filter(|_| !hides_its_host(url)).ok_or_else(|| {
                QueueError::Misconfigured(format!(
                    "Redis URL number {} cannot be read; expected redis://[user:password@]host[:port][/database], or \
                     rediss:// for TLS; {PERCENT_ENCODE}",
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
            // A file without certificates would mean that no server is trusted, and no error would say why.
            Some(pem) if !String::from_utf8_lossy(pem).contains("-----BEGIN CERTIFICATE-----") => {
                return Err(unreadable_ca());
            }
            Some(pem) => Some(TlsCertificates { client_tls: None, root_cert: Some(pem.to_vec()) }),
        };
        let config = PoolConfig {
            timeouts: Timeouts { wait: None, create: None, recycle: Some(RECYCLE_TIMEOUT) },
            ..PoolConfig::new(MAX_CONNECTIONS)
        };
        let has_runtime = "a pool with timeouts is given a runtime";
        match <[_; 1]>::try_from(nodes) {
            Ok([node]) => {
                let timeouts = AsyncConnectionConfig::new()
                    .set_connection_timeout(Some(CONNECT_TIMEOUT))
                    .set_response_timeout(Some(CALL_TIMEOUT));
                let node = with_certificates(node, certificates)?;
                let manager = NodeManager { client: Client::open(node).map_err(unusable)?, config: timeouts };
                let pool = managed::Pool::builder(manager).config(config).runtime(Runtime::Tokio1).build();
                Ok(Self::Single(pool.expect(has_runtime)))
            }
            Err(nodes) if nodes.is_empty() => Err(QueueError::Misconfigured("no Redis URL is given".to_owned())),
            Err(nodes) => {
                let mut client = ClusterClientBuilder::new(nodes)
                    .connection_timeout(CONNECT_TIMEOUT)
                    .response_timeout(CALL_TIMEOUT)
                    .max_retry_wait(CLUSTER_MAX_RETRY_WAIT_MS);
                if let Some(certificates) = certificates {
                    client = client.certs(certificates);
                }
                let manager = ClusterManager(client.build().map_err(unusable)?);
                let pool = managed::Pool::builder(manager).config(config).runtime(Runtime::Tokio1).build();
                Ok(Self::Cluster(pool.expect(has_runtime)))
            }
        }
    }

    /// Does `work` on a connection, within [`CALL_TIMEOUT`] and the time that it `blocks` in Redis. `what` it does goes into
    /// the error.
    ///
    /// A connection on which it failed, ran out of time or was dropped half-way is closed and not used again: a reply could
    /// still be on its way, or its Redis may have become a replica.
    ///
    /// # Errors
    /// [`QueueError::OutcomeUnknown`] when there was a connection and no reply of Redis's own came back.
    pub(super) async fn call<T>(
        &self,
        what: &str,
        blocks: Duration,
        work: impl AsyncFnOnce(&mut Connection) -> RedisResult<T>,
    ) -> Result<T, QueueError> {
        let connected = AtomicBool::new(false);
        let call = async {
            let mut connection = self.get().await?;
            connected.store(true, Ordering::Relaxed);
            let reply = work(&mut connection).await?;
            connection.reusable = true;
            Ok::<T, RedisError>(reply)
        };
        let (error, replied) = match tokio::time::timeout(CALL_TIMEOUT + blocks, call).await {
            Ok(Ok(reply)) => return Ok(reply),
            // An error with a code is Redis's own reply. In a Cluster it may be the reply to the last of several tries, of
            // which an earlier one may have done the work.
            Ok(Err(error)) => {
                let replied = error.code().is_some() && matches!(self, Self::Single(_));
                (self.to_queue_error(what, error, connected.load(Ordering::Relaxed)), replied)
            }
            Err(_) => {
                let message = format!("Redis did not {what} within {} s", (CALL_TIMEOUT + blocks).as_secs());
                (QueueError::Unavailable { message, source: None }, false)
            }
        };
        Err(match error {
            QueueError::Unavailable { message, source } if connected.load(Ordering::Relaxed) && !replied => {
                QueueError::OutcomeUnknown { message, source }
            }
            error => error,
        })
    }

    fn to_queue_error(&self, what: &str, error: RedisError, connected: bool) -> QueueError {
        if let Some(message) = misconfiguration(what, &error, connected) {
            return QueueError::Misconfigured(message);
        }
        // The client of a Cluster follows such a reply.
        if error.kind() == ErrorKind::Server(ServerErrorKind::Moved) && matches!(self, Self::Single(_)) {
            return QueueError::Misconfigured(
                "Redis is a Cluster: expected the URLs of several of its nodes, separated by commas".to_owned(),
            );
        }
        // Only Redis's code, or the library's category, goes into the message; the library's text stays in the source.
        let kind = match error.code() {
            Some("OOM") => "OOM: its memory is full, see maxmemory",
            code => code.unwrap_or_else(|| error.category()),
        };
        QueueError::Unavailable { message: format!("Redis did not {what} ({kind})"), source: Some(Box::new(error)) }
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
        Ok(Connection { pooled: Some(pooled), reusable: false })
    }
}

enum Pooled {
    Single(managed::Object<NodeManager>),
    Cluster(managed::Object<ClusterManager>),
}

/// The node, connected to with these certificates.
fn with_certificates(
    node: ConnectionInfo,
    certificates: Option<TlsCertificates>,
) -> Result<ConnectionInfo, QueueError> {
    let Some(certificates) = certificates else { return Ok(node) };
    let client = Client::build_with_tls(node, certificates).map_err(|_| unreadable_ca())?;
    Ok(client.get_connection_info().clone())
}

fn unreadable_ca() -> QueueError {
    QueueError::Misconfigured("the CA file for Redis holds no certificate in PEM that can be read".to_owned())
}

/// A connection that goes back to its pool only when a call on it has succeeded.
pub(super) struct Connection {
    pooled: Option<Pooled>,
    reusable: bool,
}

impl Drop for Connection {
    fn drop(&mut self) {
        match self.pooled.take() {
            Some(Pooled::Single(connection)) if !self.reusable => drop(managed::Object::take(connection)),
            Some(Pooled::Cluster(connection)) if !self.reusable => drop(managed::Object::take(connection)),
            _ => {}
        }
    }
}

impl Connection {
    fn as_dyn(&self) -> &dyn ConnectionLike {
        match self.pooled.as_ref().expect("it is taken only when it is dropped") {
            Pooled::Single(connection) => &**connection,
            Pooled::Cluster(connection) => &**connection,
        }
    }

    fn as_dyn_mut(&mut self) -> &mut (dyn ConnectionLike + Send) {
        match self.pooled.as_mut().expect("it is taken only when it is dropped") {
            Pooled::Single(connection) => &mut **connection,
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

/// Whether the consumer group is missing: Redis came back empty, or someone deleted it.
///
/// It is looked for in the error's text, since Redis 6.2 wraps an error inside a script into one with another code.
pub(super) fn is_group_missing(error: &RedisError) -> bool {
    error.to_string().contains("NOGROUP")
}

/// Whether Redis does not know the script yet, as after it was restarted.
pub(super) fn is_script_missing(error: &RedisError) -> bool {
    error.code() == Some("NOSCRIPT")
}

/// What a reply means that will be the same next time, until somebody changes Redis or its URL.
fn misconfiguration(what: &str, error: &RedisError, connected: bool) -> Option<String> {
    // Inside a script, and in the reply to SELECT, Redis has no code of its own for these.
    let text = error.to_string();
    let says = |words: &[&str]| words.iter().any(|words| text.contains(words));
    if says(&["refused to switch database"]) {
        return Some(
            "Redis does not have the database that its URL names, or the user may not select it: expected a number from 0 to \
             15 at the end of the URL, unless Redis is configured with more (databases), and 0 or none in a Cluster"
                .to_owned(),
        );
    }
    if matches!(error.code(), Some("WRONGPASS" | "NOAUTH" | "NOPERM"))
        || error.kind() == ErrorKind::AuthenticationFailed
        || says(&["ACL failure in script", "The user executing the script can't"])
    {
        return Some(format!(
            "Redis does not let us {what}: the user or the password is wrong, or the user lacks a permission \
             (docs/redis.md lists them); {PERCENT_ENCODE}"
        ));
    }
    if error.code() == Some("WRONGKEY") {
        return Some(format!(
            "something else has written to the keys of this namespace in Redis: {}; rename or delete that key",
            error.detail().unwrap_or_default()
        ));
    }
    if says(&["nknown command", "nknown Redis command"]) {
        return Some(format!(
            "Redis does not let us {what}: it lacks a command, which was renamed or switched off (rename-command)"
        ));
    }
    if error.code() == Some("DENIED") {
        return Some(format!("Redis does not let us {what}: it is in protected mode, so give it a password"));
    }
    if says(&["cluster support disabled"]) {
        return Some("several URLs are given for Redis, but it is no Cluster: expected one URL".to_owned());
    }
    (error.kind() == ErrorKind::Parse && !connected).then(|| {
        "what answers at Redis's URL does not speak Redis's protocol: expected Redis's port, and rediss:// where that is \
         for TLS"
            .to_owned()
    })
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
    fn a_password_that_a_url_cannot_hold_is_to_be_percent_encoded() {
        for password in ["pa/ss", "pa?ss", "pa#ss", "12/34", "12?34", "12#34", "pa:s/s", "a/b@c"] {
            for user in ["", "user"] {
                let url = format!("redis://{user}:{password}@127.0.0.1:6379/1");
                let Err(QueueError::Misconfigured(message)) = Pool::new(&[url.clone().into()], None) else {
                    panic!("{url} is read as something else");
                };
                assert!(message.contains("percent-encode") && !message.contains(password), "{message}");
            }
        }
        for taken in ["pa@ss", "pa:ss", "[pa", "p%2Fa%3Fs%23s", "pä&=+ss", "100%25"] {
            let url = format!("redis://user:{taken}@127.0.0.1:6379/1");
            assert!(Pool::new(&[url.into()], None).is_ok(), "{taken}");
        }
        for taken in ["redis://127.0.0.1/?protocol=resp3", "rediss://[::1]:6380/0", "unix:///run/redis@1.sock"] {
            assert!(Pool::new(&[taken.into()], None).is_ok(), "{taken}");
        }
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
