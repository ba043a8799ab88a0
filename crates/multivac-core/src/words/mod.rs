//! Word lists, kept as data files by language (`en/`), by markup (`html/`) or for all languages (`names/`): one word a line, after comment lines that
//! say what the list is for and where it comes from.
//!
//! The files are compiled into the program. A list is read when it is first used.

use std::sync::LazyLock;

/// The words of one list.
pub(crate) type WordList = foldhash::HashSet<&'static str>;

fn read(files: &[&'static str]) -> WordList {
    files.iter().flat_map(|file| file.lines()).filter(|line| !line.is_empty() && !line.starts_with('#')).collect()
}

/// Reads a list whose lines give a word and what it stands for.
fn read_pairs(file: &'static str) -> impl Iterator<Item = (&'static str, &'static str)> {
    read(&[file]).into_iter().filter_map(|line| line.split_once(' '))
}

/// The characters that HTML's entities stand for.
pub(crate) static ENTITIES: LazyLock<foldhash::HashMap<&'static str, char>> = LazyLock::new(|| {
    let code = |hex| char::from_u32(u32::from_str_radix(hex, 16).ok()?);
    read_pairs(include_str!("html/entities.txt")).filter_map(|(name, hex)| Some((name, code(hex)?))).collect()
});

/// What a language other than English asks with.
pub(crate) struct Language {
    /// Its words that carry grammar rather than content.
    pub(crate) stop_words: WordList,
    /// Its words that ask, each with what it asks for: `person`, `date`, `place`, `number`, `reason`, `manner` or `thing`.
    pub(crate) question_words: foldhash::HashMap<&'static str, &'static str>,
}

macro_rules! languages {
    ($($name:literal)*) => {
        /// Languages other than English.
        pub(crate) static LANGUAGES: LazyLock<Vec<Language>> = LazyLock::new(|| vec![$(Language {
            stop_words: read(&[include_str!(concat!($name, "/stop_words.txt"))]),
            question_words: read_pairs(include_str!(concat!($name, "/question_words.txt"))).collect(),
        }),*]);

        #[cfg(test)]
        const LANGUAGE_FILES: &[(&str, &str)] = &[$(
            ($name, include_str!(concat!($name, "/stop_words.txt"))),
            ($name, include_str!(concat!($name, "/question_words.txt"))),
        )*];
    };
}

languages! { "de" "es" "fr" "it" "ko" "nl" "pt" "ru" }

/// Signs that are read as words, and their words.
pub(crate) static SIGNS: LazyLock<foldhash::HashMap<&'static str, &'static str>> =
    LazyLock::new(|| read_pairs(include_str!("en/signs.txt")).collect());

