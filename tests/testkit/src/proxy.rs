//! Proxies for TCP that fail as networks do.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

const BUFFER_BYTES: usize = 64 << 10;

/// What a proxy does with the connections that are open, and with new ones.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Everything passes.
    Pass,
    /// Open connections are closed, new ones at once.
    Cut,
    /// Connections stay open and nothing passes, as when packets are dropped on the way.
    Stall,
}

/// A proxy in front of one server; it ends when it is dropped.
pub struct Proxy {
    /// Where it listens.
    pub address: SocketAddr,
    mode: watch::Sender<Mode>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// Starts it in front of `server` (`HOST:PORT`); at first everything passes.
    pub async fn start(server: String) -> Self {
        Self::start_dropping(server, None).await
    }

    /// As [`Self::start`], but the first `times` times a request holds `text`, the connection is closed in place of the
    /// reply, when the server has done what it was asked.
    pub async fn start_dropping_replies(server: String, text: &'static str, times: usize) -> Self {
        Self::start_dropping(server, Some((text, Arc::new(AtomicUsize::new(times))))).await
    }

    async fn start_dropping(server: String, drop: Option<(&'static str, Arc<AtomicUsize>)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mode = watch::Sender::new(Mode::Pass);
        let sender = mode.clone();
        let accepting = tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                tokio::spawn(pass(client, server.clone(), sender.subscribe(), drop.clone()));
            }
        });
        Self { address, mode, accepting }
    }

    /// Changes what it does.
    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Serves one connection. Returning closes both of its ends.
async fn pass(
    mut client: TcpStream,
    server: String,
    mut mode: watch::Receiver<Mode>,
    drop: Option<(&'static str, Arc<AtomicUsize>)>,
) {
    if *mode.borrow_and_update() == Mode::Cut {
        return;
    }
    let Ok(mut server) = TcpStream::connect(server).await else { return };
    let (mut request, mut reply) = (vec![0; BUFFER_BYTES], vec![0; BUFFER_BYTES]);
    loop {
        let now = *mode.borrow_and_update();
        match now {
            Mode::Cut => return,
            Mode::Stall => {
                // What was lost meanwhile stays lost: TCP would have given up by then.
                let _ = mode.changed().await;
                return;
            }
            Mode::Pass => {}
        }
        let passed = tokio::select! {
            changed = mode.changed() => changed.is_ok(),
            read = client.read(&mut request) => match read {
                Ok(n) if n > 0 => {
                    let passed = server.write_all(&request[..n]).await.is_ok();
                    if takes_the_reply(&request[..n], drop.as_ref()) {
                        // The server has done what it was asked once it replies.
                        let _ = server.read(&mut reply).await;
                        return;
                    }
                    passed
                }
                _ => false,
            },
            read = server.read(&mut reply) => match read {
                Ok(n) if n > 0 => client.write_all(&reply[..n]).await.is_ok(),
                _ => false,
            },
        };
        if !passed {
            return;
        }
    }
}

/// Whether the reply to this request is to be dropped; counts it if so.
fn takes_the_reply(request: &[u8], drop: Option<&(&'static str, Arc<AtomicUsize>)>) -> bool {
    let Some((text, left)) = drop else { return false };
    let found = request.windows(text.len()).any(|window| window == text.as_bytes());
    found && left.try_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
}
