//! What holds for every setting of a program.

use std::process::Command;

use crate::process::isolated_command;

/// Starts a program with one variable after the other set to nothing, and fails where that changes what it says. `flags` have it
/// read its settings and end.
pub fn assert_empty_is_unset(program: &str, flags: &[&str], variables: &[String]) {
    let said = |command: &mut Command| {
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let command = || isolated_command(&[&[program], flags].concat());
    let unset = said(&mut command());
    for variable in variables {
        assert_eq!(said(command().env(variable, "")), unset, "{variable} is empty");
    }
    assert_eq!(said(command().envs(variables.iter().map(|variable| (variable, "")))), unset, "all are empty");
}
