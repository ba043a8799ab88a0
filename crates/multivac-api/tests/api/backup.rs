//! `multivac-api export`, `import` and `drill`, between both kinds of backends.

use std::fs;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use clap::Parser;
use multivac_api::config::Config;
use multivac_core::adapters::{Backends, Prepared};
use multivac_core::datum::{DatumId, Timestamp};
use multivac_core::process::process;
use multivac_core::queue::{Failure, Ledger, QueueSettings};
use multivac_core::store::{Put, Store, StoreCounts, StoreEntry, StoredDatum};
use multivac_testkit::backends::SharedServers;
use multivac_testkit::disk::SmallDisk;
use multivac_testkit::hang::HangingServers;
use multivac_testkit::process::Process;
use multivac_testkit::sample::{job, submission};
use reqwest::Client;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::program::{Program, program};

/// Runs the program; all that it says.
fn run(words: &[&str], flags: &[&str]) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } = program(&[words, flags].concat()).output().unwrap();
    assert!(stdout.is_empty(), "{words:?}");
    (status.code(), String::from_utf8(stderr).unwrap())
}

fn done(words: &[&str], flags: &[&str]) -> String {
    let (code, said) = run(words, flags);
    assert_eq!(code, Some(0), "{words:?}: {said}");
    said
}

fn refused(words: &[&str], flags: &[&str]) -> String {
    let (code, said) = run(words, flags);
    assert_eq!(code, Some(1), "{words:?}: {said}");
    assert!(!said.contains("panicked"), "{said}");
    said
}

/// The checksum that is told.
fn checksum(said: &str) -> String {
    said.split_once("sha256 ").unwrap_or_else(|| panic!("{said}")).1[..64].to_owned()
}

fn learned(text: &str) -> StoredDatum {
    process(&job(text), Timestamp::now())
}

fn embedded(data: &Path) -> Backends {
    Backends::embedded(data, QueueSettings { max_attempts: 1, ..QueueSettings::default() }).unwrap()
}

async fn servers(flags: &[String]) -> Backends {
    let line = std::iter::once("multivac-api").chain(flags.iter().map(String::as_str));
    let args = Config::parse_from(line).backends;
    let settings = QueueSettings { max_attempts: 1, ..args.queue_settings() };
    let backends = Backends::servers(args.server_urls().unwrap().unwrap(), &args, settings).await.unwrap();
    assert_eq!(backends.prepare(&CancellationToken::new()).await.unwrap(), Prepared::Ready);
    backends
}

/// So many data of about 2 KiB, of which each hundredth is retracted, and one of the original application.
async fn fill(store: &dyn Store, count: usize) {
    let filler = "Light was on its way from there for long. ".repeat(45);
    let mut data: Vec<StoredDatum> =
        (0..count).map(|n| learned(&format!("Star number {n} went out in the year {n}. {filler}"))).collect();
    data.push(StoredDatum { id: DatumId::Original([7; 12]), ..learned("Penguins eat krill.") });
    for batch in data.chunks(1_000) {
        assert_eq!(store.put(batch).await.unwrap(), vec![Put::Stored; batch.len()]);
    }
    for datum in data.iter().step_by(100) {
        store.retract(datum.id).await.unwrap();
    }
}

/// A backup of a new embedded system that holds so many data.
async fn backup_of(directory: &Path, count: usize) -> (String, String) {
    let data = directory.join("source");
    let backends = embedded(&data);
    fill(&*backends.store, count).await;
    drop(backends);
    let file = directory.join("backup.ndjson.gz").to_str().unwrap().to_owned();
    let said = done(&["export", &file], &["--data-dir", data.to_str().unwrap()]);
    (file, checksum(&said))
}

/// Exports once more and compares.
fn assert_same(directory: &Path, flags: &[&str], expected: &str) {
    let file = directory.join(DatumId::generate().to_string());
    let said = done(&["export", file.to_str().unwrap()], flags);
    assert_eq!(checksum(&said), expected, "{said}");
}

