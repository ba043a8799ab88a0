#!/usr/bin/env python3
"""Tries scripts/setup.py --kubernetes: the Secrets that it makes, takes over, replaces and leaves, and what it says where there is no cluster.

    tests/setup/kubernetes_rules.py

What it needs   python3, openssl, kubectl; MULTIVAC_TEST_KUBECONFIG, a cluster that may be used: works in a namespace of its own and removes it.
What it returns 0 if every rule holds, else 1; a line for each, and the last line counts them. Without a cluster it says SKIPPED and tries the
                rules that need none; without kubectl it tries nothing. A minute.
"""

import base64
import json
import os
import pathlib
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
import unittest

import setup_rules
from setup_rules import Installation, rules

KUBECONFIG = os.environ.get("MULTIVAC_TEST_KUBECONFIG")
SECRETS = ["app", "edge-htpasswd", "edge-tls", "mongo", "redis"]


class Rules(unittest.TestCase):
    def installation(self, kubeconfig):
        directory = tempfile.TemporaryDirectory(prefix="multivac-setup.")
        self.addCleanup(directory.cleanup)
        it = Installation(directory.name)
        it.environment["KUBECONFIG"] = str(kubeconfig)
        return it

    def setup(self, it, *arguments):
        done = it.run("--kubernetes", *arguments)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.nothing_is_told(it, done)
        return done.stderr

    def refused(self, it, said, *arguments):
        done = it.run("--kubernetes", *arguments)
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertIn(said, done.stderr)
        self.nothing_is_told(it, done)
        return done.stderr

    def nothing_is_told(self, it, done):
        for name in ("mongo/root_password", "mongo/app_password", "kubernetes/redis_admin_password"):
            if (it.secrets / name).is_file():
                self.assertNotIn(it.read(name).strip(), done.stderr)


class WithoutCluster(Rules):
    def config(self, server):
        config = tempfile.NamedTemporaryFile("w", prefix="multivac-kubeconfig.", suffix=".json")
        self.addCleanup(config.close)
        json.dump(
            {
                "apiVersion": "v1", "kind": "Config", "current-context": "here", "users": [{"name": "me", "user": {"token": "none"}}],
                "clusters": [{"name": "it", "cluster": {"server": server}}],
                "contexts": [{"name": name, "context": {"cluster": "it", "user": "me"}} for name in ("here", "there")],
            },
            config,
        )  # fmt: skip
        config.flush()
        return config.name

    def test_without_kubectl_it_says_so_and_makes_nothing(self):
        it = self.installation("/nowhere")
        with tempfile.TemporaryDirectory() as only_openssl:
            os.symlink(shutil.which("openssl"), f"{only_openssl}/openssl")
            it.environment["PATH"] = only_openssl
            self.refused(it, "kubectl is missing")
        self.assertFalse(it.secrets.exists())

    def test_an_unknown_context_is_refused_with_those_that_there_are(self):
        it = self.installation(self.config("https://127.0.0.1:1"))
        self.refused(it, "there is no context 'nowhere'; there are: here, there", "--context", "nowhere")

    def test_no_context_at_all_is_said(self):
        self.refused(self.installation("/nowhere"), "kubectl has no context")

    def test_a_cluster_that_refuses_connections_is_said_at_once(self):
        it = self.installation(self.config("https://127.0.0.1:1"))
        started = time.monotonic()
        self.refused(it, "refused")
        self.assertLess(time.monotonic() - started, 30)

    def test_a_cluster_that_never_replies_is_given_ten_seconds(self):
        # It listens and never accepts.
        import socket

        with socket.create_server(("127.0.0.1", 0)) as silent:
            it = self.installation(self.config(f"https://127.0.0.1:{silent.getsockname()[1]}"))
            started = time.monotonic()
            done = it.run("--kubernetes")
        self.assertEqual(done.returncode, 2)
        self.assertRegex(done.stderr, "does not reply within 10 s|timeout|deadline")
        self.assertLess(time.monotonic() - started, 40)
        self.assertFalse(it.secrets.exists())

    def test_options_of_a_cluster_go_with_kubernetes(self):
        it = self.installation("/nowhere")
        for option in (["--context", "a"], ["--namespace", "a"], ["--release", "a"], ["--redis", "cluster"], ["--replace"]):
            done = it.run(*option)
            self.assertEqual(done.returncode, 2)
            self.assertIn("goes with --kubernetes", done.stderr)
        for name in ("Aa", "-a", "a_b", "a" * 54):
            self.assertIn("small letters", it.run("--kubernetes", f"--namespace={name}").stderr)


