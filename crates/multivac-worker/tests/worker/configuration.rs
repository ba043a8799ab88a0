//! docs/configuration.md says what `--help` says.

use multivac_testkit::process::isolated_command;
use multivac_testkit::snapshot;

use crate::test_worker::PROGRAM;

#[test]
fn the_page_on_configuration_is_what_the_help_says() {
    snapshot::compare_help("multivac-worker", || isolated_command(&[PROGRAM]));
}
