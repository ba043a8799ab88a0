"""A release that is published: pushed to a registry, signed by a key, verified, tampered with."""

import base64
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import types
import unittest
import urllib.error
import urllib.request

import yaml
from running import IMAGES, ROOT, crates, run

sys.path.insert(0, str(ROOT / "scripts/kubernetes"))
from cluster import Failure  # noqa: E402
from preflight import Preflight, merged  # noqa: E402

REGISTRY, CONTEXT = os.environ.get("MULTIVAC_TEST_REGISTRY"), os.environ.get("MULTIVAC_TEST_CONTEXT")
BASE = os.environ.get("MULTIVAC_TEST_BASE") or "redis:7"
VERSION = "v9.8.7"
MANIFESTS = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json"
# What an operator and scripts/k8s-deploy.sh verify with.
VERIFY = ["cosign", "verify", "--insecure-ignore-tlog=true"]


def dockerfile(directory):
    """The targets of deploy/docker/Dockerfile, without the build."""
    lines = []
    for program in ("api", "worker"):
        lines += [f"FROM {BASE} AS {program}", "ARG VERSION", f"LABEL org.opencontainers.image.version=$VERSION program={program}"]
    lines.append("FROM scratch AS crates")
    for program in ("multivac-api", "multivac-worker"):
        lines += [f"COPY <<'END' /{program}.crates", crates(program).rstrip(), "END"]
    path = pathlib.Path(directory, "Dockerfile")
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def missing():
    if not REGISTRY:
        return "no registry is given (MULTIVAC_TEST_REGISTRY)"
    return next((f"there is no {tool}" for tool in ("docker", "cosign", "helm") if not shutil.which(tool)), None)


