"""What is done to a release, and what has to hold afterwards. In the order in which they are done: the most important first."""

import ssl
import sys
import time

import arrows
from load import Load, balanced, basic, drained, lost
from place import Failure, Place

ALL = []
NO_DATUM = "01900000-0000-7000-8000-000000000000"


def proof(name, seconds, quick=False):
    def register(kind):
        kind.name, kind.seconds, kind.quick = name, seconds, quick
        ALL.append(kind)
        return kind

    return register


def install(place, report, what="installed and verified"):
    began = time.monotonic()
    place.setup()
    status, said = place.deploy()
    if status:
        raise Failure(said[-3000:])
    place.find_edge()
    place.whole()
    report.rule(f"{what}: by the main job through the edge", "runs and is verified" in said, said[-500:])
    report.row(what, "-", "-", "-", "-", "-", f"{time.monotonic() - began:.0f}")


class Proof:
    def __init__(self, place, report):
        self.place, self.report = place, report

    def run(self):
        """Returns why it was not done, if it was not."""
        raise NotImplementedError

    def under_load(self, what, act, strict=True, place=None, seconds=300):
        """Clients at work while `act` is done, until all is whole again; then a row, and its rules."""
        place = place or self.place
        load = Load(place.address, place.credentials)
        try:
            time.sleep(3)
            began = time.monotonic()
            act(load)
            place.whole(seconds)
            took = time.monotonic() - began
            time.sleep(3)
        finally:
            load.stop()
        stats = drained(place.client(), 300)
        missing = lost(place.address, place.credentials, load)
        self.report.row(what, load.requests, load.failed, load.unavailable, len(load.accepted), len(missing), f"{took:.0f}")
        if strict:
            self.report.rule(f"{what}: no request fails", load.failed == 0, dict(load.why))
        else:
            self.report.rule(f"{what}: nothing worse than 503, or no answer", load.wrong == 0, dict(load.why))
        self.report.rule(f"{what}: nothing that was accepted is lost", load.accepted and not missing, missing[:5])
        self.report.rule(f"{what}: the ledger balances", balanced(stats), stats)
        return load

    def of(self, *components):
        found = []
        for component in components:
            found += self.place.pods(component)
        return found


@proof("restart", 300, quick=True)
class Restart(Proof):
    """A rolling restart of the workers, the api, the edge: no request fails."""

    def run(self):
        for part in ("worker", "api", "edge"):
            self.under_load(f"rolling restart of {part}", lambda _, part=part: self.restart(part))

    def restart(self, part):
        name = f"deployment/{self.place.name}-{part}"
        self.place.kubectl("rollout", "restart", name)
        self.place.kubectl("rollout", "status", name, "--timeout=400s", "--request-timeout=0", seconds=420)


class Kill(Proof):
    def each(self, pods):
        for pod in pods:
            name = pod["metadata"]["name"].removeprefix(f"{self.place.name}-")
            part, number = pod["metadata"]["labels"]["app.kubernetes.io/component"], name.rpartition("-")[2]
            self.under_load(f"kill -9 of {part} ({number})", lambda _, pod=pod: self.place.kill([pod]), strict=False)


@proof("kill", 240, quick=True)
class KillOne(Kill):
    """kill -9 of Redis, of mongo-0, and of one pod of each other part: nothing is lost."""

    def run(self):
        for part in ("redis", "mongo", "api", "worker", "edge"):
            self.each(self.of(part)[:1])


@proof("arrows", 90, quick=True)
class Arrows(Proof):
    """Connections that are not drawn are refused, those that are drawn are not."""

    def run(self):
        others = []
        try:
            for name in ("monitoring", "elsewhere"):
                other = Place(self.place.options, name, self.place.directory, [])
                # Without the namespace's suffix of a release: the values name the monitoring's.
                other.namespace = f"{self.place.options.namespace}-{name}"
                others.append(other)
                other.kubectl("create", "namespace", other.namespace)
                other.kubectl("label", "namespace", other.namespace, "pod-security.kubernetes.io/enforce=restricted")
            tried = arrows.look(self.place, *others, self.report)
            self.report.row("connections tried between pods", tried, "-", "-", "-", "-", "-")
        finally:
            for other in others:
                other.remove()


@proof("bad-image", 240)
class BadImage(Proof):
    """An image that is not what it is called never serves, and the helper goes back: no request fails."""

    def run(self):
        said = {}

        def act(_):
            # The worker's program in the api's place: it is in every registry that has this release, and never becomes ready.
            said["status"], said["text"] = self.place.deploy("--set", "images.api.repository=multivac-worker", minutes=2)

        self.under_load("a bad image, rolled back by the helper", act)
        self.report.rule("a bad image is rolled back by the helper (exit 3)", said["status"] == 3, "\n".join(line for line in said["text"].splitlines() if line.startswith("k8s:")))


@proof("secrets", 400)
class Secrets(Proof):
    """Another certificate and another password: no request fails."""

    def run(self):
        place, credentials = self.place, self.place.credentials

        def act(_):
            # Whoever trusts a self-signed certificate has to have the new one first.
            before = credentials.certificates[-1]
            status, said = place.script(sys.executable, "scripts/setup.py", "--rotate", "certificate")
            if status:
                raise Failure(said)
            credentials.read()
            place.setup("--replace")
            self.until(lambda: all(self.certificate() not in (before.strip(), None) for _ in range(6)))
            # Both are valid while the clients change over.
            said = place.setup("--user", "second").splitlines()
            password = next(line for line in said if line and not line.startswith("setup:"))
            self.until(lambda: self.taken("second", password))
            credentials.read(f"second:{password}")
            former = place.credentials_of_file()
            place.setup("--user", "multivac")
            changed = place.credentials_of_file()
            self.until(lambda: self.taken(*changed) and all(self.status_as(*former) == 401 for _ in range(6)))
            credentials.read()
            place.setup("--remove-user", "second")
            self.until(lambda: all(self.status_as("second", password) == 401 for _ in range(6)))

        self.under_load("certificate and password changed", act)

    def until(self, condition, seconds=240):
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise Failure(f"the edges have not taken it over within {seconds} s")
            time.sleep(2)

    def certificate(self):
        try:
            return ssl.get_server_certificate((self.place.address, 443), timeout=10).strip()
        except OSError:
            return None

    def taken(self, user, password):
        """By every edge, as far as some connections show."""
        return all(self.status_as(user, password) == 404 for _ in range(6))

    def status_as(self, user, password):
        client = self.place.client()
        try:
            return client.request("DELETE", f"/multivac/data/{NO_DATUM}", None, {"Authorization": basic(f"{user}:{password}")})[0]
        finally:
            client.close()
