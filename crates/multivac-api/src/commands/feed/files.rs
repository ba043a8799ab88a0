//! What is to be fed: files found and read one after another, with bounded memory however large they are.

use std::collections::HashSet;
use std::fs::{File, Metadata};
use std::io::{self, BufRead, BufReader, Read, Seek};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use sha2::{Digest, Sha256};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc};
use walkdir::{DirEntry, WalkDir};

use super::split::{cut, head_line};
use super::{Format, Item, Place, Run, is_stdin};
use crate::body;
use crate::client::printable_name;

/// What version control keeps, which nobody wrote.
const VERSION_CONTROL: [&str; 6] = [".git", ".hg", ".svn", ".jj", ".bzr", "CVS"];

/// How often a file that is being written to is read before that is told.
const MAX_READS: u32 = 3;

/// What is looked at of the standard input, and of .json, to know its format.
const MAX_FIRST_LINE: usize = 1 << 20;

/// Nothing more is taken: the run is stopped.
struct Stopped;

/// Why a file, or a part of it, is not fed.
enum Skip {
    /// It is nothing to feed.
    PassedOver(&'static str),
    /// It could not be read.
    Failed(String),
    Stopped,
}

impl From<Stopped> for Skip {
    fn from(_: Stopped) -> Self {
        Self::Stopped
    }
}

impl From<io::Error> for Skip {
    fn from(error: io::Error) -> Self {
        Self::Failed(format!("it cannot be read: {error}"))
    }
}

/// Reads everything and makes items of it.
pub(super) struct Reader {
    pub(super) run: Arc<Run>,
    pub(super) items: mpsc::Sender<Item>,
    pub(super) room: Arc<Semaphore>,
    pub(super) runtime: Handle,
    pub(super) format: Option<Format>,
    pub(super) hidden: bool,
    pub(super) limit: usize,
    /// Folders that were entered, so that links between them lead into none twice, and into none for ever.
    pub(super) seen: HashSet<(u64, u64)>,
}

/// A file's names: for people, and for its keys.
struct Source {
    name: Arc<str>,
    /// The path from the root, without links: the same from wherever and by whatever way the file is named.
    identity: Vec<u8>,
}

impl Source {
    fn is_table(&self) -> bool {
        let extension = Path::new(&*self.name).extension();
        extension.is_some_and(|found| ["csv", "tsv"].iter().any(|table| found.eq_ignore_ascii_case(table)))
    }
}

impl Reader {
    /// Reads all of it; whether it came to the end.
    pub(super) fn read(mut self, paths: &[PathBuf]) -> bool {
        paths.iter().all(|path| self.path(path).is_ok())
    }

