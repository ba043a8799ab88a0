"""The main job, done through the edge as a client does it: fed, learned, asked, retracted; and that every part is of the version."""

import json
import os
import pathlib
import re
import select
import subprocess
import time
import urllib.parse
import urllib.request
import uuid

from cluster import Failure, run, say

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
SECONDS, FORWARD_SECONDS = 120, 20


class Edge:
    """curl, with the user's password in a file that curl reads by itself."""

    def __init__(self, url, address, curl_config):
        self.url, self.config = url.rstrip("/"), curl_config
        self.common = ["curl", "--silent", "--show-error", "--max-time", "20", "--write-out", "\n%{http_code}"]
        if address:
            # Whatever the name of the certificate is: this release's edge.
            self.common += ["--connect-to", f"::{address}"]

    def ask(self, path, *arguments, as_user=True):
        """Status and body. Without a password it is still the same certificate that is believed."""
        if as_user:
            known = ["--config", self.config]
        else:
            with open(self.config, encoding="utf-8") as file:
                authority = re.search(r'^\s*cacert\s*=\s*"?([^"\n]+)', file.read(), re.MULTILINE)
            known = ["--disable"] + (["--cacert", authority[1]] if authority else [])
            # --disable counts as the first argument only.
            return self.reply([self.common[0], *known, *self.common[1:], *arguments, self.url + path])
        return self.reply([*self.common, *known, *arguments, self.url + path])

    def reply(self, command):
        # The name of the certificate's file in curlrc counts from the project's root.
        done = run(command, None, 30, ROOT)
        body, _, status = done.stdout.rpartition("\n")
        if done.returncode:
            raise Failure(f"the edge cannot be asked at {self.url}: {done.stderr.strip()}")
        return int(status), body


def expect(what, condition, found=""):
    if not condition:
        raise Failure(f"{what}: not so{': ' + str(found)[:300] if found != '' else ''}")
    say(f"verified: {what}")


def until(what, look, seconds=SECONDS):
    """Asks until it is so, once a second."""
    deadline = time.monotonic() + seconds
    while True:
        fine, found = look()
        if fine:
            say(f"verified: {what}")
            return found
        if time.monotonic() > deadline:
            raise Failure(f"{what}: not within {seconds} s: {str(found)[:300]}")
        time.sleep(1)


def address_of(cluster):
    """Where the edge listens for the machine that this runs on: the load balancer's address; None where it has none."""
    service = cluster.get("service", f"{cluster.name}-edge")
    given = (service or {}).get("status", {}).get("loadBalancer", {}).get("ingress") or []
    where = [entry.get("ip") or entry.get("hostname") for entry in given]
    return f"{where[0]}:443" if where else None


class Forward:
    """A port of a pod or a Service here, by kubectl's own way, which no network policy stands in."""

    def __init__(self, cluster, target, port):
        command = ["kubectl", "--context", cluster.context, "--namespace", cluster.namespace, "port-forward", target, f":{port}"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        ready, _, _ = select.select([self.process.stdout], [], [], FORWARD_SECONDS)
        found = re.search(r":(\d+) ->", self.process.stdout.readline()) if ready else None
        if not found:
            self.close()
            raise Failure(f"kubectl port-forward {target} {port} does not work")
        self.address = f"127.0.0.1:{found[1]}"

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def versions(cluster, version):
    """Every pod of ours says so itself."""
    found = {}
    for component, port in (("api", 5000), ("worker", 5001)):
        for pod in cluster.pods(component):
            name = pod["metadata"]["name"]
            try:
                with Forward(cluster, f"pod/{name}", port) as pod, urllib.request.urlopen(f"http://{pod.address}/metrics", timeout=10) as reply:
                    text = reply.read().decode()
            except (OSError, Failure) as reason:
                return False, f"{name}: {reason}"
            says = re.search(r'^multivac_build_info\{[^}]*version="([^"]*)"', text, re.MULTILINE)
            found[name] = says[1] if says else "nothing"
    return bool(found) and set(found.values()) == {version}, found


def main_job(edge):
    status, body = edge.ask("/multivac/data", "--data-urlencode", "data=x", as_user=False)
    expect("feeding needs a password (401)", status == 401, (status, body))
    status, body = edge.ask("/metrics", as_user=False)
    expect("the metrics are not to be seen from outside (404)", status == 404, (status, body))

    mark = uuid.uuid4().hex
    sentence = f"The deployment {mark} is verified by the word {mark[::-1]}."
    feed = ["--header", f"Idempotency-Key: {mark}", "--data-urlencode", f"data={sentence}"]

    def feeding():
        status, body = edge.ask("/multivac/data", *feed)
        return status == 200, (status, body)

    # 503 is an answer that asks to come again.
    _, body = until("a datum is accepted (200)", feeding)
    datum = json.loads(body)["id"]

    def processed():
        status, body = edge.ask(f"/multivac/data/{datum}")
        return status == 200 and json.loads(body)["status"] == "processed", (status, body)

    try:
        until("it is learned", processed)
        question = urllib.parse.quote(f"By which word is the deployment {mark} verified?")

        def asking():
            status, body = edge.ask(f"/multivac?question={question}", "--header", "Accept: application/json")
            answer = json.loads(body) if status == 200 else {}
            return answer.get("answer") == sentence and datum in [evidence["id"] for evidence in answer["evidence"]], (status, body)

        until("a question about it is answered with it", asking)
    finally:
        # Whatever came of it, nothing of this stays among the data.
        def retracting():
            status, body = edge.ask(f"/multivac/data/{datum}", "--request", "DELETE")
            return status == 204, (status, body)

        until("it is retracted, for every replica (204)", retracting)

    def balanced():
        status, body = edge.ask("/multivac/stats")
        stats = json.loads(body) if status == 200 else {}
        parts = ["queued", "processing", "learned", "retracted", "dead"]
        return stats and stats["accepted"] == sum(stats[part] for part in parts), (status, body)

    until("the ledger balances", balanced)


def verify(cluster, version, options):
    """Raises Failure with the first thing that is not so."""
    until(f"every api and worker is {version}", lambda: versions(cluster, version))
    if not os.path.isfile(options.curl_config):
        raise Failure(f"{options.curl_config} is missing: name a file for `curl --config` with the user and the password (--curl-config)")
    if options.url:
        main_job(Edge(options.url, None, options.curl_config))
        return
    address = address_of(cluster)
    if address:
        main_job(Edge("https://localhost", address, options.curl_config))
        return
    with Forward(cluster, f"service/{cluster.name}-edge", 443) as edge:
        main_job(Edge("https://localhost", edge.address, options.curl_config))
