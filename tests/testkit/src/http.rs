//! HTTP/1.1 written by hand: for requests that no HTTP library would send, and for load clients, which share the machine with
//! what they measure and have to be lean.

use std::io;
use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;

use crate::TEST_TIMEOUT;

/// A request that reads a path.
pub fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")
}

/// A request that asks a question, for an answer as JSON.
pub fn ask(question: &str) -> String {
    let question = utf8_percent_encode(question, NON_ALPHANUMERIC);
    format!("GET /multivac?question={question} HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n\r\n")
}

/// A request that feeds a body of this content type.
pub fn feed(content_type: &str, body: &str) -> String {
    format!(
        "POST /multivac/data HTTP/1.1\r\nHost: localhost\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// A request that feeds a text as a form.
pub fn feed_form(text: &str) -> String {
    feed("application/x-www-form-urlencoded", &format!("data={}", utf8_percent_encode(text, NON_ALPHANUMERIC)))
}

/// Sends bytes on a connection of their own, and reads the reply; `None` when the connection is closed or broken instead. It
/// may come before all of them were sent.
///
/// # Panics
/// When nobody listens there, or neither comes in time.
pub async fn send(target: &str, bytes: impl AsRef<[u8]>) -> Option<Reply> {
    let mut connection = Connection::open(target).await.expect("a server");
    let _ = connection.send(bytes).await;
    connection.reply().await
}

/// One reply.
#[derive(Debug)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// The status line and the headers in lower case, each with its line end.
    pub head: String,
    /// The body, whole.
    pub body: Vec<u8>,
}

impl Reply {
    /// Whether the server closes the connection after this reply.
    pub fn closes(&self) -> bool {
        self.header("connection") == Some("close")
    }

    /// The value of a header, whose name is given in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
    }

    /// The `detail` of the problem of RFC 9457 that it is.
    ///
    /// # Panics
    /// When it is none, or its status is another.
    pub fn problem(&self, status: u16) -> String {
        assert_eq!((self.status, self.header("content-type")), (status, Some("application/problem+json")), "{self:?}");
        let problem = self.json().expect("JSON");
        assert_eq!(problem["status"], status, "{problem}");
        for field in ["type", "title", "detail", "trace_id"] {
            assert!(problem[field].as_str().is_some_and(|text| !text.is_empty()), "{field} in {problem}");
        }
        problem["detail"].as_str().unwrap_or_default().to_owned()
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// When it is none.
    pub fn json(&self) -> io::Result<Value> {
        Ok(serde_json::from_slice(&self.body)?)
    }
}

/// A connection that is kept alive.
pub struct Connection {
    /// Where replies come from; see [`read_reply`].
    pub reader: BufReader<OwnedReadHalf>,
    /// Where requests go to.
    pub writer: OwnedWriteHalf,
    /// Whether the last request was HEAD, whose reply has no body, whatever its head says (RFC 9112, 6.3).
    is_head: bool,
}

impl Connection {
    /// Connects to a base URL, or to `HOST:PORT`.
    ///
    /// # Errors
    /// When nobody listens there.
    pub async fn open(target: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(target.trim_start_matches("http://")).await?;
        stream.set_nodelay(true)?;
        Ok(stream.into())
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// When the connection is broken.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.is_head = bytes.as_ref().starts_with(b"HEAD ");
        self.writer.write_all(bytes.as_ref()).await
    }

    /// The next reply; `None` when the connection is closed or broken instead.
    pub async fn reply(&mut self) -> Option<Reply> {
        self.reply_within(TEST_TIMEOUT).await
    }

    /// As [`Self::reply`], within a time of its own.
    pub async fn reply_within(&mut self, limit: Duration) -> Option<Reply> {
        timeout(limit, self.read_reply()).await.expect("a reply or an end in time").ok()
    }

    /// Sends a request and reads its reply.
    ///
    /// # Errors
    /// When the connection is broken, the reply is malformed, or none comes in time.
    pub async fn exchange(&mut self, request: impl AsRef<[u8]>) -> io::Result<Reply> {
        self.send(request).await?;
        timeout(TEST_TIMEOUT, self.read_reply()).await?
    }

    async fn read_reply(&mut self) -> io::Result<Reply> {
        if self.is_head { read_head(&mut self.reader).await } else { read_reply(&mut self.reader).await }
    }

    /// Whether the server ends the connection within that time, whatever it sends before.
    pub async fn ends_within(&mut self, limit: Duration) -> bool {
        timeout(limit, self.reader.read_to_end(&mut Vec::new())).await.is_ok()
    }
}

impl From<TcpStream> for Connection {
    fn from(stream: TcpStream) -> Self {
        let (reader, writer) = stream.into_split();
        Self { reader: BufReader::new(reader), writer, is_head: false }
    }
}

/// Reads one reply: the head, then a body as long as the head says, or in chunks (RFC 9112, 6 and 7.1).
///
/// # Errors
/// When the connection ends before the reply does, or the reply is malformed.
pub async fn read_reply(reader: &mut BufReader<OwnedReadHalf>) -> io::Result<Reply> {
    let mut reply = read_head(reader).await?;
    if reply.header("transfer-encoding") == Some("chunked") {
        loop {
            let mut line = String::new();
            let size = read_line(reader, &mut line).await?.split(';').next().unwrap_or_default().trim();
            let size = usize::from_str_radix(size, 16).map_err(|_| malformed())?;
            append(reader, &mut reply.body, size).await?;
            // What ends a chunk; after the last one, the empty trailer.
            read_line(reader, &mut String::new()).await?;
            if size == 0 {
                return Ok(reply);
            }
        }
    }
    let length = reply.header("content-length").map_or(Ok(0), str::parse).map_err(|_| malformed())?;
    append(reader, &mut reply.body, length).await?;
    Ok(reply)
}

/// Reads the head of a reply. `100 Continue` is passed over, since it only says that the body may be sent.
async fn read_head(reader: &mut BufReader<OwnedReadHalf>) -> io::Result<Reply> {
    loop {
        let mut head = String::new();
        while read_line(reader, &mut head).await? != "\r\n" {}
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(malformed)?;
        if status != 100 {
            return Ok(Reply { status, head: head.to_lowercase(), body: Vec::new() });
        }
    }
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the reply is not HTTP/1.1")
}

/// Appends the next line to `text` and returns it, with its end.
async fn read_line<'a>(reader: &mut BufReader<OwnedReadHalf>, text: &'a mut String) -> io::Result<&'a str> {
    let start = text.len();
    if reader.read_line(text).await? == 0 {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed the connection"));
    }
    Ok(&text[start..])
}

async fn append(reader: &mut BufReader<OwnedReadHalf>, body: &mut Vec<u8>, size: usize) -> io::Result<()> {
    let start = body.len();
    body.resize(start + size, 0);
    reader.read_exact(&mut body[start..]).await?;
    Ok(())
}
