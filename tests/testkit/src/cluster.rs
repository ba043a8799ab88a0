//! A Redis Cluster that a test starts, changes and kills parts of.

use std::path::PathBuf;

use deadpool_redis::redis::{FromRedisValue, cmd};

use crate::port::free_port;
use crate::redis::RedisServer;
use crate::wait::{until, until_ok};

const MASTERS: usize = 3;

/// Which slots each master has: an even share of the 16,384.
const SLOTS: [(u16, u16); MASTERS] = [(0, 5_460), (5_461, 10_922), (10_923, 16_383)];

/// Three masters, each with a replica. It ends when it is dropped.
pub struct RedisCluster {
    /// The masters, then the replica of each.
    pub nodes: Vec<RedisServer>,
    ids: Vec<String>,
}

impl RedisCluster {
    /// Starts it and waits until all slots are served and each replica follows its master. Without the program (see
    /// [`crate::redis::installed`] and [`crate::redis::newer`]) there is none.
    pub async fn start(binary: Option<PathBuf>) -> Option<Self> {
        Self::start_with(binary, &[]).await
    }

    /// As [`Self::start`], with these arguments for each node after the usual ones.
    pub async fn start_with(binary: Option<PathBuf>, arguments: &[&str]) -> Option<Self> {
        let binary = binary?;
        let mut nodes: Vec<RedisServer> = Vec::new();
        for epoch in 1..=2 * MASTERS {
            let bus = free_port().to_string();
            let mut flags = vec!["--cluster-enabled", "yes", "--cluster-node-timeout", "1000", "--cluster-port", &bus];
            flags.extend(arguments);
            let node = RedisServer::start(&binary, &flags).await;
            node.ask::<()>(cmd("CLUSTER").arg("SET-CONFIG-EPOCH").arg(epoch)).await.unwrap();
            if let Some(first) = nodes.first() {
                first.ask::<()>(cmd("CLUSTER").arg("MEET").arg("127.0.0.1").arg(node.port).arg(bus)).await.unwrap();
            }
            nodes.push(node);
        }
        let mut ids = Vec::new();
        for node in &nodes {
            ids.push(node.ask(cmd("CLUSTER").arg("MYID")).await.unwrap());
        }
        let cluster = Self { nodes, ids };
        for (n, (from, to)) in SLOTS.into_iter().enumerate() {
            cluster.command::<()>(n, &["ADDSLOTSRANGE", &from.to_string(), &to.to_string()]).await;
        }
        cluster.until_info("cluster_known_nodes:6", 0..2 * MASTERS).await;
        for n in 0..MASTERS {
            // Refused until the node has been told of this master by another.
            until("a replica follows its master", async || {
                let mut replicate = cmd("CLUSTER");
                replicate.arg("REPLICATE").arg(&cluster.ids[n]);
                cluster.nodes[n + MASTERS].ask::<()>(&replicate).await.is_ok()
            })
            .await;
        }
        cluster.until_info("cluster_state:ok", 0..2 * MASTERS).await;
        for n in MASTERS..2 * MASTERS {
            cluster.until_replication(n, "master_link_status:up").await;
        }
        Some(cluster)
    }

    /// The masters' URLs.
    pub fn urls(&self) -> Vec<String> {
        self.nodes[..MASTERS].iter().map(RedisServer::url).collect()
    }

    async fn command<T: FromRedisValue>(&self, node: usize, words: &[&str]) -> T {
        let mut command = cmd("CLUSTER");
        command.arg(words);
        self.nodes[node].ask(&command).await.unwrap()
    }

    /// Waits until CLUSTER INFO of these nodes has this line.
    async fn until_info(&self, line: &str, nodes: impl Iterator<Item = usize>) {
        for node in nodes {
            until(&format!("node {node} says {line}"), async || {
                self.command::<String>(node, &["INFO"]).await.lines().any(|l| l == line)
            })
            .await;
        }
    }

    /// Waits until INFO replication of a node has this line.
    async fn until_replication(&self, node: usize, line: &str) {
        until(&format!("node {node} says {line}"), async || {
            let info: String = self.nodes[node].ask(cmd("INFO").arg("replication")).await.unwrap();
            info.lines().any(|l| l == line)
        })
        .await;
    }

    /// Waits until the replica of a master that was killed is master in its place, and all others know.
    pub async fn until_failed_over(&self, killed: usize) {
        self.until_replication(killed + MASTERS, "role:master").await;
        self.until_info("cluster_state:ok", (0..2 * MASTERS).filter(|node| *node != killed)).await;
    }

    /// Which of the two nodes of a third of the slots is its master at present.
    pub async fn master_at_present(&self, master: usize) -> usize {
        self.until_one_says(master, |info| info.contains("role:master")).await
    }

    /// The same, once its replica has all that it has written.
    pub async fn until_replicated(&self, master: usize) -> usize {
        let followed = |info: &str| info.contains("role:master") && info.contains("state=online");
        self.until_one_says(master, followed).await
    }

    async fn until_one_says(&self, master: usize, is_it: impl Fn(&str) -> bool) -> usize {
        until_ok("a third of the slots has its master", async || {
            for node in [master, master + MASTERS] {
                let info = self.nodes[node].ask::<String>(cmd("INFO").arg("replication")).await;
                if info.is_ok_and(|info| is_it(&info)) {
                    return Ok(node);
                }
            }
            Err("neither node says so")
        })
        .await
    }

    /// Waits until the other node is master in the place of one that was killed.
    pub async fn until_replaced(&self, master: usize, killed: usize) {
        let other = if killed == master { master + MASTERS } else { master };
        self.until_replication(other, "role:master").await;
    }

    /// The slot of a key.
    pub async fn slot_of(&self, key: &str) -> u16 {
        self.command(0, &["KEYSLOT", key]).await
    }

    /// Which master has a slot, before any was moved.
    pub fn master_of(slot: u16) -> usize {
        SLOTS.iter().filter(|(_, last)| slot > *last).count()
    }

    /// Moves a slot with all its keys from one master to another, as redis-cli does.
    pub async fn move_slot(&self, slot: u16, from: usize, to: usize) {
        let number = slot.to_string();
        self.command::<()>(to, &["SETSLOT", &number, "IMPORTING", &self.ids[from]]).await;
        self.command::<()>(from, &["SETSLOT", &number, "MIGRATING", &self.ids[to]]).await;
        loop {
            let keys: Vec<String> = self.command(from, &["GETKEYSINSLOT", &number, "100"]).await;
            if keys.is_empty() {
                break;
            }
            let mut migrate = cmd("MIGRATE");
            migrate.arg("127.0.0.1").arg(self.nodes[to].port).arg("").arg(0).arg(5_000).arg("KEYS").arg(keys);
            self.nodes[from].ask::<()>(&migrate).await.unwrap();
        }
        let third = MASTERS - to - from;
        for node in [to, from, third] {
            self.command::<()>(node, &["SETSLOT", &number, "NODE", &self.ids[to]]).await;
        }
    }
}
