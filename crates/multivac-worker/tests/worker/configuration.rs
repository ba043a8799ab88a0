//! docs/configuration.md says what `--help` says.

use clap::CommandFactory;
use multivac_testkit::process::isolated_command;
use multivac_testkit::{settings, snapshot};
use multivac_worker::config::Config;

use crate::test_worker::PROGRAM;

#[test]
fn the_page_on_configuration_is_what_the_help_says() {
    snapshot::compare_help("multivac-worker", || isolated_command(&[PROGRAM]));
}

/// Every variable that the program reads, of its commands as well.
fn variables(command: &clap::Command) -> Vec<String> {
    let own = command.get_arguments().filter_map(clap::Arg::get_env).map(|name| name.to_str().unwrap().to_owned());
    own.chain(command.get_subcommands().flat_map(variables)).collect()
}

#[test]
fn an_empty_variable_is_an_unset_one_whatever_the_setting() {
    let variables = variables(&Config::command());
    assert!(variables.len() > 10, "{variables:?}");
    // It ends since no server is named, after all settings were read.
    settings::assert_empty_is_unset(PROGRAM, &[], &variables);
}
