#!/usr/bin/env python3
"""What a release owes: documents that others can read, signatures that break when anything changes, files of CI that are right.

    scripts/release-check.sh
"""

import hashlib
import io
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import unittest

import yaml
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from groovy_parser.parser import parse_groovy_content

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests/release")]
import rules  # noqa: E402
from published import Published  # noqa: E402, F401
from running import DOCUMENTS, IMAGES, crates, run  # noqa: E402

SOME = "sha256:" + "a" * 64


def archive(files):
    """An image's files, as `docker export` gives them."""
    kept = io.BytesIO()
    with tarfile.open(fileobj=kept, mode="w") as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text))
    return kept.getvalue()


OS = b'ID=debian\nVERSION_ID="12"\n'
PACKAGE = b"Package: libc6\nVersion: 2.36-9+deb12u13\nArchitecture: amd64\nDescription: x\n Package: not one\n"


class Documents(unittest.TestCase):
    def sbom(self, files, program="multivac-worker"):
        with tempfile.NamedTemporaryFile("w") as tree:
            tree.write(crates(program))
            tree.flush()
            return json.loads(run(DOCUMENTS, "sbom", program, "1.2.3", "linux/amd64", tree.name, given=archive(files)))

    def test_an_sbom_is_valid_cyclonedx_and_has_the_crates_of_the_binary_with_their_checksums(self):
        for program in ("multivac-api", "multivac-worker"):
            sbom = self.sbom({"usr/lib/os-release": OS, "var/lib/dpkg/status.d/libc6": PACKAGE, f"usr/local/bin/{program}": b"x"}, program)
            self.assertIsNone(JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(sbom)))
            found = {one["name"]: one for one in sbom["components"] if one.get("purl", "").startswith("pkg:cargo/")}
            self.assertGreater(len(found), 100)
            unchecked = sorted(name for name, one in found.items() if "hashes" not in one)
            self.assertEqual(sorted(["multivac-core", program]), unchecked)
            lock = (ROOT / "Cargo.lock").read_text()
            self.assertIn(f'checksum = "{found["tokio"]["hashes"][0]["content"]}"', lock)
            self.assertNotIn("multivac-testkit", found)
            self.assertTrue(found["tokio"]["licenses"])
            references = {one["bom-ref"] for one in sbom["components"]} | {sbom["metadata"]["component"]["bom-ref"]}
            self.assertEqual(references, {one["ref"] for one in sbom["dependencies"]})
            self.assertLessEqual({below for one in sbom["dependencies"] for below in one["dependsOn"]}, references)

    def test_an_sbom_has_the_images_packages_and_binaries(self):
        files = {"etc/os-release": OS, "var/lib/dpkg/status.d/libc6": PACKAGE, "var/lib/dpkg/status.d/libc6.md5sums": PACKAGE, "usr/lib/x/libc.so.6": b"so"}
        found = {one["bom-ref"] for one in self.sbom({**files, "usr/local/bin/multivac-worker": b"x"})["components"]}
        self.assertIn("pkg:deb/debian/libc6@2.36-9%2Bdeb12u13?arch=amd64&distro=debian-12", found)
        self.assertIn("file:/usr/local/bin/multivac-worker", found)
        self.assertNotIn("file:/usr/lib/x/libc.so.6", found)
        self.assertEqual(1, sum("pkg:deb" in one for one in found))

    def test_without_a_list_of_packages_an_sbom_has_each_library_by_its_checksum(self):
        [one] = [one for one in self.sbom({"usr/lib/x/libc.so.6": b"so"})["components"] if one["name"] == "/usr/lib/x/libc.so.6"]
        self.assertEqual(hashlib.sha256(b"so").hexdigest(), one["hashes"][0]["content"])

    def test_what_is_no_cyclonedx_is_refused(self):
        sbom = self.sbom({"etc/os-release": OS})
        sbom["components"][0]["type"] = "crate"
        self.assertIsNotNone(JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(sbom)))

    def test_provenance_names_the_commit_and_the_run_of_each_ci(self):
        commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, timeout=60).stdout.strip()
        gitlab = {
            "GITLAB_CI": "true", "CI_SERVER_URL": "https://gitlab.example.org", "CI_PROJECT_PATH": "a/b", "CI_RUNNER_ID": "7",
            "CI_JOB_URL": "https://gitlab.example.org/a/b/-/jobs/9", "CI_PROJECT_URL": "https://user:hidden@gitlab.example.org/a/b",
        }  # fmt: skip
        github = {
            "GITHUB_ACTIONS": "true", "GITHUB_SERVER_URL": "https://github.com", "GITHUB_REPOSITORY": "a/b", "GITHUB_RUN_ID": "9",
            "GITHUB_WORKFLOW_REF": "a/b/.github/workflows/ci.yml@refs/tags/1",
        }  # fmt: skip
        jenkins = {"JENKINS_URL": "https://jenkins.example.org/", "BUILD_URL": "https://jenkins.example.org/job/1/"}
        for variables, builder, invocation in [
            (gitlab, "https://gitlab.example.org/a/b/-/runners/7", gitlab["CI_JOB_URL"]),
            (github, "https://github.com/a/b/.github/workflows/ci.yml@refs/tags/1", "https://github.com/a/b/actions/runs/9"),
            (jenkins, jenkins["JENKINS_URL"], jenkins["BUILD_URL"]),
            ({}, "urn:multivac:built-by-hand", None),
        ]:
            said = run(DOCUMENTS, "provenance", "multivac-api", "1", "linux/amd64,linux/arm64", only=variables)
            self.assertNotIn("hidden", said)
            made = json.loads(said)
            self.assertEqual(builder, made["runDetails"]["builder"]["id"])
            self.assertEqual(invocation, made["runDetails"]["metadata"].get("invocationId"))
            self.assertEqual(commit, made["buildDefinition"]["resolvedDependencies"][0]["digest"]["gitCommit"])
            self.assertEqual(["linux/amd64", "linux/arm64"], made["buildDefinition"]["externalParameters"]["platforms"])

    def test_digests_are_values_that_the_chart_has(self):
        said = yaml.safe_load(run(DOCUMENTS, "digests", "1.2.3", "registry.example.org/m", "1.2.3", SOME, SOME, SOME))
        values = yaml.safe_load((ROOT / "deploy/helm/multivac/values.yaml").read_text())
        self.assertEqual(["images"], list(said))
        self.assertEqual({"registry", "api", "worker"}, set(said["images"]))
        for name in ("api", "worker"):
            self.assertEqual(set(values["images"][name]), set(said["images"][name]))
            self.assertEqual(values["images"][name]["repository"], said["images"][name]["repository"])
        run(DOCUMENTS, "digests", "1.2.3", "r", "1.2.3", SOME, "sha256:1", SOME, status=1)

    def test_images_tells_all_that_is_missing_before_it_builds(self):
        with tempfile.TemporaryDirectory() as directory:
            for arguments, expected in [
                (["v/1", "localhost:1"], ["v/1", "something to sign with"]),
                (["1", "localhost:1", "--key", "/nowhere"], ["/nowhere"]),
                (["1", "--platform", "linux/amd64,linux/arm64"], ["a REGISTRY"]),
            ]:
                said = run(IMAGES, *arguments, "--to", f"{directory}/to", status=2, only={})
                for part in expected:
                    self.assertIn(part, said)
            self.assertEqual([], os.listdir(directory))
            for arguments in [[], ["1", "2", "3"], ["1", "--key"], ["1", "--pull"]]:
                self.assertIn("scripts/images.sh VERSION REGISTRY", run(IMAGES, *arguments, status=2))

    def test_the_chart_is_packaged_whole_without_links_out_of_it(self):
        if not shutil.which("helm"):
            print("SKIPPED there is no helm")
            return
        with tempfile.TemporaryDirectory() as directory:
            run("helm", "package", "deploy/helm/multivac", "--version", "9.8.7", "--app-version", "v9.8.7", "--destination", directory)
            with tarfile.open(f"{directory}/multivac-9.8.7.tgz") as chart:
                members = chart.getmembers()
                described = yaml.safe_load(chart.extractfile("multivac/Chart.yaml"))
            self.assertEqual(("9.8.7", "v9.8.7"), (described["version"], described["appVersion"]))
            self.assertEqual([], [one.name for one in members if one.issym() or one.islnk()])
            here = {str(path.relative_to(ROOT / "deploy/helm")) for path in (ROOT / "deploy/helm/multivac").rglob("*") if path.is_file()}
            self.assertGreaterEqual({one.name for one in members}, {name for name in here if "/templates/" in name})


