//! What the tests and the load programs share.
//!
//! - [`environment`]: what `scripts/test-backends.sh` gives the tests, and how a test is skipped
//! - [`backends`]: the Redis and the MongoDB that all tests share, under names of a test's own
//! - [`clock`]: a wall clock that is set forward and back
//! - [`process`]: processes that are started, signalled and killed; [`port`]: ports for them
//! - [`redis`], [`cluster`], [`mongo`], [`nginx`], [`tls`]: servers that a test starts for itself
//! - [`proxy`]: a network that fails; [`clock`], [`disk`]: clocks that are set, disks that fill up
//! - [`system`], [`load`], [`report`], [`faults`], [`take_over`]: the full system as processes, clients that put it under load and
//!   check what it holds in the end, faults by a plan, and how soon the jobs of a killed worker are done by others
//! - [`hang`]: servers that hang; [`doctor`]: what `doctor` says of them
//! - [`proxy`]: a network that fails
//! - [`system`], [`load`], [`take_over`]: the full system as processes, clients that put it under load and check what it
//!   holds in the end, and how soon the jobs of a killed worker are done by others
//! - [`http`]: HTTP/1.1 by hand; [`text`]: sentences and questions by a seed; [`sample`]: jobs and data
//! - [`settings`]: what holds for every setting of a program
//! - [`snapshot`]: files that are compared with what is so, or written again
//! - [`traces`]: receivers of spans, ours and the OpenTelemetry Collector, and what a datum's trace must be
//! - [`wait`]: waiting until something is so
//!
//! Integration tests and benches use it. Unit tests must not pass its types that hold core's to code under test: to them
//! core is another copy of the crate.
#![allow(clippy::unwrap_used)] // As in the tests: what fails here fails the test that called it.

pub mod backends;
pub mod clock;
pub mod cluster;
pub mod disk;
pub mod doctor;
pub mod environment;
pub mod faults;
pub mod hang;
pub mod http;
pub mod load;
pub mod metrics;
pub mod mongo;
pub mod nginx;
pub mod port;
pub mod process;
pub mod proxy;
pub mod redis;
pub mod report;
pub mod sample;
pub mod settings;
pub mod snapshot;
pub mod system;
pub mod take_over;
pub mod text;
pub mod tls;
pub mod traces;
pub mod wait;

use std::time::Duration;

/// How long anything may take that takes milliseconds, or a few seconds, on a machine that is not busy.
pub const TEST_TIMEOUT: Duration = Duration::from_secs(60);
