//! Reads a backup, line by line, and refuses what is not whole.

use std::io::{self, BufRead, BufReader, ErrorKind, Read};

use flate2::bufread::GzDecoder;
use sha2::{Digest, Sha256};

use super::lines::{self, Said};
use super::write::hexadecimal;
use super::{BackupError, FORMAT, Header, Trailer, VERSION, place};
use crate::datum::DatumId;
use crate::store::StoreEntry;

/// The longest line: MongoDB's largest document, each byte of which JSON may write as six.
const MAX_LINE_BYTES: usize = 100 << 20;

/// Reads the entries of a backup.
pub struct Reader<R: BufRead> {
    input: BufReader<GzDecoder<R>>,
    header: Header,
    digest: Sha256,
    seen: Trailer,
    last: Option<(bool, DatumId)>,
    line: Vec<u8>,
    number: u64,
}

impl<R: BufRead> Reader<R> {
    /// Reads the header.
    ///
    /// # Errors
    /// When it is none, or one of a newer format.
    pub fn new(input: R) -> Result<Self, BackupError> {
        let header = Header { format: String::new(), version: 0, exported_at: String::new(), by: String::new() };
        let seen = Trailer { data: 0, tombstones: 0, unreadable: 0, sha256: String::new() };
        let mut reader = Self {
            input: BufReader::with_capacity(64 << 10, GzDecoder::new(input)),
            header,
            digest: Sha256::new(),
            seen,
            last: None,
            line: Vec::new(),
            number: 0,
        };
        match reader.next_line() {
            Ok(true) => {}
            Ok(false) => return Err(BackupError::NotABackup("it is empty".to_owned())),
            Err(BackupError::Damaged(_)) => return Err(BackupError::NotABackup("it does not begin as one".to_owned())),
            Err(error) => return Err(error),
        }
        // Only the name and the version are the same in all versions.
        let said: serde_json::Value = serde_json::from_slice(&reader.line).unwrap_or_default();
        if said["format"] != FORMAT {
            return Err(BackupError::NotABackup("its first line does not say so".to_owned()));
        }
        match said["version"].as_u64().and_then(|version| u32::try_from(version).ok()) {
            Some(1..=VERSION) => {}
            Some(version) if version > VERSION => return Err(BackupError::Newer(version)),
            _ => return Err(BackupError::Damaged("its first line names no version".to_owned())),
        }
        let bad = |_| BackupError::Damaged("its first line is no header".to_owned());
        reader.header = serde_json::from_value(said).map_err(bad)?;
        Ok(reader)
    }

    /// The first line.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The next entry; `None` at the end, where all was found to be whole.
    ///
    /// # Errors
    /// When it is not.
    pub fn next_entry(&mut self) -> Result<Option<StoreEntry>, BackupError> {
        if !self.next_line()? {
            return Err(self.damaged("the last line is missing"));
        }
        match lines::read(&self.line).map_err(|wrong| self.damaged(wrong))? {
            Said::Entry(entry) => {
                let place = Some(place(entry.id()));
                if self.last >= place {
                    return Err(self.damaged("is not in the order of the ids"));
                }
                self.last = place;
                match entry {
                    StoreEntry::Live(_) => self.seen.data += 1,
                    _ => self.seen.tombstones += 1,
                }
                self.digest.update(&self.line);
                self.digest.update(b"\n");
                self.line.shrink_to(1 << 20);
                Ok(Some(entry))
            }
            Said::End(trailer) => {
                self.seen.unreadable = trailer.unreadable;
                self.seen.sha256 = hexadecimal(&self.digest.finalize_reset());
                if trailer != self.seen {
                    return Err(self.damaged("does not count what is there, or its checksum is another"));
                }
                // Reading to the end compares gzip's own check sums.
                if self.next_line()? {
                    return Err(self.damaged("comes after the last line"));
                }
                let behind = self.input.get_mut().get_mut().fill_buf()?;
                if !behind.is_empty() {
                    return Err(BackupError::Damaged("something comes after its end".to_owned()));
                }
                Ok(None)
            }
        }
    }

    /// What the last line said, once [`Self::next_entry`] has come to it.
    pub fn trailer(&self) -> &Trailer {
        &self.seen
    }

    fn damaged(&self, wrong: &str) -> BackupError {
        BackupError::Damaged(format!("line {} {wrong}", self.number))
    }

    /// Reads a line without its line feed; false where there is none.
    fn next_line(&mut self) -> Result<bool, BackupError> {
        self.line.clear();
        self.number += 1;
        let mut limited = (&mut self.input).take(MAX_LINE_BYTES as u64);
        limited.read_until(b'\n', &mut self.line).map_err(|error| unpack_error(error, self.number))?;
        match self.line.pop() {
            Some(b'\n') => Ok(true),
            None => Ok(false),
            Some(_) => Err(self.damaged("has no end")),
        }
    }
}

/// What gzip says is damage; what the system says is not.
fn unpack_error(error: io::Error, line: u64) -> BackupError {
    match error.kind() {
        ErrorKind::UnexpectedEof => BackupError::Damaged(format!("it ends in line {line}")),
        ErrorKind::InvalidInput | ErrorKind::InvalidData => {
            BackupError::Damaged(format!("line {line} cannot be unpacked"))
        }
        _ => BackupError::Io(error),
    }
}

/// Reads a backup to its end; what is in it, if it is whole.
///
/// # Errors
/// When it is not.
pub fn verify(input: impl BufRead, told: &dyn Fn(u64)) -> Result<(Header, Trailer), BackupError> {
    let mut reader = Reader::new(input)?;
    let mut done = 0;
    while reader.next_entry()?.is_some() {
        done += 1;
        if done % 1_000 == 0 {
            told(done);
        }
    }
    Ok((reader.header.clone(), reader.trailer().clone()))
}