    fn path(&mut self, path: &Path) -> Result<(), Stopped> {
        if is_stdin(path) {
            return self.stdin();
        }
        if !path.is_dir() {
            return self.file(path, true);
        }
        let mut walk = walk(path);
        while let Some(entry) = walk.next() {
            if self.run.stop.is_cancelled() {
                return Err(Stopped);
            }
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    let name = error.path().unwrap_or(path).display().to_string();
                    match error.loop_ancestor() {
                        Some(_) => self.run.report.pass_over(&name, "a link to a folder that it lies in", false),
                        None => self.run.report.fail(&name, &reason(&error)),
                    }
                    continue;
                }
            };
            let is_dir = entry.file_type().is_dir();
            if let Some(why) = unwanted(&entry, self.hidden) {
                self.run.report.leave_out(why);
                if is_dir {
                    walk.skip_current_dir();
                }
            } else if is_dir {
                if !self.enter(&entry) {
                    walk.skip_current_dir();
                }
            } else {
                self.file(entry.path(), false)?;
            }
        }
        Ok(())
    }

    /// Whether the folder is a new one.
    fn enter(&mut self, entry: &DirEntry) -> bool {
        let Ok(folder) = entry.metadata() else { return true };
        let is_new = self.seen.insert((folder.dev(), folder.ino()));
        if !is_new {
            self.run.report.pass_over(
                &entry.path().display().to_string(),
                "a folder that was fed by another name",
                false,
            );
        }
        is_new
    }

    fn file(&mut self, path: &Path, is_named: bool) -> Result<(), Stopped> {
        if self.run.stop.is_cancelled() {
            return Err(Stopped);
        }
        let name: Arc<str> = printable_name(&path.display().to_string()).into();
        let read = open(path).and_then(|(file, metadata)| {
            let source =
                Source { name: Arc::clone(&name), identity: path.canonicalize()?.as_os_str().as_bytes().to_vec() };
            self.run.report.file();
            let read = self.content(file, &metadata, path, &source);
            if read.is_err() {
                self.run.report.done(metadata.len());
            }
            read
        });
        self.tell(&name, read, is_named)
    }

    fn tell(&self, name: &str, read: Result<(), Skip>, is_named: bool) -> Result<(), Stopped> {
        match read {
            Ok(()) => {}
            Err(Skip::Stopped) => return Err(Stopped),
            Err(Skip::PassedOver(why)) => self.run.report.pass_over(name, why, is_named),
            Err(Skip::Failed(why)) => self.run.report.fail(name, &why),
        }
        Ok(())
    }

    fn content(&self, mut file: File, before: &Metadata, path: &Path, source: &Source) -> Result<(), Skip> {
        let extension = path.extension().and_then(|extension| extension.to_str()).map(str::to_ascii_lowercase);
        let format = match (self.format, extension.as_deref()) {
            (Some(format), _) => format,
            (None, Some("ndjson" | "jsonl" | "ldjson")) => Format::Ndjson,
            (None, Some("json")) => {
                let mut first = Vec::new();
                BufReader::new((&mut file).take(MAX_FIRST_LINE as u64)).read_until(b'\n', &mut first)?;
                file.rewind()?;
                format_of(&first)
            }
            (None, _) => Format::Text,
        };
        if format == Format::Ndjson {
            return self.lines(BufReader::with_capacity(64 << 10, file), source);
        }
        let max = self.limit.saturating_add(body::BOM.len());
        for _ in 0..MAX_READS {
            let mut text = Vec::with_capacity(usize::try_from(before.len()).unwrap_or(max).min(max) + 1);
            let began = file.metadata()?;
            (&mut file).take(max as u64 + 1).read_to_end(&mut text)?;
            if without_mark(&text).len() > self.limit {
                return self.parts(file, source);
            }
            if is_same(&began, &file.metadata()?) {
                return self.text(&text, source, None, text.len() as u64);
            }
            file.rewind()?;
        }
        Err(Skip::Failed("it changes while it is read".to_owned()))
    }

    /// A text that is too long for one datum, in parts.
    fn parts(&self, mut file: File, source: &Source) -> Result<(), Skip> {
        // The whole of it first: a file that is no text is passed over, and not fed up to where that shows.
        let began = file.metadata()?;
        file.rewind()?;
        is_text(BufReader::with_capacity(64 << 10, &mut file))?;
        file.rewind()?;
        self.cut_up(BufReader::with_capacity(64 << 10, &mut file), source)?;
        if is_same(&began, &file.metadata()?) {
            Ok(())
        } else {
            Err(Skip::Failed("it has changed while it was read: its parts are of what was found".to_owned()))
        }
    }

    fn cut_up(&self, mut input: impl Read, source: &Source) -> Result<(), Skip> {
        let (mut text, mut part, mut head) = (Vec::new(), 0, Vec::new());
        loop {
            let room = self.limit - head.len();
            let wanted = (self.limit + body::BOM.len() + 1).saturating_sub(text.len());
            (&mut input).take(wanted as u64).read_to_end(&mut text)?;
            if part == 0 && text.starts_with(body::BOM) {
                text.drain(..body::BOM.len());
                part = 1;
                continue;
            }
            part = part.max(1);
            let at = if text.len() > room { cut(&text, room) } else { text.len() };
            if at == 0 {
                break;
            }
            let is_blank = text[..at].iter().all(u8::is_ascii_whitespace);
            let whole = if is_blank { Vec::new() } else { [&head, &text[..at]].concat() };
            match self.text(&whole, source, Some(part), at as u64) {
                // White space between parts is nothing.
                Err(Skip::PassedOver(EMPTY)) => {}
                other => other?,
            }
            if part == 1 && source.is_table() {
                head = head_line(&text[..at], self.limit).to_vec();
            }
            text.drain(..at);
            part += 1;
        }
        self.run.report.split(&source.name, part - 1);
        Ok(())
    }

    /// A datum that is a text by itself.
    fn text(&self, text: &[u8], source: &Source, part: Option<u64>, weight: u64) -> Result<(), Skip> {
        let text = without_mark(text);
        if memchr::memchr(0, text).is_some() {
            return Err(Skip::PassedOver(BINARY));
        }
        let text = std::str::from_utf8(text).map_err(|_| Skip::PassedOver(NOT_UTF8))?;
        if multivac_core::datum::Datum::new(text, usize::MAX).is_err() {
            return Err(Skip::PassedOver(EMPTY));
        }
        self.item(text, None, source, (None, part), weight)
    }

    /// A datum a line.
    fn lines(&self, mut input: impl BufRead, source: &Source) -> Result<(), Skip> {
        let max_line = self.limit.saturating_mul(6).saturating_add(64 << 10);
        let (mut line, mut number) = (Vec::new(), 0);
        loop {
            line.clear();
            line.shrink_to(1 << 20);
            let read = (&mut input).take(max_line as u64 + 1).read_until(b'\n', &mut line)?;
            if read == 0 {
                return Ok(());
            }
            number += 1;
            let place = Place { file: Arc::clone(&source.name), line: Some(number), part: None };
            if line.last() != Some(&b'\n') && read > max_line {
                self.run.report.reject(place, &format!("the datum is over the limit of {} bytes", self.limit));
                self.run.report.done(read as u64 + skip_line(&mut input)?);
                continue;
            }
            let bytes = without_mark(&line);
            if bytes.iter().all(u8::is_ascii_whitespace) {
                self.run.report.done(read as u64);
                continue;
            }
            match body::json_line(bytes, self.limit) {
                Ok((datum, key)) => {
                    self.item(datum.as_str(), key.as_deref(), source, (Some(number), None), read as u64)?
                }
                Err(problem) => {
                    self.run.report.reject(place, problem.detail());
                    self.run.report.done(read as u64);
                }
            }
        }
    }

    fn item(
        &self,
        text: &str,
        own_key: Option<&str>,
        source: &Source,
        (line, part): (Option<u64>, Option<u64>),
        weight: u64,
    ) -> Result<(), Skip> {
        #[derive(Serialize)]
        struct Line<'a> {
            data: &'a str,
            idempotency_key: &'a str,
        }
        let recorded = key(own_key.map_or(&source.identity, str::as_bytes), text);
        let key = own_key.map_or_else(|| recorded.clone(), str::to_owned);
        let mut json = serde_json::to_vec(&Line { data: text, idempotency_key: &key }).map_err(io::Error::from)?;
        json.push(b'\n');
        let kib = u32::try_from(json.len() / 1_024 + 1).unwrap_or(u32::MAX).min(super::MAX_WAITING_KIB as u32);
        let room = Arc::clone(&self.room).acquire_many_owned(kib);
        let room = self.runtime.block_on(async {
            tokio::select! {
                () = self.run.stop.cancelled() => None,
                room = room => room.ok(),
            }
        });
        let place = Place { file: Arc::clone(&source.name), line, part };
        let item = Item { place, recorded, line: json, weight, _room: Some(room.ok_or(Stopped)?) };
        self.items.blocking_send(item).map_err(|_| Skip::Stopped)
    }

    fn stdin(&mut self) -> Result<(), Stopped> {
        let source = Source { name: "the standard input".into(), identity: b"-".to_vec() };
        self.run.report.file();
        let mut input = BufReader::with_capacity(64 << 10, io::stdin());
        let read = self.of_stdin(&mut input, &source);
        self.tell(&source.name, read, true)
    }

    fn of_stdin(&self, input: &mut impl BufRead, source: &Source) -> Result<(), Skip> {
        let mut first = Vec::new();
        if self.format.is_none() {
            input.take(MAX_FIRST_LINE as u64).read_until(b'\n', &mut first)?;
        }
        if self.format.unwrap_or_else(|| format_of(&first)) == Format::Ndjson {
            return self.lines((&first[..]).chain(input), source);
        }
        let mut text = first;
        let max = self.limit + body::BOM.len();
        input.take((max + 1).saturating_sub(text.len()) as u64).read_to_end(&mut text)?;
        if without_mark(&text).len() <= self.limit {
            return self.text(&text, source, None, text.len() as u64);
        }
        self.cut_up((&text[..]).chain(input), source)
    }
}

