"""The full system that alerts and dashboards are tried on: Redis, MongoDB, api, workers and the edge, each of which can be killed,
suspended and started again at the same address, and a load on it."""

import base64
import collections
import http.client
import json
import os
import pathlib
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time

from browser.system import Edge, Process, free_port, request, wait_for

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
NAMESPACE = "alerts"
POISON = "Poison"
# More than the load ever has waiting, and few enough to be filled up in a moment.
MAX_QUEUED = 20_000
REDIS_MEMORY = 512 << 20


def children(pid):
    """The processes that a process has started, and those that they have."""
    parents = {}
    for status in pathlib.Path("/proc").glob("[0-9]*/status"):
        try:
            lines = status.read_text().splitlines()
        except OSError:  # it has ended
            continue
        parents[int(status.parent.name)] = next(int(line.split()[1]) for line in lines if line.startswith("PPid:"))
    found = [pid]
    for parent in found:
        found.extend(child for child, of in parents.items() if of == parent)
    return found[1:]


class Part:
    """A process of the system."""

    def __init__(self, name, command, log, is_up, **environment):
        self.name, self.command, self.log, self.is_up, self.environment = name, command, log, is_up, environment
        self.process = None

    def start(self):
        self.process = Process(self.command, self.log, **self.environment)

    def wait(self):
        def up():
            assert self.process.process.poll() is None, f"{self.name} has ended: {self.log.read_text()[-2000:]}"
            return self.is_up()

        wait_for(self.name, up)

    def kill(self):
        self.process.stop(signal.SIGKILL)

    def end(self):
        self.process.stop()

    def suspend(self):
        self.process.process.send_signal(signal.SIGSTOP)

    def resume(self):
        self.process.process.send_signal(signal.SIGCONT)

    def restart(self):
        self.start()
        self.wait()

    def clean_up(self):
        if self.process and self.process.process.poll() is None:
            self.resume()
            self.end()


class EdgePart:
    """nginx with its watcher and workers, which are all killed as those of a container are."""

    def __init__(self, edge):
        self.edge = edge

    def kill(self):
        nginx = self.edge.process.process
        others = children(nginx.pid)
        self.edge.process.stop(signal.SIGKILL)
        for other in others:
            try:
                os.kill(other, signal.SIGKILL)
            except ProcessLookupError:
                pass  # it has noticed

    def restart(self):
        self.edge.start()
        self.edge.finds_the_api()


def answers(address, path="/readyz"):
    def asked():
        try:
            return request(f"http://{address}", "GET", path)[0] == 200
        except OSError:
            return False

    return asked


class Redis(Part):
    def __init__(self, directory):
        self.port = free_port()
        (directory / "redis").mkdir()
        line = ["--bind", "127.0.0.1", "--port", str(self.port), "--dir", directory / "redis", "--appendonly", "yes", "--appendfsync", "always", "--save", ""]
        # With a limit, since its figures are on a dashboard.
        line += ["--maxmemory", str(REDIS_MEMORY), "--maxmemory-policy", "noeviction"]
        command = [os.environ["MULTIVAC_TEST_REDIS_SERVER"], *line]
        super().__init__("Redis", command, directory / "redis.log", self.pongs)
        self.url = f"redis://127.0.0.1:{self.port}"

    def pongs(self):
        try:
            return self.call("PING") == "PONG"
        except (OSError, RuntimeError):  # it does not listen yet, or is still loading
            return False

    def call(self, *words):
        """One command, which replies with a line, a number or a text."""
        words = [str(word).encode() for word in words]
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as connection, connection.makefile("rb") as replies:
            connection.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words))
            line = replies.readline().decode().rstrip()
            if line.startswith("-"):
                raise RuntimeError(f"Redis: {line}")
            return replies.read(int(line[1:])).decode() if line.startswith("$") else line[1:]

    def key(self, name):
        return f"{NAMESPACE}:{{0}}:{name}"


class Mongo(Part):
    def __init__(self, directory):
        self.port = free_port()
        (directory / "mongo").mkdir()
        line = ["--bind_ip", "127.0.0.1", "--port", str(self.port), "--dbpath", directory / "mongo", "--replSet", "rs0"]
        command = [os.environ["MULTIVAC_TEST_MONGOD"], *line, "--wiredTigerCacheSizeGB", "0.25", "--nounixsocket"]
        super().__init__("MongoDB", command, directory / "mongod.log", self.is_primary)
        self.url = f"mongodb://127.0.0.1:{self.port}/multivac?replicaSet=rs0"

    def is_primary(self):
        initiate = [sys.executable, ROOT / "scripts/mongo-initiate.py", str(self.port)]
        return subprocess.run(initiate, capture_output=True, timeout=60).returncode == 0

    def refuse_poison(self):
        """From now on it refuses a document whose text begins with POISON."""
        from pymongo import MongoClient

        with MongoClient(self.url, serverSelectionTimeoutMS=10_000) as client:
            refused = {"data": {"$not": {"$regex": f"^{POISON}"}}}
            client.get_default_database().create_collection("entropy", validator=refused)


