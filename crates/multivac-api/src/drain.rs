//! How the server stops without refusing anybody who came in time.
//!
//! Closing a listening socket resets every connection that waits in it, and closing an idle connection loses the request
//! that is just on its way through it. So it goes in steps:
//!
//! 1. `/readyz` says no, and all else goes on for `--drain-delay`, until whoever balances the load has noticed.
//! 2. What was sent behind a request on the same connection is answered as well; then every reply says
//!    `Connection: close`, so that no request follows it. Who comes anew is served.
//! 3. Connections that are asked for from now on are not made (on Linux: packets that ask for one are dropped, so they are
//!    asked for again a second later, and refused then, which is safe to send elsewhere). Those that were being made are
//!    served. After that nothing waits in the socket any more, and it can be closed.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use actix_web::dev::Extensions;
use tokio::time::{Instant, sleep, sleep_until};

/// How long requests may still come behind others on the connections that are open.
const PIPELINED: Duration = Duration::from_millis(250);

/// How long an open connection may be idle until it is closed without having been told.
const IDLE: Duration = Duration::from_secs(2);

/// How long a connection may be under way once no new ones are taken: well over the way there and back.
const HANDSHAKE: Duration = Duration::from_millis(100);

/// How often it is looked whether all are gone.
const LOOK: Duration = Duration::from_millis(5);

/// The connections that are open.
#[derive(Default)]
pub(crate) struct Connections {
    /// Opened before they were to be closed, and after.
    open: [AtomicUsize; 2],
    closing: AtomicBool,
}

/// One of them; kept with it.
struct Open {
    connections: Arc<Connections>,
    late: bool,
}

impl Connections {
    /// Counts one until its extensions are dropped with it.
    pub(crate) fn count(self: &Arc<Self>, connection: &mut Extensions) {
        let late = self.closing();
        self.open[usize::from(late)].fetch_add(1, Ordering::SeqCst);
        connection.insert(Open { connections: Arc::clone(self), late });
    }

    /// Whether each reply shall be the last on its connection.
    pub(crate) fn closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
    }

    fn early(&self) -> usize {
        self.open[0].load(Ordering::SeqCst)
    }

    fn all(&self) -> usize {
        self.early() + self.open[1].load(Ordering::SeqCst)
    }

    /// Closes them, as the [module](self) says. Then the socket can be closed.
    pub(crate) async fn drain(&self, listener: TcpListener, delay: Duration) {
        sleep(delay).await;
        until(PIPELINED, || self.all() == 0).await;
        self.closing.store(true, Ordering::SeqCst);
        until(IDLE, || self.early() == 0).await;
        refuse_new(listener);
        // Not the count alone: a connection is counted a moment after it was made.
        sleep(HANDSHAKE).await;
        until(HANDSHAKE, || self.all() == 0).await;
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.connections.open[usize::from(self.late)].fetch_sub(1, Ordering::SeqCst);
    }
}

async fn until(patience: Duration, so: impl Fn() -> bool) {
    let deadline = Instant::now() + patience;
    while !so() && Instant::now() < deadline {
        sleep_until((Instant::now() + LOOK).min(deadline)).await;
    }
}

/// Drops packets that ask for a connection. Those of connections that are being made come through.
///
/// Where that cannot be done, a connection that is made in the moment of closing is reset.
#[cfg(target_os = "linux")]
fn refuse_new(listener: TcpListener) {
    use socket2::{SockFilter, Socket};
    /// A classic BPF program sees a packet of TCP from its header on; its flags are the byte at 13.
    const NO_SYN: [SockFilter; 5] = [
        SockFilter::new(0x30, 0, 0, 13),          // A = flags
        SockFilter::new(0x54, 0, 0, 0x12),        // A &= SYN | ACK
        SockFilter::new(0x15, 0, 1, 0x02),        // if A == SYN
        SockFilter::new(0x06, 0, 0, 0),           // then drop
        SockFilter::new(0x06, 0, 0, 0xffff_ffff), // else take all of it
    ];
    if let Err(error) = Socket::from(listener).attach_filter(&NO_SYN) {
        tracing::debug!(%error, "connections that come while the socket is closed will be reset");
    }
}

#[cfg(not(target_os = "linux"))]
fn refuse_new(_: TcpListener) {}