const BINARY: &str = "it is binary: it holds NUL";
const NOT_UTF8: &str = "it is binary, or text in another encoding: it is not UTF-8";
const EMPTY: &str = "it is empty";

fn walk(path: &Path) -> walkdir::IntoIter {
    WalkDir::new(path).follow_links(true).into_iter()
}

/// Why an entry of a folder is left out, if it is: only what was found there, and not what was named.
fn unwanted(entry: &DirEntry, hidden: bool) -> Option<&'static str> {
    if entry.depth() == 0 {
        return None;
    }
    let name = entry.file_name();
    if VERSION_CONTROL.iter().any(|kept| name == *kept) {
        return Some("of version control");
    }
    (!hidden && name.as_bytes().starts_with(b".")).then_some("hidden")
}

fn reason(error: &walkdir::Error) -> String {
    let why = error.io_error().map_or_else(|| error.to_string(), ToString::to_string);
    format!("it cannot be read: {why}")
}

/// Opens what is a file. Nothing that would make a reader wait, such as a FIFO.
fn open(path: &Path) -> Result<(File, Metadata), Skip> {
    let special = |metadata: &Metadata| {
        let kind = metadata.file_type();
        Skip::PassedOver(match () {
            () if kind.is_fifo() => "it is a FIFO",
            () if kind.is_socket() => "it is a socket",
            () => "it is a device",
        })
    };
    let found = std::fs::metadata(path)?;
    if !found.is_file() {
        return Err(special(&found));
    }
    // Were it replaced by a FIFO at this moment, the opening would not wait either.
    let nonblock = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = File::options().read(true).custom_flags(nonblock).open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_file() { Ok((file, metadata)) } else { Err(special(&metadata)) }
}

