//! Whether a sentence holds a right answer that somebody has written down: what answers are measured by.

use unicode_normalization::UnicodeNormalization;

/// The texts that are right answers to one question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GoldAnswers(Vec<Gold>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Gold {
    /// Words, normalised, with a space at either end.
    Words(String),
    /// A text of nothing but signs, in lower case.
    Signs(String),
}

impl GoldAnswers {
    /// Of these texts; blank ones do not count.
    pub fn new<T: AsRef<str>>(texts: impl IntoIterator<Item = T>) -> Self {
        let gold = |text: T| match (text.as_ref().trim(), words(text.as_ref())) {
            ("", _) => None,
            (signs, words) if words.trim().is_empty() => Some(Gold::Signs(signs.to_lowercase())),
            (_, words) => Some(Gold::Words(words)),
        };
        Self(texts.into_iter().filter_map(gold).collect())
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the sentence holds one of them, word by word.
    #[must_use]
    pub fn is_in(&self, sentence: &str) -> bool {
        let words = words(sentence);
        self.0.iter().any(|gold| match gold {
            Gold::Words(gold) => words.contains(gold),
            Gold::Signs(gold) => sentence.to_lowercase().contains(gold),
        })
    }
}

/// Normalised as SQuAD compares answers (Rajpurkar et al. 2016): lower case, no ASCII punctuation, no articles, single spaces;
/// and for what is not in SQuAD: letters of scripts without spaces are words of their own, and other punctuation is none.
fn words(text: &str) -> String {
    let mut bare = String::with_capacity(text.len());
    for c in text.nfc().flat_map(char::to_lowercase) {
        match c {
            c if c.is_ascii_punctuation() => {}
            '\u{2010}' | '\u{2011}' | '\u{2018}'..='\u{201f}' | '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2060}' => {}
            '\u{2012}'..='\u{2017}'
            | '\u{2020}'..='\u{205e}'
            | '\u{3001}'..='\u{303f}'
            | '\u{ff01}'..='\u{ff0f}'
            | '«'
            | '»'
            | '¿'
            | '¡' => {
                bare.push(' ');
            }
            c if is_of_no_spaces(c) => bare.extend([' ', c, ' ']),
            c => bare.push(c),
        }
    }
    let mut words = String::with_capacity(bare.len() + 2);
    words.push(' ');
    for word in bare.split_whitespace().filter(|word| !matches!(*word, "a" | "an" | "the")) {
        words.push_str(word);
        words.push(' ');
    }
    words
}

/// Thai, Lao, Myanmar, Khmer; Japanese, Chinese; Korean, which has spaces, but writes particles onto its words.
fn is_of_no_spaces(c: char) -> bool {
    matches!(c, '\u{e00}'..='\u{eff}' | '\u{1000}'..='\u{109f}' | '\u{1780}'..='\u{17ff}' | '\u{3040}'..='\u{30ff}'
        | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{ac00}'..='\u{d7a3}' | '\u{f900}'..='\u{faff}'
        | '\u{20000}'..='\u{3ffff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_held_whatever_its_case_articles_and_punctuation() {
        let holds = |sentence: &str, gold: &str| GoldAnswers::new([gold]).is_in(sentence);
        for (sentence, gold) in [
            ("It was built in the U.S., by Mira.", "the US"),
            ("It opened on 3 May 1990.", "1990"),
            ("She said: \u{201c}Tobias has it.\u{201d}", "Tobias"),
            ("Cafe\u{301} Lind lies there.", "caf\u{e9} LIND"),
            ("a line that\nends", "that ends"),
            ("北京是中国的首都。", "北京"),
            ("서울은 한국의 수도이다.", "서울"),
            ("It ends in ☃!", "☃"),
            ("It says ?!", "?!"),
        ] {
            assert!(holds(sentence, gold), "{sentence} {gold}");
        }
        for (sentence, gold) in [("It opened in 1990.", "199"), ("Miranda built it.", "Mira"), ("", "Mira"), ("x", "")]
        {
            assert!(!holds(sentence, gold), "{sentence} {gold}");
        }
        assert!(GoldAnswers::new(["no", "Mira"]).is_in("Mira built it."), "one of several is enough");
        assert!(GoldAnswers::new(["", " \n"]).is_empty());
    }

    proptest::proptest! {
        #[test]
        fn a_text_holds_itself_and_each_of_its_words(text in "\\PC{0,40}") {
            proptest::prop_assert_eq!(GoldAnswers::new([&text]).is_in(&text), !text.trim().is_empty());
            for word in text.split_whitespace().filter(|word| word.chars().all(char::is_alphanumeric)) {
                proptest::prop_assert!(GoldAnswers::new([word]).is_in(&text), "{}", word);
            }
        }
    }
}
