"""One deploy helper at a time: a Lease (coordination.k8s.io) in the namespace, renewed while it is held.

Whether a holder is still at work is told by its Lease changing, by the watcher's own clock: the clocks of two machines need not agree.
"""

import datetime
import json
import os
import socket
import threading
import time

from cluster import Failure, run

NAME = "multivac-deploy"
SECONDS, RENEW_SECONDS = 20, 4


class Lease:
    def __init__(self, cluster):
        self.cluster = cluster
        self.holder = f"{socket.gethostname()}-{os.getpid()}-{os.urandom(3).hex()}"
        self.notes = {}
        self.stopped = threading.Event()
        self.lost = False
        self.thread = threading.Thread(target=self.renew, daemon=True)

    def read(self):
        return self.cluster.get("lease", NAME)

    def write(self, holder, version=None):
        """True if it is ours now. Where another was quicker, Kubernetes refuses the version."""
        spec = {"leaseDurationSeconds": SECONDS, "renewTime": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")}
        if holder:
            spec["holderIdentity"] = holder
        metadata = {"name": NAME, "annotations": self.notes}
        if version:
            metadata["resourceVersion"] = version
        lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}
        verb = "replace" if version else "create"
        done = run(self.cluster.kubectl_command(verb, "-f", "-"), json.dumps(lease), 30)
        if done.returncode and not any(word in done.stderr for word in ("Conflict", "AlreadyExists", "modified", "already exists", "NotFound")):
            raise Failure(f"the Lease {NAME} cannot be written: {done.stderr.strip()}")
        return done.returncode == 0

    def holder_at_work(self):
        """Who holds it and is still at work; None if nobody. Waits for a sign of life where somebody had it last."""
        before = self.read()
        if not before or not before["spec"].get("holderIdentity"):
            return None
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            time.sleep(1)
            now = self.read()
            if not now or not now["spec"].get("holderIdentity"):
                return None
            if now["metadata"]["resourceVersion"] != before["metadata"]["resourceVersion"]:
                return now["spec"]["holderIdentity"]
        return None

    def take(self):
        """Takes it, or says who has it."""
        who = self.holder_at_work()
        if who:
            raise Failure(f"another helper is at work: {who}, which holds the Lease {NAME}; wait for it")
        found = self.read()
        self.notes = dict((found or {}).get("metadata", {}).get("annotations") or {})
        if not self.write(self.holder, found and found["metadata"]["resourceVersion"]):
            raise Failure(f"another helper has just taken the Lease {NAME}; wait for it")
        self.thread.start()

    def renew(self):
        while not self.stopped.wait(RENEW_SECONDS):
            try:
                found = self.read()
                if not found or found["spec"].get("holderIdentity") != self.holder:
                    self.lost = True
                    return
                self.write(self.holder, found["metadata"]["resourceVersion"])
            except Failure:
                # The next try may succeed; by itself a Lease that is not renewed passes on.
                continue

    def release(self, notes=None):
        """Leaves it to the next, with what is to be known of the last deployment."""
        self.stopped.set()
        if self.thread.is_alive():
            self.thread.join(60)
        self.notes.update(notes or {})
        try:
            found = self.read()
            if found and found["spec"].get("holderIdentity") == self.holder:
                self.write("", found["metadata"]["resourceVersion"])
        except Failure:
            # Whoever comes next waits until it has run out.
            pass
