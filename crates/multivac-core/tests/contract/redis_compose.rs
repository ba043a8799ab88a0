//! The Redis of docker-compose.yml, started as there: what its user may do.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use deadpool_redis::redis::{Client, cmd};
use multivac_core::adapters::redis::RedisSettings;
use multivac_core::queue::Durability;
use multivac_testkit::redis::{RedisServer, newer};

use crate::backends::{Backend, Redis, redis_settings};
use crate::queue::ledger;
use crate::redis::{durable, the_contract_holds};

const PASSWORD: &str = "3f2a9c0d";

#[tokio::test]
async fn composes_redis_lets_its_user_do_what_the_programs_do_and_nothing_else() {
    let Some(binary) = newer() else { return };
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| directory.path().join(name);
    std::fs::write(file("redis.conf"), format!("requirepass {PASSWORD}\n")).unwrap();
    let start = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../deploy/redis/start.sh");
    let script = format!(
        "#!/bin/sh\nexport MULTIVAC_REDIS_CONF='{}' MULTIVAC_REDIS_SERVER='{}' TMPDIR='{}'\nexec sh '{}' \"$@\"\n",
        file("redis.conf").display(),
        binary.display(),
        directory.path().display(),
        start.display()
    );
    std::fs::write(file("start"), script).unwrap();
    std::fs::set_permissions(file("start"), std::fs::Permissions::from_mode(0o700)).unwrap();
    let server = RedisServer::start(&file("start"), &["--appendfsync", "always"]).await;
    let left: Vec<_> = std::fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "the configuration with the hash is not left behind: {left:?}");

    let url = format!("redis://:{PASSWORD}@127.0.0.1:{}", server.port);
    let settings = || {
        let settings = redis_settings(vec![url.clone()], 2);
        RedisSettings { namespace: format!("multivac:{}", settings.namespace), ..settings }
    };
    the_contract_holds(settings).await;
    let queue = Redis(settings()).queue(durable(Durability::Fsync)).await;
    assert_eq!(ledger(&queue).await.accepted, 0);

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
