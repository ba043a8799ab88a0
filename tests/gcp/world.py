"""What the rules of deploy/gcp share: a cloud, gcloud before it, and apply.sh that is run in front of both."""

import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest

HERE = pathlib.Path(__file__).resolve().parent
GCP = HERE.parent.parent / "deploy/gcp"
MONITORING = GCP.parent / "monitoring"
sys.path[:0] = [str(HERE), str(GCP)]
import cloud as clouds  # noqa: E402
import command_line  # noqa: E402
import rest  # noqa: E402
from cloud import PROJECT  # noqa: E402

TIMEOUT = 80
KEY = "0123456789abcdef0123456789abcdef"
HOOK = "https://hooks.example.org/t/s3cret-token"
HOST = "multivac.example.org"
DOCS = "https://git.example.org/multivac/blob/main"


def read(path):
    return json.loads(pathlib.Path(path).read_text(encoding="utf-8"))


def policy_file(name):
    """A policy as it is sent when the address of the runbooks is known."""
    return json.loads((GCP / f"policies/{name}.json").read_text(encoding="utf-8").replace("@DOCS@", f"{DOCS}/"))


class World:
    """A cloud, gcloud before it, a copy of deploy/gcp's files, and files with secrets."""

    # Enough for most rules; the first run makes all.
    FEW = ["stuck", "deadletters", "absent", "askbudgetburn-page", "askbudgetburn-ticket", "refusing"]

    def __init__(self, stack, everything=False):
        self.directory = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="multivac-gcp.")))
        self.cloud = clouds.Cloud()
        self.server = rest.Server(self.cloud)
        stack.callback(self.server.server_close)
        stack.callback(self.server.shutdown)
        self.gcloud = command_line.CommandLine(self.cloud, self.directory)
        stack.callback(self.gcloud.listener.close)
        self.files = self.directory / "files"
        shutil.copytree(GCP, self.files, ignore=shutil.ignore_patterns("__pycache__"))
        if not everything:
            for path in [*self.files.glob("policies/*.json"), *self.files.glob("dashboards/*.json")]:
                if path.stem not in [*self.FEW, "overview", "edge"]:
                    path.unlink()
        (self.directory / "key").write_text(KEY + "\n")
        (self.directory / "hook").write_text(HOOK + "\n")
        self.path = f"{self.gcloud.program.parent}:{os.environ['PATH']}"

    def everybody(self):
        return [
            "--host", HOST, "--docs", DOCS, "--page", f"pagerduty={self.directory / 'key'}", "--page", "email=ops@example.org",
            "--ticket", f"webhook={self.directory / 'hook'}",
        ]  # fmt: skip

    def start(self, *arguments, project=PROJECT, **more):
        environment = os.environ | {
            "PATH": self.path,
            "MULTIVAC_GCP_FILES": str(self.files),
            "MULTIVAC_GCP_WAIT_SECONDS": "0.01",
            "CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDRESOURCEMANAGER": self.server.url,
            "PYTHONDONTWRITEBYTECODE": "1",
            **more,
        }
        return subprocess.Popen(
            [str(GCP / "apply.sh"), project, *arguments], env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip

    def run(self, *arguments, status=0, **more):
        """Everything printed, once it has ended with this status."""
        process = self.start(*arguments, **more)
        try:
            out, err = process.communicate(timeout=TIMEOUT)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        assert process.returncode == status, f"status {process.returncode}\n{out}\n{err}"
        return out + err

    def applied(self, *arguments):
        """A project in which all is there; the calls are forgotten."""
        said = self.run(*(arguments or self.everybody()))
        self.cloud.forget_calls()
        return said

    def change(self, name, change):
        path = self.files / name
        body = read(path)
        change(body)
        path.write_text(json.dumps(body))

    def policies(self):
        return sorted(self.files.glob("policies/*.json"))

    def find(self, kind, **labels):
        """The objects of a kind with these user labels."""
        field = "labels" if kind == "dashboards" else "userLabels"
        return [one for one in self.cloud.objects[kind].values() if labels.items() <= one.get(field, {}).items()]


def same(state):
    """A state without what differs between two runs: ids, and what was added by the server."""
    text = json.dumps({kind: sorted(json.dumps(bare(one), sort_keys=True) for one in objects.values()) for kind, objects in state.items()})
    names = {}
    return re.sub(r"/(\d+)|check_id = \\+\"(\d+)", lambda found: names.setdefault(found[0], "/id"), text)


def bare(one):
    return {key: value for key, value in one.items() if key not in ("name", "etag", "mutationRecord")}


class Case(unittest.TestCase):
    maxDiff = 4000
    everything = False

    def setUp(self):
        self.stack = contextlib.ExitStack()
        self.addCleanup(self.stack.close)
        self.world = World(self.stack, self.everything)
        self.cloud = self.world.cloud

    def counts(self, said, **expected):
        found = re.search(r"(\d+) created, (\d+) updated, (\d+) deleted; (\d+) unchanged, (\d+) stale, (\d+) kept", said)
        assert found, said
        counted = dict(zip(["created", "updated", "deleted", "unchanged", "stale", "kept"], map(int, found.groups())))
        for name, number in expected.items():
            self.assertEqual(number, counted[name], f"{name}\n{said}")
        return counted


def config_of(cloud):
    [config] = cloud.objects["uptime"].values()
    return config
