//! docs/configuration.md says what `--help` says.

use clap::CommandFactory;
use multivac_api::config::Config;
use multivac_testkit::{settings, snapshot};

use crate::program::program;

#[test]
fn the_page_on_configuration_is_what_the_help_says() {
    snapshot::compare_help("multivac-api", || program(&[]));
}

/// Every variable that the program reads, of its commands as well.
fn variables(command: &clap::Command) -> Vec<String> {
    let own = command.get_arguments().filter_map(clap::Arg::get_env).map(|name| name.to_str().unwrap().to_owned());
    own.chain(command.get_subcommands().flat_map(variables)).collect()
}

#[test]
fn an_empty_variable_is_an_unset_one_whatever_the_setting() {
    let variables = variables(&Config::command());
    assert!(variables.len() > 15, "{variables:?}");
    // It ends before it listens, and after all settings were read.
    let flags = ["--max-datum-size", "1MiB", "--max-queued-bytes", "1KiB"];
    let others: Vec<String> = variables
        .into_iter()
        .filter(|name| !["MULTIVAC_MAX_DATUM_SIZE", "MULTIVAC_MAX_QUEUED_BYTES"].contains(&&**name))
        .collect();
    settings::assert_empty_is_unset(env!("CARGO_BIN_EXE_multivac-api"), &flags, &others);
    let flags = ["--min-precision", "1"];
    let these = ["MULTIVAC_MAX_DATUM_SIZE", "MULTIVAC_MAX_QUEUED_BYTES"].map(str::to_owned);
    settings::assert_empty_is_unset(env!("CARGO_BIN_EXE_multivac-api"), &flags, &these);
    // The address that `health` asks is the default one.
    let output = program(&["health"]).env("MULTIVAC_LISTEN", "").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() || said.contains("127.0.0.1:5000"), "{said}");
}
