"""More and fewer of them, by hand and by themselves; another version and back; a backup, and all of it gone and restored."""

import json
import time

from load import balanced, drained
from place import ROOT, Failure, run
from proofs import Proof, proof

DATA = 200_000
PER_REQUEST = 10_000
LIMIT = "25m"


class Queue(Proof):
    def scale(self, part, replicas):
        name = f"deployment/{self.place.name}-{part}"
        self.place.kubectl("scale", name, f"--replicas={replicas}")
        self.place.kubectl("rollout", "status", name, "--timeout=200s", "--request-timeout=0", seconds=220)

    def feed(self, count):
        client = self.place.client()
        headers = {"Content-Type": "application/x-ndjson"}
        accepted, requests = 0, 0
        for start in range(0, count, PER_REQUEST):
            lines = "".join(json.dumps({"data": f"The star {start + each} has {each % 97} planets."}) + "\n" for each in range(min(PER_REQUEST, count - start)))
            status, _, said = client.request("POST", "/multivac/data/bulk", lines, headers, seconds=120)
            requests += 1
            if status != 200:
                raise Failure(f"bulk: {status} {said[:200]}")
            accepted += json.loads(said)["accepted"]
        client.close()
        return accepted, requests

    def learned(self):
        client = self.place.client()
        try:
            return client.json("/multivac/stats")["learned"], time.monotonic()
        finally:
            client.close()

    def rate(self, seconds=20):
        first, began = self.learned()
        time.sleep(seconds)
        last, ended = self.learned()
        return (last - first) / (ended - began)

    def replicas(self, part):
        return self.place.get("deployment", f"{self.place.name}-{part}")["spec"]["replicas"]

    def until(self, what, condition, seconds):
        began = time.monotonic()
        while not condition():
            if time.monotonic() - began > seconds:
                raise Failure(f"{what}: not within {seconds} s")
            time.sleep(2)
        return time.monotonic() - began

    def drained(self, what, accepted, requests, before, took):
        stats = drained(self.place.client(), 600)
        done = stats["learned"] + stats["retracted"] + stats["dead"] - before
        self.report.row(what, requests, 0, 0, accepted, accepted - done, took)
        self.report.rule(f"{what}: nothing that was accepted is lost", accepted == done and stats["dead"] == 0, stats)
        self.report.rule(f"{what}: the ledger balances", balanced(stats), stats)

    def before(self):
        stats = drained(self.place.client(), 300)
        return stats["learned"] + stats["retracted"] + stats["dead"]


@proof("scale", 300)
class Scale(Queue):
    """`kubectl scale --replicas=4` raises how many data are learned a second."""

    def run(self):
        # A fortieth of a core for each, so that it is the workers that all waits for: on a small machine one alone keeps MongoDB busy.
        self.limited(f"worker.resources.limits.cpu={LIMIT},worker.resources.requests.cpu=10m")
        before = self.before()
        self.scale("worker", 0)
        try:
            accepted, requests = self.feed(DATA)
            self.scale("worker", 1)
            time.sleep(5)
            one = self.rate()
            self.scale("worker", 4)
            time.sleep(5)
            four = self.rate()
            self.drained(f"{accepted} data, {one:.0f} a second by 1 worker of {LIMIT}, {four:.0f} by 4", accepted, requests, before, "-")
        finally:
            self.scale("worker", 2)
            self.limited("worker.concurrency=2")
        self.report.rule("4 workers learn twice as much a second as 1, at least", four > 2 * one, f"{one:.0f}, {four:.0f}")

    def limited(self, setting):
        status, said = self.place.deploy("--set", setting)
        if status:
            raise Failure(said[-1500:])