async fn assert_ledger(backends: &Backends, learned: u64, retracted: u64) {
    let ledger = Ledger { accepted: learned + retracted, learned, retracted, ..Ledger::default() };
    assert_eq!(backends.queue.ledger().await.unwrap(), ledger);
    assert_eq!(backends.store.counts().await.unwrap(), StoreCounts { learned, retracted });
}

#[tokio::test(flavor = "multi_thread")]
async fn from_a_laptop_to_a_cluster_and_back_everything_is_the_same() {
    let Some(shared) = SharedServers::find() else { return };
    let directory = tempfile::tempdir().unwrap();
    let (file, sum) = backup_of(directory.path(), 2_499).await;
    let cluster = shared.flags();
    let cluster_flags: Vec<&str> = cluster.iter().map(String::as_str).collect();
    // It answers from what is imported beside it.
    let replica = Program::start(&cluster_flags);
    let client = Client::new();
    replica.until(&client, "/readyz", |ready| ready["ready"] == true).await;
    let said = done(&["import", &file], &cluster_flags);
    assert!(said.contains("imported 2475 data and 25 tombstones; 0 of the data stay retracted"), "{said}");
    assert!(said.contains("the store holds 2475 data and 25 tombstones"), "{said}");
    assert!(said.contains("the ledger agrees"), "{said}");
    let shown = replica.until(&client, "/multivac/stats", |stats| stats["learned"] == 2475).await;
    assert_eq!((&shown["accepted"], &shown["retracted"]), (&2500.into(), &25.into()));
    let question = [("question", "What do penguins eat?")];
    let ask = client.get(format!("{}/multivac", replica.base)).query(&question).header("Accept", "application/json");
    assert_eq!(ask.send().await.unwrap().json::<Value>().await.unwrap()["answer"], "Penguins eat krill.");
    drop(replica);
    let backends = servers(&cluster).await;
    assert_ledger(&backends, 2_475, 25).await;
    assert_same(directory.path(), &cluster_flags, &sum);
    // The same again changes nothing.
    done(&["import", &file], &cluster_flags);
    assert_ledger(&backends, 2_475, 25).await;
    let back = directory.path().join("back.gz");
    done(&["export", back.to_str().unwrap()], &cluster_flags);

    let data = directory.path().join("laptop");
    let flags = ["--data-dir", data.to_str().unwrap()];
    let said = done(&["import", back.to_str().unwrap()], &flags);
    assert!(said.contains("the ledger agrees") && checksum(&said) == sum, "{said}");
    assert_same(directory.path(), &flags, &sum);
    let laptop = Program::start(&flags);
    let shown = laptop.until(&client, "/multivac/stats", |stats| stats["learned"] == 2475).await;
    assert_eq!((&shown["accepted"], &shown["retracted"]), (&2500.into(), &25.into()));
    drop(laptop);
    assert_ledger(&embedded(&data), 2_475, 25).await;
    shared.clean_up().await;
}

