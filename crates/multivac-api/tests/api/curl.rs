//! The commands that README.md and the greeting recommend, with the real curl: any text arrives as it is.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use rusqlite::Connection;
use serde_json::Value;

use crate::program::program;

const README: &str = include_str!("../../../../README.md");

/// What curl and forms have a meaning for, and none of it is meant here.
const TEXTS: [&str; 4] =
    ["a&b+c;d=100%@<e", "@notes.txt", "</etc/hostname", "100 % = 1 + 0; \"two\\nlines\",\nÜber & ünter"];

/// The commands in README.md that feed a text which stands in single quotes, but for those through the edge.
fn recommended() -> Vec<&'static str> {
    let table = README.split('`');
    let lines = README.lines();
    let all = table
        .chain(lines)
        .filter(|code| code.starts_with("curl localhost:5000/multivac/data ") && code.contains("data='"));
    all.filter(|code| code.ends_with('\'')).collect()
}

/// Runs a command with another text in the place of the quoted one; the id of the datum.
fn feed(command: &str, address: &str, text: &str) -> String {
    let (start, _) = command.split_once("data='").unwrap();
    let line = format!("{start}data=\"$TEXT\"").replace("localhost:5000", address);
    let output = Command::new("sh").args(["-c", &line]).env("TEXT", text).env("NO_PROXY", "*").output().unwrap();
    let reply: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{line}: {output:?}"));
    reply["id"].as_str().unwrap_or_else(|| panic!("{line}: {reply}")).to_owned()
}

/// A datum's text, wherever it is on its way.
fn text_of(data: &Path, id: &str) -> String {
    let file = Connection::open(data.join("multivac.db")).unwrap();
    let query = "SELECT text FROM job WHERE hex(id) = ?1 UNION ALL SELECT text FROM datum WHERE hex(id) = ?1";
    file.query_row(query, [id.replace('-', "").to_uppercase()], |row| row.get(0)).unwrap()
}

#[test]
fn the_recommended_commands_feed_any_text_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().to_str().unwrap();
    let mut program = program(&["--listen", "127.0.0.1:0", "--data-dir", data, "--log-format", "text"]);
    let mut running = program.stderr(Stdio::null()).spawn().unwrap();
    let greeting: Vec<String> =
        BufReader::new(running.stdout.take().unwrap()).lines().map(Result::unwrap).take(3).collect();
    let address = greeting[0].rsplit('/').next().unwrap();
    let greeted = greeting[2].split_once("feed it:").unwrap().1.trim();
    let commands = [&[greeted], &recommended()[..]].concat();
    let failed = std::panic::catch_unwind(|| {
        // The greeting's, README's first one, and the two of its table.
        assert_eq!(commands.len(), 4, "{commands:?}");
        for command in &commands {
            for text in TEXTS {
                let id = feed(command, address, text);
                assert_eq!(text_of(directory.path(), &id), text, "{command}");
            }
        }
    });
    running.kill().unwrap();
    running.wait().unwrap();
    failed.unwrap();
}

#[test]
fn no_document_recommends_what_changes_a_text() {
    for document in
        [README, include_str!("../../../../deploy/README.md"), include_str!("../../src/assets/console/index.html")]
    {
        for line in document.lines().filter(|line| line.contains("curl ")) {
            assert!(!line.contains("-d data=") && !line.contains("-F data="), "{line}");
        }
    }
}