class Published(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        if why := missing():
            print(f"SKIPPED publishing, signing and tampering: {why}")
            raise unittest.SkipTest(why)
        cls.temporary = tempfile.TemporaryDirectory(prefix="multivac-release.")
        cls.addClassCleanup(cls.temporary.cleanup)
        cls.directory = pathlib.Path(cls.temporary.name)
        cls.registry = f"{REGISTRY}/release-test-{os.getpid()}"
        cls.addClassCleanup(cls.forget)
        for name in ("ours", "others"):
            (cls.directory / name).mkdir()
            subprocess.run(["cosign", "generate-key-pair"], cwd=cls.directory / name, env={**os.environ, "COSIGN_PASSWORD": ""}, check=True, capture_output=True, timeout=60)
        cls.key, cls.public, cls.others = cls.directory / "ours/cosign.key", cls.directory / "ours/cosign.pub", cls.directory / "others/cosign.pub"
        cls.to = cls.directory / "to"
        cls.said = cls.publish(VERSION, "--key", str(cls.key), "--to", str(cls.to))
        cls.digests = dict(re.findall(r"(api|worker): .*digest: \"(sha256:\w+)\"", (cls.to / "digests.yaml").read_text()))
        cls.chart = re.search(r"charts/multivac \S+, (sha256:\w+)", (cls.to / "digests.yaml").read_text())[1]

    @classmethod
    def publish(cls, version, *arguments):
        return run(IMAGES, version, cls.registry, *arguments, only={}, COSIGN_PASSWORD="", MULTIVAC_DOCKERFILE=dockerfile(cls.directory))

    @classmethod
    def forget(cls):
        """The images that the engine keeps of what it pushed."""
        for program in ("multivac-api", "multivac-worker"):
            found = subprocess.run(["docker", "images", "--quiet", f"{cls.registry}/{program}"], capture_output=True, text=True, timeout=60).stdout.split()
            for image in found:
                subprocess.run(["docker", "rmi", "--force", image], capture_output=True, timeout=60)

    def image(self, program="api", digest=None):
        return f"{self.registry}/multivac-{program}@{digest or self.digests[program]}"

    def push(self, program, label):
        """Something else under the same name and tag; its digest."""
        given = f"FROM {BASE}\nLABEL tampered={label}\n".encode()
        meta = self.directory / "meta.json"
        name = f"{self.registry}/multivac-{program}:{VERSION}"
        run("docker", "buildx", "build", "--provenance=false", "--push", "--tag", name, "--metadata-file", str(meta), "-", given=given)
        return json.loads(meta.read_text())["containerimage.digest"]

    def request(self, method, path, body=None, kind=MANIFESTS):
        host, _, repository = self.registry.partition("/")
        headers = {"Accept": MANIFESTS, **({"Content-Type": kind} if body else {})}
        return urllib.request.urlopen(urllib.request.Request(f"http://{host}/v2/{repository}/{path}", body, headers, method=method), timeout=30)

    def attested(self, kind, image):
        """The predicates of this kind that our key signed for an image."""
        said = run("cosign", "verify-attestation", "--key", str(self.public), "--insecure-ignore-tlog=true", "--type", kind, image)
        return [json.loads(base64.b64decode(json.loads(line)["payload"]))["predicate"] for line in said.splitlines() if line.startswith("{")]

    def test_both_images_and_the_chart_are_there_by_their_digests_and_signed(self):
        for image in (self.image("api"), self.image("worker"), f"{self.registry}/charts/multivac@{self.chart}"):
            [*claims] = json.loads(run(*VERIFY, "--key", str(self.public), image))
            self.assertTrue(any(claim["critical"]["type"].endswith("cosign/sign/v1") for claim in claims), claims)

    def test_nothing_secret_is_left_behind_or_printed(self):
        self.assertEqual(
            ["chart.provenance.json", "digests.yaml", "multivac-9.8.7.tgz", "multivac-api.linux-amd64.cdx.json", "multivac-api.provenance.json",
             "multivac-worker.linux-amd64.cdx.json", "multivac-worker.provenance.json"],
            sorted(path.name for path in self.to.iterdir()),
        )  # fmt: skip
        self.assertNotIn("PRIVATE", self.said)

    def test_what_is_attested_is_what_was_written(self):
        for program in ("api", "worker"):
            written = json.loads((self.to / f"multivac-{program}.linux-amd64.cdx.json").read_text())
            [sbom] = self.attested("cyclonedx", self.image(program))
            self.assertEqual(written["serialNumber"], sbom["serialNumber"])
            self.assertEqual(len(written["components"]), len(sbom["components"]))
            self.assertTrue(any(one.get("purl", "").startswith("pkg:deb/") for one in sbom["components"]))
            [made] = self.attested("slsaprovenance1", self.image(program))
            self.assertEqual(VERSION, made["buildDefinition"]["externalParameters"]["version"])

    def test_the_key_of_another_is_refused(self):
        run(*VERIFY, "--key", str(self.others), self.image(), status=1)

    def test_an_image_that_was_tampered_with_is_refused_by_its_tag_and_by_its_digest(self):
        digest = self.push("api", "yes")
        self.assertNotEqual(self.digests["api"], digest)
        for image in (self.image("api", digest), f"{self.registry}/multivac-api:{VERSION}"):
            self.assertIn("no signatures found", run(*VERIFY, "--key", str(self.public), image, status=10))
        run(*VERIFY, "--key", str(self.public), self.image("api"))

    def test_signatures_that_were_copied_to_another_image_are_refused(self):
        digest = self.push("worker", "copied")
        with self.request("GET", f"multivac-worker/manifests/{self.digests['worker'].replace(':', '-')}") as reply:
            body, kind = reply.read(), reply.headers["Content-Type"]
        self.request("PUT", f"multivac-worker/manifests/{digest.replace(':', '-')}", body, kind).close()
        said = run(*VERIFY, "--key", str(self.public), self.image("worker", digest), status=1)
        self.assertRegex(said, r"digest|subject")

    def test_an_unsigned_release_is_published_only_if_that_is_said_and_is_refused(self):
        to = self.directory / "unsigned"
        said = run(IMAGES, "v9.8.8", self.registry, "--to", str(to), only={}, status=2)
        self.assertIn("something to sign with", said)
        with self.assertRaises(urllib.error.HTTPError):
            self.request("GET", "multivac-api/manifests/v9.8.8")
        self.publish("v9.8.8", "--unsigned", "--to", str(to))
        digest = re.search(r"api: .*digest: \"(sha256:\w+)\"", (to / "digests.yaml").read_text())[1]
        run(*VERIFY, "--key", str(self.public), self.image("api", digest), status=10)

    def test_the_chart_is_pulled_by_its_version_and_takes_the_digests(self):
        pulled = self.directory / "pulled"
        pulled.mkdir()
        said = subprocess.run(
            ["helm", "pull", f"oci://{self.registry}/charts/multivac", "--version", "9.8.7", "--plain-http", "--destination", str(pulled)],
            capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        self.assertEqual(0, said.returncode, said.stderr)
        self.assertIn(self.chart, said.stdout + said.stderr)
        self.assertEqual((self.to / "multivac-9.8.7.tgz").read_bytes(), (pulled / "multivac-9.8.7.tgz").read_bytes())
        rendered = run("helm", "template", "x", str(pulled / "multivac-9.8.7.tgz"), "-f", str(self.to / "digests.yaml"))
        if "kind: Deployment" in rendered:
            self.assertIn(f"{self.registry}/multivac-api:{VERSION}@{self.digests['api']}", rendered)

    def preflight(self, **changes):
        """What scripts/k8s-deploy.sh says of the api's image in this release's values."""
        look = Preflight(None, types.SimpleNamespace(cosign_key=str(self.public), cosign_identity=None, cosign_issuer=None))
        chart = yaml.safe_load((ROOT / "deploy/helm/multivac/values.yaml").read_text())
        look.values = merged(chart, yaml.safe_load((self.to / "digests.yaml").read_text()))
        look.values["images"]["api"].update(changes)
        look.image("api")
        return look.warnings

    def test_the_deploy_helper_takes_the_release_and_refuses_what_is_unsigned_tampered_with_or_without_a_digest(self):
        self.assertEqual([], self.preflight())
        for changes, why in [
            ({"digest": self.push("api", "helper")}, "is not signed as it should be: no signature"),
            ({"digest": ""}, "has no digest in the values"),
            ({"digest": "sha256:" + "0" * 64}, "has no"),
        ]:
            with self.assertRaisesRegex(Failure, why):
                self.preflight(**changes)

    def test_a_pod_runs_by_digest(self):
        if not CONTEXT or not shutil.which("kubectl"):
            print("SKIPPED a pod by digest: no cluster is given (MULTIVAC_TEST_CONTEXT)")
            return
        kubectl, namespace = ["kubectl", "--context", CONTEXT], f"release-test-{os.getpid()}"
        run(*kubectl, "create", "namespace", namespace)
        try:
            run(*kubectl, "-n", namespace, "run", "one", f"--image={self.image()}", "--restart=Never", "--command", "--", "sh", "-c", "echo runs")
            run(*kubectl, "-n", namespace, "wait", "pod/one", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=120s")
            self.assertEqual("runs", run(*kubectl, "-n", namespace, "logs", "one").strip())
            self.assertIn(self.digests["api"], run(*kubectl, "-n", namespace, "get", "pod", "one", "-o", "jsonpath={.status.containerStatuses[0].imageID}"))
        finally:
            run(*kubectl, "delete", "namespace", namespace, "--wait=false")
