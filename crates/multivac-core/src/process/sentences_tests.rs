use proptest::prelude::*;

use super::*;

fn split(text: &str) -> Vec<&str> {
    sentences(text).into_iter().map(|range| &text[range]).collect()
}

#[test]
fn end_marks_end_sentences() {
    assert_eq!(split("One. Two! Three? \"Four.\" Five"), ["One.", "Two!", "Three?", "\"Four.\"", "Five"]);
}

#[test]
fn abbreviations_initials_and_decimals_do_not() {
    for text in [
        "Dr. Asimov and Mrs. Jehoshaphat met.",
        "It is 3.14 or so.",
        "Isaac Y. Asimov wrote it.",
        "See Fig. 3 and vol. 2, e.g. Chapter 1.",
        "The U.S. Senate met at 3 p.m. Monday.",
        "Acme Inc. Holdings grew.",
        "J.F. Kennedy spoke.",
    ] {
        assert_eq!(split(text), [text]);
    }
}

#[test]
fn some_abbreviations_may_end_one() {
    assert_eq!(split("He left the U.S. The war ended."), ["He left the U.S.", "The war ended."]);
    assert_eq!(split("Tea, milk, etc. He drank."), ["Tea, milk, etc.", "He drank."]);
}

#[test]
fn wrapped_lines_are_one_sentence_and_items_are_several() {
    let wrapped = "This sentence was wrapped by some old mail program at\nsixty columns.";
    assert_eq!(split(wrapped), [wrapped]);
    assert_eq!(split("- first thing\n- second thing"), ["- first thing", "- second thing"]);
    assert_eq!(split("Heading\nThe text begins."), ["Heading", "The text begins."]);
    assert_eq!(split("a\t1\nb\t2"), ["a\t1", "b\t2"]);
}

#[test]
fn what_is_not_seen_neither_ends_a_sentence_nor_hides_its_end() {
    for sign in ['\u{ad}', '\u{200b}', '\u{200e}', '\u{2069}', '\u{feff}'] {
        let text = format!("It is{sign} so.{sign} {sign}That is all{sign}.");
        assert_eq!(split(&text).len(), 2, "{sign:?}");
    }
}

#[test]
fn other_scripts_have_their_own_end_marks() {
    assert_eq!(split("光あれ。そして光があった。"), ["光あれ。", "そして光があった。"]);
}

#[test]
fn long_sentences_are_cut_between_clauses() {
    let long = format!(
        "{}; {}.",
        "a first clause of many words ".repeat(8).trim(),
        "and a second of as many ".repeat(8).trim()
    );
    let clauses: Vec<_> = answerable(&long).into_iter().map(|clause| &long[clause.bytes]).collect();
    assert_eq!(clauses.len(), 2);
    assert!(clauses[0].ends_with(';'), "{clauses:?}");
}

/// Sentences, separated by `|`, with full stops that are ambiguous.
const TRICKY: &[&str] = &[
    "Dr. Smith met Prof. Jones at 5 p.m. on Monday.|They talked.",
    "He works for Acme Corp. in New York.|She does not.",
    "The U.S. economy grew by 2.5 percent.|So did the U.K. economy.",
    "He left the U.S. in 1990.|He never came back.",
    "It was founded by J. R. R. Tolkien and C. S. Lewis.|Both taught.",
    "See Fig. 3 and Table 2.|The rest is in Sec. 4.2.1 of vol. 5.",
    "St. Peter's is in Rome.|Mt. Everest is not.",
    "Apples, pears, etc. are fruit.|Carrots are not.",
    "We sell apples, pears, etc.|The shop opens at 8 a.m. daily.",
    "Version 2.0.1 is out.|Version 3.0 follows in Dec. 2024.",
    "The cat (Felis catus L.) is small.|It purrs.",
    "He was born c. 1450 and d. 1519.|Little else is known.",
    "Mr. and Mrs. Brown vs. Jones Jr. was a famous case.|The court ruled.",
    "It costs $3.50.|That is too much.",
    "\u{201c}Stop!\u{201d} he cried.|Nobody did.",
    "She asked, \"Why?\"|He did not know.",
    "Gen. Lee met Lt. Col. Mosby near Washington D.C. in spring.|It rained.",
    "The temperature was 98.6 deg. F. at noon.|It fell later.",
    "E. coli lives in the gut.|So does B. subtilis, e.g. in cows.",
    "Approx. 20 people came, i.e. all of them.|Nobody left.",
    "The firm, Smith & Sons Ltd., closed.|Its rival, Gray Inc., did not.",
    "Visit www.example.com for more.|Or write to a.b@example.com today.",
    "He got his Ph.D. in 1921.|The prize came a year later.",
    "Is it No. 5 or No. 6?|No.|It is neither.",
    "The book (pp. 12-15) says so.|See also ch. 3 et al. therein.",
    "Wait... what?|Nothing.",
    "Yes!|No?|Maybe.",
    "Jan. 5 was cold.|Feb. was colder.",
    "Sen. Kennedy and Rep. Jones spoke.|The Gov. did not.",
    "He lived in the 19th c. and wrote op. 12 no. 3.|It is lost.",
    "The war lasted until 1945.|In 1946 peace began.",
    "At 3 a.m. Sunday the ship sank.|At 4 p.m. it was found.",
    "It happened in Washington, D.C.|The crowd cheered.",
    "Plan B is better than plan A.|Nobody knows why.",
    "Vitamin C.|Its use is known.",
    "The answer is 42.|7 others are wrong.",
    "He weighed 80 kg. in 1999.|He was ill.",
    "So said King Henry V.|His men agreed.",
];