class System:
    """All of it, started in order."""

    def __init__(self, directory, lease):
        self.directory = directory
        self.redis, self.mongo = Redis(directory), Mongo(directory)
        self.servers = ["--redis-url", self.redis.url, "--mongo-url", self.mongo.url, "--namespace", NAMESPACE]
        self.servers += ["--lease", lease, "--max-attempts", "2"]
        self.api_addresses = [self.address() for _ in range(2)]
        self.worker_addresses = [self.address() for _ in range(2)]
        self.apis = [self.api(i, address) for i, address in enumerate(self.api_addresses)]
        self.workers = [self.worker(i, address) for i, address in enumerate(self.worker_addresses)]
        self.edge = None
        self.edge_metrics = self.address()

    @staticmethod
    def address():
        return f"127.0.0.1:{free_port()}"

    def api(self, i, address):
        line = [os.environ["MULTIVAC_BUILT_API"], "--listen", address, "--max-queued", str(MAX_QUEUED), *self.servers]
        return Part(f"api {i}", line, self.directory / f"api-{i}.log", answers(address))

    def worker(self, i, address):
        line = [os.environ["MULTIVAC_BUILT_WORKER"], "--health-listen", address, *self.servers]
        return Part(f"worker {i}", line, self.directory / f"worker-{i}.log", answers(address))

    def start(self):
        for part in (self.redis, self.mongo):
            part.restart()
        self.mongo.refuse_poison()
        for part in [*self.apis, *self.workers]:
            part.start()
        for part in [*self.apis, *self.workers]:
            part.wait()
        self.edge = Edge(self.directory, self.api_addresses, MULTIVAC_EDGE_METRICS_LISTEN=self.edge_metrics,
                         MULTIVAC_EDGE_RATE="1000", MULTIVAC_EDGE_BURST="1000")  # fmt: skip
        self.edge.finds_the_api()
        self.nginx = EdgePart(self.edge)

    def stats(self):
        return json.loads(request(f"http://{self.api_addresses[0]}", "GET", "/multivac/stats")[2])

    def operate(self, *command):
        """A command of the worker's for operators."""
        line = [os.environ["MULTIVAC_BUILT_WORKER"], *command, *self.servers[:6]]
        done = subprocess.run(line, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout

    def clean_up(self):
        if self.edge and self.edge.process.process.poll() is None:
            self.edge.stop()
        for part in [*self.apis, *self.workers, self.mongo, self.redis]:
            part.clean_up()


class Load:
    """Clients of the edge that feed, ask and retract, whatever becomes of it."""

    # Requests a second, of all threads together.
    FED, ASKED, RETRACTED = 10, 20, 1
    QUESTIONS = ("How can the entropy of the universe be reversed?", "Where is Trantor?", "Who built MultiVAC?")

    def __init__(self, edge):
        self.edge = edge
        self.stop = threading.Event()
        self.replies = collections.Counter()
        self.ids = collections.deque()
        self.user = "Basic " + base64.b64encode(f"susan:{edge.password}".encode()).decode()
        self.number = 0
        # A request may hang for seconds while a server is suspended, so there are a few threads for each kind.
        kinds = [(self.feed, self.FED)] * 3 + [(self.ask, self.ASKED)] * 3 + [(self.retract, self.RETRACTED)]
        shares = collections.Counter(kind for kind, _ in kinds)
        self.threads = [
            threading.Thread(target=self.run, args=(kind, shares[kind] / rate), daemon=True) for kind, rate in kinds
        ]
        for thread in self.threads:
            thread.start()

    def run(self, kind, interval):
        connection, due = None, time.monotonic()
        # The certificate is changed while this runs.
        context = ssl._create_unverified_context()
        while not self.stop.is_set():
            due = max(due + interval, time.monotonic() - 1)
            self.stop.wait(max(0.0, due - time.monotonic()))
            connection = connection or http.client.HTTPSConnection("localhost", self.edge.port, timeout=20, context=context)
            try:
                kind(connection)
            except (OSError, http.client.HTTPException):
                self.replies[kind.__name__, "none"] += 1
                connection.close()
                connection = None

    def send(self, connection, kind, *arguments):
        connection.request(*arguments)
        reply = connection.getresponse()
        body = reply.read()
        self.replies[kind, reply.status] += 1
        return reply.status, body

    def feed(self, connection):
        self.number += 1
        text = f"Ship {self.number} left Trantor in the year {self.number % 900} with {self.number % 37} robots."
        headers = {"Authorization": self.user, "Content-Type": "text/plain"}
        status, body = self.send(connection, "feed", "POST", "/multivac/data", text, headers)
        if status == 200:
            self.ids.append((time.monotonic(), json.loads(body)["id"]))

    def ask(self, connection):
        question = self.QUESTIONS[self.number % 3].replace(" ", "+")
        self.send(connection, "ask", "GET", f"/multivac?question={question}")

    def retract(self, connection):
        """A datum that has been there for a moment; those between are forgotten."""
        while self.ids and time.monotonic() - self.ids[0][0] > 20:
            self.ids.popleft()
        if self.ids and time.monotonic() - self.ids[0][0] > 3:
            id = self.ids.popleft()[1]
            self.send(connection, "retract", "DELETE", f"/multivac/data/{id}", None, {"Authorization": self.user})

    def end(self):
        self.stop.set()
        for thread in self.threads:
            thread.join(25)
