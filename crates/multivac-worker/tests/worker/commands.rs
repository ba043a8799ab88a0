//! The operator's commands, as an operator gives them.

use std::process::{Output, Stdio};
use std::time::Duration;

use multivac_core::datum::DatumId;
use multivac_core::queue::{Failure, Ledger};
use multivac_core::store::StoreEntry;
use multivac_testkit::sample::submission;
use serde_json::Value;

use crate::test_worker::{Servers, program};

impl Servers {
    /// Runs a command to its end.
    fn command(&self, words: &[&str]) -> Output {
        let flags: Vec<&str> = words.iter().copied().chain(self.flags.iter().map(String::as_str)).collect();
        program(&flags).stdout(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap()
    }

    /// The output of a command that succeeds.
    fn done(&self, words: &[&str]) -> String {
        let output = self.command(words);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success() && stderr.is_empty(), "{words:?}: {stderr}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The message of a command that ends with status 1.
    fn refused(&self, words: &[&str]) -> String {
        let output = self.command(words);
        assert_eq!(output.status.code(), Some(1), "{words:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    /// Makes each text a dead letter, in their order.
    async fn dead_letter_each(&self, texts: &[&str]) -> Vec<DatumId> {
        let mut ids = Vec::new();
        for text in texts {
            let submission = submission(text);
            self.backends.queue.accept(std::slice::from_ref(&submission)).await.unwrap();
            let lease = self.backends.queue.lease(1, Duration::from_secs(10)).await.unwrap().remove(0);
            let failed = self.backends.queue.fail(&lease, "no good\nat all", Duration::ZERO).await.unwrap();
            assert_eq!((lease.job.id, failed), (submission.job.id, Failure::Dead));
            ids.push(submission.job.id);
        }
        ids
    }

    async fn ledger(&self) -> Ledger {
        self.until(|_| true).await
    }
}

#[tokio::test]
async fn dead_letters_are_listed_shown_retried_and_dropped() {
    let Some(servers) = Servers::find(&["--max-attempts", "1"]).await else { return };
    assert_eq!(servers.done(&["dead", "list"]), "there are no dead letters\n");
    assert_eq!(servers.done(&["dead", "list", "--json"]), "");
    let odd = " \r\n\0 🌌 Ωμέγα \n";
    let ids = servers.dead_letter_each(&["The first star went out.", odd, "The third star went out."]).await;
    let [first, second, third] = ["0", "1", "2"].map(|n| ids[n.parse::<usize>().unwrap()].to_string());

    let listed = servers.done(&["dead", "list"]);
    let lines: Vec<&str> = listed.lines().collect();
    assert_eq!(lines.len(), 3, "{listed}");
    assert!(lines[0].starts_with(&first) && lines[0].ends_with("1 attempts  24 bytes  no good"), "{listed}");
    assert_eq!(servers.done(&["dead", "list", "--max", "2"]).lines().count(), 2);
    let listed = servers.done(&["dead", "list", "--json"]);
    let listed: Vec<Value> = listed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&listed[2]["id"], &listed[2]["error"]), (&third.as_str().into(), &"no good\nat all".into()));

    assert_eq!(servers.done(&["dead", "show", &second, "--text"]), odd);
    assert!(servers.done(&["dead", "show", &first]).ends_with("24 bytes\n\nThe first star went out.\n"));
    let shown: Value = serde_json::from_str(&servers.done(&["dead", "show", &second, "--json"])).unwrap();
    assert_eq!((&shown["data"], &shown["attempts"]), (&odd.into(), &1.into()));

    assert_eq!(servers.done(&["dead", "retry", &first]), format!("retried {first}\n"));
    assert_eq!(servers.ledger().await, Ledger { accepted: 3, queued: 1, dead: 2, ..Ledger::default() });
    assert_eq!(servers.done(&["dead", "drop", &second]), format!("dropped {second}\n"));
    assert_eq!(servers.ledger().await, Ledger { accepted: 3, queued: 1, dead: 1, retracted: 1, ..Ledger::default() });
    assert!(matches!(servers.backends.store.get(ids[1]).await.unwrap(), Some(StoreEntry::Tombstone { .. })));

    // Neither is dead any more.
    let unknown = DatumId::generate().to_string();
    for act in ["show", "retry", "drop"] {
        for id in [&first, &second, &unknown] {
            assert!(servers.refused(&["dead", act, id]).contains(&format!("no dead letter has the id {id}")));
        }
    }
    let message = servers.refused(&["dead", "retry", &unknown, &third]);
    assert!(message.contains(&unknown) && !message.contains(&third), "{message}");
    assert_eq!(servers.ledger().await, Ledger { accepted: 3, queued: 2, retracted: 1, ..Ledger::default() });

    let worker = servers.worker();
    let end = servers.until(Ledger::is_quiet).await;
    assert_eq!(end, Ledger { accepted: 3, learned: 2, retracted: 1, ..Ledger::default() });
    drop(worker);
    servers.clean_up().await;
}

#[tokio::test]
async fn all_dead_letters_are_retried_or_dropped_at_once() {
    let Some(servers) = Servers::find(&["--max-attempts", "1"]).await else { return };
    let texts: Vec<String> = (0..45).map(|n| format!("Star number {n} went out.")).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    servers.dead_letter_each(&texts).await;
    assert_eq!(servers.done(&["dead", "list"]).lines().count(), 45);
    assert!(servers.done(&["dead", "retry", "--all"]).ends_with("retried 45 in all\n"));
    assert_eq!(servers.ledger().await, Ledger { accepted: 45, queued: 45, ..Ledger::default() });
    let leases = servers.backends.queue.lease(45, Duration::from_secs(10)).await.unwrap();
    for lease in &leases {
        servers.backends.queue.fail(lease, "again", Duration::ZERO).await.unwrap();
    }
    let dropped = servers.done(&["dead", "drop", "--all", "--json"]);
    assert_eq!(dropped.lines().count(), leases.len());
    assert!(dropped.lines().all(|line| serde_json::from_str::<Value>(line).unwrap()["dropped"].is_string()));
    assert_eq!(servers.ledger().await, Ledger { accepted: 45, retracted: 45, ..Ledger::default() });
    servers.clean_up().await;
}

#[tokio::test]
async fn the_status_is_the_ledger() {
    let Some(servers) = Servers::find(&[]).await else { return };
    servers.accept(12).await;
    let status = servers.done(&["status"]);
    assert!(status.lines().any(|line| line.split_whitespace().eq(["queued", "12"])), "{status}");
    let status: Value = serde_json::from_str(&servers.done(&["status", "--json"])).unwrap();
    assert_eq!((&status["ledger"]["accepted"], &status["balances"]), (&12.into(), &true.into()));
    let partition = &status["partitions"][0];
    assert_eq!((&partition["queued"], &partition["processing"]), (&12.into(), &0.into()));
    assert!(partition["size_bytes"].as_u64().unwrap() > 12 * 50 && partition["oldest_received_at"].is_string());
    servers.clean_up().await;
}

#[test]
fn commands_need_the_servers_and_say_so() {
    for words in [&["status"][..], &["dead", "list"]] {
        let output = program(words).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&output.stderr).contains("REDIS_URL and MONGO_URL"));
    }
    let unreachable = ["dead", "list", "--redis-url", "redis://127.0.0.1:1", "--mongo-url", "mongodb://127.0.0.1:1"];
    let output = program(&unreachable).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("the queue is out of reach"));
}

#[test]
fn a_wrong_id_and_no_id_are_refused_with_what_was_expected() {
    for (words, expected) in
        [(&["dead", "show", "x"][..], "not the id of a datum"), (&["dead", "retry"], "IDS"), (&["dead"], "list")]
    {
        let output = program(words).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        assert!(String::from_utf8_lossy(&output.stderr).contains(expected), "{output:?}");
    }
}
