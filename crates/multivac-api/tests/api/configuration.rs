//! docs/configuration.md says what `--help` says.

use multivac_testkit::snapshot;

use crate::program::program;

#[test]
fn the_page_on_configuration_is_what_the_help_says() {
    snapshot::compare_help("multivac-api", || program(&[]));
}
