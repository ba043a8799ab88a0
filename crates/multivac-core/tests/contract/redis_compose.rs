//! The Redis of docker-compose.yml, started as there: what its user may do.

use std::fs::{Permissions, read_dir, set_permissions, write};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use deadpool_redis::redis::{Client, cmd};
use multivac_core::adapters::redis::RedisSettings;
use multivac_core::queue::{Acceptance, Durability};
use multivac_testkit::redis::{RedisServer, installed, newer};
use multivac_testkit::sample::submission;

use crate::backends::{Backend, Redis, redis_settings};
use crate::redis::{durable, the_contract_holds};

const PASSWORD: &str = "3f2a9c0d";

/// A program that starts this redis-server as docker-compose.yml does, with a secret as setup.py makes it.
fn compose_start(directory: &tempfile::TempDir, server: &std::path::Path) -> PathBuf {
    let file = |name: &str| directory.path().join(name);
    write(file("redis.conf"), format!("requirepass {PASSWORD}\n")).unwrap();
    let script = format!(
        "#!/bin/sh\nexport MULTIVAC_REDIS_CONF='{}' MULTIVAC_REDIS_SERVER='{}' TMPDIR='{}'\nexec sh '{}' \"$@\"\n",
        file("redis.conf").display(),
        server.display(),
        directory.path().display(),
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../deploy/redis/start.sh").display()
    );
    write(file("start"), script).unwrap();
    set_permissions(file("start"), Permissions::from_mode(0o700)).unwrap();
    file("start")
}

#[tokio::test]
async fn composes_redis_lets_its_user_do_what_the_programs_do_and_nothing_else() {
    let (Some(installed), Some(newer)) = (installed(), newer()) else { return };
    for (binary, durability) in [(installed, Durability::Server), (newer, Durability::Fsync)] {
        let directory = tempfile::tempdir().unwrap();
        let server = RedisServer::start(&compose_start(&directory, &binary), &["--appendfsync", "always"]).await;
        let left: Vec<_> = read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left.len(), 2, "the configuration with the hash is not left behind: {left:?}");

        let url = format!("redis://:{PASSWORD}@127.0.0.1:{}", server.port);
        let settings = || {
            let settings = redis_settings(vec![url.clone()], 2);
            RedisSettings { namespace: format!("multivac:{}", settings.namespace), ..settings }
        };
        the_contract_holds(settings).await;
        let queue = Redis(settings()).queue(durable(durability)).await;
        assert_eq!(queue.accept(&[submission("one")]).await.unwrap(), [Acceptance::Accepted]);

        let mut user = Client::open(url.clone()).unwrap().get_multiplexed_async_connection().await.unwrap();
        for words in [
            "FLUSHALL",
            "FLUSHDB",
            "KEYS *",
            "SCAN 0",
            "CONFIG SET appendonly no",
            "CONFIG REWRITE",
            "ACL LIST",
            "SHUTDOWN NOSAVE",
            "MONITOR",
            "CLIENT LIST",
            "REPLICAOF NO ONE",
            "FUNCTION LIST",
            "GET other",
            "SET other x",
            "RENAME multivac:a multivac:b",
            "SELECT 1",
        ] {
            let (command, arguments) = words.split_once(' ').unwrap_or((words, ""));
            let mut command = cmd(command);
            command.arg(arguments.split_whitespace().collect::<Vec<_>>());
            let refused = command.query_async::<()>(&mut user).await.unwrap_err();
            assert_eq!(refused.code(), Some("NOPERM"), "{words}: {refused}");
        }
        let refused = server.ask::<()>(&cmd("PING")).await.unwrap_err();
        assert_eq!(refused.code(), Some("NOAUTH"), "{refused}");
    }
}
