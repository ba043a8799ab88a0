#!/usr/bin/env python3
"""The rules of scripts/k8s-deploy.sh, on a real cluster, in a namespace of its own:

    tests/kubernetes/deploy_rules.py CONTEXT VERSION REGISTRY [--kills 20]

What it does    Installs REGISTRY's VERSION (as its programs name themselves), and then gives the helper every reason to refuse, to go
                back, and to be killed. Its namespace, with all that is in it, is deleted at the end.
What it needs   kubectl, helm, openssl, curl, python3; a cluster whose nodes can pull from REGISTRY, and whose Services this machine
                reaches; the images as :VERSION, and as :0.0.0-other the same ones again, which are then not what they are called.
What it returns 0 if every rule holds. The last line is `k8s-deploy: N rules hold, M broken`.
"""

import argparse
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests"))
import rules  # noqa: E402

OTHER = "0.0.0-other"
# One of each, with little of everything.
VALUES = """
edge: { replicas: 1, minReadySeconds: 1 }
api: { replicas: 1, minReadySeconds: 1, resources: { requests: { cpu: 50m, memory: 128Mi } } }
worker: { replicas: 1, resources: { requests: { cpu: 50m, memory: 64Mi } } }
redis: { resources: { requests: { cpu: 50m, memory: 64Mi } } }
mongo: { members: 1, resources: { requests: { cpu: 100m, memory: 256Mi } } }
"""
given = None
directory = None


def environment():
    return {**os.environ, "MULTIVAC_SECRETS": f"{directory}/secrets", "MULTIVAC_ENV_FILE": f"{directory}/env"}


def command(*arguments, version=None, namespace=None):
    values = ["-f", f"{directory}/values.yaml", "--set", f"images.registry={given.registry}"]
    where = ["--context", given.context, "--namespace", namespace or given.namespace]
    return [str(ROOT / "scripts/k8s-deploy.sh"), version or given.version, *where, *values, *arguments]


def deploy(*arguments, **kinds):
    """Status and all that it says."""
    done = subprocess.run(command(*arguments, **kinds), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=550, env=environment(), check=False)
    return done.returncode, done.stdout


def kubectl(*arguments, given_text=None):
    base = ["kubectl", "--context", given.context, "--namespace", given.namespace]
    return subprocess.run([*base, *arguments], input=given_text, capture_output=True, text=True, timeout=120, check=True).stdout


def setup(*arguments, namespace=None):
    base = [str(ROOT / "scripts/setup.py"), "--kubernetes", "--context", given.context, "--namespace", namespace or given.namespace]
    subprocess.run([*base, "--mongo-members", "1", *arguments], env=environment(), check=True, timeout=120, capture_output=True)


def revision():
    said = subprocess.run(
        ["helm", "--kube-context", given.context, "--namespace", given.namespace, "history", "multivac", "--output=json"],
        capture_output=True, text=True, timeout=60, check=False,
    )
    return json.loads(said.stdout)[-1] if said.returncode == 0 else None


