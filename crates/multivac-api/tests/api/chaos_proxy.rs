//! A proxy for TCP that cuts connections, refuses them, or lets nothing through, as networks do.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What it does, to connections that are open as to new ones.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Everything passes.
    Pass,
    /// Connections are cut, new ones at once.
    Cut,
    /// Nothing passes, and nobody is told.
    Silent,
}

/// In front of one server; ends with the test.
pub(crate) struct ChaosProxy {
    pub(crate) address: SocketAddr,
    mode: watch::Sender<Mode>,
    accepting: JoinHandle<()>,
}

impl ChaosProxy {
    pub(crate) async fn start(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mode = watch::Sender::new(Mode::Pass);
        let given = mode.clone();
        let accepting = tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                tokio::spawn(pass(client, server.clone(), given.subscribe()));
            }
        });
        Self { address, mode, accepting }
    }

    pub(crate) fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }
}

impl Drop for ChaosProxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// One connection. Dropping both ends cuts it.
async fn pass(mut client: TcpStream, server: String, mut mode: watch::Receiver<Mode>) {
    if *mode.borrow_and_update() == Mode::Cut {
        return;
    }
    let Ok(mut server) = TcpStream::connect(server).await else { return };
    let (mut asked, mut replied) = ([0; 16 << 10], [0; 16 << 10]);
    loop {
        let now = *mode.borrow_and_update();
        match now {
            Mode::Cut => return,
            Mode::Silent => {
                // What was lost in between stays lost: TCP would have given up.
                let _ = mode.changed().await;
                return;
            }
            Mode::Pass => {}
        }
        let passed = tokio::select! {
            changed = mode.changed() => changed.is_ok(),
            read = client.read(&mut asked) => match read {
                Ok(n) if n > 0 => server.write_all(&asked[..n]).await.is_ok(),
                _ => false,
            },
            read = server.read(&mut replied) => match read {
                Ok(n) if n > 0 => client.write_all(&replied[..n]).await.is_ok(),
                _ => false,
            },
        };
        if !passed {
            return;
        }
    }
}
