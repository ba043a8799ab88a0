//! What stands between a connection and actix-http: every request is checked before actix-http reads it.
//!
//! actix-http answers what it cannot parse by itself, with a status and an empty body, and has no hook for that; it closes
//! the connection without any reply when chunks are malformed; and it refuses targets that clients send as they are typed.
//! So a [`Wire`] follows the requests on a connection (heads, and where bodies end) and passes on what actix-http serves. In
//! place of a head that cannot be served it passes on a request of its own, to [`PATH`], and the route there replies with the
//! problem that the `Wire` has left in the connection's [`Refusal`]. That way a refusal has its turn behind the replies to
//! earlier requests, its trace and its count, as any other reply. Nothing that follows it on the connection is served.
//!
//! Rewriting actix-http's empty replies on their way out was weighed, and is unsound: they cannot be told from what an
//! answer may hold, and say neither what was wrong nor 414 or 505. It costs a second look at each head, some 1 µs.

mod chunks;
mod head;

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use actix_web::web::{Buf, BytesMut};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::io::poll_read_buf;

use crate::problem::Problem;
use chunks::Chunks;
use head::{Body, MAX_HEAD, MAX_LINE, RequestLine};

/// Where refused requests are sent. No client can ask for it: of what a client sends, braces are passed on encoded.
pub(crate) const PATH: &str = "/{refused}";

/// How long a head may take: the first one from the start of the connection, later ones from their first byte.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// How long, and for how many bytes, a client that was refused is listened to: if the connection were closed while its bytes
/// arrive, the reply would be lost to it.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 4 << 20;

/// Bytes read at once.
const READ_SIZE: usize = 8 << 10;

/// Why a connection's last request was refused.
pub(crate) struct Refused {
    /// What to reply.
    pub(crate) problem: Problem,
    /// Whether the request was `HEAD`, so that the reply has no body.
    pub(crate) is_head: bool,
}

/// Where a connection's last request finds why it was refused.
#[derive(Clone, Default)]
pub(crate) struct Refusal(Rc<RefCell<Option<Refused>>>);

impl Refusal {
    /// It; once.
    pub(crate) fn take(&self) -> Option<Refused> {
        self.0.borrow_mut().take()
    }
}

/// How long a client that is sent events may leave bytes unacknowledged, or its window closed, before the kernel ends the
/// connection. An event stream says something every 15 s, so one whose client has vanished does not stay.
const UNHEARD: Duration = Duration::from_secs(30);

/// How much of what such a client does not take the kernel may hold for it; Linux doubles the number, and without it would
/// give a slow client up to 4 MiB.
const EVENTS_BUFFER: usize = 32 << 10;

/// What a connection is used for, as its handler and its [`Wire`] tell each other.
#[derive(Clone, Default)]
pub(crate) struct Use(Rc<Cell<Used>>);

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Used {
    #[default]
    ForRequests,
    /// From here on, nothing but events is sent.
    ForEvents,
    /// The same, and its socket knows that.
    ForEventsWithin,
    /// The kernel has given up on its client.
    TimedOut,
}

impl Use {
    /// Has the connection drop its client if that does not take what it is sent.
    pub(crate) fn for_events(&self) {
        self.0.set(Used::ForEvents);
    }

    fn is_for_events(&self) -> bool {
        self.0.get() != Used::ForRequests
    }

    /// Whether it has.
    pub(crate) fn timed_out(&self) -> bool {
        self.0.get() == Used::TimedOut
    }
}

/// A connection, read as requests.
pub(crate) struct Wire {
    stream: TcpStream,
    state: State,
    /// Bytes that were read and not looked at.
    incoming: BytesMut,
    /// Bytes that are passed on.
    outgoing: BytesMut,
    /// Ends the wait for a head.
    deadline: Option<Pin<Box<Sleep>>>,
    refusal: Refusal,
    used: Use,
}

/// What the next byte belongs to.
enum State {
    /// A head. `searched` bytes of it hold no end of it, and its first line, once it is there, has `line` bytes.
    Head { searched: usize, line: usize },
    /// A body with so many bytes to come.
    Length(u64),
    /// A body in chunks.
    Chunked(Chunks),
    /// Nothing: a request was refused, and so many more bytes are read and dropped.
    Refused { left: usize },
    /// Nothing: a body broke off.
    Broken,
}

const HEAD: State = State::Head { searched: 0, line: 0 };

impl Wire {
    pub(crate) fn new(stream: TcpStream) -> Self {
        let deadline = Some(Box::pin(sleep_until(Instant::now() + HEAD_TIMEOUT)));
        let (incoming, outgoing) = (BytesMut::new(), BytesMut::new());
        Self { stream, state: HEAD, incoming, outgoing, deadline, refusal: Refusal::default(), used: Use::default() }
    }

    pub(crate) fn peer_address(&self) -> Option<SocketAddr> {
        self.stream.peer_addr().ok()
    }

