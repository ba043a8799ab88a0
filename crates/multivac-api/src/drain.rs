//! How the server stops without refusing a request that came in time.
//!
//! Closing a listening socket resets every connection that waits in its backlog, and closing an idle connection loses a
//! request that is on its way through it. So the server stops in steps:
//!
//! 1. `/readyz` says no, and everything else goes on for `--drain-delay`, until the load balancer has noticed.
//! 2. Requests that were sent behind others on the same connection (pipelined) are answered. From then on every reply says
//!    `Connection: close`, so that no request follows it on its connection. New connections are still served.
//! 3. No new connection can be opened: on Linux the kernel drops the packets that ask for one (SYN), so the client sends
//!    its SYN again a second later, and is refused then, which is safe to repeat elsewhere. Connections whose handshake had
//!    begun are served. After that nothing waits in the backlog, and the socket can be closed.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use actix_web::dev::Extensions;
use tokio::time::{Instant, sleep, sleep_until};

/// How long requests may still arrive behind others on open connections.
const PIPELINE_WAIT: Duration = Duration::from_millis(250);

/// How long an open connection may stay idle before it is closed although no reply on it said `Connection: close`.
const IDLE_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a handshake may still take once new ones are dropped: well over a round trip.
const HANDSHAKE_WAIT: Duration = Duration::from_millis(100);

/// How often the connections are counted.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// The open connections.
#[derive(Default)]
pub(crate) struct Connections {
    /// How many were opened before `closing` was set, and after.
    open: [AtomicUsize; 2],
    closing: AtomicBool,
}

/// One open connection; dropped with it.
struct OpenConnection {
    connections: Arc<Connections>,
    is_late: bool,
}

impl Connections {
    /// Counts a connection until it ends, since its extensions are dropped with it.
    pub(crate) fn count(self: &Arc<Self>, connection: &mut Extensions) {
        let is_late = self.closing();
        self.open[usize::from(is_late)].fetch_add(1, Ordering::SeqCst);
        connection.insert(OpenConnection { connections: Arc::clone(self), is_late });
    }

    /// Whether each reply is to be the last on its connection.
    pub(crate) fn closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
    }

    fn opened_before(&self) -> usize {
        self.open[0].load(Ordering::SeqCst)
    }

    /// All that are open.
    pub(crate) fn all(&self) -> usize {
        self.opened_before() + self.open[1].load(Ordering::SeqCst)
    }

    /// Closes them as the [module](self) describes; then the socket can be closed.
    pub(crate) async fn drain(&self, listener: TcpListener, delay: Duration) {
        sleep(delay).await;
        until(PIPELINE_WAIT, || self.all() == 0).await;
        self.closing.store(true, Ordering::SeqCst);
        until(IDLE_TIMEOUT, || self.opened_before() == 0).await;
        refuse_new(listener);
        // The count alone does not do: a connection is counted a moment after it was accepted.
        sleep(HANDSHAKE_WAIT).await;
        until(HANDSHAKE_WAIT, || self.all() == 0).await;
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.connections.open[usize::from(self.is_late)].fetch_sub(1, Ordering::SeqCst);
    }
}

async fn until(timeout: Duration, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + timeout;
    while !holds() && Instant::now() < deadline {
        sleep_until((Instant::now() + POLL_INTERVAL).min(deadline)).await;
    }
}

/// Drops packets that ask for a connection; those of handshakes that have begun pass.
///
/// If the filter cannot be attached, a connection that is opened at the moment of closing is reset.
#[cfg(target_os = "linux")]
fn refuse_new(listener: TcpListener) {
    use socket2::{SockFilter, Socket};
    /// A classic BPF program. It sees a packet from the TCP header on, whose flags are the byte at offset 13.
    const NO_SYN: [SockFilter; 5] = [
        SockFilter::new(0x30, 0, 0, 13),          // A = flags
        SockFilter::new(0x54, 0, 0, 0x12),        // A &= SYN | ACK
        SockFilter::new(0x15, 0, 1, 0x02),        // if A == SYN
        SockFilter::new(0x06, 0, 0, 0),           // then drop
        SockFilter::new(0x06, 0, 0, 0xffff_ffff), // else pass all of it
    ];
    if let Err(error) = Socket::from(listener).attach_filter(&NO_SYN) {
        tracing::debug!(%error, "connections that are opened while the socket is closed will be reset");
    }
}

#[cfg(not(target_os = "linux"))]
fn refuse_new(_: TcpListener) {}
