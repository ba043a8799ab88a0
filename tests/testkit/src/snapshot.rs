//! Files that tests compare with what is so. With `UPDATE_SNAPSHOTS=1` they are written instead.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn workspace(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

/// Compares a text with a file, whose path is relative to the workspace; shows the first line that differs.
pub fn compare(path: &str, text: &str) {
    let file = workspace(path);
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some_and(|value| value == "1") {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, text).unwrap();
        return;
    }
    let kept = fs::read_to_string(&file).unwrap_or_default();
    if kept == text {
        return;
    }
    let line = kept.lines().zip(text.lines()).take_while(|(kept, new)| kept == new).count();
    panic!(
        "{path} is out of date from line {} on: UPDATE_SNAPSHOTS=1 rewrites it\nkept: {:?}\nnow:  {:?}",
        line + 1,
        kept.lines().nth(line),
        text.lines().nth(line)
    );
}

/// Where the worker's part of docs/configuration.md begins; what stands before it is the api's.
const WORKER: &str = "\n## multivac-worker\n";

/// Compares a program's part of docs/configuration.md with what its `--help` says, subcommands included.
pub fn compare_help(program: &str, command: impl Fn() -> Command) {
    let path = "docs/configuration.md";
    let page = fs::read_to_string(workspace(path)).unwrap_or_default();
    let (api, worker) = page.split_at(page.find(WORKER).unwrap_or(page.len()));
    let help = |words: &[String]| -> String {
        let output = command().args(words).arg("--help").output().unwrap();
        assert!(output.status.success(), "{words:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let mut part = format!("\n## {program}\n");
    write_help(program, &help, &[], &mut part);
    // Trailing spaces are of no use in a file.
    let part: String = part.lines().map(|line| format!("{}\n", line.trim_end())).collect();
    match program {
        "multivac-worker" => compare(path, &format!("{api}{part}")),
        _ => compare(path, &format!("{CONFIGURATION}{part}{worker}")),
    }
}

/// The help of a command and of its subcommands. Of theirs, without the options that the program itself has.
fn write_help(program: &str, help: &impl Fn(&[String]) -> String, words: &[String], part: &mut String) {
    let text = help(words);
    if words.is_empty() {
        part.push_str(&format!("\n```text\n{text}```\n"));
    } else {
        let (head, options) = text.split_once("Options:\n").unwrap();
        let own: Vec<&str> =
            blocks(options).into_iter().filter(|block| !is_shared(block, &help(&[]))).map(str::trim_end).collect();
        let own = if own.is_empty() { String::new() } else { format!("Options:\n{}", own.join("\n\n")) };
        let text = format!("{head}{own}").trim_end().to_owned();
        part.push_str(&format!("\n### {program} {}\n\n```text\n{text}\n```\n", words.join(" ")));
    }
    let commands = text.split_once("Commands:\n").map_or("", |(_, rest)| rest.split("\n\n").next().unwrap());
    for line in commands.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   ")) {
        let name = line.split_whitespace().next().unwrap();
        if name != "help" {
            write_help(program, help, &[words, &[name.to_owned()]].concat(), part);
        }
    }
}

/// The options of a help text, each with what is said about it.
fn blocks(options: &str) -> Vec<&str> {
    let starts: Vec<usize> = std::iter::once(0)
        .chain(options.match_indices("\n\n      -").chain(options.match_indices("\n\n  -")).map(|(at, _)| at + 2))
        .collect();
    let mut starts: Vec<usize> = starts.into_iter().chain([options.len()]).collect();
    starts.sort_unstable();
    starts.windows(2).map(|ends| &options[ends[0]..ends[1]]).collect()
}

fn is_shared(block: &str, program: &str) -> bool {
    block.lines().next().is_some_and(|flag| program.lines().any(|line| line == flag))
}

/// What stands above the help texts in docs/configuration.md.
const CONFIGURATION: &str = "\
# Settings

Every setting of both programs, as `--help` explains it: this page is written from it. Two tests compare them, and
`UPDATE_SNAPSHOTS=1 cargo test -p multivac-api -p multivac-worker configuration` writes the page again.

Every flag has an environment variable; the flag wins. Sizes take `KiB`, `MiB` or `GiB`, times `ms`, `s` or `min`. Subcommands take the shared options of their program as well, which are not repeated below.
`RUST_LOG` chooses what is logged, and the standard variables of OpenTelemetry (`OTEL_EXPORTER_OTLP_ENDPOINT` and so on)
where traces go.
";
