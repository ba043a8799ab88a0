//! The form in which words are compared: what people type where they type it simply. Lower case, without accents, letters
//! that do not decompose as their nearest in ASCII, figures in ASCII, without what is not seen.

use std::borrow::Cow;

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

use super::words::is_minus;
use crate::process::Plain;
use crate::words::{ELISIONS, SIGNS};

/// A word in lower case and as it is seen, without a possessive ending: for lists of words and for people to read.
#[must_use]
pub fn lower(word: &str) -> String {
    if word.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return word.to_ascii_lowercase();
    }
    let seen = seen(word);
    if let Some(name) = SIGNS.get(&*seen) {
        return (*name).to_owned();
    }
    let lower: String = seen.nfc().map(|c| digit(c).unwrap_or(c)).collect::<String>().to_lowercase();
    bare(&lower).to_owned()
}

/// What a word is spelled as by those who write two letters for one of these, or one for two: `Mueller` and `Müller`, `Djokovic`
/// and `Đoković`. For words of a question that are in no datum: it is too often wrong for others (`poet`, `pot`).
#[must_use]
pub fn respelled(word: &str) -> Option<String> {
    const PAIRS: [(&str, &str); 11] = [
        ("ä", "ae"),
        ("ö", "oe"),
        ("ü", "ue"),
        ("ø", "oe"),
        ("å", "aa"),
        ("đ", "dj"),
        ("þ", "t"),
        ("ŋ", "ng"),
        ("ð", "dh"),
        ("ə", "a"),
        ("ß", "sz"),
    ];
    let lower = lower(word);
    let replaced = |pairs: &mut dyn Iterator<Item = (&str, &str)>| {
        pairs.fold(lower.clone(), |word, (from, to)| if word.contains(from) { word.replace(from, to) } else { word })
    };
    let longer = replaced(&mut PAIRS.into_iter());
    let respelled =
        if longer == lower { replaced(&mut PAIRS.into_iter().take(6).map(|(one, two)| (two, one))) } else { longer };
    (respelled != lower).then_some(respelled)
}

/// The form of a word that is compared, before it is stemmed.
pub(super) fn folded(word: &str) -> String {
    if word.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return word.to_ascii_lowercase();
    }
    let seen = seen(word);
    if let Some(name) = SIGNS.get(&*seen) {
        return (*name).to_owned();
    }
    let mut out = String::with_capacity(seen.len());
    // Accents that stand by themselves decompose to a space with a mark on it.
    for c in seen.nfkd().filter(|c| !is_combining_mark(*c) && !c.is_whitespace()) {
        for c in c.to_lowercase() {
            match simple(c) {
                Some(simple) => out.push_str(simple),
                None => out.push(digit(c).unwrap_or(c)),
            }
        }
    }
    let out = one_minus(out);
    if out.starts_with(|c: char| c.is_ascii_digit()) {
        return figure(&out);
    }
    let bare = apostrophes(bare(&out));
    // Marks by themselves are compared as they are.
    if bare.is_empty() { seen.to_lowercase() } else { bare.into_owned() }
}

/// A word as it is seen, in one line.
fn seen(word: &str) -> Cow<'_, str> {
    let plain = Plain::of(word).text;
    let broken = |c: char| matches!(c, '-' | '=' | '\u{2010}' | '\u{2011}');
    let Some((before, after)) = plain.split_once('\n') else { return plain };
    let before = before.trim_end_matches([' ', '\r']).trim_end_matches(broken);
    (before.to_owned() + &seen(after.trim_start_matches([' ', '\t']))).into()
}

/// One minus for all.
fn one_minus(word: String) -> String {
    match word.chars().next() {
        Some(first) if first != '-' && is_minus(first) => format!("-{}", &word[first.len_utf8()..]),
        _ => match word.chars().next_back() {
            Some(last) if last != '-' && is_minus(last) => format!("{}-", &word[..word.len() - last.len_utf8()]),
            _ => word,
        },
    }
}

/// A word without a possessive ending.
fn bare(word: &str) -> &str {
    word.strip_suffix("'s").or_else(|| word.strip_suffix("\u{2019}s")).unwrap_or(word)
}

/// A word without what was left out before it in French or Italian (`l'école`), and without other apostrophes (`O'Neill`),
/// unless it is an English word with its verb (`we'll`).
fn apostrophes(word: &str) -> Cow<'_, str> {
    let Some((before, after)) = word.split_once('\'') else { return word.into() };
    match after {
        "ll" | "d" | "re" | "ve" | "m" | "t" => word.into(),
        _ if ELISIONS.contains(before) => apostrophes(after),
        _ => word.replace('\'', "").into(),
    }
}

