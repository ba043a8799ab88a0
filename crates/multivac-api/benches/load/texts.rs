//! Texts as people write them, as far as an index can tell: any number, each different, the same again for the same seed.
//!
//! The words are those of `answer/vectors.bin`, which lists 21,720 of them from frequent to rare, drawn as often as Zipf's law
//! says (Mandelbrot's form, 1 / (rank + 2.7)). One in 32 is a number, one in 32 a name out of 20,736. A text has 3 to 30
//! sentences, few of them mostly, of 5 to 19 words, in paragraphs of 2 to 6: 250 to 2,500 bytes, 610 on average. One of the
//! sentences states a fact that no other text does, so that there is a question with one right answer.

use std::fmt::Write as _;
use std::sync::LazyLock;

use fastrand::Rng;

/// How often a sentence more than three follows: the mean of an exponential distribution, cut at 30.
const MORE_SENTENCES: f64 = 6.4;

const SYLLABLES: [&str; 12] = ["ba", "de", "fi", "go", "ku", "la", "mo", "ni", "po", "ru", "ta", "vo"];
/// Names of four syllables.
const NAMES: u64 = 20_736;
const CITIES: [&str; 12] = [
    "Lisbon", "Vienna", "Oslo", "Geneva", "Naples", "Dublin", "Warsaw", "Athens", "Prague", "Bergen", "Toledo", "Riga",
];
const THINGS: [&str; 8] = ["lanterns", "horses", "paintings", "clocks", "letters", "boats", "bells", "maps"];

/// The words, from frequent to rare, and Walker's alias table of how often each is drawn (Vose, 1991).
struct Vocabulary {
    words: Vec<&'static str>,
    /// For each word: below which 32-bit number it is drawn itself, and which is drawn otherwise.
    aliases: Vec<(u32, u32)>,
}

static VOCABULARY: LazyLock<Vocabulary> = LazyLock::new(|| {
    static FILE: &[u8] = include_bytes!("../../../multivac-core/src/answer/vectors.bin");
    let length = u32::from_le_bytes([FILE[8], FILE[9], FILE[10], FILE[11]]) as usize;
    let pieces = std::str::from_utf8(&FILE[12..12 + length]).expect("vectors.py writes ASCII");
    let is_word =
        |piece: &&str| *piece == "a" || piece.len() > 1 && piece.bytes().all(|byte| byte.is_ascii_lowercase());
    let words: Vec<&str> = pieces.split('\n').filter(is_word).collect();
    let weights: Vec<f64> = (0..words.len()).map(|rank| 1.0 / (rank as f64 + 2.7)).collect();
    let mean = weights.iter().sum::<f64>() / weights.len() as f64;
    let mut shares: Vec<f64> = weights.iter().map(|weight| weight / mean).collect();
    let mut aliases = vec![(u32::MAX, 0); words.len()];
    let (mut small, mut large): (Vec<usize>, Vec<usize>) = (0..words.len()).partition(|&word| shares[word] < 1.0);
    while let (Some(less), Some(&more)) = (small.pop(), large.last()) {
        aliases[less] = ((shares[less] * f64::from(u32::MAX)) as u32, more as u32);
        shares[more] -= 1.0 - shares[less];
        if shares[more] < 1.0 {
            large.pop();
            small.push(more);
        }
    }
    Vocabulary { words, aliases }
});

impl Vocabulary {
    fn draw(&self, rng: &mut Rng) -> &'static str {
        let random = rng.u64(..);
        let word = (((random >> 32) * self.words.len() as u64) >> 32) as usize;
        let (own, other) = self.aliases[word];
        self.words[if random as u32 <= own { word } else { other as usize }]
    }
}

/// What one text states and no other.
pub(super) struct Fact {
    pub(super) sentence: String,
    pub(super) question: String,
}

/// A generator of its own for each, so that any text can be made without those before it.
fn sequence(seed: u64, i: u64) -> Rng {
    Rng::with_seed(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ i)
}

