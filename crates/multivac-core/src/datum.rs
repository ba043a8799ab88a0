//! What people feed: a [`Datum`], the [`DatumId`] under which it is kept, and where it stands.
//!
//! A text that is not acceptable cannot become a [`Datum`], so nothing behind the front door checks again.

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Serialize, Serializer};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::{ContextV7, Uuid};

/// A text that was fed and can be accepted: valid UTF-8, not blank, within the size limit.
///
/// Cheap to clone; kept byte for byte as it came.
#[derive(Clone, PartialEq, Eq)]
pub struct Datum(Arc<str>);

impl Datum {
    /// Checks a text against `limit` (bytes of UTF-8).
    ///
    /// # Errors
    /// [`DatumError::Blank`] for nothing that can be seen, [`DatumError::TooLarge`] over the limit.
    pub fn new(text: &str, limit: usize) -> Result<Self, DatumError> {
        if text.len() > limit {
            return Err(DatumError::TooLarge { limit });
        }
        if is_blank(text) {
            return Err(DatumError::Blank);
        }
        Ok(Self(text.into()))
    }

    /// A text that was checked when it was accepted, as the queue returns it.
    #[must_use]
    pub fn accepted_before(text: &str) -> Self {
        Self(text.into())
    }

    /// The text, as it was fed.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What its text is recognised by: the first half of its SHA-256.
    #[must_use]
    pub fn digest(&self) -> [u8; 16] {
        let mut digest = [0; 16];
        digest.copy_from_slice(&Sha256::digest(self.as_str())[..16]);
        digest
    }
}

/// Shows the length alone: fed text stays out of the logs.
impl fmt::Debug for Datum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Datum({} bytes)", self.0.len())
    }
}

/// Why a text is not a datum.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DatumError {
    /// Empty, or nothing that can be seen.
    #[error("the datum is empty or only white space")]
    Blank,
    /// Longer than the configured limit.
    #[error("the datum is over the limit of {limit} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// The bytes are not text.
    #[error("the datum is not valid UTF-8")]
    NotUtf8,
}

/// Whether a text is empty to whoever reads it: nothing but white space, controls (Cc), formats (Cf) and what a font leaves
/// out (`Default_Ignorable_Code_Point`), all by Unicode 17.
pub(crate) fn is_blank(text: &str) -> bool {
    text.chars().all(|char| char.is_whitespace() || char.is_control() || is_invisible(char))
}

/// Cf and `Default_Ignorable_Code_Point`, from Unicode's `DerivedGeneralCategory.txt` and `DerivedCoreProperties.txt`.
pub(crate) fn is_invisible(char: char) -> bool {
    matches!(char,
        '\u{ad}' | '\u{34f}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{890}'..='\u{891}' | '\u{8e2}'
        | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}'
        | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
        | '\u{fff0}'..='\u{fffb}' | '\u{110bd}' | '\u{110cd}' | '\u{13430}'..='\u{1343f}' | '\u{1bca0}'..='\u{1bca3}'
        | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// The name of a datum, for good.
///
/// Ours are UUIDs of version 7 (RFC 9562), so they sort by the time of accepting; the original
/// application's documents keep their MongoDB `ObjectId`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DatumId {
    /// The `ObjectId` of a document that the original application wrote.
    Original([u8; 12]),
    /// A datum accepted by MultiVAC.
    Uuid(Uuid),
}

impl DatumId {
    /// A new id, later than all before it from this process, unless the system's clock was set back in between.
    #[must_use]
    pub fn generate() -> Self {
        static IDS: Mutex<Ids> = Mutex::new(Ids::new());
        // Nothing in it can be left half-done.
        let mut ids = IDS.lock().unwrap_or_else(PoisonError::into_inner);
        Self::Uuid(ids.next(Timestamp::now()))
    }

    /// The time that the id itself carries, where it carries one.
    #[must_use]
    pub fn created_at(&self) -> Option<Timestamp> {
        match self {
            Self::Original(bytes) => {
                let seconds = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
                Some(Timestamp::from_millis(i64::from(seconds) * 1000))
            }
            Self::Uuid(uuid) => {
                let (seconds, nanos) = uuid.get_timestamp()?.to_unix();
                let millis = i64::try_from(seconds).ok()?.checked_mul(1000)?;
                Some(Timestamp::from_millis(millis + i64::from(nanos / 1_000_000)))
            }
        }
    }
}

/// Makes UUIDs of version 7, each later than the one before.
///
/// `Uuid::now_v7` never goes back: after a clock that was an hour ahead for a moment, it gives out that moment for an hour.
struct Ids {
    context: ContextV7,
    latest: Timestamp,
}

impl Ids {
    /// By how much the clock may go back without being followed, so that order outlives what NTP corrects.
    const JITTER: Duration = Duration::from_secs(1);

    const fn new() -> Self {
        Self { context: ContextV7::new(), latest: Timestamp::from_millis(0) }
    }

    fn next(&mut self, now: Timestamp) -> Uuid {
        if self.latest.since(now) > Self::JITTER {
            *self = Self::new();
        }
        self.latest = self.latest.max(now);
        let millis = u64::try_from(now.as_millis()).unwrap_or(0);
        let nanos = u32::try_from(millis % 1_000 * 1_000_000).expect("less than a second");
        Uuid::new_v7(uuid::Timestamp::from_unix(&self.context, millis / 1_000, nanos))
    }
}

impl fmt::Display for DatumId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uuid(uuid) => uuid.hyphenated().fmt(f),
            Self::Original(bytes) => bytes.iter().try_for_each(|b| write!(f, "{b:02x}")),
        }
    }
}

impl Serialize for DatumId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Debug for DatumId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not the id of a datum.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not the id of a datum")]
pub struct NotAnId;

impl FromStr for DatumId {
    type Err = NotAnId;

    /// Reads what [`Display`](fmt::Display) writes and nothing else, so that a datum has one name.
    fn from_str(text: &str) -> Result<Self, NotAnId> {
        let id = match text.len() {
            36 => Self::Uuid(Uuid::try_parse(text).map_err(|_| NotAnId)?),
            24 if text.is_ascii() => {
                let mut bytes = [0; 12];
                for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
                    let pair = std::str::from_utf8(pair).map_err(|_| NotAnId)?;
                    *byte = u8::from_str_radix(pair, 16).map_err(|_| NotAnId)?;
                }
                Self::Original(bytes)
            }
            _ => return Err(NotAnId),
        };
        if id.to_string() == text { Ok(id) } else { Err(NotAnId) }
    }
}

/// A moment, to the millisecond, as Redis, MongoDB and SQLite all keep it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The present.
    #[must_use]
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    /// From milliseconds since 1970-01-01T00:00:00Z.
    #[must_use]
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Milliseconds since 1970-01-01T00:00:00Z.
    #[must_use]
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// How long ago `earlier` was; zero where the clocks disagree.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

/// RFC 3339, in UTC, such as `2026-11-23T03:27:23.5Z`. That has years from 0 to 9999 alone, so a time outside them, which
/// a store may hold, is shown as the nearest one.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.clamp(-62_167_219_200_000, 253_402_300_799_999);
        let text = OffsetDateTime::from_unix_timestamp_nanos(i128::from(millis) * 1_000_000)
            .ok()
            .and_then(|t| t.format(&Rfc3339).ok())
            .ok_or(fmt::Error)?;
        f.write_str(&text)
    }
}

#[cfg(test)]
#[path = "datum_tests.rs"]
mod tests;