#[tokio::test]
async fn a_backup_is_made_beside_a_server_and_nothing_is_imported_beside_an_embedded_one() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let flags = ["--data-dir", data.to_str().unwrap()];
    assert!(refused(&["export", "x"], &flags).contains("multivac.db does not exist"));
    assert!(!data.exists(), "it makes none");
    let running = Program::start(&[&flags[..], &["--expect-backups"]].concat());
    let client = Client::new();
    let feed = client.post(format!("{}/multivac/data", running.base)).form(&[("data", "Owls eat voles.")]);
    assert!(feed.send().await.unwrap().status().is_success());
    running.until(&client, "/multivac/stats", |stats| stats["learned"] == 1).await;
    let file = directory.path().join("backup.gz");
    let file = file.to_str().unwrap();
    let said = done(&["export", file, "--wait", "5s"], &flags);
    assert!(said.starts_with("1 data and 0 tombstones in "), "{said}");
    assert!(said.contains("not in it: 0 unfinished data") && said.contains("0 dead letters"), "{said}");
    let holder = format!("is in use by process {}", running.process.id());
    assert!(refused(&["import", file], &flags).contains(&holder));
    let said = done(&["drill", file], &flags);
    assert!(said.contains("serves") && said.contains("its index finds it"), "{said}");
    // The standard output is the file.
    let output = program(&[&["export", "-"], &flags[..]].concat()).output().unwrap();
    assert!(output.status.success());
    fs::write(directory.path().join("piped.gz"), output.stdout).unwrap();
    drop(running);
    let other = directory.path().join("other");
    let other = ["--data-dir", other.to_str().unwrap()];
    let mut import = program(&[&["import", "-"], &other[..]].concat());
    let piped = fs::File::open(directory.path().join("piped.gz")).unwrap();
    let output = import.stdin(Stdio::from(piped)).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_same(directory.path(), &other, &checksum(&said));
    // What a server shows of it at its start.
    let running = Program::start(&[&flags[..], &["--expect-backups"]].concat());
    for kind in ["backup", "drill"] {
        let shown = format!("multivac_backup_completed_timestamp_seconds{{kind=\"{kind}\"}} 1");
        multivac_testkit::wait::until("the time of the last one", async || {
            let reply = client.get(format!("{}/metrics", running.base)).send().await.unwrap();
            reply.text().await.unwrap().contains(&shown)
        })
        .await;
    }
}

#[tokio::test]
async fn what_is_retracted_on_either_side_stays_so() {
    let directory = tempfile::tempdir().unwrap();
    let mut backends = vec![(embedded(&directory.path().join("target")), None)];
    if let Some(shared) = SharedServers::find() {
        backends.push((servers(&shared.flags()).await, Some(shared)));
    }
    let data: Vec<StoredDatum> = (0..4).map(|n| learned(&format!("Star {n} went out."))).collect();
    let poison = submission("poison");
    let source = directory.path().join("source");
    let of_source = embedded(&source);
    of_source.store.put(&data).await.unwrap();
    of_source.store.retract(data[0].id).await.unwrap();
    of_source.store.retract(poison.job.id).await.unwrap();
    drop(of_source);
    let file = directory.path().join("backup.gz");
    let file = file.to_str().unwrap();
    done(&["export", file], &["--data-dir", source.to_str().unwrap()]);
    for (target, shared) in backends {
        // The first is live here, the second retracted, a job of the third waits, and what is retracted there died here.
        target.queue.accept(std::slice::from_ref(&poison)).await.unwrap();
        let lease = target.queue.lease(1, Duration::from_secs(10)).await.unwrap().remove(0);
        assert_eq!(target.queue.fail(&lease, "no good", Duration::ZERO).await.unwrap(), Failure::Dead);
        let retract = async |id| {
            let before = target.store.retract(id).await.unwrap();
            target.queue.retract(id, before == multivac_core::store::Retraction::WasLive).await.unwrap();
        };
        target.store.put(&data[..1]).await.unwrap();
        retract(data[1].id).await;
        let seen = target.queue.ledger().await.unwrap();
        assert!(target.queue.reconcile(&seen, 1, 1).await.unwrap());
        let flags: Vec<String> = match &shared {
            Some(shared) => shared.flags(),
            None => vec!["--data-dir".to_owned(), directory.path().join("target").to_str().unwrap().to_owned()],
        };
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        drop(target);
        let said = done(&["import", file], &flags);
        assert!(said.contains("1 of the data stay retracted, 1 were taken back by a tombstone"), "{said}");
        assert!(said.contains("the ledger agrees"), "{said}");
        let target = match &shared {
            Some(shared) => servers(&shared.flags()).await,
            None => embedded(&directory.path().join("target")),
        };
        assert_ledger(&target, 2, 3).await;
        for id in [data[0].id, data[1].id, poison.job.id] {
            assert!(matches!(target.store.get(id).await.unwrap(), Some(StoreEntry::Tombstone { .. })), "{id}");
        }
        if let Some(shared) = shared {
            shared.clean_up().await;
        }
    }
}

