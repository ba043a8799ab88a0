#!/usr/bin/env python3
"""Installs a version on Kubernetes, or upgrades to it, and verifies it by doing the main job through the edge:

    scripts/k8s-deploy.sh VERSION --context CONTEXT [--namespace multivac] [--release multivac] [-f VALUES.yaml]… [--set KEY=VALUE]…

What it does    1 looks at everything that has to be so, and tells all that is not at once; 2 upgrades by helm, with a line of
                progress for each component; 3 verifies: every pod is VERSION, feeding needs a password, and a datum is fed, learned,
                asked, retracted, with the ledger balanced. If that fails: shows events and logs, goes back to what was deployed
                before, and verifies that. One at a time (a Lease); killed at any moment and run again, it ends well.
                The number of replicas stays what it is where it was changed by hand or scales by itself. Volumes are never touched.
--dry-run       does step 1, and shows what would change; changes nothing
-f, --set       as for helm; -f digests.yaml of a release pins its images. Values in none of them are the chart's, not the last
                deployment's.
--url URL       verifies at this address; else at the Service's own, else through kubectl port-forward
--curl-config F user and password for `curl --config`; secrets/curlrc, which setup.py makes
--cosign-key F, or --cosign-identity REGEXP with --cosign-issuer URL: our images have to be signed by it
--chart C       another chart than deploy/helm/multivac, such as oci://…
--timeout TIME  for helm, such as 20m
What it needs   python3 (3.9), kubectl, helm (3.14 or newer, 4 too), openssl, curl; cosign for signatures. The Secrets: scripts/setup.py
                --kubernetes.
What it returns 0 when the version runs and is verified; 2 if something has to be done first, with nothing changed; 3 if it failed and
                the previous one runs again, verified; 4 if not even that; 130 if it was interrupted.
"""

import argparse
import difflib
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.parse

import preflight
import verify
from cluster import SECONDS, Cluster, Failure, last_line, run, say
from lease import Lease

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
DEPLOYMENTS = ("edge", "api", "worker")
WAIT_SECONDS = 900


