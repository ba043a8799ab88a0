"""The Secrets of a cluster: what is in secrets/, under the names that the chart expects, with the URLs of the release."""

import base64
import json
import re
import shutil
import subprocess

from . import users
from .files import Failure, is_there, path, put, read, say

SECONDS = 10
# Pods that may more than these need are refused.
LABELS = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn", "audit")}
REDIS_NODES = 6

# Which keys a Secret has, and the files that they are made of.
FILES = {
    "edge-tls": {"tls.crt": "edge/tls.crt", "tls.key": "edge/tls.key"},
    "edge-htpasswd": {"htpasswd": "edge/htpasswd"},
    "redis": {"redis.conf": "redis/redis.conf", "admin_password": "kubernetes/redis_admin_password"},
    "mongo": {"keyfile": "mongo/keyfile", "root_password": "mongo/root_password", "app_password": "mongo/app_password"},
}
# Not always there.
FORMER = {"mongo": {"root_password.old": "mongo/root_password.old"}}
# Whoever applies them, so that others' labels and keys stay as they are, and no copy is kept in an annotation.
MANAGER = "multivac-setup"


class Cluster:
    """A release in a namespace of a cluster, by the options of setup.py."""

    def __init__(self, options):
        self.context, self.namespace = options.context, options.namespace
        # As templates/_helpers.tpl names it.
        release = self.release = options.release
        self.name = release[:40].rstrip("-") if "multivac" in release else release[:31].rstrip("-") + "-multivac"
        self.redis, self.members = options.redis, options.mongo_members
        # Secrets that something else made.
        self.foreign = set()

    def kubectl(self, *arguments, given=None, seconds=3 * SECONDS):
        command = ["kubectl", f"--request-timeout={SECONDS}s"]
        command += ["--context", self.context] if self.context else []
        try:
            done = subprocess.run([*command, *arguments], input=given, capture_output=True, text=True, timeout=seconds, check=False)
        except subprocess.TimeoutExpired:
            raise Failure(f"the cluster does not reply within {seconds} s (kubectl {arguments[0]})") from None
        if done.returncode:
            # kubectl's own words hold no secret: none is ever on its command line.
            raise Failure(f"kubectl {arguments[0]}: {done.stderr.strip().splitlines()[-1] if done.stderr.strip() else 'failed'}")
        return done.stdout

    def check(self):
        """That there is a cluster to talk to, before anything is made."""
        if not shutil.which("kubectl"):
            raise Failure("kubectl is missing")
        known = self.kubectl("config", "get-contexts", "--output=name").split()
        if not known:
            raise Failure("kubectl has no context; see `kubectl config`, or set KUBECONFIG")
        if self.context and self.context not in known:
            raise Failure(f"there is no context {self.context!r}; there are: {', '.join(known)}")
        # One request, where others begin with asking for all that the cluster has, again and again.
        self.kubectl("get", "--raw", "/version", seconds=SECONDS)

    def full(self, secret):
        return f"{self.name}-{secret}"

    def present(self):
        """The Secrets that are there, by their short names: their keys with their bytes."""
        names = [*FILES, "app"]
        listed = self.kubectl("get", "--namespace", self.namespace, "--ignore-not-found", "--output=json", "secrets", *map(self.full, names))
        found = json.loads(listed or '{"items": []}')
        by_name = {item["metadata"]["name"]: item for item in found.get("items", [found])}
        there = [name for name in names if self.full(name) in by_name]
        self.foreign = {name for name in there if MANAGER not in json.dumps(by_name[self.full(name)]["metadata"].get("labels", {}))}
        return {name: {k: base64.b64decode(v) for k, v in (by_name[self.full(name)].get("data") or {}).items()} for name in there}

    def make_namespace(self):
        try:
            if self.kubectl("get", "namespace", self.namespace, "--ignore-not-found", "--output=name"):
                return
        except Failure as reason:
            # Who may work in one namespace alone has no right to ask; whether it is there shows in a moment.
            if "orbidden" in str(reason):
                return
            raise
        self.kubectl("create", "-f", "-", given=json.dumps({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace, "labels": LABELS}}))
        say(f"made the namespace {self.namespace}, which takes pods of the standard `restricted` only")

    def take_over(self):
        """What the cluster has and secrets/ has not: made on another machine. A user's password is in the cluster as a hash only."""
        taken = []
        for name, keys in self.present().items():
            for key, file in {**FILES.get(name, {}), **FORMER.get(name, {})}.items():
                if key in keys and not is_there(file):
                    put(file, keys[key].decode())
                    taken.append(key)
        if taken:
            say(f"took over from the cluster: {', '.join(taken)}")

    def urls(self):
        """Where the release's own servers are; of others, what secrets/app says."""
        password = re.search(r"^requirepass (\S+)$", read("redis/redis.conf"), re.MULTILINE)[1]
        redis = {
            "standalone": f"redis://:{password}@{self.name}-redis.{self.namespace}.svc:6379",
            "cluster": ",".join(
                f"redis://:{password}@{self.name}-redis-{n}.{self.name}-redis.{self.namespace}.svc:6379" for n in range(REDIS_NODES)
            ),
        }
        members = ",".join(f"{self.name}-mongo-{n}.{self.name}-mongo.{self.namespace}.svc:27017" for n in range(self.members))
        own = f"mongodb://multivac:{read('mongo/app_password').strip()}@{members}/multivac?replicaSet=rs0"
        return {
            "redis_url": redis.get(self.redis) or self.external("redis_url", "Redis", "redis:6379"),
            "mongo_url": own if self.members else self.external("mongo_url", "MongoDB", "mongo:27017"),
        }

    def external(self, key, what, ours):
        """The URL that somebody has put into secrets/app, here or on the machine that the cluster has it from."""
        url = read(f"app/{key}").strip()
        if f"@{ours}" in url:
            url = self.present().get("app", {}).get(key, b"").decode().strip()
            if not url:
                raise Failure(f"{path(f'app/{key}')} is docker compose's: put the URL of your {what} there first")
        return url

    def wanted(self):
        if not is_there("kubernetes/redis_admin_password"):
            put("kubernetes/redis_admin_password", users.new_password())
        secrets = {"app": {key: f"{url}\n".encode() for key, url in self.urls().items()}}
        for name, keys in FILES.items():
            if (name == "redis" and self.redis == "external") or (name == "mongo" and not self.members):
                continue
            there = {key: file for key, file in FORMER.get(name, {}).items() if is_there(file)}
            secrets[name] = {key: path(file).read_bytes() for key, file in {**keys, **there}.items()}
        return secrets

    def compare(self):
        """The keys of the Secrets that are to be another than they are, by short names; all of one that is missing."""
        present, wanted = self.present(), self.wanted()
        different = {name: [key for key in keys if present.get(name, {}).get(key) != keys[key]] for name, keys in wanted.items()}
        if "edge-tls" in self.foreign and different["edge-tls"]:
            say(f"{self.full('edge-tls')} is not from here (cert-manager's?) and stays as it is")
            del different["edge-tls"]
        return {name: keys for name, keys in different.items() if keys}, present, wanted

    def refuse_differences(self):
        """Before anything is changed: what differs was changed there, or here without --kubernetes, and a person has to say which is right."""
        different, present, _ = self.compare()
        told = [f"{self.full(name)} ({', '.join(keys)})" for name, keys in different.items() if name in present]
        if told:
            reason = f"in the namespace {self.namespace} {', '.join(told)} differ from {path('')}"
            raise Failure(f"{reason}; nothing was changed. If what is here is right, add --replace; if what is there is, remove it here")

    def apply(self):
        """Makes what is missing and replaces what differs; returns the words for it."""
        self.make_namespace()
        different, present, wanted = self.compare()
        made = []
        for name in different:
            labels = {"name": "multivac", "instance": self.release, "managed-by": MANAGER}
            secret = {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": self.full(name), "labels": {f"app.kubernetes.io/{key}": value for key, value in labels.items()}},
                "type": "kubernetes.io/tls" if name == "edge-tls" else "Opaque",
                "data": {key: base64.b64encode(value).decode() for key, value in wanted[name].items()},
            }
            how = ["--server-side", f"--field-manager={MANAGER}", "--force-conflicts"]
            self.kubectl("apply", *how, "--namespace", self.namespace, "-f", "-", given=json.dumps(secret))
            made.append(f"{'replaced' if name in present else 'made'} the Secret {self.full(name)}")
        return made

    def then(self, what):
        """What is to be done after a rotation."""
        at = f"{'--context ' + self.context + ' ' if self.context else ''}--namespace {self.namespace}"
        restart = f"kubectl {at} rollout restart"
        name = self.name

        def of(component):
            return f"app.kubernetes.io/instance={self.release},app.kubernetes.io/component={component}"

        programs = f"{restart} deployment/{name}-api deployment/{name}-worker"
        # All nodes of a Cluster at once, which find each other again in seconds: one after the other, some would have the old password for minutes.
        redis = f"kubectl {at} delete pod --selector {of('redis')}" if self.redis == "cluster" else f"{restart} statefulset/{name}-redis"
        return {
            "redis": programs if self.redis == "external" else f"{redis} && {programs}",
            "mongo": f"kubectl {at} delete job --selector {of('mongo-init')}, then scripts/k8s-deploy.sh with the version that runs, which makes "
            f"the job again and so changes them in MongoDB, then {programs}",
            "keyfile": f"kubectl {at} delete pod --selector {of('mongo')} (all at once: members with different keys do not talk)",
            "certificate": "give the new certificate to those who trust the old one; the edges use it within two minutes",
        }[what]