def pipeline(text):
    """A Jenkinsfile, strictly: as Groovy, and what is in it where a declarative pipeline may have it."""
    parse_groovy_content(text)
    may = {
        "": {"pipeline"},
        "pipeline": {"agent", "options", "stages", "environment", "triggers", "parameters", "tools", "post"},
        "stages": {"stage"},
        "stage": {"agent", "options", "when", "input", "environment", "steps", "stages", "post", "tools"},
    }
    path, bare = [""], re.sub(r"(?m)//.*$", "", re.sub(r"'''.*?'''|'[^'\n]*'|\"[^\"\n]*\"", '""', text, flags=re.S))
    for name, braces in re.findall(r"(?m)([A-Za-z]\w*)(?:\([^)\n]*\))? *(?=[{])|([{}])|^\s+agent any$", bare):
        if name:
            if path[-1] in may and name not in may[path[-1]]:
                raise ValueError(f"{name} in {path[-1] or 'the file'}")
            following = name
        elif braces == "{":
            path.append(following)
        elif braces == "}":
            path.pop()
    return bare


class Ci(unittest.TestCase):
    def fits(self, schema, text, name):
        with tempfile.TemporaryDirectory() as directory:
            path = pathlib.Path(directory, name)
            path.write_text(text)
            done = subprocess.run(
                [str(pathlib.Path(sys.executable).parent / "check-jsonschema"), "--builtin-schema", schema, str(path)],
                capture_output=True, text=True, timeout=120,
            )  # fmt: skip
        return "" if done.returncode == 0 else done.stdout + done.stderr

    def test_gitlabs_file_fits_the_schema_that_gitlab_publishes(self):
        text = (ROOT / ".gitlab-ci.yml").read_text()
        self.assertEqual("", self.fits("vendor.gitlab-ci", text, ".gitlab-ci.yml"))
        # The last one was so: a job of that name is none to GitLab.
        for before, after in [("resource_group: production", "resource_groups: production"), ("when: manual", "when: by_hand"), ("\nbuild:", "\nimage:")]:
            self.assertIn(before, text)
            self.assertNotEqual("", self.fits("vendor.gitlab-ci", text.replace(before, after), ".gitlab-ci.yml"), after)

    def test_githubs_workflow_fits_the_schema_that_github_publishes(self):
        text = (ROOT / ".github/workflows/ci.yml").read_text()
        self.assertEqual("", self.fits("vendor.github-workflows", text, "ci.yml"))
        self.assertNotEqual("", self.fits("vendor.github-workflows", text.replace("runs-on", "run-on"), "ci.yml"))

    def test_jenkinsfile_is_groovy_and_a_declarative_pipeline(self):
        text = (ROOT / "Jenkinsfile").read_text()
        pipeline(text)
        for before, after in [("agent any", "agent any }"), ("steps { sh 'scripts/check.sh' }", "step { sh 'scripts/check.sh' }"), ("sh 'scripts/check.sh'", "sh 'scripts/check.sh")]:
            self.assertIn(before, text)
            with self.assertRaises(Exception, msg=after):
                pipeline(text.replace(before, after))

    def test_deployment_is_by_hand_one_at_a_time_and_without_stored_keys(self):
        gitlab = yaml.safe_load((ROOT / ".gitlab-ci.yml").read_text())
        deploy, publish = gitlab["deploy"], gitlab["publish"]
        self.assertEqual([("$CI_COMMIT_TAG", "manual")], [(rule["if"], rule["when"]) for rule in deploy["rules"]])
        self.assertTrue(deploy["resource_group"] and publish["resource_group"])
        self.assertIn("GCP_ID_TOKEN", deploy["id_tokens"])
        self.assertEqual({"aud": "sigstore"}, publish["id_tokens"]["SIGSTORE_ID_TOKEN"])
        bare = pipeline((ROOT / "Jenkinsfile").read_text())
        self.assertIn("disableConcurrentBuilds()", bare)
        self.assertRegex(bare, r'input \{[^}]*\}(?s:.*)steps \{ lock\(""\)')
        for name in (".gitlab-ci.yml", "Jenkinsfile", ".github/workflows/ci.yml"):
            self.assertNotRegex((ROOT / name).read_text(), r"(?i)ssh|service.?account.?key|key\.json|kubeconfig-file|set -x")

    def test_images_and_actions_are_pinned(self):
        for name in (".gitlab-ci.yml", ".github/workflows/ci.yml"):
            text = (ROOT / name).read_text()
            for image in re.findall(r"(?m)^\s*(?:image|container): *(\S+)", text):
                self.assertRegex(image, r":\d+\.\d+\.\d+|@sha256:", name)
            for action in re.findall(r"uses: *(\S+)", text):
                self.assertRegex(action, r"@[0-9a-f]{40}$", name)
        release = re.search(r'channel = "(.*)"', (ROOT / "rust-toolchain.toml").read_text())[1]
        self.assertIn(f"rust:{release}-bookworm", (ROOT / ".gitlab-ci.yml").read_text())

    def test_every_script_and_option_that_ci_calls_is_there(self):
        for name in (".gitlab-ci.yml", "Jenkinsfile", ".github/workflows/ci.yml"):
            text = re.sub(r"(?m)^\s*(#|//).*$", "", (ROOT / name).read_text())
            calls = re.findall(r"((?:scripts|deploy)/[\w/-]+\.sh)((?:[^'\]\n]|\n +(?=-)|\\\n|\n +(?=\S+ *\"\$))*)", text)
            self.assertGreater(len(calls), 2)
            for script, arguments in calls:
                with self.subTest(f"{name}: {script}"):
                    self.assertTrue((ROOT / script).is_file(), f"{script} is not there")
                    head = (ROOT / script).read_text()
                    # A program in Python, of which the script is the name.
                    for below in re.findall(r'exec python3 "\$\(dirname "\$0"\)/(\S+)"', head):
                        head += ((ROOT / script).parent / below).read_text()
                    for option in re.findall(r" (--[a-z-]+)", arguments):
                        self.assertIn(option, head)


if __name__ == "__main__":
    rules.run("release")
