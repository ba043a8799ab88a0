use super::*;

/// What a healthy Redis shows, with these lines in place of its own.
fn info(lines: &[(&str, &str)]) -> Info {
    let healthy = [
        ("redis_version", "8.0.2"),
        ("role", "master"),
        ("connected_slaves", "0"),
        ("loading", "0"),
        ("aof_enabled", "1"),
        ("aof_last_write_status", "ok"),
        ("rdb_last_bgsave_status", "ok"),
        ("appendfsync", "always"),
        ("maxmemory_policy", "noeviction"),
        ("used_memory", "1000"),
        ("maxmemory", "0"),
    ];
    let all = healthy.iter().chain(lines).map(|(name, value)| ((*name).to_owned(), vec![(*value).to_owned()]));
    Info(all.collect())
}

fn all(info: &Info, asked: Durability, bounds: Option<(u64, u64)>) -> Vec<Finding> {
    let found =
        [version(info, asked), role(info, asked, 1), persistence(info, asked), eviction(info), memory(info, bounds)];
    found.into_iter().filter(|finding| finding.status != Status::Ok).collect()
}

#[test]
fn of_a_healthy_redis_nothing_is_said() {
    assert_eq!(all(&info(&[]), Durability::Fsync, Some((1_000_000, 1 << 30))), []);
}

#[test]
fn each_fault_is_one_finding() {
    let (server, fsync, replicated) = (Durability::Server, Durability::Fsync, Durability::Replicated);
    for (line, asked, check, status) in [
        (("redis_version", "6.0.16"), server, "redis.version", Status::Error),
        (("redis_version", "7.0.15"), fsync, "redis.version", Status::Error),
        (("role", "slave"), server, "redis.role", Status::Error),
        (("min-replicas-to-write", "1"), server, "redis.role", Status::Error),
        (("connected_slaves", "0"), replicated, "redis.role", Status::Error),
        (("loading", "1"), server, "redis.persistence", Status::Error),
        (("aof_last_write_status", "err"), server, "redis.persistence", Status::Error),
        (("rdb_last_bgsave_status", "err"), server, "redis.persistence", Status::Error),
        (("aof_last_bgrewrite_status", "err"), server, "redis.persistence", Status::Warning),
        (("aof_enabled", "0"), server, "redis.persistence", Status::Warning),
        (("aof_enabled", "0"), fsync, "redis.persistence", Status::Error),
        (("appendfsync", "no"), server, "redis.persistence", Status::Warning),
        (("appendfsync", "everysec"), fsync, "redis.persistence", Status::Warning),
        (("maxmemory_policy", "allkeys-lru"), server, "redis.eviction", Status::Warning),
        (("maxmemory", "1000"), server, "redis.memory", Status::Error),
        (("maxmemory", "1050"), server, "redis.memory", Status::Warning),
    ] {
        let found = all(&info(&[line]), asked, None);
        let found: Vec<_> =
            found.iter().map(|finding| (finding.check, finding.status, finding.advice.is_some())).collect();
        assert_eq!(found, [(check, status, true)], "{line:?}");
    }
    assert_eq!(all(&info(&[("appendfsync", "everysec")]), server, None), []);
}

#[test]
fn a_queue_at_its_bounds_has_to_fit_into_maxmemory() {
    let max = |bytes: u64| info(&[("maxmemory", &bytes.to_string())]);
    let bounds = Some((1_000, 4_000_000));
    assert_eq!(all(&max(5_300_000), Durability::Server, bounds), []);
    let found = all(&max(5_299_999), Durability::Server, bounds);
    assert!(found.len() == 1 && found[0].check == "redis.memory" && found[0].status == Status::Warning, "{found:?}");
    assert_eq!(all(&max(5_299_999), Durability::Server, None), [], "the worker does not bound the queue");
}
