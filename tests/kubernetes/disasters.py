"""What takes more than a pod: nodes that are drained or cut off, every pod in turn, a whole Redis Cluster at once."""

import json
import os
import re
import time

from place import Failure, Place, run
from proofs import Kill, Proof, install, proof


def nodes_of(place):
    """The nodes that can take pods, and which of our pods each has."""
    found = {}
    for node in place.get("nodes")["items"]:
        ready = any(each["type"] == "Ready" and each["status"] == "True" for each in node["status"]["conditions"])
        if ready and not node["spec"].get("unschedulable"):
            found[node["metadata"]["name"]] = []
    for pod in place.pods_of_release():
        if pod["spec"].get("nodeName") in found:
            found[pod["spec"]["nodeName"]].append(pod)
    return found


def part(pod):
    return pod["metadata"]["labels"]["app.kubernetes.io/component"]


def has_the_only_one(place, pods):
    """A single Redis or MongoDB is among them: while it moves, 503 is all that can be said."""
    return any(part(pod) == "redis" or (part(pod) == "mongo" and place.options.members == 1) for pod in pods)


@proof("drain", 300)
class Drain(Proof):
    """Each node is drained: no request fails, but for 503 where the only Redis or MongoDB has to move."""

    def run(self):
        nodes = nodes_of(self.place)
        if len(nodes) < 2:
            return "there is one node only"
        for node in list(nodes)[:2]:
            pods = nodes_of(self.place)[node]
            only = has_the_only_one(self.place, pods)
            what = f"drain of a node with {', '.join(sorted({part(pod) for pod in pods}))}"
            self.under_load(what, lambda _, node=node: self.drain(node), strict=not only, seconds=400)
        return None

    def drain(self, node):
        """As `kubectl drain` does it, but of our pods alone: the cluster may have others."""
        place = self.place
        place.kubectl("cordon", node)
        try:
            deadline = time.monotonic() + 400
            while True:
                rest = [pod for pod in nodes_of_all(place, node) if not pod["metadata"].get("deletionTimestamp")]
                if not rest:
                    break
                if time.monotonic() > deadline:
                    raise Failure(f"{node} is not empty within 400 s: {[pod['metadata']['name'] for pod in rest]}")
                for pod in rest:
                    name = pod["metadata"]["name"]
                    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": place.namespace}}
                    # 429 while a budget does not allow it: again.
                    path = f"/api/v1/namespaces/{place.namespace}/pods/{name}/eviction"
                    run(place.kubectl_command("create", "--raw", path, "--filename=-"), json.dumps(body), 30)
                time.sleep(3)
            place.whole(400)
        finally:
            place.kubectl("uncordon", node)


def nodes_of_all(place, node):
    return [pod for pod in place.pods_of_release() if pod["spec"].get("nodeName") == node]


@proof("cut", 240)
class Cut(Proof):
    """A node loses its network for a minute: nothing is lost."""

    def run(self):
        cut, mend = os.environ.get("MULTIVAC_NODE_CUT"), os.environ.get("MULTIVAC_NODE_MEND")
        if not cut or not mend:
            return "MULTIVAC_NODE_CUT and MULTIVAC_NODE_MEND say how a node's network is taken away and restored"
        nodes = nodes_of(self.place)
        if len(nodes) < 2:
            return "there is one node only"
        # The one that most is on.
        node = max(nodes, key=lambda each: (len(nodes[each]), each))
        what = f"a node with {', '.join(sorted({part(pod) for pod in nodes[node]}))} cut off for 60 s, and mended"
        number = re.search(r"\d+$", node)
        if not number:
            return f"{node} has no number at its end"

        def act(_):
            try:
                self.call(cut, number[0])
                time.sleep(60)
            finally:
                self.call(mend, number[0])

        self.under_load(what, act, strict=False, seconds=400)
        return None

    def call(self, command, number):
        done = run([*command.split(), number], None, 120)
        if done.returncode:
            raise Failure(f"{command} {number}: {(done.stderr or done.stdout).strip()}")


@proof("kill-each", 900)
class KillEach(Kill):
    """kill -9 of every pod in turn: nothing is lost."""

    def run(self):
        # The first of each is the quick proof's.
        for component in ("redis", "mongo", "api", "worker", "edge"):
            self.each(self.of(component)[1:])


@proof("cluster", 600)
class RedisCluster(Proof):
    """All six pods of a Redis Cluster at once: it heals by itself, and nothing is lost."""

    def run(self):
        sets = ["redis.mode=cluster", "partitions=12", "edge.replicas=1", "api.replicas=1", "worker.replicas=1"]
        place = Place(self.place.options, "cluster", os.path.dirname(self.place.directory), sets)
        place.settings = ["--redis", "cluster"]
        try:
            install(place, self.report, "Redis Cluster installed and verified")
            pods = place.pods("redis")
            if len(pods) != 6:
                raise Failure(f"{len(pods)} pods of Redis, not 6")
            self.under_load("kill -9 of all six pods of a Redis Cluster", lambda _: place.kill(pods), strict=False, place=place, seconds=400)
        finally:
            place.remove()