def read_options():
    parser = argparse.ArgumentParser(
        prog="scripts/k8s-deploy.sh", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("version")
    parser.add_argument("--context", required=True)
    parser.add_argument("--namespace", default="multivac")
    parser.add_argument("--release", default="multivac")
    parser.add_argument("-f", "--values", dest="files", action="append", default=[])
    parser.add_argument("--set", dest="sets", action="append", default=[])
    parser.add_argument("--url")
    parser.add_argument("--curl-config")
    parser.add_argument("--chart", default=str(ROOT / "deploy/helm/multivac"))
    parser.add_argument("--timeout", default="20m")
    parser.add_argument("--cosign-key")
    parser.add_argument("--cosign-identity")
    parser.add_argument("--cosign-issuer")
    parser.add_argument("--dry-run", action="store_true")
    options = parser.parse_args()
    if not re.fullmatch(r"v?[0-9A-Za-z][0-9A-Za-z._-]{0,126}", options.version):
        parser.error(f"{options.version!r} is no version: it is the tag of the images")
    if options.url and not re.fullmatch(r"https://[^/?#\s]+/?", options.url):
        parser.error("--url is https://HOST or https://HOST:PORT")
    if bool(options.cosign_identity) != bool(options.cosign_issuer):
        parser.error("--cosign-identity and --cosign-issuer go together")
    if not re.fullmatch(r"(\d+[hms])+", options.timeout):
        parser.error(f"--timeout is a time such as 20m, not {options.timeout}")
    options.host = urllib.parse.urlsplit(options.url).hostname if options.url else None
    options.curl_config = os.path.abspath(options.curl_config or os.path.join(os.environ.get("MULTIVAC_SECRETS") or ROOT / "secrets", "curlrc"))
    options.values = [argument for file in options.files for argument in ("-f", file)]
    options.values += [f"--set-string=images.{image}.tag={options.version}" for image in ("api", "worker")]
    options.values += [argument for value in options.sets for argument in ("--set", value)]
    return options


def replicas(cluster, look):
    """--set for each part whose number of replicas is to stay: it scales by itself, or somebody changed it by hand."""
    kept = []
    for part in DEPLOYMENTS:
        live = cluster.get("deployment", f"{cluster.name}-{part}")
        if not live:
            continue
        count = live["spec"]["replicas"]
        wanted = preflight.of(look.values, part)
        scaling = wanted.get("autoscaling") or {}
        if scaling.get("enabled") or scaling.get("kind", "none") != "none":
            # Without it, Helm would set one when it no longer says how many; the autoscaler goes on from here.
            kept.append(f"--set={part}.autoscaling.current={count}")
            continue
        before = preflight.of(look.deployed or {}, f"{part}.replicas")
        if wanted.get("replicas") == before and count not in (before, None):
            say(f"{part}: {count} replicas stay, which somebody has made of {before}")
            kept.append(f"--set={part}.replicas={count}")
    return kept


def difference(cluster, options, kept):
    """What would change, by the API server's own word."""
    said = cluster.helm(
        "upgrade", "--install", cluster.release, options.chart, *options.values, *kept, "--dry-run=server", "--output=json", seconds=180
    )
    new = json.loads(said[said.index("{") :])["manifest"]
    old = cluster.helm("get", "manifest", cluster.release) if cluster.history() else ""
    lines = list(difflib.unified_diff(old.splitlines(), new.splitlines(), "deployed", "new", lineterm="", n=2))
    print("\n".join(lines) if lines else "nothing would change")


class Progress(threading.Thread):
    """A line whenever a component has come further."""

    def __init__(self, cluster):
        super().__init__(daemon=True)
        self.cluster, self.told, self.stopped = cluster, {}, threading.Event()

    def run(self):
        while not self.stopped.wait(2):
            try:
                found = self.cluster.get("deployments,statefulsets,jobs", self.cluster.selector())
            except Failure:
                continue
            for item in (found or {}).get("items", []):
                self.tell(item)

    def tell(self, item):
        name, status, spec = item["metadata"]["name"], item.get("status") or {}, item["spec"]
        if item["kind"] == "Job":
            line = "done" if status.get("succeeded") else f"at work{', tried ' + str(status['failed']) + ' times' if status.get('failed') else ''}"
        else:
            wanted = spec.get("replicas", 1)
            line = f"{status.get('updatedReplicas', 0)} of {wanted} updated, {status.get('readyReplicas', 0)} ready"
            if status.get("observedGeneration") != item["metadata"]["generation"]:
                return
        if self.told.get(name) != line:
            self.told[name] = line
            say(f"{name}: {line}")


class Deployment:
    def __init__(self, cluster, options, lease):
        self.cluster, self.options, self.lease = cluster, options, lease
        self.helm = None

    def helm_with_progress(self, *arguments):
        """A helm command that waits for what it has changed."""
        progress = Progress(self.cluster)
        progress.start()
        # In a group of its own, so that Ctrl-C reaches it once, from here.
        self.helm = subprocess.Popen(
            self.cluster.helm_command(*arguments, "--wait", f"--timeout={self.options.timeout}"),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            _, errors = self.helm.communicate()
        finally:
            progress.stopped.set()
        status, self.helm = self.helm.returncode, None
        if status:
            raise Failure(f"helm {arguments[0]}: {last_line(errors)}")
        if self.lease.lost:
            raise Failure("the Lease was taken by another helper meanwhile")

    def interrupted(self, number, _frame):
        if self.helm:
            # It marks the release as failed, and ends.
            self.helm.send_signal(signal.SIGINT)
            try:
                self.helm.wait(20)
            except subprocess.TimeoutExpired:
                self.helm.kill()
        self.lease.release()
        say("interrupted; run it again, and it goes on from what is there")
        os._exit(128 + number)

    def recover(self):
        """What a helper that was killed has left. Nobody is at work: the Lease is ours."""
        history = self.cluster.history()
        if not history or not history[-1]["status"].startswith("pending-"):
            return
        good = [entry["revision"] for entry in history if entry["status"] in ("deployed", "superseded")]
        say(f"revision {history[-1]['revision']} is {history[-1]['status']}, and nobody is at work on it")
        if good:
            say(f"going back to revision {good[-1]} first")
            self.cluster.helm("rollback", self.cluster.release, str(good[-1]), seconds=120)
        else:
            # Claims of volumes belong to no release, and stay.
            say("nothing was deployed before: removing it first; its volumes stay")
            self.cluster.helm("uninstall", self.cluster.release, "--wait", "--timeout=5m", seconds=330)

    def current(self):
        deployed = [entry["revision"] for entry in self.cluster.history() if entry["status"] == "deployed"]
        return deployed[-1] if deployed else None

    def show(self):
        """The last words of what is not well."""
        events = run(self.cluster.kubectl_command("get", "events", "--field-selector=type=Warning", "--sort-by=.lastTimestamp"), None, 30)
        say("the last warnings:")
        print("\n".join(events.stdout.splitlines()[-12:]), file=sys.stderr)
        pods = self.cluster.get("pods", self.cluster.selector()) or {}
        for pod in pods.get("items", []):
            statuses = pod["status"].get("containerStatuses") or []
            if pod["status"].get("phase") == "Succeeded" or (statuses and all(status["ready"] for status in statuses)):
                continue
            name = pod["metadata"]["name"]
            waiting = [status["state"].get("waiting", {}).get("reason") for status in statuses if status["state"].get("waiting")]
            say(f"{name} is not ready{': ' + ', '.join(filter(None, waiting)) if waiting else ''}; its last lines:")
            logs = run(self.cluster.kubectl_command("logs", name, "--all-containers", "--tail=5", "--ignore-errors"), None, 30)
            print(logs.stdout.rstrip(), file=sys.stderr)

    def back(self, revision):
        """0 never; 3 if the previous revision runs and is verified, else 4."""
        if not revision:
            say("nothing was deployed before, so there is nothing to go back to; it is left as it is, to be looked at. Mend the cause and run this again")
            return 4
        try:
            say(f"going back to revision {revision}")
            members = self.members()
            self.cluster.helm("rollback", self.cluster.release, str(revision), seconds=120)
            if (self.members() or 0) < (members or 0):
                # The set counts on those that were added: without them it has no majority.
                say(f"MongoDB keeps its {members} members")
                self.cluster.kubectl("scale", f"statefulset/{self.cluster.name}-mongo", f"--replicas={members}")
            self.wait()
            values = json.loads(self.cluster.helm("get", "values", self.cluster.release, "--all", "--output=json"))
            version = preflight.of(values, "images.api.tag")
            verify.verify(self.cluster, version, self.options)
        except Failure as reason:
            say(f"that failed too: {reason}")
            self.show()
            say("the release is not well: see what is above, and `helm history`; volumes were not touched")
            return 4
        say(f"rolled back: {version} runs and is verified")
        return 3

    def members(self):
        """Of MongoDB, as many as there are now; None where it is not ours."""
        found = self.cluster.get("statefulset", f"{self.cluster.name}-mongo")
        return found and found["spec"]["replicas"]

    def wait(self):
        """Until all that was changed is ready."""
        progress = Progress(self.cluster)
        progress.start()
        try:
            found = self.cluster.get("deployments,statefulsets", self.cluster.selector())
            for item in (found or {}).get("items", []):
                name = f"{item['kind'].lower()}/{item['metadata']['name']}"
                command = self.cluster.kubectl_command("rollout", "status", name, f"--timeout={WAIT_SECONDS}s")
                # Its request is one that stays open.
                command.remove(f"--request-timeout={SECONDS}s")
                done = run(command, None, WAIT_SECONDS + 30)
                if done.returncode:
                    raise Failure(f"{name} is not ready: {last_line(done.stderr)}")
        finally:
            progress.stopped.set()

    def go(self, look):
        self.recover()
        previous = self.current()
        started = time.monotonic()
        try:
            kept = replicas(self.cluster, look)
            say(f"{'upgrading from revision ' + str(previous) if previous else 'installing'} to {self.options.version}")
            self.helm_with_progress(
                "upgrade", "--install", self.cluster.release, self.options.chart, *self.options.values, *kept, "--history-max=10"
            )
            say(f"all is ready after {time.monotonic() - started:.0f} s; verifying")
            verify.verify(self.cluster, self.options.version, self.options)
        except Failure as reason:
            say(f"FAILED: {reason}")
            self.show()
            return self.back(previous)
        self.lease.notes["multivac/database"] = look.database
        say(f"{self.options.version} runs and is verified, {time.monotonic() - started:.0f} s after it began")
        return 0


def main():
    options = read_options()
    cluster = Cluster(options.context, options.namespace, options.release)
    look = preflight.Preflight(cluster, options)
    fine = look.run()
    preflight.tell(look)
    if not (options.cosign_key or options.cosign_identity):
        say("signatures are not verified (no --cosign-key, no --cosign-identity)")
    if not fine:
        return 2
    lease = Lease(cluster)
    if options.dry_run:
        who = lease.holder_at_work()
        if who:
            say(f"another helper is at work: {who}")
        difference(cluster, options, replicas(cluster, look))
        return 0
    lease.take()
    deployment = Deployment(cluster, options, lease)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, deployment.interrupted)
    try:
        return deployment.go(look)
    finally:
        lease.release()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failure as reason:
        say(reason)
        sys.exit(2)
