use proptest::prelude::*;

use super::*;

fn all(text: &str) -> Vec<String> {
    words(text).map(|(_, word)| term(word)).collect()
}

fn fed(text: &str) -> Vec<&str> {
    words(text).map(|(_, word)| word).collect()
}

fn same(a: &str, b: &str) {
    assert_eq!(all(a), all(b), "{a} {b}");
}

#[test]
fn words_of_one_stem_are_one_term() {
    assert_eq!(all("reversed Reverses REVERSING"), ["revers", "revers", "revers"]);
}

#[test]
fn a_word_has_the_same_term_whatever_came_before_it() {
    // More words than are cached, and some of them again and again.
    let mut random = fastrand::Rng::with_seed(1);
    for at in 0..3 * STEM_CACHE_SIZE {
        let number = if at % 2 == 0 { at } else { random.usize(..at) };
        for word in [format!("{number}ings"), number.to_string()] {
            assert_eq!(*term(&word), *stem(&word));
        }
    }
}

#[test]
fn accents_and_possessives_do_not_change_a_term() {
    assert_eq!(all("Beyoncé's Beyonce’s beyonce"), ["beyonc", "beyonc", "beyonc"]);
}

#[test]
fn tags_hold_no_words_and_spaces_as_entities_separate_them() {
    assert_eq!(all("<p class=\"big\">Stars&nbsp;shine</p> a<b"), ["star", "shine", "a", "b"]);
}

#[test]
fn ideographs_are_found_one_by_one() {
    assert_eq!(all("宇宙"), ["宇", "宙"]);
}

#[test]
fn a_sign_that_distinguishes_a_word_belongs_to_it() {
    for (text, words) in [
        ("C, C++ (C#) and F#.", &["C", "C++", "C#", "and", "F#"][..]),
        ("g++ i++ a+=1 1+1 A+B", &["g++", "i++", "a", "1", "1", "1", "A", "B"]),
        ("A+ or A-, AB− and O+", &["A+", "or", "A-", "AB−", "and", "O+"]),
        ("Disney+ 18+", &["Disney+", "Disney", "18"]),
        (".NET end.Next (.env) ...so", &[".NET", "NET", "end.Next", "end", "Next", ".env", "env", "so"]),
        ("−40 -40 +5 1939-40 (-7) a-8 --9", &["−40", "-40", "5", "1939", "40", "-7", "a", "8", "9"]),
        ("AT&T R&amp;D & co", &["AT&T", "AT", "T", "R&amp;D", "R", "D", "co"]),
        ("node.js U.S. v2.0.1 10.0.0.1 3.14", &["node.js", "node", "js", "U.S", "v2.0.1", "10.0.0.1", "3.14"]),
        ("at 10:05, 10:32:05", &["at", "10:05", "10:32:05", "10:32"]),
        (
            "$5 5$ 50% 50 % $HOME %s 20 °C €7",
            &["$", "5", "5", "$", "50", "%", "50", "%", "HOME", "s", "20", "°", "C", "€", "7"],
        ),
        ("/etc/hosts --flag @name #tag E105 LH 447", &["etc", "hosts", "flag", "name", "tag", "E105", "LH", "447"]),
        ("tobias:the key", &["tobias", "the", "key"]),
    ] {
        assert_eq!(fed(text), words, "{text}");
    }
    for (a, b) in [("C", "C#"), ("C#", "C++"), ("A+", "A-"), ("−40", "40"), ("4711", "4712"), ("10:05", "10:06")] {
        assert_ne!(all(a), all(b), "{a} {b}");
    }
    for (a, b) in [("−40", "-40"), ("A−", "A-"), ("+5", "5"), ("AT&amp;T", "AT&T"), ("50%", "50 percent")] {
        same(a, b);
    }
}

#[test]
fn names_in_programs_are_found_whole_and_by_their_parts() {
    assert_eq!(all("max_connections"), ["max_connect", "max", "connect"]);
    assert_eq!(fed("__init__ _this_ a_b.c_d"), ["init", "this", "a_b.c_d", "a", "b", "c", "d"]);
}

#[test]
fn figures_are_the_same_however_their_thousands_are_separated() {
    same("1,230", "1230");
    same("1'230.5", "1230.5");
    same("09:05", "9:05");
    same("١٢٣ १२३ １２３", "123 123 123");
    assert_ne!(all("1,23"), all("123"));
}

