//! `multivac-api dead`: the dead letters of the embedded system, while it is stopped; those of Redis at any time.

use std::path::Path;
use std::process::Output;
use std::time::Duration;

use clap::Parser;
use multivac_api::config::Config;
use multivac_core::adapters::{Backends, Prepared};
use multivac_core::datum::DatumId;
use multivac_core::queue::{Failure, Ledger, QueueSettings};
use multivac_core::store::StoreEntry;
use multivac_testkit::backends::SharedServers;
use multivac_testkit::sample::submission;
use reqwest::Client;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::program::{Program, program};

fn dead(words: &[&str], flags: &[&str]) -> Output {
    program(&[&["dead"], words, flags].concat()).output().unwrap()
}

/// The output of a command that succeeds.
fn done(words: &[&str], flags: &[&str]) -> String {
    let output = dead(words, flags);
    assert!(output.status.success() && output.stderr.is_empty(), "{words:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The message of a command that ends with status 1.
fn refused(words: &[&str], flags: &[&str]) -> String {
    let output = dead(words, flags);
    assert!(output.status.code() == Some(1) && output.stdout.is_empty(), "{words:?}: {output:?}");
    String::from_utf8(output.stderr).unwrap()
}

/// Opens a data directory, as the program does.
fn open(data: &Path) -> Backends {
    Backends::embedded(data, QueueSettings { max_attempts: 1, ..QueueSettings::default() }).unwrap()
}

/// Makes each text a dead letter, in their order.
async fn dead_letter_each(backends: &Backends, texts: &[&str]) -> Vec<DatumId> {
    let mut ids = Vec::new();
    for text in texts {
        let submission = submission(text);
        backends.queue.accept(std::slice::from_ref(&submission)).await.unwrap();
        let lease = backends.queue.lease(1, Duration::from_secs(10)).await.unwrap().remove(0);
        let failed = backends.queue.fail(&lease, "no good\nat all", Duration::ZERO).await.unwrap();
        assert_eq!((lease.job.id, failed), (submission.job.id, Failure::Dead));
        ids.push(submission.job.id);
    }
    ids
}

#[tokio::test]
async fn embedded_dead_letters_are_listed_shown_retried_and_dropped_while_it_is_stopped() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let flags = ["--data-dir", data.to_str().unwrap()];
    let message = refused(&["list"], &flags);
    assert!(message.contains("multivac.db does not exist") && message.contains("--data-dir"), "{message}");
    assert!(!data.exists(), "a command makes nothing");

    let odd = " \r\n\0 🌌 Ωμέγα \n";
    let texts = ["Penguins eat krill.", odd, "Owls eat voles.", "Cats eat mice."];
    let backends = open(&data);
    let ids = dead_letter_each(&backends, &texts).await;
    drop(backends);
    let names: Vec<String> = ids.iter().map(ToString::to_string).collect();

    let listed = done(&["list"], &flags);
    let lines: Vec<&str> = listed.lines().collect();
    assert!(lines.len() == 4 && lines[0].starts_with(&names[0]) && lines[0].ends_with("19 bytes  no good"), "{listed}");
    assert_eq!(done(&["list", "--max", "3", "--json"], &flags).lines().count(), 3);
    assert_eq!(done(&["show", &names[1], "--text"], &flags), odd);
    let shown: Value = serde_json::from_str(&done(&["show", &names[1], "--json"], &flags)).unwrap();
    assert_eq!((&shown["data"], &shown["error"]), (&odd.into(), &"no good\nat all".into()));
    assert_eq!(done(&["drop", &names[1]], &flags), format!("dropped {}\n", names[1]));
    assert_eq!(done(&["retry", &names[0]], &flags), format!("retried {}\n", names[0]));
    assert!(refused(&["show", &names[0]], &flags).contains(&format!("no dead letter has the id {}", names[0])));
    assert_eq!(
        done(&["retry", "--all"], &flags),
        format!("retried {}\nretried {}\nretried 2 in all\n", names[2], names[3])
    );
    assert_eq!(done(&["list"], &flags), "there are no dead letters\n");

    let backends = open(&data);
    let ledger = Ledger { accepted: 4, queued: 3, retracted: 1, ..Ledger::default() };
    assert_eq!(backends.queue.ledger().await.unwrap(), ledger);
    assert!(matches!(backends.store.get(ids[1]).await.unwrap(), Some(StoreEntry::Tombstone { .. })));
    drop(backends);
    // What was retried is learned by the program. While it runs, the directory is its own.
    let running = Program::start(&flags);
    running.until(&Client::new(), "/multivac/stats", |stats| stats["learned"] == 3 && stats["queued"] == 0).await;
    for words in [&["list"][..], &["show", &names[0]], &["retry", "--all"], &["drop", "--all"]] {
        let message = refused(words, &flags);
        let holder = format!("is in use by process {}; stop that one", running.process.id());
        assert!(message.contains(&holder), "{message}");
    }
}

#[tokio::test]
async fn the_same_command_is_for_the_dead_letters_of_redis() {
    let Some(servers) = SharedServers::find() else { return };
    let flags: Vec<String> = servers.flags().into_iter().chain(["--max-attempts".to_owned(), "1".to_owned()]).collect();
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let args = Config::parse_from([&["multivac-api"], &flags[..]].concat()).backends;
    let backends = Backends::servers(args.server_urls().unwrap().unwrap(), &args, args.queue_settings()).await.unwrap();
    assert_eq!(backends.prepare(&CancellationToken::new()).await.unwrap(), Prepared::Ready);
    let ids = dead_letter_each(&backends, &["Penguins eat krill."]).await;
    assert!(done(&["list"], &flags).starts_with(&ids[0].to_string()));
    assert_eq!(done(&["drop", "--all"], &flags), format!("dropped {}\ndropped 1 in all\n", ids[0]));
    servers.clean_up().await;
}
