//! MongoDB servers that a test starts, changes and kills for itself.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mongodb::Client;
use mongodb::bson::{Document, doc};
use tempfile::TempDir;
use tokio::time::timeout;

use crate::process::Service;
use crate::tls::make_certificate;
use crate::wait::{until, until_ok};
use crate::{environment, port};

/// The members of a replica set: one may be lost, and there is still a majority.
const MEMBERS: usize = 3;

/// After how long without a primary the others elect one. MongoDB's own 10 s would only make the tests longer.
const ELECTION_TIMEOUT_MS: i32 = 2_000;

/// How long a server may take to be locked, and unlocked.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);

/// `mongod`; without it the test is skipped.
pub fn installed() -> Option<PathBuf> {
    environment::program("MULTIVAC_TEST_MONGOD")
}

/// One server with a directory of its own. It ends when it is dropped.
pub struct Mongod {
    /// The process.
    pub service: Service,
    /// Where it listens.
    pub port: u16,
    /// Where its data are.
    pub data: PathBuf,
    _directory: TempDir,
}

impl Mongod {
    /// Starts it with these arguments after the usual ones; does not wait until it answers.
    pub fn start(binary: &Path, arguments: &[&str]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), binary, arguments)
    }

    fn start_in(directory: TempDir, binary: &Path, arguments: &[&str]) -> Self {
        let (port, data) = (port::free_port(), directory.path().join("data"));
        fs::create_dir(&data).unwrap();
        let mut line: Vec<std::ffi::OsString> = vec![binary.into()];
        line.extend(["--bind_ip", "127.0.0.1", "--port", &port.to_string(), "--nounixsocket"].map(Into::into));
        line.extend(["--wiredTigerCacheSizeGB", "0.25", "--dbpath"].map(Into::into));
        line.push(data.clone().into());
        line.extend(["--setParameter", "diagnosticDataCollectionEnabled=false"].map(Into::into));
        line.extend(arguments.iter().map(Into::into));
        let service = Service::start(&format!("127.0.0.1:{port}"), line, directory.path().join("log"));
        Self { service, port, data, _directory: directory }
    }

    /// Its address, as replica sets name it.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Has it take no writes and stay the primary, so that calls hang; whether it does.
    pub async fn lock_writes(&self) -> bool {
        // With a write under way it may not come to the lock, or only later.
        let locking = self.admin(doc! { "fsync": 1, "lock": true });
        timeout(LOCK_TIMEOUT, locking).await.is_ok_and(|reply| reply.is_some())
    }

    /// Has it take writes again, however often it was locked.
    pub async fn unlock_writes(&self) {
        while timeout(LOCK_TIMEOUT, self.admin(doc! { "fsyncUnlock": 1 })).await.is_ok_and(|reply| reply.is_some()) {}
    }

    /// What this server answers to an administrator's command, if it answers.
    pub async fn admin(&self, command: Document) -> Option<Document> {
        let options = "directConnection=true&serverSelectionTimeoutMS=1000&connectTimeoutMS=1000";
        let client = Client::with_uri_str(format!("mongodb://{}/?{options}", self.host())).await.unwrap();
        let reply = client.database("admin").run_command(command).await.ok();
        client.shutdown().immediate(true).await;
        reply
    }
}

/// Three servers that are one replica set.
pub struct ReplicaSet {
    /// The servers.
    pub members: Vec<Mongod>,
}

impl ReplicaSet {
    /// Starts them, and makes them a replica set.
    pub async fn start(binary: &Path) -> Self {
        let members: Vec<Mongod> =
            (0..MEMBERS).map(|_| Mongod::start(binary, &["--replSet", "rs0", "--oplogSize", "256"])).collect();
        let hosts = members.iter().zip(0..).map(|(member, id)| doc! { "_id": id, "host": member.host() });
        let settings = doc! { "electionTimeoutMillis": ELECTION_TIMEOUT_MS, "heartbeatIntervalMillis": 500 };
        let config = doc! { "_id": "rs0", "members": hosts.collect::<Vec<_>>(), "settings": settings };
        // Refused until all three listen.
        until("MongoDB is a replica set", async || {
            members[0].admin(doc! { "replSetInitiate": &config }).await.is_some()
        })
        .await;
        Self { members }
    }