#[test]
fn letters_are_found_as_people_type_them() {
    for (fed, typed) in [
        ("Łódź Søren Straße STRASSE Đorđe", "Lodz Soren Strasse strasse Dorde"),
        ("Þórr Æthelred Œuvre Diyarbakır", "Thorr Aethelred Oeuvre Diyarbakir"),
        ("İstanbul ŋ ħ ð ĸ ŧ ə", "Istanbul n h d k t e"),
        ("Οδός ΟΔΟΣ", "οδοσ οδος"),
        ("ёлка Й", "елка и"),
        ("ＡＢＣ ﬁn ｱﾙ", "ABC fin アル"),
        ("محمّد كتـــاب إسلام مدرسة", "محمد كتاب اسلام مدرسه"),
        ("שָׁלוֹם צה״ל", "שלום צהל"),
        ("یک", "يك"),
        ("l’école d'eau dell'arte O'Neill Hawaiʻi", "école eau arte ONeill Hawaii"),
        ("\u{fa10} \u{212a} \u{2126}", "塚 k ω"),
        ("cafe\u{301}", "café"),
    ] {
        same(fed, typed);
    }
    assert_ne!(all("we'll"), all("well"));
}

#[test]
fn what_is_not_seen_changes_no_word() {
    for sign in "\u{ad}\u{200b}\u{200c}\u{200d}\u{200e}\u{200f}\u{61c}\u{2060}\u{202a}\u{202e}\u{2066}\u{2069}\u{feff}\u{fe0f}\u{34f}\u{180e}\u{e0041}".chars() {
        let text = format!("{sign}Doro{sign}thy{sign} 4{sign}7 می{sign}خواهم क्{sign}ष C{sign}+{sign}+");
        assert_eq!(all(&text), all("Dorothy 47 میخواهم क्ष C++"), "{sign:?}");
        assert_eq!(fed(&text)[0], format!("Doro{sign}thy"));
    }
}

#[test]
fn entities_within_words_are_read_as_their_letters() {
    same("caf&eacute; M&#252;hle M&#xFC;hle Dor&shy;othy &Lstrok;&oacute;d&zacute;", "café Mühle Mühle Dorothy Łódź");
    assert_eq!(fed("un caf&eacute;&nbsp;noir"), ["un", "caf&eacute;", "noir"]);
    same("caf=C3=A9 caf%C3%A9 caf\\u00e9", "café café café");
}

#[test]
fn a_word_that_is_broken_at_the_end_of_a_line_is_found_whole_and_in_its_parts() {
    for text in [
        "regula-\ntions",
        "regula-\r\ntions",
        "regula-\n    tions",
        "regula‐\ntions",
        "regula\u{ad}\ntions",
        "regula=\ntions",
    ] {
        assert_eq!(all(text), ["regul", "regula", "tion"], "{text}");
        assert_eq!(fed(text)[0], text);
    }
    assert_eq!(all("price-\nfixing"), ["pricefix", "price", "fix"]);
    assert_eq!(fed("Anglo-\nSaxon 19-\n20 a - \nb"), ["Anglo", "Saxon", "19", "20", "a", "b"]);
    assert_eq!(all("inter-\nnatio-\nnal")[0], "internat");
}

#[test]
fn korean_nouns_are_found_whatever_follows_them() {
    for (text, words) in [
        ("수도이다 수도는 수도", &["수도", "수도", "수도"][..]),
        ("대한민국의", &["대한", "한민", "민국"]),
        ("강은 강에서 강", &["강은", "강", "강", "강"]),
        ("나이는 나이", &["나이", "나이"]),
        ("Python은 1443년에", &["Python", "1443", "년에", "년"]),
    ] {
        assert_eq!(fed(text), words, "{text}");
    }
    use unicode_normalization::UnicodeNormalization;
    assert_eq!(all(&"수도이다".nfd().collect::<String>()), all("수도"));
}

/// What words are made of, and what separates them.
const TEXT: &str =
    "([a-zA-Z0-9 .,:_&#+'\n=-]|\\PC|&eacute;|&shy;|-\n|\u{ad}|\u{200d}|<b>|=C3=A9|°|%|수도는|\u{301}){0,80}";

proptest! {
    #[test]
    fn the_words_of_any_text_are_in_it_in_their_order(text in TEXT) {
        let mut last = 0;
        for (at, word) in words(&text) {
            prop_assert!(at >= last && !word.is_empty());
            prop_assert_eq!(&text[at..at + word.len()], word);
            last = at;
        }
    }

    #[test]
    fn every_word_of_any_text_has_a_term_without_white_space(text in TEXT) {
        for (_, word) in words(&text) {
            let term = term(word);
            prop_assert!(!term.is_empty() && !term.contains(char::is_whitespace), "{:?}", word);
        }
    }

    #[test]
    fn what_is_not_seen_changes_no_term_wherever_it_is(
        pieces in proptest::collection::vec("[a-zA-Z0-9.+#_'-]|[à-ž]|수|도|[а-я]", 1..20),
        signs in proptest::collection::vec("[\u{ad}\u{200b}-\u{200f}\u{2060}\u{feff}\u{fe0f}]{0,2}", 20),
    ) {
        let plain = pieces.concat();
        let with: String = pieces.iter().zip(&signs).map(|(piece, sign)| piece.clone() + sign).collect();
        prop_assert_eq!(all(&with), all(&plain));
    }
}
