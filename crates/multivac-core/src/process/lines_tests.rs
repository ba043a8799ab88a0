use proptest::prelude::*;

use super::*;
use crate::process::{Sentence, answerable};

/// The sentences of a text, each with what it is: `L` for a record, `-` if it states nothing, and the number of its lead.
fn read(text: &str) -> Vec<String> {
    let show = |sentence: Sentence| {
        let marks = [(sentence.line, "L"), (!sentence.states, "-")].map(|(is, mark)| if is { mark } else { "" });
        let lead = sentence.lead.map_or(String::new(), |lead| lead.to_string());
        format!("{}{lead} {}", marks.concat(), text[sentence.bytes].replace('\n', "/"))
    };
    answerable(text).into_iter().map(show).collect()
}

#[test]
fn the_lines_of_a_log_are_records_with_all_their_sentences() {
    let log = "2026-11-28 10:00:02 ERROR payments: no invoice. The disk is full\n\
        2026-11-28 10:00:03 INFO mail: sent 12 letters to the customers of the north\n\
        2026-11-28 10:00:04 WARN stock: low";
    let lines: Vec<String> = log.lines().map(|line| format!("L {line}")).collect();
    assert_eq!(read(log), lines);
    assert_eq!(
        read("[10:31] mira: hello\nand good day\n[10:32] jon: hello"),
        ["L [10:31] mira: hello/and good day", "L [10:32] jon: hello"]
    );
}

#[test]
fn the_head_of_a_table_leads_its_rows_and_states_nothing() {
    for table in [
        "name;city\nPetra;Orm\nJon;Tarn",
        "city\tinhabitants\nOrm\t1200\nTarn\t300",
        "name,\"home, or so\",phone\nPetra,\"Orm, Tarn\",555\nJon,Orm,556",
        "name, street, city\nPetra, 1 Mill Lane, Orm\nJon, 2 Hill Road, Tarn",
        "| Name | Town |\n| Petra | Orm |\n| Jon | Tarn |",
        "NAME   READY   AGE\napi-1  1/1     3d\napi-2  0/1     2h",
    ] {
        let rows: Vec<String> =
            table.lines().enumerate().map(|(at, row)| format!("L{} {row}", if at == 0 { "-" } else { "0" })).collect();
        assert_eq!(read(table), rows);
    }
    // Without a head all rows state something.
    assert_eq!(read("Petra;Orm;5\nJon;Tarn;7"), ["L Petra;Orm;5", "L Jon;Tarn;7"]);
}

#[test]
fn prose_that_was_wrapped_is_whole_sentences_in_lists_and_quotes_too() {
    let wrapped = "Die Mühle am Fluss wurde im Jahr 1874 von einer Firma aus Linz gebaut und\n\
        Petra Lind hat sie im Jahr 1912 gekauft. Sie gehört heute der Gemeinde\nOrm und ist ein Museum.";
    assert_eq!(answerable(wrapped).len(), 2);
    assert_eq!(
        read("- one thing that is so long that it goes on, because\n  Orm wrapped it\n- another"),
        ["L - one thing that is so long that it goes on, because/  Orm wrapped it", "L - another"]
    );
    assert_eq!(
        read("> The key hangs behind the old stove of the\n> kitchen."),
        [" The key hangs behind the old stove of the/> kitchen."]
    );
    assert_eq!(
        read("the key of the mill hangs behind the stove of the old kitchen. Please br=\ning it back."),
        [" the key of the mill hangs behind the stove of the old kitchen.", " Please br=/ing it back."]
    );
}

#[test]
fn short_lines_without_end_marks_are_records() {
    for text in
        ["milk is in the fridge\nthe key hangs here", "Petra Lind\n12 Mill Lane\nOrm", "Two stars,\nAnd sorry I\nAm"]
    {
        let lines: Vec<String> = text.lines().map(|line| format!("L {line}")).collect();
        assert_eq!(read(text), lines);
    }
}

#[test]
fn a_lead_in_is_one_sentence_with_names_and_leads_what_is_longer() {
    assert_eq!(
        read("It is over. The winners are:\n1. Petra Lind\n2. Jon Abt"),
        [" It is over.", " The winners are:/1. Petra Lind/2. Jon Abt"]
    );
    assert_eq!(
        read("They won:\n- Petra Lind, of Orm\n- Jon Abt, of Tarn"),
        ["L- They won:", "L0 - Petra Lind, of Orm", "L0 - Jon Abt, of Tarn"]
    );
}

#[test]
fn settings_are_read_with_their_section() {
    assert_eq!(
        read("web:\n  port: 80\ndata:\n  host: a\n  port: 54"),
        ["L- web:", "L0 port: 80", "L- data:", "L2 host: a", "L2 port: 54"]
    );
    assert_eq!(read("[web]\nport=80\n[data]\nport=54"), ["L- [web]", "L0 port=80", "L- [data]", "L2 port=54"]);
}

#[test]
fn a_record_after_a_question_is_read_with_it() {
    assert_eq!(
        read("[10:33] mira: where is the key?\n[10:34] tobias: in the drawer"),
        ["L- [10:33] mira: where is the key?", "L0 [10:34] tobias: in the drawer"]
    );
}

#[test]
fn a_short_entry_is_one_sentence() {
    assert_eq!(
        read("BEGIN:VCARD\nFN:Petra\nEND:VCARD\nBEGIN:VCARD\nFN:Jon\nEND:VCARD"),
        ["L BEGIN:VCARD/FN:Petra/END:VCARD", "L BEGIN:VCARD/FN:Jon/END:VCARD"]
    );
}

#[test]
fn a_long_record_is_cut_and_read_with_its_beginning() {
    let log = format!("10:00:00 orders: a; {}\n10:00:01 mail: b", "and so on it goes, ".repeat(40));
    let pieces = answerable(&log);
    assert!(pieces.len() > 3 && pieces[1..pieces.len() - 1].iter().all(|piece| piece.cut && piece.lead == Some(0)));
    assert_eq!(pieces.last().map(|piece| (piece.cut, piece.line, piece.lead)), Some((false, true, None)));
}

/// What lines are made of.
const TEXT: &str =
    "(\\PC|[a-zA-Z .:;,|?]{1,9}|\n|\n  |\n- |\n1. |: |=|;|,|\t|\\||10:32 |> |\\{\n|\\}\n|BEGIN:|END:|\n\n|# ){0,120}";

proptest! {
    #[test]
    fn any_text_has_its_lines_in_order_and_leads_come_first(text in TEXT) {
        let lines = lines(&text);
        prop_assert!(lines.iter().map(|line| &text[line.bytes.clone()]).eq(text.split('\n')));
        for (at, line) in lines.iter().enumerate() {
            prop_assert!(line.lead.is_none_or(|lead| lead < at));
        }
        for (at, sentence) in answerable(&text).iter().enumerate() {
            prop_assert!(sentence.lead.is_none_or(|lead| lead < at));
        }
    }
}
