//! A Redis Cluster of three masters, each with a replica: the contract on it, and what moves and dies under load.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use deadpool_redis::redis::{FromRedisValue, cmd};
use futures_util::future::join_all;
use multivac_core::queue::{Acceptance, Durability};

use crate::backends::{Backend, redis_settings};
use crate::queue::{job, patient, submission};
use crate::redis::{Load, Own, back_in_time, durable, tell, the_contract_holds};
use crate::redis_server::{PATIENCE, Server, free_port, installed, newer};

/// How long before its master's death a job must have been accepted to be safe: by then its replica has it.
const REPLICATED_WITHIN: Duration = Duration::from_secs(1);

struct Cluster {
    /// Three masters, then the replica of each.
    nodes: Vec<Server>,
    ids: Vec<String>,
}

impl Cluster {
    async fn start(binary: Option<PathBuf>) -> Option<Self> {
        let binary = binary?;
        let mut nodes = Vec::new();
        for epoch in 1..=6 {
            let bus = free_port().to_string();
            let flags = ["--cluster-enabled", "yes", "--cluster-node-timeout", "1000", "--cluster-port", &bus];
            let node = Server::start(&binary, &flags).await;
            node.ask::<()>(cmd("CLUSTER").arg("SET-CONFIG-EPOCH").arg(epoch)).await.unwrap();
            if let Some(first) = nodes.first() {
                let first: &Server = first;
                first.ask::<()>(cmd("CLUSTER").arg("MEET").arg("127.0.0.1").arg(node.port).arg(bus)).await.unwrap();
            }
            nodes.push(node);
        }
        let mut ids = Vec::new();
        for node in &nodes {
            ids.push(node.ask(cmd("CLUSTER").arg("MYID")).await.unwrap());
        }
        let cluster = Self { nodes, ids };
        for (n, (from, to)) in [(0, 5_460), (5_461, 10_922), (10_923, 16_383)].into_iter().enumerate() {
            cluster.tell::<()>(n, &["ADDSLOTSRANGE", &from.to_string(), &to.to_string()]).await;
        }
        cluster.until("they know each other", "cluster_known_nodes:6").await;
        for n in 0..3 {
            // Refused until gossip has brought the master's name.
            let deadline = Instant::now() + PATIENCE;
            let replicate = || cmd("CLUSTER").arg("REPLICATE").arg(&cluster.ids[n]).to_owned();
            while cluster.nodes[n + 3].ask::<()>(&replicate()).await.is_err() {
                assert!(Instant::now() < deadline);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        cluster.until("all slots are served", "cluster_state:ok").await;
        for n in 3..6 {
            cluster.info(n, "master_link_status:up").await;
        }
        Some(cluster)
    }

    async fn tell<T: FromRedisValue>(&self, node: usize, words: &[&str]) -> T {
        let mut command = cmd("CLUSTER");
        command.arg(words);
        self.nodes[node].ask(&command).await.unwrap()
    }

    /// Waits until each node's CLUSTER INFO has this line.
    async fn until(&self, what: &str, line: &str) {
        for node in 0..self.nodes.len() {
            let deadline = Instant::now() + PATIENCE;
            while !self.tell::<String>(node, &["INFO"]).await.lines().any(|l| l == line) {
                assert!(Instant::now() < deadline, "node {node} does not say that {what}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }

    /// Waits until INFO replication of a node has this line.
    async fn info(&self, node: usize, line: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let info: String = self.nodes[node].ask(cmd("INFO").arg("replication")).await.unwrap();
            if info.lines().any(|l| l == line) {
                return;
            }
            assert!(Instant::now() < deadline, "node {node} does not come to {line}: {info}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until the replica of a master that was killed has its place.
    async fn takes_over(&self, dead: usize) {
        self.info(dead + 3, "role:master").await;
        // The dead one cannot be asked.
        for node in (0..6).filter(|node| *node != dead) {
            let deadline = Instant::now() + PATIENCE;
            while !self.tell::<String>(node, &["INFO"]).await.contains("cluster_state:ok") {
                assert!(Instant::now() < deadline);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }

    fn master_of(slot: u16) -> usize {
        [5_460, 10_922].iter().filter(|last| slot > **last).count()
    }

    /// Moves a slot with all its keys, as redis-cli does.
    async fn move_slot(&self, slot: u16, from: usize, to: usize) {
        let number = slot.to_string();
        self.tell::<()>(to, &["SETSLOT", &number, "IMPORTING", &self.ids[from]]).await;
        self.tell::<()>(from, &["SETSLOT", &number, "MIGRATING", &self.ids[to]]).await;
        loop {
            let keys: Vec<String> = self.tell(from, &["GETKEYSINSLOT", &number, "100"]).await;
            if keys.is_empty() {
                break;
            }
            let mut migrate = cmd("MIGRATE");
            migrate.arg("127.0.0.1").arg(self.nodes[to].port).arg("").arg(0).arg(5_000).arg("KEYS").arg(keys);
            self.nodes[from].ask::<()>(&migrate).await.unwrap();
        }
        for node in [to, from, 3 - to - from] {
            self.tell::<()>(node, &["SETSLOT", &number, "NODE", &self.ids[to]]).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_keeps_the_contract_while_a_slot_moves_and_a_master_dies() {
    const PARTITIONS: u16 = 6;
    let Some(mut cluster) = Cluster::start(installed()).await else { return };
    let urls: Vec<String> = cluster.nodes[..3].iter().map(Server::url).collect();
    the_contract_holds(|| redis_settings(urls.clone(), PARTITIONS)).await;

    let settings = redis_settings(urls, PARTITIONS);
    let load = Load::start(&settings, Durability::Server).await;
    load.flows_since(Instant::now(), PARTITIONS).await;
    let stream = format!("{}:{{0}}:stream", settings.namespace);
    let slot: u16 = cluster.tell(0, &["KEYSLOT", &stream]).await;
    let from = Cluster::master_of(slot);
    let to = (from + 1) % 3;
    let started = Instant::now();
    cluster.move_slot(slot, from, to).await;
    tell(&format!("a slot moved under load in {} ms", started.elapsed().as_millis()));
    back_in_time(load.flows_since(Instant::now(), PARTITIONS).await, "a slot had moved");

    let killed = Instant::now();
    cluster.nodes[to].kill();
    cluster.takes_over(to).await;
    tell(&format!("a replica took over {} ms after its master was killed", killed.elapsed().as_millis()));
    back_in_time(load.flows_since(Instant::now(), PARTITIONS).await, "a replica had taken over");

    let queue = Own(settings).queue(patient()).await;
    let (end, _, lost) = load.drain(&queue).await;
    tell(&format!(
        "{} of {} were accepted by a master that died before its replica had them",
        lost.len(),
        end.accepted
    ));
    // Without --durability replicated, that is what Redis promises.
    let too_early = lost.iter().filter(|at| **at + REPLICATED_WITHIN < killed).count();
    assert_eq!(too_early, 0, "of {} lost, so many were accepted long before", lost.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_fails_over_loses_nothing_that_was_replicated() {
    const PARTITIONS: u16 = 6;
    const VICTIM: usize = 0;
    let Some(mut cluster) = Cluster::start(newer()).await else { return };
    for node in &cluster.nodes {
        node.ask::<()>(cmd("CONFIG").arg("SET").arg("appendfsync").arg("always")).await.unwrap();
    }
    let settings = redis_settings(cluster.nodes[..3].iter().map(Server::url).collect(), PARTITIONS);
    let load = Load::start(&settings, Durability::Replicated).await;
    load.flows_since(Instant::now(), PARTITIONS).await;
    cluster.nodes[VICTIM].kill();
    cluster.takes_over(VICTIM).await;
    // The new master has nobody who could vouch for it until the old one is back, as its replica.
    assert!(cluster.nodes[VICTIM].start_again().await);
    load.flows_since(Instant::now(), PARTITIONS).await;
    let queue = Own(settings).queue(patient()).await;
    let (end, _, lost) = load.drain(&queue).await;
    assert!(lost.is_empty(), "{} of {} were lost", lost.len(), end.accepted);
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_cluster_the_master_that_has_the_job_is_waited_for() {
    const PARTITIONS: u16 = 6;
    let Some(cluster) = Cluster::start(newer()).await else { return };
    let settings = redis_settings(cluster.nodes[..3].iter().map(Server::url).collect(), PARTITIONS);
    let queue = Own(settings.clone()).queue(durable(Durability::Replicated)).await;
    // One by one, since those that are accepted together go to one partition.
    let refused_of_60 = async || {
        let submissions: Vec<_> = (0..60).map(|n| submission(&job(&format!("job {n}")))).collect();
        let mut refused = 0;
        for acceptances in join_all(submissions.chunks(1).map(|one| queue.accept(one))).await {
            match acceptances.unwrap()[..] {
                [Acceptance::Accepted] => {}
                [Acceptance::NotDurable { rolled_back: true }] => refused += 1,
                ref other => panic!("{other:?}"),
            }
        }
        refused
    };
    // A replica vouches for nothing before it has written its first copy.
    let deadline = Instant::now() + PATIENCE;
    while refused_of_60().await > 0 {
        assert!(Instant::now() < deadline, "a replica does not come to write");
    }
    let queued = async || queue.partitions().await.unwrap().into_iter().map(|partition| partition.queued);
    let before = queued().await;

    // One that writes to no disk any more can keep no promise, and the others can.
    let broken = 1;
    cluster.nodes[broken].ask::<()>(cmd("CONFIG").arg("SET").arg("appendonly").arg("no")).await.unwrap();
    let refused = refused_of_60().await;
    let mut held = 0;
    for (number, (before, after)) in before.zip(queued().await).enumerate() {
        let stream = format!("{}:{{{number}}}:stream", settings.namespace);
        let slot: u16 = cluster.tell(0, &["KEYSLOT", &stream]).await;
        assert_eq!(after > before, Cluster::master_of(slot) != broken, "{number}: {before}, then {after}");
        held += after - before;
    }
    assert_eq!(held + refused, 60);
}
