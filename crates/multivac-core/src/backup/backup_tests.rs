use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;
use uuid::Uuid;

use super::read::{Reader, verify};
use super::write::Writer;
use super::*;
use crate::datum::Timestamp;
use crate::store::{StoreEntry, StoredDatum};

fn datum(number: u128, text: &str) -> StoreEntry {
    StoreEntry::Live(StoredDatum {
        id: DatumId::Uuid(Uuid::from_u128(number)),
        text: text.to_owned(),
        passages: vec![text.to_owned(), String::new(), "\0".to_owned()],
        received_at: Timestamp::from_millis(-1),
        processed_at: Timestamp::from_millis(i64::MAX),
        trace: number.is_multiple_of(2).then(|| "a \"trace\"".to_owned()),
    })
}

fn tombstone(id: DatumId, received_at: Option<i64>) -> StoreEntry {
    let received_at = received_at.map(Timestamp::from_millis);
    StoreEntry::Tombstone { id, received_at, retracted_at: Timestamp::from_millis(7) }
}

fn sample() -> Vec<StoreEntry> {
    vec![
        datum(1, "NUL \0, \u{10ffff}, \u{2028}, e\u{301} \r\n and \"quotes\" \\ "),
        datum(2, "plain"),
        tombstone(DatumId::Uuid(Uuid::from_u128(3)), Some(5)),
        tombstone(DatumId::Original([0; 12]), None),
        StoreEntry::Live(StoredDatum { id: DatumId::Original([1; 12]), ..live(&datum(4, "of the original")) }),
    ]
}

fn live(entry: &StoreEntry) -> StoredDatum {
    let StoreEntry::Live(datum) = entry else { panic!("a datum") };
    datum.clone()
}

fn written(entries: &[StoreEntry]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new()).expect("memory");
    entries.iter().for_each(|entry| writer.entry(entry).expect("memory"));
    writer.finish().expect("memory").0
}

fn read(file: &[u8]) -> Result<Vec<StoreEntry>, BackupError> {
    let mut reader = Reader::new(file)?;
    let mut entries = Vec::new();
    while let Some(entry) = reader.next_entry()? {
        entries.push(entry);
    }
    Ok(entries)
}

/// The file of these lines.
fn packed(lines: &[&str]) -> Vec<u8> {
    let mut out = GzEncoder::new(Vec::new(), Compression::fast());
    lines.iter().for_each(|line| writeln!(out, "{line}").expect("memory"));
    out.finish().expect("memory")
}

fn refused(file: &[u8]) -> String {
    verify(file, &|_| {}).expect_err("it is refused").to_string()
}

#[test]
fn what_is_written_reads_back() {
    assert_eq!(read(&written(&sample())).expect("it is whole"), sample());
    assert_eq!(read(&written(&[])).expect("it is whole"), []);
    let (header, trailer) = verify(&*written(&sample()), &|_| {}).expect("it is whole");
    assert_eq!((header.format.as_str(), header.version), (FORMAT, VERSION));
    assert_eq!((trailer.data, trailer.tombstones, trailer.unreadable), (3, 2, 0));
    let again = verify(&*written(&sample()), &|_| {}).expect("it is whole").1;
    assert_eq!(again.sha256, trailer.sha256, "the same data have the same checksum");
}

#[test]
fn what_cannot_be_read_is_counted_and_left_out() {
    let unreadable = StoreEntry::Unreadable { id: DatumId::Uuid(Uuid::from_u128(2)) };
    let file = written(&[datum(1, "a"), unreadable, datum(3, "b")]);
    assert_eq!(verify(&*file, &|_| {}).expect("it is whole").1.unreadable, 1);
    assert_eq!(read(&file).expect("it is whole"), [datum(1, "a"), datum(3, "b")]);
}

#[test]
fn a_file_that_is_cut_off_anywhere_is_refused() {
    let file = written(&sample());
    for length in 0..file.len() {
        let message = refused(&file[..length]);
        assert!(message.contains("cut off") || message.contains("no backup"), "{length}: {message}");
    }
}