    pub(crate) fn refusal(&self) -> Refusal {
        self.refusal.clone()
    }

    pub(crate) fn used(&self) -> Use {
        self.used.clone()
    }

    /// Before something is written: what the socket is to know of events.
    fn bound_events(&self) {
        if self.used.0.get() != Used::ForEvents {
            return;
        }
        let socket = SockRef::from(&self.stream);
        // Where the system knows neither, a slow client is dropped once it has missed what is kept.
        let _ = socket.set_send_buffer_size(EVENTS_BUFFER);
        #[cfg(target_os = "linux")]
        let _ = socket.set_tcp_user_timeout(Some(UNHEARD));
        self.used.0.set(Used::ForEventsWithin);
    }

    /// Notes how a call to the socket ended.
    fn note<T>(&self, result: io::Result<T>) -> io::Result<T> {
        if let Err(error) = &result
            && error.kind() == io::ErrorKind::TimedOut
            && self.used.0.get() == Used::ForEventsWithin
        {
            self.used.0.set(Used::TimedOut);
        }
        result
    }

    /// Moves what can be passed on from `incoming` to `outgoing`.
    fn advance(&mut self) {
        while !self.incoming.is_empty() {
            match &mut self.state {
                State::Head { .. } => match self.head() {
                    Ok(true) => {}
                    Ok(false) => return,
                    Err(problem) => self.refuse(problem),
                },
                State::Length(left) => {
                    let here = usize::try_from(*left).unwrap_or(usize::MAX).min(self.incoming.len());
                    *left -= here as u64;
                    if *left == 0 {
                        self.state = HEAD;
                    }
                    self.outgoing.extend_from_slice(&self.incoming[..here]);
                    self.incoming.advance(here);
                }
                State::Chunked(chunks) => {
                    let (here, result) = chunks.follow(&self.incoming);
                    if *chunks == Chunks::End {
                        self.state = HEAD;
                    }
                    if result.is_err() {
                        self.state = State::Broken;
                    }
                    self.outgoing.extend_from_slice(&self.incoming[..here]);
                    self.incoming.advance(here);
                }
                State::Refused { .. } | State::Broken => self.incoming.clear(),
            }
        }
    }

    /// Passes on the head that begins `incoming`, once it is there.
    fn head(&mut self) -> Result<bool, Problem> {
        let State::Head { searched, line } = &mut self.state else { return Ok(false) };
        if *searched == 0 {
            // Empty lines before a request are passed over (RFC 9112, 2.2).
            let empty = self.incoming.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
            self.incoming.advance(empty);
            match self.incoming.first() {
                None => return Ok(false),
                // Another protocol, such as TLS: its line may never end.
                Some(&byte) if !head::is_token(byte) => {
                    return Err(Problem::bad_request("this is no request of HTTP/1.1, which is what is spoken here"));
                }
                Some(_) => {}
            }
        }
        while let Some(at) = memchr::memchr(b'\n', &self.incoming[*searched..]).map(|at| at + *searched) {
            if *line == 0 {
                *line = at + 1;
                // At once: what is no HTTP/1.1 may have no more lines.
                RequestLine::parse(&self.incoming[..*line])?;
            }
            // It ends with an empty line. Whether that follows is not known yet if nothing does.
            let end = match self.incoming[at + 1..] {
                [b'\n', ..] => at + 2,
                [b'\r', b'\n', ..] => at + 3,
                [] | [b'\r'] => {
                    *searched = at;
                    return self.incomplete();
                }
                _ => {
                    *searched = at + 1;
                    continue;
                }
            };
            if end > MAX_HEAD {
                return Err(Problem::head_too_large());
            }
            let (body, rewritten) = head::check(&self.incoming[..end], *line)?;
            match rewritten {
                Some(rewritten) => self.outgoing.extend_from_slice(&rewritten),
                None => self.outgoing.extend_from_slice(&self.incoming[..end]),
            }
            self.incoming.advance(end);
            self.state = match body {
                Body::Length(0) => HEAD,
                Body::Length(length) => State::Length(length),
                Body::Chunked => State::Chunked(Chunks::START),
            };
            self.deadline = None;
            return Ok(true);
        }
        *searched = self.incoming.len();
        self.incomplete()
    }

    /// Says that more of a head is needed, unless it has had its share.
    fn incomplete(&self) -> Result<bool, Problem> {
        let has_line = matches!(self.state, State::Head { line, .. } if line > 0);
        if !has_line && self.incoming.len() > MAX_LINE {
            // As much as there is of it says what it is.
            return RequestLine::parse(&self.incoming).and(Err(Problem::uri_too_long()));
        }
        if self.incoming.len() > MAX_HEAD { Err(Problem::head_too_large()) } else { Ok(false) }
    }

