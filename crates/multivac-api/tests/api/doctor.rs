//! `multivac-api doctor`, embedded: of a directory that is well it finds nothing, whether the server runs or not, and of each sick
//! one exactly what it lacks. What it says of servers is tried with the worker's.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use multivac_core::adapters::Backends;
use multivac_core::queue::QueueSettings;
use multivac_testkit::disk::SmallDisk;
use multivac_testkit::doctor::{self, Diagnosis};
use multivac_testkit::port::free_port;
use multivac_testkit::sample::submission;
use multivac_testkit::wait::until;
use multivac_testkit::{backends::SharedServers, snapshot};
use reqwest::Client;

use crate::program::{Program, program};

/// What it says of a data directory.
fn examine(data: &Path, more: &[&str]) -> Diagnosis {
    examine_with(data, more, &mut |_| ())
}

/// The same, with a change of the command.
fn examine_with(data: &Path, more: &[&str], change: &mut dyn FnMut(&mut Command)) -> Diagnosis {
    let own = ["doctor", "--json", "--data-dir", data.to_str().unwrap()];
    // Settings of the server alone come before the command.
    let mut command = program(&[more, &own[..]].concat());
    command.env("MULTIVAC_LISTEN", "127.0.0.1:0");
    // The directories of other tests that were killed are not this one's.
    let temporary = tempfile::tempdir().unwrap();
    command.env("TMPDIR", temporary.path());
    change(&mut command);
    doctor::of(&mut command)
}

