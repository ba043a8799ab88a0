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
# What a rotation, and a change of users, replaces.
REPLACES = {
    "redis": {"redis", "app"},
    "mongo": {"mongo", "app"},
    "keyfile": {"mongo"},
    "certificate": {"edge-tls"},
    "users": {"edge-htpasswd"},
}


class Cluster:
    """A release in a namespace of a cluster, by the options of setup.py."""

    def __init__(self, options):
        self.context, self.namespace = options.context, options.namespace
        # As templates/_helpers.tpl names it.
        release = options.release
        self.name = release[:40].rstrip("-") if "multivac" in release else release[:31].rstrip("-") + "-multivac"
        self.redis, self.members = options.redis, options.mongo_members

    def kubectl(self, *arguments, given=None):
        command = ["kubectl", f"--request-timeout={SECONDS}s"]
        command += ["--context", self.context] if self.context else []
        try:
            done = subprocess.run([*command, *arguments], input=given, capture_output=True, text=True, timeout=3 * SECONDS, check=False)
        except subprocess.TimeoutExpired:
            raise Failure(f"the cluster does not reply within {3 * SECONDS} s (kubectl {arguments[0]})") from None
        if done.returncode:
            # kubectl's own words hold no secret: none is ever on its command line.
            raise Failure(f"kubectl {arguments[0]}: {done.stderr.strip().splitlines()[-1] if done.stderr.strip() else 'failed'}")
        return done.stdout

    def check(self):
        if not shutil.which("kubectl"):
            raise Failure("kubectl is missing")
        known = self.kubectl("config", "get-contexts", "--output=name").split()
        if self.context and self.context not in known:
            raise Failure(f"there is no context {self.context!r}; there are: {', '.join(known) or 'none'}")
        if not self.context and not known:
            raise Failure("kubectl has no context; see `kubectl config`")

    def full(self, secret):
        return f"{self.name}-{secret}"

    def present(self):
        """The Secrets that are there: their keys with their bytes, by their short names."""
        listed = self.kubectl("get", "secrets", "--namespace", self.namespace, "--output=json")
        by_name = {item["metadata"]["name"]: item.get("data") or {} for item in json.loads(listed)["items"]}
        names = [*FILES, "app"]
        return {name: {key: base64.b64decode(value) for key, value in by_name[self.full(name)].items()} for name in names if self.full(name) in by_name}

    def make_namespace(self):
        if self.kubectl("get", "namespace", self.namespace, "--ignore-not-found", "--output=name"):
            return
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
            "redis_url": redis.get(self.redis) or read("app/redis_url").strip(),
            "mongo_url": own if self.members else read("app/mongo_url").strip(),
        }

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

    def apply(self, replaced):
        """Makes what is missing, and replaces `replaced` (short names). Refuses where any other differs."""
        self.make_namespace()
        present, wanted = self.present(), self.wanted()
        strange = [self.full(name) for name in wanted if name in present and present[name] != wanted[name] and name not in replaced]
        if strange:
            reason = f"in the namespace {self.namespace} {', '.join(strange)} hold something else than {path('')}"
            raise Failure(f"{reason}; nothing was changed. If what is here is right, add --replace; if what is there is, remove it here")
        made = []
        for name, keys in wanted.items():
            if present.get(name) == keys:
                continue
            secret = {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": self.full(name), "labels": {"app.kubernetes.io/name": "multivac", "app.kubernetes.io/instance": self.name}},
                "type": "kubernetes.io/tls" if name == "edge-tls" else "Opaque",
                "data": {key: base64.b64encode(value).decode() for key, value in keys.items()},
            }
            verb = "replace" if name in present else "create"
            self.kubectl(verb, "--namespace", self.namespace, "-f", "-", given=json.dumps(secret))
            made.append(f"{verb}d the Secret {self.full(name)}")
        return made

    def then(self, what):
        """What is to be done after a rotation."""
        at = f"{'--context ' + self.context + ' ' if self.context else ''}--namespace {self.namespace}"
        restart = f"kubectl {at} rollout restart"
        name = self.name
        return {
            "redis": f"{restart} statefulset/{name}-redis deployment/{name}-api deployment/{name}-worker",
            "mongo": f"kubectl {at} delete job --selector app.kubernetes.io/component=mongo-init, then scripts/k8s-deploy.sh again, "
            f"which changes it in MongoDB, then {restart} deployment/{name}-api deployment/{name}-worker",
            "keyfile": f"kubectl {at} delete pod --selector app.kubernetes.io/component=mongo (all at once: members with different keys do not talk)",
            "certificate": "give the new certificate to those who trust the old one; the edges use it within two minutes",
        }[what]
