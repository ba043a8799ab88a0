//! Many texts as one: MessagePack (<https://github.com/msgpack/msgpack/blob/master/spec.md>), which Redis's scripts read and write
//! by `cmsgpack`. A script gets the jobs that it accepts as one argument, and gives those that it leases as one reply: a thousand
//! arguments, or a reply with a thousand parts in parts, cost Redis and us more than what is done with them.
//!
//! Of MessagePack it has what is needed here: an array of texts, which need not be UTF-8.

/// Writes an array.
pub(super) struct Writer(Vec<u8>);

impl Writer {
    /// For so many texts of so many bytes together.
    pub(super) fn new(texts: usize, bytes: usize) -> Self {
        let mut packed = Vec::with_capacity(5 + bytes + 5 * texts);
        packed.push(0xdd);
        packed.extend_from_slice(&u32::try_from(texts).expect("a batch is not that large").to_be_bytes());
        Self(packed)
    }

    pub(super) fn push(&mut self, text: impl AsRef<[u8]>) {
        let text = text.as_ref();
        match text.len() {
            length @ ..32 => self.0.push(0xa0 | length as u8),
            length @ ..256 => self.0.extend_from_slice(&[0xd9, length as u8]),
            length => {
                self.0.push(0xdb);
                self.0.extend_from_slice(&u32::try_from(length).expect("a datum is not that large").to_be_bytes());
            }
        }
        self.0.extend_from_slice(text);
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.0
    }
}

/// The texts of an array; `None` for what is none.
pub(super) fn read(packed: &[u8]) -> Option<Vec<&[u8]>> {
    let mut rest = packed;
    let mut take = |bytes: usize| -> Option<&[u8]> {
        let (taken, left) = rest.split_at_checked(bytes)?;
        rest = left;
        Some(taken)
    };
    let number = |bytes: &[u8]| bytes.iter().fold(0_usize, |number, &byte| number << 8 | usize::from(byte));
    let count = match take(1)?[0] {
        // An empty table of Lua's is a map.
        0x80 => 0,
        head @ 0x90..=0x9f => usize::from(head & 0x0f),
        0xdc => number(take(2)?),
        0xdd => number(take(4)?),
        _ => return None,
    };
    // Each has a byte at least.
    let mut texts = Vec::with_capacity(count.min(packed.len()));
    for _ in 0..count {
        let length = match take(1)?[0] {
            head @ 0xa0..=0xbf => usize::from(head & 0x1f),
            0xd9 => number(take(1)?),
            0xda => number(take(2)?),
            0xdb => number(take(4)?),
            _ => return None,
        };
        texts.push(take(length)?);
    }
    rest.is_empty().then_some(texts)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn texts_read_back(texts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..40)) {
            let mut writer = Writer::new(texts.len(), texts.iter().map(Vec::len).sum());
            texts.iter().for_each(|text| writer.push(text));
            let packed = writer.finish();
            prop_assert_eq!(read(&packed), Some(texts.iter().map(Vec::as_slice).collect::<Vec<_>>()));
            prop_assert_eq!(read(&packed[..packed.len() - 1]), None);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _ = read(&bytes);
        }
    }

    #[test]
    fn every_length_is_read() {
        for length in [0, 31, 32, 255, 256, 65_535, 65_536, 1 << 20] {
            let text = vec![b'x'; length];
            let mut writer = Writer::new(1, length);
            writer.push(&text);
            assert_eq!(read(&writer.finish()), Some(vec![text.as_slice()]), "{length}");
        }
        // As `cmsgpack` writes them: short arrays, texts of up to 64 KiB, and nothing at all.
        assert_eq!(read(&[0x92, 0xa1, b'a', 0xda, 0, 1, b'b']), Some(vec![&b"a"[..], b"b"]));
        assert_eq!(read(&[0xdc, 0, 1, 0xa0]), Some(vec![&b""[..]]));
        assert_eq!(read(&[0x80]), Some(vec![]));
        assert_eq!(read(&[0x91, 0x07]), None);
    }
}
