"""Load through the edge from outside, as clients make it: they feed with an Idempotency-Key, ask, and retract; and they count.

A request has failed if it got anything but what the contract promises. A feed whose answer did not arrive, or was a 503, is sent again with
the same key, as every client has to: so what was accepted is known exactly, and can be looked up afterwards."""

import base64
import collections
import http.client
import json
import pathlib
import re
import socket
import ssl
import threading
import time
import urllib.parse
import uuid

SECONDS = 30
# Requests on one connection, so that a load balancer gets new ones all the time.
PER_CONNECTION = 20
# The certificate's name, whatever the address is.
HOST = "localhost"


def basic(user):
    return "Basic " + base64.b64encode(user.encode()).decode()


def user_of(secrets):
    """NAME:PASSWORD, as setup.py left it."""
    said = (pathlib.Path(secrets) / "curlrc").read_text(encoding="utf-8")
    return re.search(r'^\s*user\s*=\s*"?([^"\n]+)', said, re.MULTILINE)[1]


class Credentials:
    """The user, and the certificates that are believed, as setup.py left them; read again when they change."""

    def __init__(self, secrets):
        self.secrets, self.certificates = pathlib.Path(secrets), []
        self.read()

    def read(self, user=None):
        certificate = (self.secrets / "edge/tls.crt").read_text(encoding="utf-8")
        if certificate not in self.certificates:
            self.certificates.append(certificate)
        self.header = basic(user or user_of(self.secrets))
        # A context for each, the latest first: of two self-signed certificates with the same name OpenSSL believes only one.
        self.contexts = [ssl.create_default_context(cadata=each) for each in reversed(self.certificates)]


class Connection(http.client.HTTPSConnection):
    def __init__(self, address, contexts):
        super().__init__(HOST, 443, timeout=SECONDS)
        self.address, self.contexts = address, contexts

    def connect(self):
        # Each several times: while they change over, each connection may come to an edge with the other certificate.
        rounds = [*self.contexts] * 4
        for number, context in enumerate(rounds, 1):
            plain = socket.create_connection((self.address, 443), self.timeout)
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                self.sock = context.wrap_socket(plain, server_hostname=HOST)
                return
            except ssl.SSLCertVerificationError:
                plain.close()
                if number == len(rounds):
                    raise
            except OSError:
                plain.close()
                raise


class Client:
    """One connection at a time."""

    def __init__(self, address, credentials):
        self.address, self.credentials, self.connection, self.sent = address, credentials, None, 0

    def request(self, method, path, body=None, headers=None, seconds=None):
        """Status, headers, body. Raises OSError or HTTPException where there was no answer."""
        headers = {"Authorization": self.credentials.header, **(headers or {})}
        if self.connection and self.sent >= PER_CONNECTION:
            self.close()
        fresh = self.connection is None
        try:
            return self.once(method, path, body, headers, seconds)
        except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError, ssl.SSLEOFError):
            self.close()
            if fresh:
                raise
            # An idle connection that the server has closed meanwhile: every HTTP client takes a new one (RFC 9110, 9.2.2).
            return self.once(method, path, body, headers, seconds)
        except Exception:
            self.close()
            raise

    def once(self, method, path, body, headers, seconds):
        if self.connection is None:
            self.connection, self.sent = Connection(self.address, self.credentials.contexts), 0
            if seconds:
                self.connection.timeout = seconds
        self.sent += 1
        self.connection.request(method, path, body, headers)
        reply = self.connection.getresponse()
        said = reply.read()
        if reply.will_close:
            self.close()
        return reply.status, reply.headers, said

    def close(self):
        if self.connection:
            self.connection.close()
        self.connection = None

    def json(self, path):
        status, _, said = self.request("GET", path)
        if status != 200:
            raise OSError(f"GET {path}: {status}")
        return json.loads(said)


