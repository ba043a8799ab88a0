//! What a word is, and how it is compared: signs in it, letters that people type more simply, what is not seen, entities,
//! broken lines, other languages.

use multivac_core::answer::INSUFFICIENT_DATA;

use crate::{ask, index};

/// Asks the same of data of which one has the answer.
fn answers(fed: &[&str], asked: &[&str], right: &str) {
    let (index, _) = index(fed);
    for question in asked {
        let reply = ask(&index, question);
        assert_eq!(reply.text(), right, "{question} ({})", reply.confidence);
    }
}

const CPP: &str = "C++ was created by Bjarne Stroustrup at Bell Labs.";
const CSHARP: &str = "C# was created by Anders Hejlsberg at Microsoft.";
const C: &str = "C was created by Dennis Ritchie at Bell Labs.";

#[test]
fn of_words_that_differ_by_a_sign_the_right_one_is_meant() {
    let all = [CPP, CSHARP, C];
    answers(&all, &["Who created C#?"], CSHARP);
    answers(&all, &["Who created C++?"], CPP);
    answers(&all, &["Who created C?"], C);
    let blood = ["Donors of type A+ come on Monday morning.", "Donors of type A- come on Friday evening."];
    answers(&blood, &["When do donors of type A+ come?"], blood[0]);
    answers(&blood, &["When do donors of type A− come?", "When do donors of type A- come?"], blood[1]);
    let cold = ["At −40 degrees the valve freezes shut.", "At 40 degrees the valve opens wide."];
    answers(&cold, &["What does the valve do at -40 degrees?"], cold[0]);
    answers(&cold, &["What does the valve do at 40 degrees?"], cold[1]);
    let settings = ["The setting max_connections is 100 by default.", "The setting max_workers is 8 by default."];
    answers(
        &settings,
        &["What is max_connections by default?", "What is the default of max connections?"],
        settings[0],
    );
}

#[test]
fn a_word_with_another_sign_is_another_word() {
    for (fed, asked) in [(CPP, "Who created C#?"), (CSHARP, "Who created C?"), (C, "Who created C++?")] {
        assert_eq!(
            ask(&index(&[fed, "Bread is baked from flour and water."]).0, asked).text(),
            INSUFFICIENT_DATA,
            "{asked}"
        );
    }
}

#[test]
fn letters_are_found_as_people_type_them() {
    for (fed, asked) in [
        ("Łódź was the centre of the textile trade.", "What was Lodz the centre of?"),
        ("Søren Kierkegaard was born in Copenhagen.", "Where was Soren Kierkegaard born?"),
        ("The bakery is in the Lange Straße.", "What is in the Lange Strasse?"),
        ("Đorđe Balašević sang in Novi Sad.", "Where did Dorde Balasevic sing?"),
        ("Novak Đoković was born in Belgrade.", "Where was Novak Djokovic born?"),
        ("Þórr lost his hammer in the river.", "What did Thorr lose in the river?"),
        ("Æthelred ruled the kingdom for 37 years.", "How long did Aethelred rule the kingdom?"),
        ("Diyarbakır lies on the Tigris.", "Where does Diyarbakir lie?"),
        ("Frau Müller keeps the key in the cellar.", "Where does Frau Mueller keep the key?"),
        ("Frau Müller keeps the key in the cellar.", "Where does Frau Muller keep the key?"),
        ("Herr Goettinger keeps the key in the cellar.", "Where does Herr Göttinger keep the key?"),
    ] {
        answers(&[fed, "Bread is baked from flour and water."], &[asked], fed);
    }
}

#[test]
fn what_is_not_seen_is_neither_missed_nor_lost() {
    for sign in
        "\u{ad}\u{200b}\u{200c}\u{200d}\u{200e}\u{200f}\u{61c}\u{2060}\u{202a}\u{2066}\u{feff}\u{fe0f}\u{34f}".chars()
    {
        let fed = format!("The lamp was lit by Dor{sign}othy{sign} in the{sign} evening.");
        answers(&[&fed, "Bread is baked from flour and water."], &["When did Dorothy light the lamp?"], &fed);
        let asked = format!("When did Do{sign}rothy light the lamp?");
        answers(&[&fed, "Bread is baked from flour and water."], &[&asked], &fed);
    }
}

