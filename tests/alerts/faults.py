"""What is done to the system, how it is undone, and which alert has to say so."""

import http.client
import json
import pathlib
import subprocess
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from browser.system import request
from system import MAX_QUEUED, POISON, REDIS_MEMORY


@dataclass
class Fault:
    name: str
    alert: dict  # its labels
    inflict: Callable
    mend: Callable
    # How long the programs take to see it, and to see that it is over, by the clock of the wall.
    seen_within: float = 15
    # How long its traces stay in the windows of the rule, by the clock of the rules.
    lasts: float = 0
    # Whether the next fault may come before this one's alert is over.
    lingers: bool = False
    # Left out of a short run, since its programs look every 30 seconds.
    slow: bool = False


def page(name, **labels):
    return {"alertname": name, "severity": "page", **labels}


def ticket(name, **labels):
    return {"alertname": name, "severity": "ticket", **labels}


def each(parts, what):
    def act():
        for part in parts:
            getattr(part, what)()

    return act


def faults(system):
    redis, mongo, edge = system.redis, system.mongo, system.nginx
    apis, workers = system.apis, system.workers
    ledger, certificate = LedgerBreaker(redis), Certificate(system.edge)
    policy = lambda name: lambda: redis.call("CONFIG", "SET", "maxmemory-policy", name)  # noqa: E731
    return [
        Fault("a job's entry deleted from Redis", page("DataLost"), lambda: lose_a_job(redis), lambda: None,
              seen_within=40, lasts=3600, lingers=True),
        Fault("more data than there is room for", ticket("Refusing"), lambda: overfeed(system), each(workers, "resume"),
              lasts=600, lingers=True),
        Fault("poison fed", ticket("DeadLetters"), lambda: feed_poison(system), lambda: system.operate("dead", "drop", "--all"),
              seen_within=20),
        Fault("the ledger broken by hand, again and again", page("LedgerUnbalanced"), ledger.start, ledger.mend),
        Fault("one worker of two killed", ticket("TargetDown", program="worker"), workers[0].kill, workers[0].restart),
        Fault("all workers killed", page("Absent", program="worker"), each(workers, "kill"), each(workers, "restart")),
        Fault("all workers suspended", page("Absent", program="worker"), each(workers, "suspend"), each(workers, "resume")),
        Fault("one api of two killed", ticket("TargetDown", program="api"), apis[0].kill, apis[0].restart),
        Fault("all apis killed", page("Absent", program="api"), each(apis, "kill"), each(apis, "restart")),
        Fault("nginx killed", page("Absent", program="edge"), edge.kill, edge.restart),
        Fault("Redis killed", page("QueueUnreachable"), redis.kill, redis.restart),
        Fault("Redis suspended", page("QueueUnreachable"), redis.suspend, redis.resume),
        Fault("MongoDB stopped", page("StoreUnreachable"), mongo.end, mongo.restart),
        Fault("MongoDB suspended", page("StoreUnreachable"), mongo.suspend, mongo.resume),
        Fault("a certificate of 10 days", ticket("CertificateExpires"), certificate.shorten, certificate.restore,
              seen_within=40),
        Fault("Redis may evict", ticket("QueueWarnings"), policy("allkeys-lru"), policy("noeviction"), seen_within=40, slow=True),
        Fault("Redis nearly full", ticket("RedisNearLimit"), lambda: limit_memory(redis),
              lambda: redis.call("CONFIG", "SET", "maxmemory", REDIS_MEMORY), seen_within=40, slow=True),
    ]  # fmt: skip


def lose_a_job(redis):
    """Leaves what somebody leaves who deletes an entry of the stream: a job that is counted and has none."""
    script = "redis.call('HSET', KEYS[1], ARGV[1], 'q0-1') return redis.call('HINCRBY', KEYS[2], 'accepted', 1)"
    redis.call("EVAL", script, 2, redis.key("jobs"), redis.key("ledger"), uuid.uuid4())


def overfeed(system):
    """Workers that do nothing for a moment, and more data than the queue takes."""
    for worker in system.workers:
        worker.suspend()
    lines = "".join(json.dumps({"data": f"Robot {n} has {n % 7} laws."}) + "\n" for n in range(MAX_QUEUED + 500))
    connection = http.client.HTTPConnection(system.api_addresses[0], timeout=60)
    connection.request("POST", "/multivac/data/bulk", lines, {"Content-Type": "application/x-ndjson"})
    reply = connection.getresponse()
    told = reply.read().decode()
    connection.close()
    assert json.loads(told).get("rejected"), f"nothing was refused: {reply.status} {told[:300]}"
    for worker in system.workers:
        worker.resume()


def feed_poison(system):
    status, _, body = request(f"http://{system.api_addresses[0]}", "POST", "/multivac/data", body=f"{POISON} for robots.")
    assert status == 200, body


def limit_memory(redis):
    used = next(line for line in redis.call("INFO", "memory").splitlines() if line.startswith("used_memory:"))
    redis.call("CONFIG", "SET", "maxmemory", int(int(used.split(":")[1]) * 1.15))


class LedgerBreaker:
    """Adds to `learned` what nobody learned. Each process repairs the ledger every 30 seconds, so once would not do."""

    INTERVAL = 0.02

    def __init__(self, redis):
        self.redis, self.key, self.added = redis, redis.key("ledger"), 0

    def start(self):
        self.added, self.stop = 0, threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while not self.stop.wait(self.INTERVAL):
            self.redis.call("HINCRBY", self.key, "learned", 1)
            self.added += 1

    def mend(self):
        self.stop.set()
        self.thread.join(20)
        script = """
            local learned = redis.call('HINCRBY', KEYS[1], 'learned', -ARGV[1])
            local retracted = redis.call('HGET', KEYS[1], 'retracted') or 0
            local accepted = learned + retracted + redis.call('XLEN', KEYS[2]) + redis.call('XLEN', KEYS[3])
            return redis.call('HSET', KEYS[1], 'accepted', accepted)"""
        self.redis.call("EVAL", script, 3, self.key, self.redis.key("stream"), self.redis.key("dead"), self.added)


class Certificate:
    """The edge's, for which it makes another with the same key."""

    def __init__(self, edge):
        directory = pathlib.Path(edge.directory, "secrets/edge")
        self.path, self.key = directory / "tls.crt", directory / "tls.key"

    def shorten(self):
        self.kept = self.path.read_bytes()
        made = ["openssl", "req", "-x509", "-new", "-key", self.key, "-days", "10", "-subj", "/CN=localhost"]
        self.put(subprocess.run(made, check=True, capture_output=True, timeout=20).stdout)

    def restore(self):
        self.put(self.kept)

    def put(self, certificate):
        new = self.path.with_suffix(".new")
        new.write_bytes(certificate)
        new.rename(self.path)
