//! Where a chunked body ends, and whether it is one (RFC 9112, 7.1).

/// Bytes that a chunk's size line may have, and the trailer as a whole.
const MAX_LINE: usize = 4 << 10;

/// The place within a chunked body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Chunks {
    /// In a chunk's size; how many digits it has so far.
    Size {
        size: u64,
        digits: u8,
    },
    /// In white space after the size.
    Space {
        size: u64,
        length: usize,
    },
    /// In what else follows the size, up to the line's end; how many bytes that is.
    Extension {
        size: u64,
        length: usize,
    },
    /// At the LF of that line.
    SizeEnd {
        size: u64,
    },
    /// In the data, with so many bytes to come.
    Data(u64),
    /// At the line end behind the data.
    DataCr,
    DataLf,
    /// In the trailer: how long it is, and whether its current line is empty so far.
    Trailer {
        length: usize,
        is_empty: bool,
    },
    TrailerLf {
        length: usize,
        is_empty: bool,
    },
    /// Behind it all.
    End,
}

/// The chunks are malformed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

impl Chunks {
    /// A body from its beginning.
    pub(super) const START: Self = Self::Size { size: 0, digits: 0 };

    /// Follows the body through these bytes, and returns how many of them belong to it: all, unless it ends or is malformed
    /// within them.
    pub(super) fn follow(&mut self, bytes: &[u8]) -> (usize, Result<(), Malformed>) {
        let mut at = 0;
        while at < bytes.len() && *self != Self::End {
            if let Self::Data(left) = self {
                let here = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len() - at);
                at += here;
                *left -= here as u64;
                if *left == 0 {
                    *self = Self::DataCr;
                }
                continue;
            }
            match self.step(bytes[at]) {
                Some(next) => *self = next,
                None => return (at, Err(Malformed)),
            }
            at += 1;
        }
        (at, Ok(()))
    }

    fn step(self, byte: u8) -> Option<Self> {
        Some(match (self, byte) {
            (Self::Size { size, digits }, _) if byte.is_ascii_hexdigit() => {
                let digit = (byte as char).to_digit(16)?;
                // Sixteen digits are the most that 64 bits hold.
                if digits == 16 {
                    return None;
                }
                Self::Size { size: size << 4 | u64::from(digit), digits: digits + 1 }
            }
            (Self::Size { digits: 0, .. }, _) => return None,
            (Self::Size { size, .. } | Self::Space { size, .. } | Self::Extension { size, .. }, b'\r') => {
                Self::SizeEnd { size }
            }
            (Self::Size { size, .. }, b' ' | b'\t') => Self::Space { size, length: 1 },
            (Self::Space { size, length }, b' ' | b'\t') if length < MAX_LINE => {
                Self::Space { size, length: length + 1 }
            }
            (Self::Size { size, .. } | Self::Space { size, .. }, b';') => Self::Extension { size, length: 1 },
            (Self::Extension { size, length }, b'\t' | b' '..=b'~' | 0x80..) if length < MAX_LINE => {
                Self::Extension { size, length: length + 1 }
            }
            (Self::SizeEnd { size: 0 }, b'\n') => Self::Trailer { length: 0, is_empty: true },
            (Self::SizeEnd { size }, b'\n') => Self::Data(size),
            (Self::DataCr, b'\r') => Self::DataLf,
            (Self::DataLf, b'\n') => Self::START,
            (Self::Trailer { length, is_empty }, b'\r') => Self::TrailerLf { length, is_empty },
            (Self::Trailer { length, .. }, b'\t' | b' '..=b'~' | 0x80..) if length < MAX_LINE => {
                Self::Trailer { length: length + 1, is_empty: false }
            }
            (Self::TrailerLf { is_empty: true, .. }, b'\n') => Self::End,
            (Self::TrailerLf { length, .. }, b'\n') => Self::Trailer { length, is_empty: true },
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_ends_behind_its_trailer() {
        for body in [
            "0\r\n\r\n",
            "0 ; x\r\n\r\n",
            "5\r\nhello\r\n0\r\n\r\n",
            "A;x=\"y\"\r\n0123456789\r\n00\r\nX: y\r\n\r\n",
            "1 \r\n\n\r\n0\r\n\r\n",
        ] {
            let sent = format!("{body}GET / HTTP/1.1");
            for cut in 0..sent.len() {
                let mut chunks = Chunks::START;
                let (first, second) = sent.as_bytes().split_at(cut);
                let (taken, result) = chunks.follow(first);
                assert_eq!(result, Ok(()), "{sent:?}");
                let rest = if chunks == Chunks::End { 0 } else { chunks.follow(second).0 };
                assert_eq!((chunks, taken + rest), (Chunks::End, body.len()), "{sent:?} at {cut}");
            }
        }
    }

    fn follow(bytes: &[u8]) -> (usize, Result<(), Malformed>) {
        let mut chunks = Chunks::START;
        chunks.follow(bytes)
    }

    #[test]
    fn what_is_no_chunk_is_malformed() {
        for body in [
            "zz\r\n",
            "\r\n",
            "-1\r\n",
            "0x5\r\nhello",
            "5\nhello",
            "5\r\rhello",
            "5 5\r\nhello",
            "5\r\nhello0\r\n",
            "5\r\nhello\n",
            "11111111111111111\r\n",
            "5;\0\r\nhello",
            "0\r\nX: \0\r\n",
        ] {
            assert!(follow(body.as_bytes()).1.is_err(), "{body:?}");
        }
        let long = "x".repeat(MAX_LINE + 1);
        assert!(follow(format!("5;{long}").as_bytes()).1.is_err());
        assert!(follow(format!("0\r\nX: {long}").as_bytes()).1.is_err());
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_followed_to_their_end(bytes: Vec<u8>) {
            let (taken, result) = follow(&bytes);
            proptest::prop_assert!(taken <= bytes.len() && (result.is_ok() || taken < bytes.len()));
        }
    }
}
