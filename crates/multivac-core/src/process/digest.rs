//! When two texts are one voice.

use sha2::{Digest, Sha256};
use unicode_segmentation::UnicodeSegmentation;

use super::normalise;

/// A digest of a text's words: 32 hexadecimal digits of SHA-256 over its lower-cased words, so that texts that differ
/// only in case, spacing and punctuation are the same voice.
#[must_use]
pub fn digest(text: &str) -> String {
    let mut sha = Sha256::new();
    let text = normalise(text).to_lowercase();
    let mut words = text.unicode_words().peekable();
    if words.peek().is_none() {
        // Nothing but signs: the signs are what it says.
        sha.update(text.trim());
    }
    for word in words {
        sha.update(word);
        sha.update(b" ");
    }
    sha.finalize()[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spacing_case_and_punctuation_make_no_second_voice() {
        assert_eq!(digest("Let there be light!"), digest("  let there\nbe LIGHT"));
    }

    #[test]
    fn other_words_are_another_voice() {
        assert_ne!(digest("Let there be light"), digest("Let there be night"));
        assert_ne!(digest("👍"), digest("👎"));
    }
}