fn push_name(mut name: u64, text: &mut String) {
    let start = text.len();
    for _ in 0..4 {
        text.push_str(SYLLABLES[(name % 12) as usize]);
        name /= 12;
    }
    text[start..=start].make_ascii_uppercase();
}

/// The fact of the `i`th text; no two of the first 430 million are about the same name.
pub(super) fn fact(seed: u64, i: u64) -> Fact {
    let mut rng = sequence(!seed, i);
    let mut name = String::new();
    push_name(i % NAMES, &mut name);
    name.push(' ');
    push_name((i / NAMES + i % NAMES * 7_919) % NAMES, &mut name);
    let (city, thing) = (CITIES[rng.usize(..CITIES.len())], THINGS[rng.usize(..THINGS.len())]);
    let (year, count) = (rng.u16(1_700..2_000), rng.u16(11..999));
    let (sentence, question) = match rng.u8(..4) {
        0 => (format!("{name} moved to {city} in {year}."), format!("When did {name} move to {city}?")),
        1 => (format!("{name} has kept {count} {thing} since {year}."), format!("How many {thing} has {name} kept?")),
        2 => {
            (format!("Invoice {} was paid by {name}.", 10_000_000 + i), format!("Who paid invoice {}?", 10_000_000 + i))
        }
        _ => (format!("The workshop of {name} stands in {city}."), format!("Where does the workshop of {name} stand?")),
    };
    Fact { sentence, question }
}

/// A question of frequent words alone.
pub(super) fn common_question(seed: u64, i: u64) -> String {
    let mut rng = sequence(seed.wrapping_add(1), i);
    let mut word = || VOCABULARY.words[rng.usize(50..600)];
    format!("What is the {} of the {} {}?", word(), word(), word())
}

/// A question about a name that no text has.
pub(super) fn unanswerable_question(seed: u64, i: u64) -> String {
    let mut rng = sequence(seed.wrapping_add(2), i);
    let name: String = (0..4).map(|_| ["xi", "we", "ju", "zo"][rng.usize(..4)]).collect();
    format!("Where does the workshop of {name} Q{} stand?", rng.u32(100_000..))
}

/// Appends the `i`th text as a line of `{"data": …}`; nothing in it needs an escape but the ends of lines.
pub(super) fn push_line(seed: u64, i: u64, line: &mut String) {
    line.push_str("{\"data\": \"");
    let vocabulary = &*VOCABULARY;
    let mut rng = sequence(seed, i);
    let more = (-(1.0 - rng.f64()).ln() * MORE_SENTENCES) as usize;
    let sentences = (3 + more).min(30);
    let stated = rng.usize(..sentences);
    let mut paragraph = rng.usize(2..=6);
    for sentence in 0..sentences {
        if sentence > 0 {
            let ends = paragraph == 0;
            line.push_str(if ends { "\\n\\n" } else { " " });
            if ends {
                paragraph = rng.usize(2..=6);
            }
        }
        paragraph -= 1;
        if sentence == stated {
            line.push_str(&fact(seed, i).sentence);
        } else {
            push_sentence(vocabulary, &mut rng, line);
        }
    }
    line.push_str("\"}\n");
}

fn push_sentence(vocabulary: &Vocabulary, rng: &mut Rng, text: &mut String) {
    let start = text.len();
    let words = rng.usize(5..=19);
    for word in 0..words {
        if word > 0 {
            text.push_str(if rng.u8(..16) == 0 { ", " } else { " " });
        }
        match rng.u8(..32) {
            0 => {
                let digits = rng.u32(1..=5);
                let _ = write!(text, "{}", rng.u32(1..10_u32.pow(digits)));
            }
            // Some names are much more frequent than others.
            1 => push_name((rng.f64() * rng.f64() * NAMES as f64) as u64, text),
            _ => text.push_str(vocabulary.draw(rng)),
        }
    }
    text[start..=start].make_ascii_uppercase();
    text.push('.');
}
