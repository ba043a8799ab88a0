//! docs/operations.md names tests for each kind of failure; they exist.

use std::fs;
use std::path::Path;

/// All Rust code under a directory.
fn code(directory: &Path, text: &mut String) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            code(&path, text);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&fs::read_to_string(path).unwrap());
        }
    }
}

#[test]
fn each_failure_names_tests_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let page = fs::read_to_string(root.join("docs/operations.md")).unwrap();
    let (_, table) = page.split_once("| what fails |").unwrap();
    let rows: Vec<&str> = table.lines().skip(2).take_while(|line| line.starts_with('|')).collect();
    assert!(rows.len() >= 8, "each row of the design, at least: {rows:?}");
    let mut all = String::new();
    code(&root.join("crates"), &mut all);
    for row in rows {
        let tests = row.trim_end_matches('|').rsplit('|').next().unwrap();
        let names: Vec<&str> =
            tests.split('`').skip(1).step_by(2).map(|name| name.rsplit(':').next().unwrap()).collect();
        assert!(!names.is_empty(), "no test: {row}");
        for name in names {
            assert!(all.contains(&format!("fn {name}(")), "there is no test {name}: {row}");
        }
    }
}