/// A figure without the signs between its thousands, and a time without the zero before its hour.
fn figure(word: &str) -> String {
    let (whole, fraction) = word.split_once('.').unwrap_or((word, ""));
    for separator in [',', '\'', '_'] {
        let mut groups = whole.split(separator);
        let first = groups.next().is_some_and(|first| (1..=3).contains(&first.len()));
        let thousands = |group: &str| group.len() == 3 && group.bytes().all(|b| b.is_ascii_digit());
        if first && whole.contains(separator) && groups.all(thousands) {
            let point = if fraction.is_empty() { "" } else { "." };
            return whole.replace(separator, "") + point + fraction;
        }
    }
    match word.split_once(':') {
        Some((hour, _)) if hour.len() == 2 && hour.starts_with('0') => word[1..].to_owned(),
        _ => word.to_owned(),
    }
}

/// The decimal digits of all scripts begin at these, ten each in their order (Unicode 14's general category Nd).
const ZEROS: [u32; 65] = [
    0x660, 0x6f0, 0x7c0, 0x966, 0x9e6, 0xa66, 0xae6, 0xb66, 0xbe6, 0xc66, 0xce6, 0xd66, 0xde6, 0xe50, 0xed0, 0xf20,
    0x1040, 0x1090, 0x17e0, 0x1810, 0x1946, 0x19d0, 0x1a80, 0x1a90, 0x1b50, 0x1bb0, 0x1c40, 0x1c50, 0xa620, 0xa8d0,
    0xa900, 0xa9d0, 0xa9f0, 0xaa50, 0xabf0, 0xff10, 0x104a0, 0x10d30, 0x11066, 0x110f0, 0x11136, 0x111d0, 0x112f0,
    0x11450, 0x114d0, 0x11650, 0x116c0, 0x11730, 0x118e0, 0x11950, 0x11c50, 0x11d50, 0x11da0, 0x16a60, 0x16ac0,
    0x16b50, 0x1d7ce, 0x1d7d8, 0x1d7e2, 0x1d7ec, 0x1d7f6, 0x1e140, 0x1e2f0, 0x1e950, 0x1fbf0,
];

/// The digit in ASCII, of a decimal digit of another script.
fn digit(c: char) -> Option<char> {
    let code = u32::from(c);
    let zero = ZEROS[..ZEROS.partition_point(|zero| *zero <= code)].last()?;
    char::from_digit(code - zero, 10)
}

/// What people type for a letter in lower case that Unicode does not decompose.
fn simple(c: char) -> Option<&'static str> {
    if c.is_ascii() {
        return None;
    }
    Some(match c {
        'ß' => "ss",
        'æ' => "ae",
        'œ' => "oe",
        'þ' => "th",
        'ø' | 'ɔ' | 'ɵ' => "o",
        'đ' | 'ð' | 'ɖ' | 'ɗ' => "d",
        'ł' | 'ƚ' | 'ɫ' => "l",
        'ħ' | 'ⱨ' => "h",
        'ı' | 'ɨ' | 'ɪ' => "i",
        'ŋ' | 'ɲ' | 'ƞ' | 'ɳ' => "n",
        'ĸ' | 'ƙ' | 'ⱪ' => "k",
        'ŧ' | 'ƭ' | 'ʈ' | 'ⱦ' => "t",
        'ə' | 'ɛ' | 'ǝ' | 'ɇ' => "e",
        'ƀ' | 'ɓ' => "b",
        'ȼ' | 'ƈ' => "c",
        'ƒ' => "f",
        'ǥ' | 'ɠ' | 'ɣ' => "g",
        'ȷ' | 'ɉ' => "j",
        'ƥ' => "p",
        'ɍ' => "r",
        'ʉ' | 'ʊ' => "u",
        'ʋ' => "v",
        'ƴ' | 'ɏ' => "y",
        'ƶ' | 'ȥ' => "z",
        'ⱥ' => "a",
        // Greek's sigma at the end of a word.
        'ς' => "σ",
        // Letters that Arabic, Persian and Urdu write differently, or that people leave without their points.
        'ٱ' => "ا",
        'ى' | 'ی' => "ي",
        'ک' => "ك",
        'ة' | 'ہ' | 'ە' => "ه",
        // Arabic's elongation, and the apostrophes of transliterations and of Hebrew.
        'ـ' | 'ʹ'..='ʿ' | '׳' | '״' => "",
        '\u{2018}' | '\u{2019}' => "'",
        _ => return None,
    })
}
