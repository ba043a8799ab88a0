//! `doctor`, as a test runs it, and what it says. What holds for every run is checked with each: it ends in time and with the
//! status of the worst, says what to do, and shows no secret.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Passwords that tests put into URLs.
pub const SECRETS: [&str; 4] = ["geheim", "star@light", "star%40light", "moonlight"];

/// How long it may take, whatever hangs; and some seconds more on a busy machine.
const LIMIT: Duration = Duration::from_secs(20);

/// What it found.
pub struct Diagnosis {
    /// The elements of its array.
    pub findings: Vec<Value>,
    /// How long it took.
    pub took: Duration,
}

/// Runs `doctor` with these flags, by a function that makes a command of words.
pub fn doctor(program: impl FnOnce(&[&str]) -> Command, flags: &[&str]) -> Diagnosis {
    of(&mut program(&[&["doctor", "--json"], flags].concat()))
}

/// Runs a command that has `doctor --json` among its words.
pub fn of(command: &mut Command) -> Diagnosis {
    let begun = Instant::now();
    let output = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap();
    let took = begun.elapsed();
    let (said, errors) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(took < LIMIT, "it took {took:?}: {said}");
    assert!(errors.is_empty(), "{errors}");
    assert!(!SECRETS.iter().any(|secret| said.contains(secret)), "it shows a secret: {said}");
    let findings: Vec<Value> = serde_json::from_str(&said).unwrap();
    let mut worst = 0;
    for finding in &findings {
        let keys: Vec<&String> = finding.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["advice", "check", "found", "status"], "{finding}");
        let (status, has_advice) = match finding["status"].as_str().unwrap() {
            "ok" | "skipped" => (0, false),
            "warning" => (3, true),
            "error" => (4, true),
            other => panic!("{other}"),
        };
        assert_eq!(finding["advice"].is_string(), has_advice, "{finding}");
        worst = worst.max(status);
    }
    assert_eq!(output.status.code(), Some(worst), "{said}");
    Diagnosis { findings, took }
}

impl Diagnosis {
    /// What is not well: `error redis.keys` and the like, in their order.
    pub fn ill(&self) -> Vec<String> {
        let words =
            |finding: &Value| [&finding["status"], &finding["check"]].map(|word| word.as_str().unwrap().to_owned());
        let all = self.findings.iter().map(|finding| words(finding).join(" "));
        all.filter(|words| words.starts_with("warning") || words.starts_with("error")).collect()
    }

    /// What a check has found.
    pub fn found(&self, check: &str) -> String {
        let finding = self.findings.iter().find(|finding| finding["check"] == check);
        finding.unwrap_or_else(|| panic!("no {check}"))["found"].as_str().unwrap().to_owned()
    }

    /// The checks that came out so, such as `skipped`.
    pub fn with_status(&self, status: &str) -> Vec<&str> {
        let of = self.findings.iter().filter(|finding| finding["status"] == status);
        of.map(|finding| finding["check"].as_str().unwrap()).collect()
    }

    /// All of it but what is ok, for messages.
    pub fn shown(&self) -> String {
        let shown = self.findings.iter().filter(|finding| finding["status"] != "ok").map(ToString::to_string);
        shown.collect::<Vec<_>>().join("\n")
    }

    /// Fails unless exactly this one is not well, and its finding holds some words.
    pub fn assert_only(&self, ill: &str, words: &str) {
        assert_eq!(self.ill(), [ill], "{}", self.shown());
        let found = self.found(ill.split_once(' ').unwrap().1);
        assert!(found.contains(words), "{ill}: {found}");
    }
}