#[test]
fn entities_within_words_are_read_and_stay_as_they_were_fed() {
    for (fed, asked) in [
        ("The caf&eacute; on the quay opens at nine.", "When does the café on the quay open?"),
        ("The caf&eacute; on the quay opens at nine.", "When does the cafe on the quay open?"),
        ("Die M&#252;hle am Bach geh&ouml;rt dem Grafen.", "Wem gehört die Mühle am Bach?"),
        ("The lamp was lit by Dor&shy;othy in the evening.", "When did Dorothy light the lamp?"),
    ] {
        answers(&[fed, "Bread is baked from flour and water."], &[asked], fed);
    }
}

#[test]
fn a_word_that_is_broken_at_the_end_of_a_line_is_found() {
    for end in ["-\n", "-\r\n", "=\n", "\u{2010}\n"] {
        let fed = format!("According to the harbour master, the new regula{end}tions forbid fires on deck.");
        let reply =
            ask(&index(&[&fed, "Bread is baked from flour and water."]).0, "What do the new regulations forbid?");
        let squash = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(squash(reply.text()), squash(&fed), "{end:?}");
    }
    let fed = "The two mills were fined for a price-\nfixing agreement in 1931.";
    for asked in ["When were the mills fined for price-fixing?", "When were the mills fined for price fixing?"] {
        assert!(ask(&index(&[fed]).0, asked).text().contains("1931"), "{asked}");
    }
}

#[test]
fn korean_nouns_are_found_whatever_particle_follows() {
    let fed = ["서울은 대한민국의 수도이다.", "부산은 큰 항구이다."];
    answers(&fed, &["대한민국의 수도는 어디인가?", "수도는?"], fed[0]);
}

#[test]
fn an_answer_is_word_for_word_what_was_fed_however_its_letters_are_composed() {
    for (fed, asked) in [
        ("The village \u{fa10} lies by the lake.", "What lies by the lake?"),
        ("The lamp \u{212a}7 burns at 300 \u{212a} in the cellar.", "Where does the lamp K7 burn?"),
        ("The cafe\u{301} lies by the lake.", "What lies by the lake?"),
    ] {
        answers(&[fed], &[asked], fed);
    }
    answers(&["The cafe\u{301} opens at nine."], &["When does the caf\u{e9} open?"], "The cafe\u{301} opens at nine.");
}

#[test]
fn questions_in_other_languages_are_answered_by_their_content() {
    for (fed, asked) in [
        (
            ["Die Brücke wurde 1874 von einer Firma aus Linz gebaut.", "Der Fluss ist im Winter oft gefroren."],
            "Wann wurde die Brücke gebaut?",
        ),
        (
            ["Le pont a été construit en 1874 par une société de Linz.", "La rivière est souvent gelée en hiver."],
            "Quand le pont a-t-il été construit ?",
        ),
        (
            ["El puente fue construido en 1874 por una empresa de Linz.", "El río está helado en invierno."],
            "¿Cuándo fue construido el puente?",
        ),
        (
            ["Il ponte fu costruito nel 1874 da una ditta di Linz.", "Il fiume è spesso gelato in inverno."],
            "Quando fu costruito il ponte?",
        ),
        (
            ["A ponte foi construída em 1874 por uma empresa de Linz.", "O rio fica gelado no inverno."],
            "Quando foi construída a ponte?",
        ),
        (
            ["De brug is in 1874 gebouwd door een bedrijf uit Linz.", "De rivier is in de winter vaak bevroren."],
            "Wanneer is de brug gebouwd?",
        ),
    ] {
        answers(&fed, &[asked], fed[0]);
    }
}