#[test]
fn a_file_with_any_byte_changed_is_refused_or_says_the_same() {
    let file = written(&sample());
    for at in 0..file.len() {
        let mut changed = file.clone();
        changed[at] ^= 0x55;
        // gzip's header has bytes that say nothing of what is packed, such as a time.
        if let Ok(entries) = read(&changed) {
            assert!(at < 10 && entries == sample(), "{at}");
        }
    }
}

#[test]
fn what_is_no_backup_says_so() {
    assert!(refused(b"").contains("no backup"));
    assert!(refused(b"PK\x03\x04 something else").contains("no backup"));
    assert!(refused(&packed(&[])).contains("empty"));
    assert!(refused(&packed(&["{\"format\":\"other\",\"version\":1}"])).contains("does not say so"));
    let newer = format!("{{\"format\":\"{FORMAT}\",\"version\":2,\"more\":[]}}");
    assert!(refused(&packed(&[&newer])).contains("version 2 of the format"));
}

#[test]
fn lines_that_do_not_fit_together_are_refused() {
    let header = format!("{{\"format\":\"{FORMAT}\",\"version\":1,\"exported_at\":\"\",\"by\":\"\"}}");
    let tombstone = |n| format!("{{\"tombstone\":\"00000000-0000-0000-0000-00000000000{n}\",\"retracted_at\":7}}");
    let empty = "{\"end\":{\"data\":0,\"tombstones\":0,\"unreadable\":0,\"sha256\":\"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"}}";
    assert!(verify(&*packed(&[&header, empty]), &|_| {}).is_ok(), "the lines below fail for their own reason");
    for (lines, why) in [
        (vec![&*header], "missing"),
        (vec![&header, &tombstone(1), empty], "line 3 does not count"),
        (vec![&header, &empty.replace("e3b0", "0000")], "line 2 does not count"),
        (vec![&header, empty, empty], "comes after the last line"),
        (vec![&header, &tombstone(2), &tombstone(1)], "line 3 is not in the order"),
        (vec![&header, &tombstone(1), &tombstone(1)], "line 3 is not in the order"),
        (vec![&header, "{\"tombstone\":\"x\",\"retracted_at\":7}"], "no datum's id"),
        (vec![&header, "{\"retracted_at\":7}"], "neither a datum nor a tombstone"),
        (vec![&header, &tombstone(1).replace("7}", "7,\"text\":\"\"}")], "neither a datum nor a tombstone"),
        (vec![&header, &tombstone(1).replace("7}", "7,\"else\":1}")], "not what a line"),
        (vec![&header, "entropy"], "line 2 is not what a line"),
    ] {
        let message = refused(&packed(&lines));
        assert!(message.contains(why), "{why}: {message}");
    }
    let mut more = packed(&[&header, empty]);
    more.extend(packed(&[&header, empty]));
    assert!(refused(&more).contains("after its end"));
}

#[test]
fn entries_out_of_order_are_not_written() {
    let mut writer = Writer::new(Vec::new()).expect("memory");
    writer.entry(&datum(2, "b")).expect("memory");
    assert!(writer.entry(&datum(1, "a")).is_err());
}

proptest! {
    #[test]
    fn any_text_reads_back(texts in prop::collection::vec(any::<String>(), 0..5)) {
        let entries: Vec<StoreEntry> = (1..).zip(&texts).map(|(n, text)| datum(n, text)).collect();
        prop_assert_eq!(read(&written(&entries)).expect("it is whole"), entries);
    }

    #[test]
    fn damage_never_panics_and_never_passes(flips in prop::collection::vec((any::<prop::sample::Index>(), 1_u8..), 1..5)) {
        let mut file = written(&sample());
        for (at, with) in flips {
            let at = at.index(file.len());
            file[at] ^= with;
        }
        if let Ok(entries) = read(&file) {
            prop_assert_eq!(entries, sample());
        }
    }
}
