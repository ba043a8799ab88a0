//! Sentences and questions that are made by chance, and are the same again for the same seed.

use fastrand::Rng;

#[rustfmt::skip]
const ADJECTIVES: [&str; 24] = [
    "ancient", "bright", "careful", "distant", "early", "faint", "gentle", "hidden", "idle", "jagged", "keen",
    "lonely", "massive", "narrow", "orderly", "pensive", "quiet", "rapid", "silent", "thermal", "uneven", "vivid",
    "wandering", "young",
];
#[rustfmt::skip]
const NOUNS: [&str; 32] = [
    "astronomer", "bridge", "comet", "desert", "engine", "entropy", "forest", "galaxy", "harbour", "island",
    "journal", "kettle", "lantern", "machine", "nebula", "orchard", "planet", "question", "river", "sailor",
    "telescope", "universe", "valley", "window", "winter", "yard", "archive", "baker", "captain", "doctor",
    "engineer", "farmer",
];
#[rustfmt::skip]
const VERBS: [&str; 20] = [
    "admired", "built", "carried", "described", "examined", "followed", "guarded", "heated", "imagined", "joined",
    "kept", "lifted", "measured", "noticed", "observed", "painted", "questioned", "repaired", "studied", "traced",
];
#[rustfmt::skip]
const PLACES: [&str; 16] = [
    "at the edge of the city", "before the long winter", "behind the old mill", "beside the frozen lake",
    "during the eclipse", "for a hundred years", "in the northern province", "near the southern gate",
    "on a clear morning", "over the wide plain", "since the last flood", "through the narrow pass",
    "under a pale moon", "until the rain came", "with great care", "without any warning",
];

/// The `i`th sequence of a seed.
fn sequence(seed: u64, i: usize) -> Rng {
    // A generator of its own for each, so that the `i`th text can be made without those before it.
    Rng::with_seed(seed.wrapping_shl(32) ^ i as u64)
}

fn pick<'a>(rng: &mut Rng, words: &[&'a str]) -> &'a str {
    words[rng.usize(..words.len())]
}

/// The `i`th sentence of a seed: 60 to 120 characters of plain ASCII, without quotes.
pub fn sentence(seed: u64, i: usize) -> String {
    let mut rng = sequence(seed, i);
    loop {
        let r = &mut rng;
        let (subject, object) = (pick(r, &NOUNS), pick(r, &NOUNS));
        let (how, which, verb) = (pick(r, &ADJECTIVES), pick(r, &ADJECTIVES), pick(r, &VERBS));
        let place = pick(r, &PLACES);
        let text = match r.u8(..3) {
            0 => format!("The {how} {subject} {verb} the {which} {object} {place}."),
            1 => format!("In {} the {how} {subject} {verb} every {which} {object} {place}.", r.u16(1_000..2_000)),
            _ => {
                let (when, other) = (pick(r, &["Later", "Once", "Often", "Yesterday"]), pick(r, &NOUNS));
                format!("{when} the {subject} and the {how} {other} {verb} a {which} {object}, {place}.")
            }
        };
        if (60..=120).contains(&text.len()) {
            return text;
        }
    }
}

/// The `i`th question of a seed, of the words that the sentences are made of.
pub fn question(seed: u64, i: usize) -> String {
    // Another seed than the sentences', so that the `i`th question is not about the `i`th sentence.
    let mut rng = sequence(!seed, i);
    let r = &mut rng;
    let (noun, how, verb) = (pick(r, &NOUNS), pick(r, &ADJECTIVES), pick(r, &VERBS));
    match r.u8(..3) {
        0 => format!("Who {verb} the {how} {noun} {}?", pick(r, &PLACES)),
        1 => format!("When was the {how} {noun} {verb} by the {}?", pick(r, &NOUNS)),
        _ => format!("What {verb} the {noun}?"),
    }
}

/// The `i`th word of a seed that is in no dictionary. There are 430 million, so that two are hardly ever the same.
pub fn new_word(seed: u64, i: usize) -> String {
    const SYLLABLES: [&str; 12] = ["ba", "de", "fi", "go", "ku", "la", "mo", "ni", "po", "ru", "ta", "vo"];
    let mut rng = sequence(seed, i);
    (0..8).map(|_| pick(&mut rng, &SYLLABLES)).collect()
}
