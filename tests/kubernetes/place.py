"""A release in a namespace of its own: made, changed, watched, taken away."""

import http.client
import json
import os
import pathlib
import subprocess
import sys
import time
import urllib.parse
import uuid

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "scripts/kubernetes"))
import verify  # noqa: E402
from cluster import Cluster, Failure, run  # noqa: E402

from load import Client, Credentials, user_of  # noqa: E402

VALUES = ROOT / "tests/kubernetes/values.yaml"
KINDS = "deployments,statefulsets"


class Place(Cluster):
    def __init__(self, options, suffix, directory, sets):
        super().__init__(options.context, f"{options.namespace}-{suffix}", "multivac")
        self.options, self.directory = options, f"{directory}/{suffix}"
        self.sets = ["-f", str(VALUES), *(argument for value in sets + options.sets for argument in ("--set", value))]
        if options.registry:
            self.sets += ["--set", f"images.registry={options.registry}"]
        os.makedirs(self.directory, exist_ok=True)
        self.environment = {**os.environ, "MULTIVAC_SECRETS": f"{self.directory}/secrets", "MULTIVAC_ENV_FILE": f"{self.directory}/env"}
        # For each run of setup.py.
        self.settings = []
        self.address = self.credentials = None

    def script(self, *command, seconds=600):
        """Status and output of one of the project's own scripts."""
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=self.environment, cwd=ROOT)
        try:
            said, _ = process.communicate(timeout=seconds)
            return process.returncode, said
        except subprocess.TimeoutExpired:
            return -1, self.interrupt(process) + f"\nnot within {seconds} s"
        finally:
            if process.poll() is None:
                self.interrupt(process)

    @staticmethod
    def interrupt(process):
        """It may have a helm to end first."""
        process.terminate()
        try:
            return process.communicate(timeout=40)[0]
        except subprocess.TimeoutExpired:
            process.kill()
            return process.communicate()[0]

    def setup(self, *arguments):
        status, said = self.script(
            sys.executable, "scripts/setup.py", "--kubernetes", "--context", self.context, "--namespace", self.namespace,
            "--mongo-members", str(self.options.members), *self.settings, *arguments, seconds=180,
        )
        if status:
            raise Failure(f"setup.py {' '.join(arguments)}: {said.strip()[-500:]}")
        return said

    def deploy(self, *arguments, version=None, minutes=15):
        where = ["--context", self.context, "--namespace", self.namespace, f"--timeout={minutes}m"]
        where += ["--set", f"mongo.members={self.options.members}"]
        return self.script("scripts/k8s-deploy.sh", version or self.options.version, *where, *self.sets, *arguments, seconds=minutes * 130 + 400)

    def find_edge(self):
        """The load balancer's address; the user, and the certificate."""
        found = verify.address_of(self)
        if not found:
            raise Failure("the edge's Service has no address: a cluster is needed that gives LoadBalancer addresses")
        self.address = found.rpartition(":")[0]
        self.credentials = Credentials(f"{self.directory}/secrets")

    def credentials_of_file(self):
        return user_of(f"{self.directory}/secrets").split(":", 1)

    def client(self):
        return Client(self.address, self.credentials)

    def pods_of_release(self):
        found = self.get("pods", self.selector()) or {}
        return [pod for pod in found.get("items", []) if pod["status"].get("phase") not in ("Succeeded", "Failed")]

    def not_whole(self):
        """What is not as it should be; "" if all is."""
        for item in (self.get(KINDS, self.selector()) or {}).get("items", []):
            status, wanted = item.get("status") or {}, item["spec"].get("replicas", 1)
            counts = [status.get(key, 0) for key in ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas")]
            if status.get("observedGeneration") != item["metadata"]["generation"] or counts != [wanted] * 4:
                return f"{item['metadata']['name']}: {counts} of {wanted}"
        try:
            client = self.client()
            body = urllib.parse.urlencode({"data": "All is whole again."})
            headers = {"Content-Type": "application/x-www-form-urlencoded", "Idempotency-Key": uuid.uuid4().hex}
            for method, path, *rest in (("POST", "/multivac/data", body, headers), ("GET", "/multivac?question=What+is+whole%3F")):
                status, _, said = client.request(method, path, *rest, seconds=10)
                if status != 200:
                    return f"{method} {path}: {status} {said[:200]}"
            client.close()
        except (OSError, http.client.HTTPException) as reason:
            return f"the edge: {reason}"
        return ""

    def whole(self, seconds=300):
        """Waits until every part is as wanted and the edge takes data and answers."""
        deadline, why = time.monotonic() + seconds, "?"
        while time.monotonic() < deadline:
            try:
                why = self.not_whole()
            except Failure as reason:
                why = str(reason)
            if not why:
                return
            time.sleep(1)
        raise Failure(f"not whole again within {seconds} s: {why}")

    def kill(self, pods):
        """kill -9, by MULTIVAC_POD_KILL with the containers' ids; else as near to it as the API comes. Returns when they have noticed."""
        command = os.environ.get("MULTIVAC_POD_KILL")
        if command:
            for pod in pods:
                identifier = pod["status"]["containerStatuses"][0]["containerID"].rpartition("/")[2]
                done = run([*command.split(), identifier], None, 60)
                if done.returncode:
                    raise Failure(f"{command} {identifier}: {done.stderr.strip()}")
        else:
            names = [pod["metadata"]["name"] for pod in pods]
            run(self.kubectl_command("delete", "pod", *names, "--force", "--grace-period=0", "--wait=false"), None, 60)
        deadline = time.monotonic() + 120
        for pod in pods:
            while self.same(pod):
                if time.monotonic() > deadline:
                    raise Failure(f"{pod['metadata']['name']} does not die")
                time.sleep(0.5)

    def same(self, pod):
        now = self.get("pod", pod["metadata"]["name"])

        def which(of):
            return of["metadata"]["uid"], [(status["name"], status["restartCount"]) for status in of["status"].get("containerStatuses", [])]

        return now is not None and which(now) == which(pod) and not now["metadata"].get("deletionTimestamp")

    def remove(self):
        """The namespace, and the volumes that were its; whatever else happens."""
        base = ["kubectl", "--context", self.context]
        run([*base, "delete", "namespace", self.namespace, "--ignore-not-found", "--wait=false"], None, 60)
        deadline = time.monotonic() + 240
        while time.monotonic() < deadline and self.get("namespace", self.namespace):
            time.sleep(2)
        volumes = json.loads(run([*base, "get", "pv", "--output=json"], None, 60).stdout or '{"items": []}')
        ours = [each["metadata"]["name"] for each in volumes["items"] if (each["spec"].get("claimRef") or {}).get("namespace") == self.namespace]
        if ours:
            run([*base, "delete", "pv", *ours, "--wait=false"], None, 60)
        return self.get("namespace", self.namespace) is None
