//! Files as they lie on any disk, each fed whole beside the others; the line or entry that is asked for is the answer.

use super::cases::{Outcome, kinds, report};
use super::{ask, index};

#[test]
fn of_twenty_kinds_of_files_the_line_or_entry_that_is_asked_for_is_the_answer() {
    let files = kinds("files");
    assert!(files.iter().all(|file| file.fed.len() == 1 && file.cases.len() >= 3));
    let fed: Vec<String> = files.iter().flat_map(|file| file.fed.iter().cloned()).collect();
    let texts: Vec<&str> = fed.iter().map(String::as_str).collect();
    let (index, _) = index(&texts);
    let outcomes = files.into_iter().map(|file| {
        let mut outcome = Outcome::new(&file.name);
        for case in &file.cases {
            let reply = ask(&index, &case.question);
            let fault = case.fault(reply.answer.as_deref(), &fed);
            let fault = fault.map(|fault| case.failed(&file.name, fault, &reply, &index));
            outcome.enter(&case.question, case.pending, fault);
        }
        outcome
    });
    report(&outcomes.collect::<Vec<_>>());
}