    /// The URL of a database in it.
    pub fn url(&self, database: &str) -> String {
        let hosts: Vec<String> = self.members.iter().map(Mongod::host).collect();
        format!("mongodb://{}/{database}?replicaSet=rs0", hosts.join(","))
    }

    /// Which member is the primary, once there is one and each of the others can become it.
    pub async fn primary(&self) -> usize {
        const PRIMARY: i32 = 1;
        const SECONDARY: i32 = 2;
        until_ok("MongoDB has a primary and all its members", async || {
            for (i, member) in self.members.iter().enumerate() {
                let Some(status) = member.admin(doc! { "replSetGetStatus": 1 }).await else { continue };
                let mut states = status.get_array("members").unwrap().iter().map(|member| {
                    let member = member.as_document().unwrap();
                    member.get_i32("state").unwrap()
                });
                if status.get_i32("myState").is_ok_and(|state| state == PRIMARY)
                    && states.all(|state| matches!(state, PRIMARY | SECONDARY))
                {
                    return Ok(i);
                }
            }
            Err("it has not")
        })
        .await
    }

    /// Has a member that is the primary hand over to another, and stay out of elections for a while; whether it did.
    pub async fn step_down(&self, member: usize) -> bool {
        let command = doc! { "replSetStepDown": 15, "secondaryCatchUpPeriodSecs": 10 };
        self.members[member].admin(command).await.is_some()
    }
}

/// A replica set of one with TLS and a user, which can be told to fail (`enableTestCommands`).
pub struct SecureMongod {
    /// The server.
    pub server: Mongod,
}

impl SecureMongod {
    /// The user's name.
    pub const USER: &str = "multivac";
    /// The user's password; it has a character that a URL has to encode.
    pub const PASSWORD: &str = "star@light";

    /// Starts it and waits until it has its user; without `mongod` the test is skipped.
    pub async fn start() -> Option<Self> {
        let binary = installed()?;
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name).display().to_string();
        make_certificate(directory.path(), "mongod");
        make_certificate(directory.path(), "unrelated");
        fs::write(at("key"), "a0".repeat(32)).unwrap();
        fs::set_permissions(at("key"), fs::Permissions::from_mode(0o400)).unwrap();
        let (key, certificate, authority) = (at("key"), at("mongod.pem"), at("mongod-ca.pem"));
        let mut arguments = vec!["--replSet", "rs0", "--auth", "--keyFile", &key, "--tlsMode", "requireTLS"];
        arguments.extend(["--tlsAllowConnectionsWithoutCertificates", "--tlsCertificateKeyFile", &certificate]);
        arguments.extend(["--tlsCAFile", &authority, "--setParameter", "enableTestCommands=1"]);
        let server = Self { server: Mongod::start_in(directory, &binary, &arguments) };
        // As long as there is no user, whoever connects from this machine may create the first.
        let direct = format!("{}&directConnection=true&serverSelectionTimeoutMS=1000", server.url("", "mongod"));
        let admin = Client::with_uri_str(&direct).await.unwrap().database("admin");
        let members = vec![doc! { "_id": 0, "host": server.server.host() }];
        let initiate = doc! { "replSetInitiate": { "_id": "rs0", "members": members } };
        let user = doc! { "createUser": Self::USER, "pwd": Self::PASSWORD, "roles": ["root"] };
        for command in [initiate, user] {
            until_ok("MongoDB takes its first commands", async || admin.run_command(command.clone()).await).await;
        }
        Some(server)
    }

    /// Its URL with TLS for a client that trusts one authority: `mongod`, which signed its certificate, or `unrelated`.
    /// `user` is empty, or `NAME:PASSWORD@`.
    fn url(&self, user: &str, authority: &str) -> String {
        let authority = self.server._directory.path().join(format!("{authority}-ca.pem"));
        format!("mongodb://{user}{}/multivac?tls=true&tlsCAFile={}", self.server.host(), authority.display())
    }

    /// As a client of the replica set connects; the parameters are those of `url`.
    pub fn replica_set_url(&self, user: &str, authority: &str) -> String {
        format!("{}&replicaSet=rs0&authSource=admin&serverSelectionTimeoutMS=2000", self.url(user, authority))
    }
}