#[test]
fn ambiguous_full_stops_are_right_four_times_of_five() {
    let wrong: Vec<_> = TRICKY
        .iter()
        .filter(|tricky| split(&tricky.replace('|', " ")).join("|") != tricky.replace("| ", "|"))
        .collect();
    eprintln!("{} of {} are wrong: {wrong:#?}", wrong.len(), TRICKY.len());
    assert!(wrong.len() * 5 <= TRICKY.len(), "{wrong:#?}");
}

#[test]
fn of_html_the_text_between_the_tags_is_given() {
    let page = "<html><body><h1>Entropy</h1><p>The <b>entropy</b> of a star <a href=\"x. Y\">grows</a>. So it is.</p>\
        <ul><li>one thing</li>\n<li>another</li></ul><td>1</td></body>";
    assert_eq!(
        split(page),
        [
            "Entropy",
            "The <b>entropy</b> of a star <a href=\"x. Y\">grows</a>.",
            "So it is.",
            "one thing",
            "another",
            "1"
        ]
    );
    assert_eq!(split("If a < b and b > c, then so."), ["If a < b and b > c, then so."]);
}

#[test]
fn a_clause_ends_before_a_tag_or_after_it() {
    let long = format!("see {}", "<a href=\"/a b c d e f g h\">this page of many</a> and ".repeat(30));
    for clause in answerable(&long) {
        let clause = &long[clause.bytes];
        assert_eq!(clause.matches('<').count(), clause.matches('>').count(), "{clause}");
        assert!(!clause.starts_with('>') && clause.contains(' '), "{clause}");
    }
}

#[test]
fn a_table_is_its_rows() {
    let table = "| name | year |\n|------|------|\n| Multivac | 2061 |";
    assert_eq!(split(table), ["| name | year |", "| Multivac | 2061 |"]);
}

#[test]
fn no_sentence_runs_over_a_gap_however_many_signs_follow_it() {
    assert_eq!(split("It grows \u{b}\u{b} .| ! >. ;"), ["It grows"]);
    assert_eq!(split("It grows .\u{b}- ! It ends."), ["It grows .", "It ends."]);
}

#[test]
fn signs_make_no_answer_too_long() {
    for text in ["a ".to_owned() + &"! ".repeat(900), "! ".repeat(900) + "a", "e\u{301}".repeat(900)] {
        for Sentence { bytes, .. } in answerable(&text) {
            assert!(text[bytes.clone()].chars().count() <= MAX_ANSWER_CHARS, "{}", &text[bytes]);
        }
    }
    // No letter is separated from its accents.
    let accents = "e\u{301}\u{302}".repeat(400);
    assert!(answerable(&accents).iter().all(|clause| accents[clause.bytes.clone()].starts_with('e')));
}

/// Prose, signs, and what tables, lists and HTML are made of.
const TEXT: &str = "(\\PC|[a-zA-Z .!?\n\t;,'\"]|<p>|</li>|<b>|\n- |\n1. |\\| |\u{b}|Dr\\. |\u{301}){0,400}";

proptest! {
    #[test]
    fn any_text_gives_ranges_in_order_that_hold_all_its_letters(text in TEXT) {
        let marked = crate::process::markup(&text);
        let letters = |range: Range<usize>| {
            let seen = |at: usize| !marked.iter().any(|tag| tag.contains(&at));
            text[range.clone()].char_indices().filter(|(i, c)| c.is_alphanumeric() && seen(range.start + i)).count()
        };
        let clauses = || answerable(&text).into_iter().map(|clause| clause.bytes);
        for ranges in [sentences(&text), clauses().collect()] {
            let (mut at, mut held) = (0, 0);
            for range in ranges {
                prop_assert!(range.start >= at && range.end > range.start && text.get(range.clone()).is_some());
                prop_assert!(!text[range.clone()].contains(GAP));
                held += letters(range.clone());
                at = range.end;
            }
            prop_assert_eq!(held, letters(0..text.len()));
        }
        for range in clauses() {
            prop_assert!(text[range].chars().count() <= MAX_ANSWER_CHARS);
        }
    }
}