#[tokio::test]
async fn a_bad_file_changes_nothing_and_says_what_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let (file, _) = backup_of(directory.path(), 300).await;
    let whole = fs::read(&file).unwrap();
    let data = directory.path().join("target");
    let flags = ["--data-dir", data.to_str().unwrap()];
    let bad = directory.path().join("bad.gz");
    let bad = bad.to_str().unwrap();
    for length in [0, 1, 9, 100, whole.len() / 2, whole.len() - 9, whole.len() - 1] {
        fs::write(bad, &whole[..length]).unwrap();
        for command in ["import", "drill"] {
            let said = refused(&[command, bad], &flags);
            assert!(said.contains("bad.gz: it is"), "{said}");
            assert!(said.contains("damaged or cut off") || said.contains("no backup"), "{length}: {said}");
        }
    }
    for at in [20, whole.len() / 3, whole.len() - 5] {
        let mut changed = whole.clone();
        changed[at] ^= 1;
        fs::write(bad, changed).unwrap();
        let said = refused(&["import", bad], &flags);
        assert!(said.contains("damaged or cut off") || said.contains("no backup"), "{at}: {said}");
    }
    let there = directory.path().to_str().unwrap();
    assert!(refused(&["import", there], &flags).contains("is a directory"));
    assert!(refused(&["import", "nowhere"], &flags).contains("nowhere: No such file"));
    assert!(refused(&["import", "--latest", there], &flags).contains("there is no backup in"));
    assert!(!data.exists(), "nothing is changed");
    let source = directory.path().join("source");
    let of_source = ["--data-dir", source.to_str().unwrap()];
    assert!(refused(&["export", &file], &of_source).contains("exists: --force replaces it"));
    assert!(refused(&["export", there], &of_source).contains("is a directory"));
    done(&["export", &file, "--force"], &of_source);
    assert!(refused(&["export", "/nowhere/backup.gz"], &of_source).contains("/nowhere/backup.gz: No such file"));
    let left: Vec<_> = fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().contains("partial")), "{left:?}");
}

