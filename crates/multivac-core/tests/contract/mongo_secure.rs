//! MongoDB with TLS, passwords and errors that nobody has heard of: a server of its own, that can be told to fail.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use mongodb::Client;
use mongodb::bson::{Document, doc};
use multivac_core::adapters::mongo::MongoStore;
use multivac_core::store::{Change, Put, Store, StoreError};

use crate::mongo::free_port;
use crate::store::{datum, put_one};
use crate::store_backends::{given, passages};

/// With a character that a URL has to encode.
const PASSWORD: &str = "star@light";

struct Server {
    process: Child,
    port: u16,
    directory: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A certificate of an authority made for it: `NAME-ca.pem` and `NAME.pem`, which holds its key too.
fn certify(directory: &Path, name: &str) {
    let script = format!(
        "set -e
         openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN={name}-authority -keyout ca.key -out {name}-ca.pem
         openssl req -newkey rsa:2048 -nodes -subj /CN={name} -keyout server.key -out server.csr
         printf 'subjectAltName=IP:127.0.0.1,DNS:localhost' >names
         openssl x509 -req -in server.csr -CA {name}-ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out server.crt
         cat server.key server.crt >{name}.pem"
    );
    let made = Command::new("sh").args(["-c", &script]).current_dir(directory).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

impl Server {
    /// `None`, aloud, where there is no mongod; never in CI.
    async fn start() -> Option<Self> {
        let mongod = given("MULTIVAC_TEST_MONGOD")?;
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        certify(directory.path(), "mongod");
        certify(directory.path(), "stranger");
        fs::create_dir(at("data")).unwrap();
        fs::write(at("key"), "a0".repeat(32)).unwrap();
        fs::set_permissions(at("key"), fs::Permissions::from_mode(0o400)).unwrap();
        let port = free_port();
        let process = Command::new(mongod)
            .args([
                "--bind_ip",
                "127.0.0.1",
                "--port",
                &port.to_string(),
                "--nounixsocket",
                "--replSet",
                "rs0",
                "--auth",
            ])
            .args([
                "--tlsMode",
                "requireTLS",
                "--tlsAllowConnectionsWithoutCertificates",
                "--wiredTigerCacheSizeGB",
                "0.25",
            ])
            .args(["--setParameter", "enableTestCommands=1"])
            .arg("--dbpath")
            .arg(at("data"))
            .arg("--keyFile")
            .arg(at("key"))
            .arg("--tlsCertificateKeyFile")
            .arg(at("mongod.pem"))
            .arg("--tlsCAFile")
            .arg(at("mongod-ca.pem"))
            .stdin(Stdio::null())
            .stdout(fs::File::create(at("log")).unwrap())
            .spawn()
            .unwrap();
        let server = Self { process, port, directory };
        // Until there is a user, who comes from this machine may make it the first.
        let alone = format!("{}&directConnection=true&serverSelectionTimeoutMS=1000", server.url("", "mongod-ca"));
        let admin = Client::with_uri_str(&alone).await.unwrap().database("admin");
        let members = [doc! { "_id": 0, "host": format!("127.0.0.1:{port}") }];
        let initiate = doc! { "replSetInitiate": { "_id": "rs0", "members": members.to_vec() } };
        server.until(&admin, initiate).await;
        let user = doc! { "createUser": "multivac", "pwd": PASSWORD, "roles": ["root"] };
        server.until(&admin, user).await;
        Some(server)
    }

    async fn until(&self, admin: &mongodb::Database, command: Document) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while let Err(error) = admin.run_command(command.clone()).await {
            assert!(Instant::now() < deadline, "{error:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Its URL with TLS, for who trusts that authority.
    fn url(&self, user: &str, authority: &str) -> String {
        let authority = self.directory.path().join(format!("{authority}.pem"));
        format!("mongodb://{user}127.0.0.1:{}/multivac?tls=true&tlsCAFile={}", self.port, authority.display())
    }

    fn set(&self, user: &str, authority: &str) -> String {
        format!("{}&replicaSet=rs0&authSource=admin&serverSelectionTimeoutMS=2000", self.url(user, authority))
    }
}

#[tokio::test]
async fn tls_and_a_password_come_with_the_url_and_unknown_errors_are_one_datums_own() {
    let Some(server) = Server::start().await else { return };
    let url = server.set("multivac:star%40light@", "mongod-ca");
    let store = MongoStore::new(&url.clone().into(), passages).await.unwrap();
    store.prepare().await.unwrap();
    let from = store.position().await.unwrap();
    let first = datum("over TLS");
    assert_eq!(put_one(&store, &first).await, Put::Stored);
    let mut changes = store.follow(from).await.unwrap();
    let seen = loop {
        let batch = changes.next(10).await.unwrap();
        if !batch.changes.is_empty() {
            break batch.changes;
        }
    };
    assert_eq!(seen, [Change::Put(Box::new(first))]);

    for (url, misconfigured) in [
        (server.set("multivac:moonlight@", "mongod-ca"), true),
        (server.set("multivac:star%40light@", "stranger-ca"), false),
        (server.set("", "mongod-ca"), true),
        (format!("mongodb://multivac:star%40light@127.0.0.1:{}/?serverSelectionTimeoutMS=2000", server.port), false),
    ] {
        let store = MongoStore::new(&url.clone().into(), passages).await.unwrap();
        let error = store.prepare().await.unwrap_err();
        assert_eq!(matches!(error, StoreError::Misconfigured(_)), misconfigured, "{error:?}");
        assert!(!format!("{error} {error:?}").contains("light"), "{error:?}");
    }

    // BadValue. The whole message meets it once, and then the first datum by itself.
    let admin = Client::with_uri_str(&url).await.unwrap().database("admin");
    let fail = |code: i32, times: i32| {
        let data = doc! { "failCommands": ["insert"], "errorCode": code };
        doc! { "configureFailPoint": "failCommand", "mode": { "times": times }, "data": data }
    };
    let data = [datum("one"), datum("two"), datum("three")];
    admin.run_command(fail(2, 2)).await.unwrap();
    let puts = store.put(&data).await.unwrap();
    assert!(matches!(&puts[0], Put::Refused(reason) if reason.contains("(error 2)")), "{puts:?}");
    assert_eq!(puts[1..], [Put::Stored, Put::Stored]);
    // A full disk is no datum's fault, nor is a full quota. (The driver does not try those again by itself.)
    for code in [14031, 8000] {
        admin.run_command(fail(code, 1)).await.unwrap();
        let error = store.put(&data).await.unwrap_err();
        assert!(error.is_transient(), "{error:?}");
    }
    assert_eq!(store.put(&data).await.unwrap(), vec![Put::Stored; 3]);
}