fn without_mark(text: &[u8]) -> &[u8] {
    text.strip_prefix(body::BOM).unwrap_or(text)
}

fn is_same(before: &Metadata, after: &Metadata) -> bool {
    (before.len(), before.mtime(), before.mtime_nsec()) == (after.len(), after.mtime(), after.mtime_nsec())
}

/// Reads to the end of a line; how many bytes that were.
fn skip_line(input: &mut impl BufRead) -> io::Result<u64> {
    let mut skipped = 0;
    loop {
        let buffer = input.fill_buf()?;
        let end = memchr::memchr(b'\n', buffer);
        let used = end.map_or(buffer.len(), |end| end + 1);
        input.consume(used);
        skipped += used as u64;
        if end.is_some() || used == 0 {
            return Ok(skipped);
        }
    }
}

/// NDJSON if the first line is an object with a text in "data".
fn format_of(first_line: &[u8]) -> Format {
    match body::json_line(first_line, usize::MAX) {
        Ok(_) => Format::Ndjson,
        Err(_) => Format::Text,
    }
}

/// Whether all of it is text.
fn is_text(mut input: impl BufRead) -> Result<(), Skip> {
    let mut rest: Vec<u8> = Vec::new();
    loop {
        let buffer = input.fill_buf()?;
        if buffer.is_empty() {
            return if rest.is_empty() { Ok(()) } else { Err(Skip::PassedOver(NOT_UTF8)) };
        }
        if memchr::memchr(0, buffer).is_some() {
            return Err(Skip::PassedOver(BINARY));
        }
        let used = buffer.len();
        rest.extend_from_slice(buffer);
        input.consume(used);
        match std::str::from_utf8(&rest) {
            Ok(_) => rest.clear(),
            // A letter may go on in what follows.
            Err(error) if error.error_len().is_none() => drop(rest.drain(..error.valid_up_to())),
            Err(_) => return Err(Skip::PassedOver(NOT_UTF8)),
        }
    }
}

/// The key of a text: of its file and of itself, so that the same text out of the same file is one datum.
fn key(identity: &[u8], text: &str) -> String {
    let mut sha = Sha256::new();
    sha.update(b"multivac feed 1\0");
    sha.update((identity.len() as u64).to_be_bytes());
    sha.update(identity);
    sha.update(text);
    let digest = sha.finalize();
    "feed-".chars().chain(digest[..16].iter().flat_map(|byte| hex(*byte))).collect()
}

fn hex(byte: u8) -> [char; 2] {
    [byte >> 4, byte & 15].map(|digit| char::from_digit(u32::from(digit), 16).expect("four bits are a digit"))
}

/// Sums up how much there is to read, for the progress bar.
pub(super) fn count(run: &Run, paths: &[PathBuf], hidden: bool) {
    let mut seen = HashSet::new();
    for path in paths.iter().filter(|path| !is_stdin(path)) {
        let mut is_new = |folder: &DirEntry| folder.metadata().is_ok_and(|m| seen.insert((m.dev(), m.ino())));
        let wanted =
            |entry: &DirEntry| unwanted(entry, hidden).is_none() && (!entry.file_type().is_dir() || is_new(entry));
        for entry in walk(path).filter_entry(wanted).flatten() {
            if run.stop.is_cancelled() {
                return;
            }
            if let Ok(metadata) = entry.metadata()
                && metadata.is_file()
            {
                run.report.expect(metadata.len());
            }
        }
    }
    if !paths.iter().any(|path| is_stdin(path)) {
        run.report.all_expected();
    }
}
