//! Requests over several connections, on each of them one after the other.
//!
//! What this takes of the processors, the measured system does not get, so it is lean: a connection has one buffer, sends a request
//! by one call and mostly reads its reply by one, and no reply has a timer of its own. Every reply is read to its end all the same.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use httparse::{EMPTY_HEADER, Status};
use multivac_testkit::TEST_TIMEOUT;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until};

use super::{Args, Measured};

/// Bytes read at once, at most: more than most replies have.
const READ_SIZE: usize = 8 << 10;

/// A connection that is kept alive.
pub(super) struct LeanConnection {
    stream: TcpStream,
    reply: Vec<u8>,
}

impl LeanConnection {
    pub(super) async fn open(target: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(target).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, reply: Vec::new() })
    }

    /// Sends a request and reads its reply: the status and the body. Whoever calls it sees to it that this does not take for ever.
    pub(super) async fn exchange(&mut self, request: impl AsRef<[u8]>) -> io::Result<(u16, &[u8])> {
        self.stream.write_all(request.as_ref()).await?;
        self.reply.clear();
        loop {
            self.reply.reserve(READ_SIZE);
            if self.stream.read_buf(&mut self.reply).await? == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed the connection"));
            }
            if let Some((status, body)) = whole(&self.reply)? {
                return Ok((status, &self.reply[body]));
            }
        }
    }
}

/// The status of a reply and where its body is, once all of it is there.
fn whole(reply: &[u8]) -> io::Result<Option<(u16, Range<usize>)>> {
    let malformed = |why| io::Error::new(io::ErrorKind::InvalidData, format!("the reply cannot be read: {why}"));
    let mut headers = [EMPTY_HEADER; 32];
    let mut head = httparse::Response::new(&mut headers);
    let Status::Complete(body) = head.parse(reply).map_err(|error| malformed(error.to_string()))? else {
        return Ok(None);
    };
    let length = head.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let length = length.and_then(|header| std::str::from_utf8(header.value).ok()?.parse::<usize>().ok());
    let end = body + length.ok_or_else(|| malformed("it does not say how long it is".to_owned()))?;
    match (reply.len() > end, head.code) {
        (true, _) | (_, None) => Err(malformed("it is longer than it says".to_owned())),
        (false, Some(status)) => Ok((reply.len() == end).then_some((status, body..end))),
    }
}

/// Sends `count` requests over the connections, each connection one after the other, so many a second at most.
pub(super) async fn every<R: AsRef<[u8]> + Send>(
    what: &str,
    args: &Args,
    count: usize,
    rate: Option<u32>,
    request: impl Fn(usize) -> R + Copy + Send + 'static,
) -> io::Result<Measured> {
    every_reply(what, args, count, rate, request, |_, _| ()).await
}

/// The same, and hands over the number of each request with its reply's body.
pub(super) async fn every_reply<R: AsRef<[u8]> + Send>(
    what: &str,
    args: &Args,
    count: usize,
    rate: Option<u32>,
    request: impl Fn(usize) -> R + Copy + Send + 'static,
    check: impl Fn(usize, &[u8]) + Clone + Send + 'static,
) -> io::Result<Measured> {
    let next = Arc::new(AtomicUsize::new(0));
    let mut running = JoinSet::new();
    let started = Instant::now();
    for _ in 0..args.connections {
        let (what, next, target, check) = (what.to_owned(), Arc::clone(&next), args.target.clone(), check.clone());
        running.spawn(async move {
            let mut connection = LeanConnection::open(&target).await?;
            let (mut latencies, mut not_200) = (Vec::new(), 0);
            loop {
                let i = next.fetch_add(1, Ordering::Relaxed);
                if i >= count {
                    return io::Result::Ok((latencies, not_200));
                }
                let request = request(i);
                if let Some(rate) = rate {
                    sleep_until((started + Duration::from_secs(1) * i as u32 / rate).into()).await;
                }
                let sent = Instant::now();
                let (status, body) = connection.exchange(request).await?;
                latencies.push(sent.elapsed());
                if status != 200 {
                    if not_200 == 0 {
                        eprintln!("load: {what}: {status} {}", String::from_utf8_lossy(body));
                    }
                    not_200 += 1;
                }
                check(i, body);
            }
        });
    }
    let all = async {
        let (mut latencies, mut not_200) = (Vec::with_capacity(count), 0);
        while let Some(done) = running.join_next().await {
            let (its_latencies, its_not_200) = done.map_err(io::Error::other)??;
            latencies.extend(its_latencies);
            not_200 += its_not_200;
        }
        Ok(Measured { what: what.to_owned(), count: count - not_200, took: started.elapsed(), latencies, not_200 })
    };
    tokio::select! {
        measured = all => measured,
        () = none_begun(&next) => Err(io::Error::new(io::ErrorKind::TimedOut, format!("{what}: replies do not come any more"))),
    }
}

/// Returns when no request was begun for a while, which means that some of them get no reply.
pub(super) async fn none_begun(next: &AtomicUsize) {
    loop {
        let before = next.load(Ordering::Relaxed);
        sleep(TEST_TIMEOUT).await;
        if next.load(Ordering::Relaxed) == before {
            return;
        }
    }
}