/// A data directory that holds some unfinished jobs.
async fn filled(data: &Path) {
    let backends = Backends::embedded(data, QueueSettings::default()).unwrap();
    let submissions: Vec<_> =
        (0..200).map(|n| submission(&format!("Star number {n} went out. {}", "x".repeat(500)))).collect();
    backends.queue.accept(&submissions).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_healthy_directory_every_check_is_ok_whether_the_server_runs_or_not() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let new = examine(&data, &[]);
    assert_eq!(new.ill(), [""; 0], "{}", new.shown());
    assert!(!data.exists(), "a command makes nothing");
    filled(&data).await;
    let stopped = examine(&data, &[]);
    assert!(stopped.ill().is_empty() && stopped.with_status("skipped").is_empty(), "{}", stopped.shown());
    assert!(stopped.found("ledger").contains("queued 200"), "{}", stopped.found("ledger"));
    let checks: Vec<&str> = stopped.findings.iter().map(|finding| finding["check"].as_str().unwrap()).collect();
    snapshot::compare("crates/multivac-api/tests/api/snapshots/doctor.txt", &format!("{}\n", checks.join("\n")));

    let running = Program::start(&["--data-dir", data.to_str().unwrap()]);
    running.until(&Client::new(), "/multivac/stats", |stats| stats["learned"] == 200).await;
    let address = running.base.strip_prefix("http://").unwrap();
    let beside = examine(&data, &["--listen", address]);
    assert!(beside.ill().is_empty() && beside.with_status("skipped").is_empty(), "{}", beside.shown());
    assert!(beside.found("embedded.directory").ends_with(&format!("in use by process {}", running.process.id())));
    assert!(beside.found("ledger").contains("learned 200"), "{}", beside.found("ledger"));
    assert_eq!(beside.found("listen"), format!("{address} answers /healthz"));
    // It goes on as before.
    let fed = Client::new().post(format!("{}/multivac/data", running.base)).form(&[("data", "One more.")]).send().await;
    assert_eq!(fed.unwrap().status(), 200);
    running.until(&Client::new(), "/multivac/stats", |stats| stats["learned"] == 201).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_data_directory_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    filled(&data).await;
    let file = data.join("multivac.db");
    let mode = |mode| std::fs::set_permissions(&data, std::fs::Permissions::from_mode(mode)).unwrap();
    mode(0o755);
    examine(&data, &[]).assert_only("warning embedded.directory", "mode 755");
    mode(0o700);
    std::fs::write(data.join("multivac.db-new"), "").unwrap();
    examine(&data, &[]).assert_only("warning embedded.leftovers", "multivac.db-new");
    std::fs::remove_file(data.join("multivac.db-new")).unwrap();

    let whole = std::fs::read(&file).unwrap();
    // A page in the middle, as a failing disk leaves it.
    let mut damaged = whole.clone();
    let middle = whole.len() / 2 / 4096 * 4096;
    damaged[middle..middle + 4096].fill(0xA5);
    std::fs::write(&file, &damaged).unwrap();
    examine(&data, &[]).assert_only("error embedded.file", "damaged");
    std::fs::write(&file, "This is another's.").unwrap();
    examine(&data, &[]).assert_only("error embedded.file", "not a database");
    std::fs::write(&file, &whole).unwrap();
    let newer = rusqlite::Connection::open(&file).unwrap();
    newer.pragma_update(None, "user_version", 99).unwrap();
    drop(newer);
    examine(&data, &[]).assert_only("error embedded.file", "written by a newer MultiVAC");
    for log in ["multivac.db-shm", "multivac.db-wal"] {
        std::fs::write(data.join(log), "").unwrap();
    }
    std::fs::remove_file(&file).unwrap();
    examine(&data, &[]).assert_only("error embedded.file", "the log that belongs to it is there");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_without_room_is_named() {
    let Some(disk) = SmallDisk::mount(8) else { return };
    let data = disk.path().join("data");
    filled(&data).await;
    // Its writer is a thread, which closes the file in its own time.
    until("the file to be closed", async || !data.join("multivac.db-wal").exists()).await;
    disk.fill();
    examine(&data, &[]).assert_only("error embedded.disk", "0 B of 8");
    let directory = tempfile::tempdir().unwrap();
    let index = examine_with(&directory.path().join("data"), &[], &mut |command| {
        command.env("TMPDIR", disk.path());
    });
    assert!(index.ill().contains(&"error index.disk".to_owned()), "{}", index.shown());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_on_this_machine_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    // Nobody accepts its connections, so it answers nothing.
    examine(&data, &["--listen", &address]).assert_only("error listen", "does not answer /healthz");
    examine(&data, &["--listen", "192.0.2.1:5000"]).assert_only("error listen", "cannot be listened at");
    let invalid = examine(&data, &["--max-queued-bytes", "1KiB"]);
    invalid.assert_only("error settings", "--max-queued-bytes");
    let collector = |endpoint: String| {
        examine_with(&data, &[], &mut |command| {
            command.env("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint);
        })
    };
    assert_eq!(collector(format!("http://{address}")).ill(), [""; 0]);
    let closed = format!("http://one:geheim@127.0.0.1:{}", free_port());
    collector(closed).assert_only("warning collector", "refused");
    collector("geheim".to_owned()).assert_only("warning collector", "no URL");

    // An index that a killed process has left.
    let temporary = tempfile::tempdir().unwrap();
    let running = Program::spawn(
        program(&["--listen", "127.0.0.1:0", "--log-format", "text", "--data-dir", data.to_str().unwrap()])
            .env("TMPDIR", temporary.path()),
    );
    running.until(&Client::new(), "/readyz", |ready| ready["ready"] == true).await;
    let here = |data: &Path| {
        examine_with(data, &[], &mut |command| {
            command.env("TMPDIR", temporary.path());
        })
    };
    let beside = here(&data);
    assert_eq!(beside.ill(), [""; 0], "{}", beside.shown());
    running.kill();
    here(&data).assert_only("warning index.directory", "multivac-index-");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_examines_the_servers_and_what_a_full_queue_needs_of_them() {
    let Some(servers) = SharedServers::find() else { return };
    let flags = servers.flags();
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let api = Program::start(&flags);
    api.until(&Client::new(), "/readyz", |ready| ready["ready"] == true).await;
    let well = examine(&data, &flags);
    assert_eq!(well.ill(), [""; 0], "{}", well.shown());
    assert_eq!(well.found("mongodb.replicas"), "1 follow the store");
    assert!(well.took < Duration::from_secs(15));
    let durable = examine(&data, &[&flags[..], &["--durability", "fsync"]].concat());
    let ill = durable.ill();
    // Debian's Redis is older than 7.2 or not, as the installed one is.
    assert!(
        ill.iter()
            .all(|ill| ["error redis.version", "error redis.rights", "warning redis.persistence"]
                .contains(&ill.as_str()))
    );
    assert!(!ill.is_empty(), "everysec at least is not what is asked");
    drop(api);
    servers.clean_up().await;
}
