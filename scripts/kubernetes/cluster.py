"""A namespace of a cluster, by kubectl and helm; every call ends in time."""

import base64
import json
import subprocess
import sys

SECONDS = 15


class Failure(Exception):
    """Why it cannot be done, in a sentence."""


def say(text=""):
    print(f"k8s: {text}" if text else "", file=sys.stderr, flush=True)


def run(command, given=None, seconds=SECONDS, directory=None):
    """The finished process. A command that is missing, or does not end in time, is a Failure."""
    try:
        return subprocess.run(command, input=given, capture_output=True, text=True, timeout=seconds, check=False, cwd=directory)
    except FileNotFoundError:
        raise Failure(f"{command[0]} is missing") from None
    except subprocess.TimeoutExpired:
        raise Failure(f"{command[0]} {command[1] if len(command) > 1 else ''} did not end within {seconds} s") from None


def last_line(text):
    lines = [line for line in text.strip().splitlines() if not line.startswith("level=INFO")]
    return lines[-1] if lines else "failed without a word"


class Cluster:
    def __init__(self, context, namespace, release):
        self.context, self.namespace, self.release = context, namespace, release
        # As templates/_helpers.tpl names it.
        self.name = release[:40].rstrip("-") if "multivac" in release else release[:31].rstrip("-") + "-multivac"

    def kubectl_command(self, *arguments):
        return ["kubectl", "--context", self.context, "--namespace", self.namespace, f"--request-timeout={SECONDS}s", *arguments]

    def helm_command(self, *arguments):
        return ["helm", "--kube-context", self.context, "--namespace", self.namespace, *arguments]

    def kubectl(self, *arguments, given=None, seconds=2 * SECONDS):
        done = run(self.kubectl_command(*arguments), given, seconds)
        if done.returncode:
            raise Failure(f"kubectl {arguments[0]}: {last_line(done.stderr)}")
        return done.stdout

    def get(self, *arguments):
        """Objects as kubectl gives them; None where there is none of that name."""
        said = self.kubectl("get", *arguments, "--output=json", "--ignore-not-found")
        return json.loads(said) if said.strip() else None

    def helm(self, *arguments, seconds=60):
        done = run(self.helm_command(*arguments), None, seconds)
        if done.returncode:
            raise Failure(f"helm {arguments[0]}: {last_line(done.stderr)}")
        return done.stdout

    def secret(self, name):
        """A Secret's keys with their bytes; None where it is missing."""
        found = self.get("secret", name)
        return found and {key: base64.b64decode(value) for key, value in (found.get("data") or {}).items()}

    def history(self):
        """The release's revisions, oldest first; [] before the first."""
        done = run(self.helm_command("history", self.release, "--output=json"), None, 60)
        if done.returncode:
            if "not found" in done.stderr:
                return []
            raise Failure(f"helm history: {last_line(done.stderr)}")
        return json.loads(done.stdout)

    def selector(self):
        return f"--selector=app.kubernetes.io/name=multivac,app.kubernetes.io/instance={self.release}"

    def pods(self, component):
        found = self.get("pods", self.selector() + f",app.kubernetes.io/component={component}")
        return [pod for pod in (found or {}).get("items", []) if not pod["metadata"].get("deletionTimestamp")]
