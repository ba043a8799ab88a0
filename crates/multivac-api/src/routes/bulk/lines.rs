//! A body that arrives in chunks, as numbered lines.

use actix_web::web::{Bytes, BytesMut};

/// One line of a body.
pub(super) struct Line {
    /// Its number, from 1.
    pub(super) number: u64,
    /// Without its end. Of a line that is too long, what there was when that showed.
    pub(super) bytes: Bytes,
    pub(super) is_too_long: bool,
}

/// Turns chunks into lines.
pub(super) struct Lines {
    buffer: BytesMut,
    /// Bytes of the buffer that hold no end of a line, so that a long line is not searched again with each chunk.
    searched: usize,
    number: u64,
    max_line: usize,
    /// Within a line that is too long: the rest of it is dropped.
    skipping: bool,
}

impl Lines {
    /// For lines that hold a text of `limit` bytes at most.
    pub(super) fn new(limit: usize) -> Self {
        // Six for each byte of its datum (`\u0041`), and what surrounds it.
        let max_line = limit.saturating_mul(6).saturating_add(64 << 10);
        Self { buffer: BytesMut::new(), searched: 0, number: 0, max_line, skipping: false }
    }

    pub(super) fn push(&mut self, chunk: &[u8]) {
        self.buffer.extend_from_slice(chunk);
    }

    /// How many lines have begun before the one that comes next.
    pub(super) fn count(&self) -> u64 {
        self.number
    }

    /// The next whole line, or the next one that is too long.
    pub(super) fn next(&mut self) -> Option<Line> {
        loop {
            let end = memchr::memchr(b'\n', &self.buffer[self.searched..]).map(|end| end + self.searched);
            let Some(end) = end else {
                self.searched = self.buffer.len();
                if self.skipping {
                    self.buffer.clear();
                    self.searched = 0;
                } else if self.buffer.len() > self.max_line {
                    self.skipping = true;
                    self.searched = 0;
                    return Some(self.line(self.buffer.len(), true));
                }
                return None;
            };
            self.searched = 0;
            let line = self.buffer.split_to(end + 1).freeze();
            if std::mem::take(&mut self.skipping) {
                continue;
            }
            self.number += 1;
            return Some(Line { number: self.number, bytes: line.slice(..end), is_too_long: false });
        }
    }

    /// What follows the last end of a line.
    pub(super) fn last(&mut self) -> Option<Line> {
        let length = self.buffer.len();
        (length > 0 && !self.skipping).then(|| self.line(length, false))
    }

    fn line(&mut self, length: usize, is_too_long: bool) -> Line {
        self.number += 1;
        Line { number: self.number, bytes: self.buffer.split_to(length).freeze(), is_too_long }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(chunks: &[&str], limit: usize) -> Vec<(u64, Option<String>)> {
        let mut lines = Lines::new(limit);
        lines.max_line = limit;
        let mut got = Vec::new();
        for chunk in chunks {
            lines.push(chunk.as_bytes());
            while let Some(line) = lines.next() {
                got.push(line);
            }
        }
        got.extend(lines.last());
        let text = |line: &Line| (!line.is_too_long).then(|| String::from_utf8_lossy(&line.bytes).into_owned());
        got.iter().map(|line| (line.number, text(line))).collect()
    }

    #[test]
    fn lines_are_put_together_from_pieces() {
        let expected = vec![(1, Some("abc".to_owned())), (2, Some(String::new())), (3, Some("d".to_owned()))];
        assert_eq!(lines(&["a", "bc\n", "\nd"], 10), expected);
    }

    #[test]
    fn a_line_that_is_too_long_is_reported_once_and_dropped() {
        let expected = vec![(1, None), (2, Some("ok".to_owned()))];
        assert_eq!(lines(&["123456", "789", "000\nok\n"], 5), expected);
    }

    proptest::proptest! {
        #[test]
        fn however_it_is_cut_up_the_lines_are_the_same(text in "[a\n]{0,60}", cuts in proptest::collection::vec(0_usize..60, 0..6)) {
            let mut cuts: Vec<usize> = cuts.into_iter().filter(|&cut| cut < text.len()).chain([0, text.len()]).collect();
            cuts.sort_unstable();
            let chunks: Vec<&str> = cuts.windows(2).map(|cut| &text[cut[0]..cut[1]]).collect();
            let expected: Vec<(u64, Option<String>)> = (1..).zip(text.split_terminator('\n').map(|line| Some(line.to_owned()))).collect();
            proptest::prop_assert_eq!(lines(&chunks, 100), expected);
        }
    }
}
