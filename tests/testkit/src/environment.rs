//! What `scripts/test-backends.sh` gives the tests in their environment.

use std::env;
use std::io::Write;
use std::path::PathBuf;

/// The value of a variable. Without it the test is skipped, with a line that says so; in CI it fails instead.
pub fn variable(name: &str) -> Option<String> {
    let value = env::var(name).ok();
    if value.is_none() {
        skip(&format!("{name} is not set"));
    }
    value
}

/// As [`variable`], for what not every machine of ours can have: without it the test is skipped in CI as well.
pub fn optional(name: &str) -> Option<String> {
    let value = env::var(name).ok().filter(|value| !value.is_empty());
    if value.is_none() {
        print_past_the_harness(&format!("SKIPPED: {name} is not set"));
    }
    value
}

/// As [`variable`], for the path of a server's program.
pub fn program(name: &str) -> Option<PathBuf> {
    variable(name).map(PathBuf::from)
}

/// Says that a test is skipped, and why.
///
/// # Panics
/// In CI, where no test may be left out.
pub fn skip(why: &str) {
    assert!(env::var_os("CI").is_none(), "{why}: in CI no test may be skipped");
    print_past_the_harness(&format!("SKIPPED: {why}"));
}

/// Prints what a test has measured.
pub fn report(measured: &str) {
    print_past_the_harness(&format!("measured: {measured}"));
}

/// Not by `eprintln!`: the test harness shows what that prints of failed tests only.
fn print_past_the_harness(line: &str) {
    let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
}