class Rules(unittest.TestCase):
    """In the order of their names, since the first installs what the others change."""

    def fine(self, result):
        self.assertEqual(result[0], 0, result[1])
        self.assertIn("runs and is verified", result[1])

    def test_a_it_installs_and_verifies_by_the_main_job(self):
        result = deploy()
        self.fine(result)
        for step in ("needs a password", "not to be seen", "accepted", "learned", "answered with it", "retracted", "balances"):
            self.assertIn(step, result[1])

    def test_b_run_again_it_changes_nothing_that_runs(self):
        before = kubectl("get", "pods", "--output=name")
        self.fine(deploy())
        self.assertEqual(kubectl("get", "pods", "--output=name"), before)

    def test_c_a_dry_run_shows_the_difference_and_changes_nothing(self):
        before = revision()
        status, said = deploy("--dry-run", "--set", "worker.concurrency=7")
        self.assertEqual(status, 0, said)
        self.assertIn('+            - { name: MULTIVAC_CONCURRENCY, value: "7" }', said)
        self.assertEqual(revision(), before)

    def test_d_what_is_not_ready_is_told_all_at_once(self):
        values = ["--set", "redis.storage.class=none-such", "--set", "secrets.app=none-such", "--set", "images.api.repository=none-such"]
        before = revision()
        status, said = deploy(*values, "--url", "https://elsewhere.example.org")
        self.assertEqual(status, 2, said)
        for reason in ("no StorageClass none-such", "no Secret none-such", "has no "):
            self.assertIn(reason, said)
        status, said = deploy("--url", "https://elsewhere.example.org")
        self.assertEqual(status, 2, said)
        self.assertIn("is not for elsewhere.example.org", said)
        self.assertEqual(revision(), before)

    def test_e_what_would_put_data_out_of_reach_is_refused(self):
        for change in ("partitions=4", "namespace=other", "redis.mode=external", "mongo.mode=external"):
            with self.subTest(change):
                status, said = deploy("--set", change)
                self.assertEqual(status, 2, said)
                self.assertIn("data would be out of reach", said)

    def test_f_other_reasons_to_refuse(self):
        for arguments, reason in (
            (["--context", "none-such"], "no context 'none-such'"),
            (["--namespace", "none-such"], "no namespace none-such"),
            (["--set", f"images.redis.repository={given.registry}/none-such"], "has no"),
            (["--set", "worker.autoscaling.kind=nonsense"], "worker"),
            (["--cosign-key", "/dev/null"], "no digest"),
        ):
            with self.subTest(arguments):
                status, said = deploy(*arguments)
                self.assertEqual(status, 2, said)
                self.assertTrue(reason in said or "cosign is missing" in said, said)

    def test_g_an_image_that_cannot_start_is_rolled_back(self):
        status, said = deploy("--set", "images.nginx.repository=none-such-anywhere", "--timeout", "40s")
        self.assertEqual(status, 3, said)
        self.assertIn(f"rolled back: {given.version} runs and is verified", said)

    def test_h_a_version_that_is_not_what_it_is_called_is_rolled_back(self):
        status, said = deploy(version=OTHER)
        self.assertEqual(status, 3, said)
        self.assertIn(f"every api and worker is {OTHER}", said)
        self.assertIn("rolled back", said)

    def test_i_replicas_that_somebody_has_changed_stay(self):
        kubectl("scale", "deployment/multivac-worker", "--replicas=2")
        result = deploy("--set", "worker.concurrency=3")
        self.fine(result)
        self.assertEqual(kubectl("get", "deployment/multivac-worker", "--output=jsonpath={.spec.replicas}"), "2")
        kubectl("scale", "deployment/multivac-worker", "--replicas=1")

    def test_j_two_at_once_are_one(self):
        first = subprocess.Popen(command(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment())
        deadline = time.monotonic() + 120
        while not json.loads(kubectl("get", "leases", "--output=json"))["items"] or not holder():
            self.assertLess(time.monotonic(), deadline, "the first takes no Lease")
            time.sleep(0.2)
        status, said = deploy()
        self.assertEqual(status, 2, said)
        self.assertIn("another helper", said)
        said, _ = first.communicate(timeout=550)
        self.fine((first.returncode, said))

    def test_k_killed_at_any_moment_and_run_again_it_ends_well(self):
        started = time.monotonic()
        self.fine(deploy("--set", "worker.concurrency=1"))
        length = time.monotonic() - started
        for number in range(given.kills):
            # Each would change something, or there would be nothing to be cut off from.
            process = subprocess.Popen(
                command("--set", f"worker.concurrency={number % 5 + 2}"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment(), start_new_session=True
            )
            try:
                process.wait(length * (number + 0.5) / given.kills)
            except subprocess.TimeoutExpired:
                # With helm and kubectl, or without; by both signals.
                (os.killpg if number % 2 else os.kill)(process.pid, signal.SIGTERM if number % 4 == 3 else signal.SIGKILL)
                process.wait(60)
        result = deploy("--set", "worker.concurrency=2")
        self.fine(result)
        self.assertEqual(revision()["status"], "deployed")

    def test_l_a_release_that_was_left_pending_is_taken_up(self):
        secret = f"sh.helm.release.v1.multivac.v{revision()['revision']}"
        # What helm leaves when it is killed in the middle.
        import base64, gzip  # noqa: E401

        found = json.loads(kubectl("get", "secret", secret, "--output=json"))
        release = json.loads(gzip.decompress(base64.b64decode(base64.b64decode(found["data"]["release"]))))
        release["info"]["status"] = "pending-upgrade"
        packed = base64.b64encode(base64.b64encode(gzip.compress(json.dumps(release).encode()))).decode()
        found["data"]["release"] = packed
        found["metadata"]["labels"]["status"] = "pending-upgrade"
        kubectl("replace", "-f", "-", given_text=json.dumps(found))
        result = deploy()
        self.fine(result)
        self.assertIn("is pending-upgrade, and nobody is at work", result[1])

    def test_n_members_that_were_added_stay_when_it_goes_back_and_none_is_taken_away(self):
        status, said = deploy("--set", "mongo.members=3", version=OTHER)
        self.assertEqual(status, 3, said)
        self.assertIn("MongoDB keeps its 3 members", said)
        status, said = deploy()
        self.assertEqual(status, 2, said)
        self.assertIn("mongo.members is 3 and would become 1", said)
        self.fine(deploy("--set", "mongo.members=3"))

    def test_m_a_certificate_that_has_expired_is_refused(self):
        end = ["-not_before", "20200101000000Z", "-not_after", "20210101000000Z"]
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=old", "-keyout", f"{directory}/k", "-out", f"{directory}/c", *end],
            check=False, capture_output=True, timeout=60,
        )
        if not os.path.exists(f"{directory}/c"):
            # An OpenSSL before 3.4 makes none that has ended; one for a day is warned of.
            subprocess.run(
                ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=old", "-days", "1", "-keyout", f"{directory}/k", "-out", f"{directory}/c"],
                check=True, capture_output=True, timeout=60,
            )
        made = kubectl("create", "secret", "tls", "old", f"--cert={directory}/c", f"--key={directory}/k", "--dry-run=client", "--output=json")
        kubectl("create", "-f", "-", given_text=made)
        _, said = deploy("--dry-run", "--set", "secrets.edgeTls=old")
        self.assertRegex(said, "has expired|ends within 14 days")


def holder():
    items = json.loads(kubectl("get", "leases", "--output=json"))["items"]
    return items and items[0]["spec"].get("holderIdentity")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("context")
    parser.add_argument("version")
    parser.add_argument("registry")
    parser.add_argument("--kills", type=int, default=20)
    given = parser.parse_args()
    given.namespace = f"multivac-deploy-{os.getpid()}"
    with tempfile.TemporaryDirectory() as directory:
        pathlib.Path(directory, "values.yaml").write_text(VALUES, encoding="utf-8")
        try:
            setup()
            rules.run("k8s-deploy")
        finally:
            subprocess.run(["kubectl", "--context", given.context, "delete", "namespace", given.namespace, "--wait=false"], check=False, timeout=60)