class Load:
    """Threads that feed, ask and retract until they are stopped."""

    def __init__(self, address, credentials, feeders=3, askers=2, pause=0.05):
        self.address, self.credentials, self.pause = address, credentials, pause
        self.lock, self.ending = threading.Lock(), threading.Event()
        self.requests = 0
        # 503 with Retry-After; no answer, or the edge's word that it got none; another answer than the contract's.
        self.unavailable, self.unanswered, self.wrong = 0, 0, 0
        self.why = collections.Counter()
        self.accepted, self.to_retract = [], collections.deque()
        # What was tried, and what was done.
        self.retracting, self.retracted = set(), set()
        self.last_fine = time.monotonic()
        works = [self.feed] * feeders + [self.ask] * askers + [self.retract]
        self.threads = [threading.Thread(target=self.loop, args=(work,), daemon=True) for work in works]
        for thread in self.threads:
            thread.start()

    @property
    def failed(self):
        return self.unavailable + self.unanswered + self.wrong

    def loop(self, work):
        client = Client(self.address, self.credentials)
        while not self.ending.is_set():
            work(client)
            self.ending.wait(self.pause)
        client.close()

    def attempt(self, client, expected, method, path, *arguments):
        """Status and body of one request that is counted; status 0 where there was none, or 503."""
        try:
            status, headers, said = client.request(method, path, *arguments)
            problem = None if status in expected else f"{method} {status}"
        except (OSError, http.client.HTTPException) as reason:
            status, headers, said = 0, {}, b""
            problem = f"{method} {type(reason).__name__}: {reason}"[:90]
        with self.lock:
            self.requests += 1
            if problem is None:
                self.last_fine = time.monotonic()
                return status, said
            self.why[problem] += 1
            if status == 503 and headers.get("Retry-After"):
                self.unavailable += 1
            elif status in (0, 502, 504):
                # The edge says 502 to a write where the api that had it died: whether it was done is not known, as with a broken connection.
                self.unanswered += 1
            else:
                self.wrong += 1
        return 0, said

    def feed(self, client):
        key = uuid.uuid4().hex
        body = urllib.parse.urlencode({"data": f"The beacon {key} shines on the shore of {key[::-1]}."})
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Idempotency-Key": key}
        # Also after the end: what may have been accepted has to be known.
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            status, said = self.attempt(client, (200,), "POST", "/multivac/data", body, headers)
            if status == 200:
                datum = json.loads(said)["id"]
                with self.lock:
                    self.accepted.append(datum)
                    if len(self.accepted) % 5 == 0:
                        self.to_retract.append(datum)
                return
            time.sleep(1)

    def ask(self, client):
        question = urllib.parse.quote(f"On which shore does the beacon {uuid.uuid4().hex} shine?")
        self.attempt(client, (200,), "GET", f"/multivac?question={question}")

    def retract(self, client):
        with self.lock:
            datum = self.to_retract.popleft() if self.to_retract else None
            self.retracting.add(datum)
        if datum is None:
            time.sleep(0.1)
            return
        status, _ = self.attempt(client, (202, 204), "DELETE", f"/multivac/data/{datum}")
        with self.lock:
            if status:
                self.retracted.add(datum)
            else:
                self.to_retract.append(datum)

    def stop(self):
        self.ending.set()
        for thread in self.threads:
            thread.join(320)
            if thread.is_alive():
                raise OSError("a client does not end")


def balanced(stats):
    return stats["accepted"] == sum(stats[part] for part in ("queued", "processing", "learned", "retracted", "dead"))


def drained(client, seconds):
    """The ledger when nothing waits; raises OSError if that is not so in time."""
    deadline, stats = time.monotonic() + seconds, "no answer"
    while time.monotonic() < deadline:
        try:
            stats = client.json("/multivac/stats")
            if stats["queued"] + stats["processing"] == 0:
                return stats
        except (OSError, http.client.HTTPException) as reason:
            stats = reason
        time.sleep(1)
    raise OSError(f"what was accepted is not learned within {seconds} s: {stats}")


def lost(address, credentials, load):
    """The accepted data that are neither processed nor retracted, or not what was asked for."""
    found, lock, rest = [], threading.Lock(), collections.deque(load.accepted)

    def look():
        client = Client(address, credentials)
        while True:
            try:
                datum = rest.popleft()
            except IndexError:
                return client.close()
            said = None
            for _ in range(20):
                try:
                    status, _, body = client.request("GET", f"/multivac/data/{datum}")
                    said = json.loads(body).get("status") if status == 200 else status
                    if said in ("processed", "retracted", "failed", 404):
                        break
                except (OSError, http.client.HTTPException) as reason:
                    said = reason
                time.sleep(1)
            fine = {"retracted"} if datum in load.retracted else {"processed", "retracted"} if datum in load.retracting else {"processed"}
            if said not in fine:
                with lock:
                    found.append((datum, str(said)))

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found
