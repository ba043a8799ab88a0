//! HTTP/1.1 written by hand, for what no decent client would send.

use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::test_app::PATIENCE;

/// One connection.
pub(crate) struct Wire(BufReader<TcpStream>);

/// One reply.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// The head in lower case.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    /// Whether no other reply follows on its connection.
    pub(crate) fn closes(&self) -> bool {
        self.head.contains("\r\nconnection: close\r\n")
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

impl Wire {
    /// Connects to where a base URL points.
    pub(crate) async fn connect(base: &str) -> std::io::Result<Self> {
        Ok(Self(BufReader::new(TcpStream::connect(base.trim_start_matches("http://")).await?)))
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.0.get_mut().write_all(bytes.as_ref()).await
    }

    /// The next reply; `None` when the connection is closed or broken instead.
    pub(crate) async fn reply(&mut self) -> Option<Reply> {
        self.reply_within(PATIENCE).await
    }

    pub(crate) async fn reply_within(&mut self, patience: Duration) -> Option<Reply> {
        timeout(patience, self.read()).await.expect("a reply or an end in time")
    }

    async fn read(&mut self) -> Option<Reply> {
        let (mut head, mut status) = (String::new(), 100);
        // What only says that the body may come is no reply.
        while status == 100 {
            head.clear();
            loop {
                let begun = head.len();
                if self.0.read_line(&mut head).await.ok()? == 0 {
                    return None;
                }
                if &head[begun..] == "\r\n" {
                    break;
                }
            }
            status = head.split(' ').nth(1)?.parse().ok()?;
        }
        let mut reply = Reply { status, head: head.to_lowercase(), body: Vec::new() };
        let length = reply.header("content-length").map_or(0, |length| length.trim().parse().unwrap());
        reply.body = vec![0; length];
        self.0.read_exact(&mut reply.body).await.ok()?;
        Some(reply)
    }

    /// Whether the server ends the connection within that time, without a word.
    pub(crate) async fn ends_within(&mut self, patience: Duration) -> bool {
        let mut rest = Vec::new();
        timeout(patience, self.0.read_to_end(&mut rest)).await.is_ok()
    }
}

/// A request that feeds.
pub(crate) fn feeding(text: &str) -> String {
    format!(
        "POST /multivac/data HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{text}",
        text.len()
    )
}

/// A request that reads.
pub(crate) fn getting(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")
}