macro_rules! word_lists {
    ($($(#[$doc:meta])* $name:ident = $($file:literal),+;)*) => {
        $(
            $(#[$doc])*
            pub(crate) static $name: LazyLock<WordList> = LazyLock::new(|| read(&[$(include_str!($file)),+]));
        )*

        #[cfg(test)]
        const FILES: &[(&str, &str)] = &[$($(($file, include_str!($file))),+),*];
    };
}

word_lists! {
    /// Words that carry grammar rather than content.
    STOP_WORDS = "en/stop_words.txt";
    /// Numbers written as words.
    NUMBERS = "en/numbers.txt";
    /// Words that nothing else can stand for, as with numbers in figures.
    EXACT = "en/exact.txt";
    /// Words that name a time.
    DATES = "en/dates.txt";
    /// Words that introduce a reason.
    REASONS = "en/reasons.txt";
    /// Words that introduce a way of doing something.
    MANNERS = "en/manners.txt";
    /// Words after which a name is likely to be a place.
    PLACE_PREPOSITIONS = "en/place_prepositions.txt";
    /// Words that negate.
    NEGATIONS = "en/negations.txt", "de/negations.txt", "fr/negations.txt", "it/negations.txt", "es/negations.txt",
        "nl/negations.txt", "pt/negations.txt";
    /// Words that refer to something named before.
    PRONOUNS = "en/pronouns.txt";
    /// Nouns that ask for a person.
    PERSON_NOUNS = "en/person_nouns.txt";
    /// Nouns that ask for a date.
    DATE_NOUNS = "en/date_nouns.txt";
    /// Nouns that ask for a place.
    PLACE_NOUNS = "en/place_nouns.txt";
    /// Nouns that ask for a number.
    NUMBER_NOUNS = "en/number_nouns.txt";
    /// Words that ask for a reason.
    REASON_NOUNS = "en/reason_nouns.txt";
    /// Words after "how" that ask for a number.
    MEASURES = "en/measures.txt";
    /// Abbreviated titles, after which a sentence goes on.
    TITLES = "en/titles.txt", "de/titles.txt", "fr/titles.txt", "it/titles.txt", "es/titles.txt", "nl/titles.txt", "pt/titles.txt";
    /// Other abbreviations after which a sentence goes on.
    ABBREVIATIONS = "en/abbreviations.txt", "de/abbreviations.txt", "fr/abbreviations.txt", "it/abbreviations.txt", "es/abbreviations.txt", "nl/abbreviations.txt", "pt/abbreviations.txt";
    /// Abbreviations after which a sentence goes on where a number follows.
    ABBREVIATIONS_NUMBER = "en/abbreviations_number.txt", "de/abbreviations_number.txt", "fr/abbreviations_number.txt", "it/abbreviations_number.txt", "es/abbreviations_number.txt", "nl/abbreviations_number.txt", "pt/abbreviations_number.txt";
    /// Abbreviations that often end a sentence.
    ABBREVIATIONS_LAST = "en/abbreviations_last.txt", "de/abbreviations_last.txt", "fr/abbreviations_last.txt", "it/abbreviations_last.txt", "es/abbreviations_last.txt", "nl/abbreviations_last.txt", "pt/abbreviations_last.txt";
    /// Names that end with a mark.
    NAMES_WITH_MARKS = "en/names_with_marks.txt";
    /// Words after which a number with a full stop is an ordinal.
    ORDINAL_LEADS = "de/ordinal_leads.txt";
    /// Words before which a number with a full stop is an ordinal.
    ORDINAL_NOUNS = "de/ordinal_nouns.txt";
    /// Words that mostly begin a sentence where they are capitalised.
    SENTENCE_STARTS = "en/sentence_starts.txt", "de/sentence_starts.txt", "fr/sentence_starts.txt", "it/sentence_starts.txt", "es/sentence_starts.txt", "nl/sentence_starts.txt", "pt/sentence_starts.txt";
    /// Those of them that are a part of a name, too.
    NAME_PARTICLES = "names/particles.txt";
    /// Words that columns of a table are named by.
    COLUMN_NAMES = "en/column_names.txt", "de/column_names.txt", "fr/column_names.txt", "it/column_names.txt", "es/column_names.txt", "nl/column_names.txt", "pt/column_names.txt";
    /// Words before which a long sentence can be cut.
    CLAUSE_STARTS = "en/clause_starts.txt";
    /// What is joined to the front of French and Italian words.
    ELISIONS = "romance/elisions.txt";
    /// What is joined to the end of Korean nouns.
    KOREAN_PARTICLES = "ko/particles.txt";
    /// HTML tags within a sentence.
    INLINE_TAGS = "html/inline.txt";
    /// HTML tags between sentences.
    BLOCK_TAGS = "html/block.txt";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_a_head_and_then_one_word_a_line_and_each_word_once() {
        for (name, file) in FILES.iter().chain(LANGUAGE_FILES) {
            let (head, words): (Vec<_>, Vec<_>) = file.lines().partition(|line| line.starts_with('#'));
            assert!(head.iter().any(|line| line.starts_with("# Source: ")), "{name}");
            assert!(file.lines().take(head.len()).eq(head.iter().copied()), "{name}: comments stand at the head alone");
            assert!(words.iter().all(|word| !word.is_empty() && word.trim() == *word), "{name}");
            assert_eq!(read(&[file]).len(), words.len(), "{name}");
        }
    }
}