    /// Passes on a request whose reply will be this problem, the last one on the connection.
    fn refuse(&mut self, problem: Problem) {
        let is_head = self.incoming.starts_with(b"HEAD ");
        // A host that this server has in any case: the one at which it was reached. Neither `HEAD` nor `Connection: close`:
        // actix-http applies those of the request that it read last to replies that are still to be sent for earlier ones.
        let host = self.stream.local_addr().map_or_else(|_| "localhost".to_owned(), |address| address.to_string());
        let request = format!("GET {PATH} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        self.outgoing.extend_from_slice(request.as_bytes());
        *self.refusal.0.borrow_mut() = Some(Refused { problem, is_head });
        self.state = State::Refused { left: LINGER_BYTES };
        self.deadline = None;
        self.incoming = BytesMut::new();
    }

    /// Reads and drops what a refused client still sends, until it ends.
    fn poll_drop(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let State::Refused { left } = &mut self.state {
            if *left == 0 {
                break;
            }
            self.incoming.clear();
            let read = ready!(poll_read_buf(Pin::new(&mut self.stream), cx, &mut self.incoming))?;
            *left = if read == 0 { 0 } else { left.saturating_sub(read) };
        }
        Poll::Ready(Ok(()))
    }

    /// Waits for the deadline of a head that is not there yet: it is refused then.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !matches!(self.state, State::Head { .. }) {
            return Poll::Pending;
        }
        if self.deadline.is_none() && !self.incoming.is_empty() {
            self.deadline = Some(Box::pin(sleep_until(Instant::now() + HEAD_TIMEOUT)));
        }
        let Some(deadline) = &mut self.deadline else { return Poll::Pending };
        ready!(deadline.as_mut().poll(cx));
        self.refuse(Problem::timeout("the request did not come in time"));
        Poll::Ready(())
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            if !this.outgoing.is_empty() {
                let here = this.outgoing.len().min(buf.remaining());
                buf.put_slice(&this.outgoing[..here]);
                this.outgoing.advance(here);
                if this.outgoing.is_empty() {
                    // An idle connection holds no memory.
                    this.outgoing = BytesMut::new();
                }
                return Poll::Ready(Ok(()));
            }
            match &mut this.state {
                // What is left is a matter of the reply that is under way; see `poll_shutdown`.
                State::Refused { .. } => {
                    ready!(this.poll_drop(cx))?;
                    return Poll::Ready(Ok(()));
                }
                // The end, as if the client had sent no more: the route learns that the body is not whole, and replies.
                State::Broken => return Poll::Ready(Ok(())),
                // Straight through.
                State::Length(left) if this.incoming.is_empty() => {
                    let limit = usize::try_from(*left).unwrap_or(usize::MAX).min(buf.remaining());
                    let mut part = ReadBuf::new(buf.initialize_unfilled_to(limit));
                    ready!(Pin::new(&mut this.stream).poll_read(cx, &mut part))?;
                    let read = part.filled().len();
                    buf.advance(read);
                    *left -= read as u64;
                    if *left == 0 {
                        this.state = HEAD;
                    }
                    return Poll::Ready(Ok(()));
                }
                State::Head { .. } | State::Length(_) | State::Chunked(_) => {}
            }
            this.incoming.reserve(READ_SIZE);
            match poll_read_buf(Pin::new(&mut this.stream), cx, &mut this.incoming) {
                Poll::Ready(Ok(0)) if matches!(this.state, State::Head { .. }) && !this.incoming.is_empty() => {
                    this.refuse(Problem::bad_request("the request breaks off within its head"));
                }
                // actix-http would go on sending, for a client that reads and sends no more. Who follows events has left.
                Poll::Ready(Ok(0)) if this.used.is_for_events() => {
                    return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
                }
                Poll::Ready(Ok(0)) => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(_)) => this.advance(),
                Poll::Ready(Err(error)) => return Poll::Ready(this.note(Err(error))),
                Poll::Pending => {
                    if this.incoming.is_empty() {
                        this.incoming = BytesMut::new();
                    }
                    ready!(this.poll_deadline(cx));
                }
            }
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.bound_events();
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, buf));
        Poll::Ready(self.note(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    /// Closes the sending side; where a request was refused, listens until the client has closed its own, or for
    /// [`LINGER`].
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !matches!(this.state, State::Refused { .. } | State::Broken) {
            return Pin::new(&mut this.stream).poll_shutdown(cx);
        }
        if let State::Broken = this.state {
            this.state = State::Refused { left: LINGER_BYTES };
        }
        if this.deadline.is_none() {
            ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
            this.deadline = Some(Box::pin(sleep_until(Instant::now() + LINGER)));
        }
        match this.poll_drop(cx) {
            Poll::Pending => {
                this.deadline.as_mut().map_or(Poll::Ready(()), |deadline| deadline.as_mut().poll(cx)).map(Ok)
            }
            // Whatever became of the client, it is gone.
            Poll::Ready(_) => Poll::Ready(Ok(())),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.bound_events();
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, bufs));
        Poll::Ready(self.note(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
