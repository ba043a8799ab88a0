//! What people ask: 1 to 1,000 characters.

use std::fmt;
use std::str::FromStr;

use crate::datum::is_blank;

/// The question that MultiVAC was built to answer, and is asked when no other is.
pub const STANDING_QUESTION: &str = "How can the entropy of the universe be reversed?";

/// The longest question, in characters.
pub const MAX_QUESTION_CHARS: usize = 1_000;

/// A question that can be asked: not blank, at most [`MAX_QUESTION_CHARS`] characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Question(String);

impl Question {
    /// Its words.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Why a text is not a question.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuestionError {
    /// Empty, or nothing that can be seen.
    #[error("the question is empty")]
    Blank,
    /// Over [`MAX_QUESTION_CHARS`].
    #[error("the question is over {MAX_QUESTION_CHARS} characters")]
    TooLong,
}

impl FromStr for Question {
    type Err = QuestionError;

    fn from_str(text: &str) -> Result<Self, QuestionError> {
        if text.chars().nth(MAX_QUESTION_CHARS).is_some() {
            return Err(QuestionError::TooLong);
        }
        if is_blank(text) {
            return Err(QuestionError::Blank);
        }
        Ok(Self(text.to_owned()))
    }
}

impl Default for Question {
    fn default() -> Self {
        Self(STANDING_QUESTION.to_owned())
    }
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_of_1000_characters_is_taken_and_one_more_is_not() {
        assert!("é".repeat(1_000).parse::<Question>().is_ok());
        assert_eq!("é".repeat(1_001).parse::<Question>(), Err(QuestionError::TooLong));
    }

    #[test]
    fn a_blank_question_is_none() {
        for blank in ["", " \t", "\0", "\u{200b}\u{a0}"] {
            assert_eq!(blank.parse::<Question>(), Err(QuestionError::Blank), "{blank:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_a_question_or_none(text in "\\PC{0,20}|\\s{0,3}|.{0,1100}") {
            let taken = text.parse::<Question>();
            let fine = text.chars().count() <= MAX_QUESTION_CHARS && !is_blank(&text);
            proptest::prop_assert_eq!(taken.is_ok(), fine);
            proptest::prop_assert!(taken.is_err() || taken.is_ok_and(|question| question.as_str() == text));
        }
    }
}
