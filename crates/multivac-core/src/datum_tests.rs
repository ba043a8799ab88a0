use super::*;

#[test]
fn what_nobody_can_see_is_no_datum() {
    for blank in [
        "",
        " \n\t\u{2003}\u{a0}\u{3000}",
        "\0",
        "\u{200b}",
        "\u{feff}",
        "\u{ad}\u{2060}\u{200d}",
        "\u{180e}\u{e0020}\u{fe0f}",
        "\u{3164}",
        "\u{85}\u{1b}",
    ] {
        assert_eq!(Datum::new(blank, 100), Err(DatumError::Blank), "{blank:?}");
    }
    // What can be seen keeps everything beside it.
    for text in ["a\0\u{200b}", "\u{feff}é", "👩\u{200d}🔬", ".", "\u{301}"] {
        assert_eq!(Datum::new(text, 100).expect("a fine datum").as_str(), text);
    }
}

#[test]
fn the_limit_itself_is_taken_and_one_byte_more_is_not() {
    assert!(Datum::new("abc", 3).is_ok());
    assert_eq!(Datum::new("abcd", 3), Err(DatumError::TooLarge { limit: 3 }));
}

#[test]
fn an_id_reads_back_as_it_was_written() {
    let ours = DatumId::generate();
    let original = DatumId::Original([0x65, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0xff]);
    for id in [ours, original] {
        assert_eq!(id.to_string().parse(), Ok(id));
    }
    assert_eq!(original.to_string(), "6500010203040506070809ff");
}

#[test]
fn an_id_has_one_spelling() {
    let upper = DatumId::generate().to_string().to_uppercase();
    for text in [upper.as_str(), "", "x", "+500010203040506070809ff", "6500010203040506070809fF", "ééééééé"] {
        assert_eq!(text.parse::<DatumId>(), Err(NotAnId), "{text}");
    }
}

#[test]
fn an_id_carries_its_time() {
    let before = Timestamp::now();
    let made = DatumId::generate().created_at().expect("a UUIDv7 carries its time");
    assert!(made >= before && made <= Timestamp::now());
    let original = DatumId::Original([0x65, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(original.created_at().map(|t| t.to_string()).as_deref(), Some("2023-09-12T06:06:56Z"));
}

#[test]
fn the_text_of_a_datum_is_not_shown_in_logs() {
    let datum = Datum::new("secret", 100).expect("a fine datum");
    assert_eq!(format!("{datum:?}"), "Datum(6 bytes)");
}

proptest::proptest! {
    #[test]
    fn whatever_reads_as_an_id_is_its_only_spelling(text in "[0-9a-fA-F+-]{24}|[0-9a-f-]{36}|.{0,40}") {
        if let Ok(id) = text.parse::<DatumId>() {
            proptest::prop_assert_eq!(id.to_string(), text);
        }
    }

    #[test]
    fn any_id_reads_back_and_any_time_can_be_told(bytes: [u8; 16], millis: i64) {
        let original = DatumId::Original(std::array::from_fn(|n| bytes[n]));
        for id in [DatumId::Uuid(Uuid::from_bytes(bytes)), original] {
            proptest::prop_assert_eq!(id.to_string().parse(), Ok(id));
            let _ = id.created_at().map(|time| time.to_string());
        }
        proptest::prop_assert!(Timestamp::from_millis(millis).to_string().ends_with('Z'));
    }
}

#[test]
fn ids_follow_a_clock_that_was_ahead_and_keep_their_order_where_it_only_jitters() {
    let mut ids = Ids::new();
    let mut at = |millis: i64| {
        let id = DatumId::Uuid(ids.next(Timestamp::from_millis(millis)));
        (id, id.created_at().expect("a UUIDv7 carries its time").as_millis())
    };
    const NOW: i64 = 1_795_406_022_000;
    const HOUR: i64 = 3_600_000;
    let mut last = at(NOW);
    for jitter in [0, 0, 5, 3, -990] {
        let next = at(NOW + jitter);
        assert!(next.0 > last.0, "{jitter}");
        last = next;
    }
    for (clock, what) in [(HOUR, "ahead"), (1, "right again"), (2, "and on"), (-HOUR, "behind"), (3, "right again")] {
        assert_eq!(at(NOW + clock).1, NOW + clock, "{what}");
    }
    let ids: std::collections::BTreeSet<_> = (0..10_000).map(|n| at(NOW + n % 2 * HOUR).0).collect();
    assert_eq!(ids.len(), 10_000, "each is new, however the clock jumps");
}