@proof("keda", 500)
class Keda(Queue):
    """KEDA adds workers while many data wait, and takes them away afterwards."""

    def run(self):
        if run(["kubectl", "--context", self.place.context, "get", "crd", "scaledobjects.keda.sh"], None, 30).returncode:
            return "this cluster has no KEDA"
        before = self.before()
        scaling = {"kind": "keda", "min": 1, "max": 4, "unfinishedPerWorker": 1000, "downAfterSeconds": 15}
        status, said = self.place.deploy(*(each for key, value in scaling.items() for each in ("--set", f"worker.autoscaling.{key}={value}")))
        if status:
            raise Failure(said[-1500:])
        try:
            self.until("down to 1", lambda: self.replicas("worker") == 1, 240)
            accepted, requests = self.feed(DATA)
            up = self.until("KEDA adds workers", lambda: self.replicas("worker") >= 3, 180)
            self.drained(f"KEDA: {accepted} data, 3 workers after {up:.0f} s", accepted, requests, before, f"{up:.0f}")
            down = self.until("KEDA takes them away", lambda: self.replicas("worker") == 1, 300)
            self.report.rule(f"KEDA adds workers while data wait ({up:.0f} s), and takes them away ({down:.0f} s)", True)
        finally:
            self.place.deploy()
            self.scale("worker", 2)
        return None


@proof("hpa", 400)
class Hpa(Queue):
    """The api scales by its CPU under load, up and down: no request fails."""

    def run(self):
        if run(["kubectl", "--context", self.place.context, "top", "nodes"], None, 30).returncode:
            return "this cluster has no metrics-server"
        status, said = self.place.deploy("--set", "api.autoscaling.enabled=true", "--set", "api.autoscaling.max=3", "--set", "api.autoscaling.cpu=100")
        if status:
            raise Failure(said[-1500:])
        name = f"{self.place.name}-api"
        try:
            # Ten minutes are right in production, and too long here.
            quick = {"spec": {"behavior": {"scaleDown": {"stabilizationWindowSeconds": 0, "policies": [{"type": "Pods", "value": 1, "periodSeconds": 15}]}}}}
            self.place.kubectl("patch", "hpa", name, "--type=merge", f"--patch={json.dumps(quick)}")
            self.under_load("HPA: from 2 to 3 api under load", lambda _: self.until("the HPA adds an api", lambda: self.replicas("api") == 3, 200))
            self.until("the HPA takes it away", lambda: self.replicas("api") == 2, 300)
            self.report.rule("the HPA takes it away again without load", True)
        finally:
            self.place.deploy()


@proof("upgrade", 400)
class Upgrade(Proof):
    """An upgrade by the helper, and a rollback by helm: no request fails."""

    def run(self):
        place, said = self.place, {}

        def upgrade(_):
            change = [each for part in ("edge", "api", "worker") for each in ("--set", f"{part}.podAnnotations.k8s-test=changed")]
            said["status"], said["text"] = place.deploy(*change, version=place.options.other)

        self.under_load(f"upgrade to {place.options.other or 'the same version with another annotation'}", upgrade)
        self.report.rule("the helper upgrades and verifies (exit 0)", said["status"] == 0, said["text"][-1500:])
        self.under_load("rollback", lambda _: place.helm("rollback", place.release, "--wait", "--timeout=8m", seconds=500))


@proof("restore", 500)
class Restore(Proof):
    """A backup, everything gone, restored: the same number of data."""

    def run(self):
        place = self.place
        script = ROOT / "scripts/k8s-restore.sh"
        if not script.exists():
            return "there is no scripts/k8s-restore.sh"
        before = drained(place.client(), 300)
        place.kubectl("create", "job", "k8s-test-backup", f"--from=cronjob/{place.name}-backup")
        place.kubectl("wait", "job/k8s-test-backup", "--for=condition=complete", "--timeout=180s", "--request-timeout=0", seconds=200)
        began = time.monotonic()
        place.helm("uninstall", place.release, "--wait", "--timeout=4m", seconds=300)
        for part in ("redis", "mongo"):
            place.kubectl("delete", "pvc", f"--selector=app.kubernetes.io/component={part}", "--timeout=100s", seconds=120)
        status, said = place.deploy()
        if status:
            raise Failure(said[-1500:])
        place.find_edge()
        empty = drained(place.client(), 100)
        status, said = place.script(str(script), "latest", "--context", place.context, "--namespace", place.namespace, "--yes")
        if status:
            raise Failure(said[-1500:])
        after = drained(place.client(), 100)
        # What verifying left behind is retracted, and counted too.
        extra = empty["learned"]
        lost = before["learned"] - (after["learned"] - extra)
        self.report.row("backup, all volumes deleted, restored", "-", "-", "-", before["learned"], lost, f"{time.monotonic() - began:.0f}")
        self.report.rule("as many data are learned as before", lost == 0, f"before {before}, after {after}")
        return None