@unittest.skipUnless(KUBECONFIG, "MULTIVAC_TEST_KUBECONFIG names no cluster")
class WithCluster(Rules):
    def setUp(self):
        self.namespace = f"multivac-setup-{secrets.token_hex(4)}"
        self.addCleanup(self.kubectl, "delete", "namespace", self.namespace, "--wait=false", "--ignore-not-found", namespaced=False)
        self.it = self.installation(KUBECONFIG)
        self.where = ["--namespace", self.namespace]

    def kubectl(self, *arguments, namespaced=True, given=None):
        command = ["kubectl", "--kubeconfig", KUBECONFIG, "--request-timeout=30s", *(self.where if namespaced else []), *arguments]
        return subprocess.run(command, input=given, capture_output=True, text=True, timeout=60, check=True).stdout

    def secret(self, name):
        data = json.loads(self.kubectl("get", "secret", name, "--output=json"))["data"]
        return {key: base64.b64decode(value).decode() for key, value in data.items()}

    def versions(self):
        listed = json.loads(self.kubectl("get", "secrets", "--output=json"))["items"]
        return {item["metadata"]["name"]: item["metadata"]["resourceVersion"] for item in listed}

    def changed(self, before):
        return sorted(name.removeprefix("multivac-") for name, version in self.versions().items() if before.get(name) != version)

    def test_it_makes_the_secrets_and_run_again_changes_nothing(self):
        self.setup(self.it, *self.where, "--name", "multivac.example.org")
        before = self.versions()
        self.assertEqual(sorted(before), [f"multivac-{name}" for name in SECRETS])
        namespace = json.loads(self.kubectl("get", "namespace", self.namespace, "--output=json", namespaced=False))
        self.assertEqual(namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"], "restricted")
        password = self.it.read("redis/redis.conf").split()[1]
        app = self.secret("multivac-app")
        self.assertEqual(app["redis_url"].strip(), f"redis://:{password}@multivac-redis.{self.namespace}.svc:6379")
        member = f"multivac-mongo-{{}}.multivac-mongo.{self.namespace}.svc:27017"
        self.assertIn(",".join(member.format(n) for n in range(3)) + "/multivac?replicaSet=rs0", app["mongo_url"])
        for secret, key, file in (
            ("redis", "redis.conf", "redis/redis.conf"), ("redis", "admin_password", "kubernetes/redis_admin_password"),
            ("mongo", "keyfile", "mongo/keyfile"), ("edge-tls", "tls.key", "edge/tls.key"), ("edge-htpasswd", "htpasswd", "edge/htpasswd"),
        ):  # fmt: skip
            self.assertEqual(self.secret(f"multivac-{secret}")[key], self.it.read(file))
        certificate = setup_rules.openssl("x509", "-noout", "-ext", "subjectAltName", given=self.secret("multivac-edge-tls")["tls.crt"])
        self.assertIn("multivac.example.org", certificate)
        self.assertIn("@redis:6379", self.it.read("app/redis_url"), "the files stay docker compose's")
        self.assertIn("changed nothing", self.setup(self.it, *self.where))
        self.assertEqual(self.changed(before), [])
        self.assertNotIn("last-applied", self.kubectl("get", "secrets", "--output=json"))

    def test_the_urls_follow_the_release_and_what_it_consists_of(self):
        self.setup(self.it, *self.where, "--release", "blue", "--redis", "cluster", "--mongo-members", "1")
        app = self.secret("blue-multivac-app")
        urls = app["redis_url"].strip().split(",")
        password = self.it.read("redis/redis.conf").split()[1]
        node = f"redis://:{password}@blue-multivac-redis-{{}}.blue-multivac-redis.{self.namespace}.svc:6379"
        self.assertEqual(urls, [node.format(n) for n in range(6)])
        self.assertIn(f"@blue-multivac-mongo-0.blue-multivac-mongo.{self.namespace}.svc:27017/", app["mongo_url"])

    def test_the_urls_of_what_is_external_are_those_of_the_files(self):
        it = self.it
        self.refused(it, "docker compose's", *self.where, "--redis", "external", "--mongo-members", "0")
        it.write("app/redis_url", "rediss://:a@10.1.2.3:6378\n")
        it.write("app/mongo_url", "mongodb+srv://me:b@example.mongodb.net/multivac\n")
        self.setup(it, *self.where, "--redis", "external", "--mongo-members", "0")
        self.assertEqual(self.secret("multivac-app")["redis_url"], "rediss://:a@10.1.2.3:6378\n")
        self.assertEqual(sorted(self.versions()), ["multivac-app", "multivac-edge-htpasswd", "multivac-edge-tls"])
        another = self.installation(KUBECONFIG)
        self.assertIn("changed nothing", self.setup(another, *self.where, "--redis", "external", "--mongo-members", "0"))

    def test_another_machine_takes_over_and_may_go_on(self):
        self.setup(self.it, *self.where)
        before = self.versions()
        another = self.installation(KUBECONFIG)
        self.assertIn("took over", self.setup(another, *self.where))
        self.assertEqual(self.changed(before), [])
        for name in ("mongo/root_password", "redis/redis.conf", "edge/tls.key", "kubernetes/redis_admin_password"):
            self.assertEqual(another.read(name), self.it.read(name))
        self.setup(another, *self.where, "--user", "guest")
        self.assertEqual(self.changed(before), ["edge-htpasswd"])
        # The first machine's list is older now, and would take the guest out again.
        self.refused(self.it, "multivac-edge-htpasswd (htpasswd) differ", *self.where, "--user", "third")
        self.assertNotIn("third", self.it.users())

    def test_what_differs_is_named_and_stays_until_told_to_be_replaced(self):
        self.setup(self.it, *self.where)
        before = self.versions()
        self.it.run("--rotate", "redis")
        said = self.refused(self.it, "multivac-redis (redis.conf)", *self.where)
        self.assertIn("multivac-app (redis_url)", said)
        self.assertNotIn("multivac-mongo", said)
        self.assertEqual(self.changed(before), [])
        self.setup(self.it, *self.where, "--replace")
        self.assertEqual(self.changed(before), ["app", "redis"])

    def test_a_rotation_replaces_what_it_is_about_and_says_what_to_restart(self):
        self.setup(self.it, *self.where)
        for what, secrets_of, said in (
            ("redis", ["app", "redis"], "rollout restart statefulset/multivac-redis"),
            ("mongo", ["app", "mongo"], "delete job --selector"),
            ("keyfile", ["mongo"], "delete pod --selector"),
            ("certificate", ["edge-tls"], "give the new certificate"),
        ):
            with self.subTest(what):
                before, old = self.versions(), self.it.read("mongo/root_password").strip()
                self.assertIn(said, self.setup(self.it, *self.where, "--rotate", what))
                self.assertEqual(self.changed(before), secrets_of)
                if what == "mongo":
                    self.assertEqual(self.secret("multivac-mongo")["root_password.old"].split(), [old])

    def test_a_certificate_that_something_else_made_stays(self):
        self.setup(self.it, *self.where)
        self.kubectl("delete", "secret", "multivac-edge-tls")
        other = self.installation(KUBECONFIG)
        other.run()
        files = [f"--{kind}={other.secrets}/edge/tls.{end}" for kind, end in (("cert", "crt"), ("key", "key"))]
        self.kubectl("create", "secret", "tls", "multivac-edge-tls", *files)
        before = self.versions()
        self.assertIn("stays as it is", self.setup(self.it, *self.where))
        self.assertEqual(self.changed(before), [])

    def test_who_has_no_right_is_told_so(self):
        self.setup(self.it, *self.where)
        self.kubectl("create", "serviceaccount", "nobody")
        token = self.kubectl("create", "token", "nobody").strip()
        config = json.loads(self.kubectl("config", "view", "--raw", "--minify", "--output=json"))
        config["users"] = [{"name": config["users"][0]["name"], "user": {"token": token}}]
        file = self.it.secrets.parent / "kubeconfig"
        file.write_text(json.dumps(config))
        file.chmod(0o600)
        it = self.installation(file)
        self.assertRegex(self.refused(it, "orbidden", *self.where), r"secrets .* is forbidden")


if __name__ == "__main__":
    if not shutil.which("kubectl"):
        print("SKIPPED setup-kubernetes: there is no kubectl")
        sys.exit(0)
    if not KUBECONFIG:
        print("SKIPPED setup-kubernetes, but for what needs no cluster: MULTIVAC_TEST_KUBECONFIG names none")
    rules.run("setup-kubernetes")