#[tokio::test]
async fn a_full_disk_leaves_no_file() {
    let Some(disk) = SmallDisk::mount(1) else { return };
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let backends = embedded(&data);
    let noise = || (0..40_000).map(|_| fastrand::alphanumeric()).collect::<String>();
    let data_of_noise: Vec<StoredDatum> = (0..100).map(|_| learned(&noise())).collect();
    backends.store.put(&data_of_noise).await.unwrap();
    drop(backends);
    let file = disk.path().join("backup.gz");
    let said = refused(&["export", file.to_str().unwrap()], &["--data-dir", data.to_str().unwrap()]);
    assert!(said.contains("backup.gz: No space left"), "{said}");
    assert_eq!(fs::read_dir(disk.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_directory_keeps_the_newest_and_a_drill_takes_the_last() {
    let directory = tempfile::tempdir().unwrap();
    backup_of(directory.path(), 10).await;
    let (source, backups) = (directory.path().join("source"), directory.path().join("backups"));
    let (flags, place) = (["--data-dir", source.to_str().unwrap()], backups.to_str().unwrap());
    fs::create_dir(&backups).unwrap();
    let older = ["multivac-20200101T000000Z.ndjson.gz", "multivac-20210101T000000Z.ndjson.gz"];
    let others = ["notes.txt", "multivac-mine.ndjson.gz", "multivac-20200101T000000Z.ndjson.gz.partial-1"];
    for name in older.iter().chain(&others) {
        fs::write(backups.join(name), "").unwrap();
    }
    let said = done(&["export", "--directory", place, "--keep", "2"], &flags);
    assert!(said.contains(&format!("removed {place}/{}", older[0])), "{said}");
    let names = || {
        let mut names: Vec<String> =
            fs::read_dir(&backups).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    assert!(names().len() == 5 && names().contains(&older[1].to_owned()), "{:?}", names());
    assert!(done(&["drill", "--latest", place], &flags).contains("serves"));
    // A drill elsewhere has no place to record it.
    let elsewhere = ["--data-dir", "/nowhere"];
    assert!(done(&["drill", "--latest", place], &elsewhere).contains("not recorded"));
    fs::write(backups.join("multivac-29990101T000000Z.ndjson.gz"), "").unwrap();
    assert!(refused(&["drill", "--latest", place], &flags).contains("no backup"));
    let old = std::time::SystemTime::now() - Duration::from_secs(25 * 60 * 60);
    fs::File::options().write(true).open(backups.join(others[2])).unwrap().set_modified(old).unwrap();
    done(&["export", "--directory", place, "--keep", "9"], &flags);
    assert!(!names().contains(&others[2].to_owned()), "{:?}", names());
    // Nothing in it is a backup too.
    let empty = directory.path().join("empty");
    drop(embedded(&empty));
    let empty = ["--data-dir", empty.to_str().unwrap()];
    let file = directory.path().join("empty.gz");
    assert!(done(&["export", file.to_str().unwrap()], &empty).starts_with("0 data and 0 tombstones"));
    assert!(done(&["drill", file.to_str().unwrap()], &empty).contains("there is nothing in it"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_that_is_killed_again_and_again_ends_as_if_it_never_was() {
    let directory = tempfile::tempdir().unwrap();
    let (file, sum) = backup_of(directory.path(), 8_000).await;
    let data = directory.path().join("target");
    let mut targets = vec![vec!["--data-dir".to_owned(), data.to_str().unwrap().to_owned()]];
    let shared = SharedServers::find();
    targets.extend(shared.as_ref().map(SharedServers::flags));
    for flags in targets {
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let mut killed = 0;
        // A quarter more each time: fast machines end it within a fifth of a second, slow ones take many.
        for millis in std::iter::successors(Some(20_u64), |millis| Some(millis * 5 / 4)) {
            let mut import = program(&[&["import", &file], &flags[..]].concat());
            let mut import = Process::start(import.stdout(Stdio::null()));
            tokio::time::sleep(Duration::from_millis(millis)).await;
            if import.has_ended() {
                break;
            }
            import.kill();
            killed += 1;
        }
        assert!(killed > 2, "it was killed {killed} times");
        let said = done(&["import", &file], &flags);
        assert!(said.contains("the store holds 7920 data and 81 tombstones"), "{said}");
        assert_same(directory.path(), &flags, &sum);
    }
    assert_ledger(&embedded(&data), 7_920, 81).await;
    if let Some(shared) = shared {
        assert_ledger(&servers(&shared.flags()).await, 7_920, 81).await;
        shared.clean_up().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_servers_hang_both_ways_wait_and_go_on() {
    let Some(own) = HangingServers::start().await else { return };
    let directory = tempfile::tempdir().unwrap();
    let (file, sum) = backup_of(directory.path(), 20_000).await;
    let flags = own.flags();
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let import = Process::start(program(&[&["import", &file], &flags[..]].concat()).stdout(Stdio::null()));
    let backends = servers(&own.flags()).await;
    let some = async || backends.store.counts().await.is_ok_and(|counts| counts.learned > 2_000);
    multivac_testkit::wait::until("a part is there", some).await;
    own.pause();
    // Longer than the time of a batch, so that it fails and is put again.
    tokio::time::sleep(Duration::from_secs(12)).await;
    own.resume();
    let ended = import.ended().await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stderr.contains("the store holds 19800 data and 201 tombstones"), "{}", ended.stderr);
    let again = directory.path().join("again.gz");
    let export = program(&[&["export", again.to_str().unwrap()], &flags[..]].concat()).stdout(Stdio::null()).spawn();
    let export = export.unwrap();
    tokio::time::sleep(Duration::from_millis(400)).await;
    own.pause();
    tokio::time::sleep(Duration::from_secs(3)).await;
    own.resume();
    let ended = export.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(ended.status.success() && checksum(&said) == sum, "{said}");
}
