"""What deploy/gcp/cluster.sh owes, in front of a stand-in of gcloud, and whether the real gcloud knows what it says."""

import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile
import unittest

import landscape
import rest
from cloud import PROJECT, Refused
from command_line import Usage
from world import GCP, TIMEOUT

REGION = "europe-west1"
REAL_GCLOUD = shutil.which("gcloud")
NODES = f"multivac-nodes@{PROJECT}.iam.gserviceaccount.com"
BUCKET = f"gs://{PROJECT}-multivac-backups"
UNAVAILABLE = Refused("UNAVAILABLE", "The service is currently unavailable.")


class Site:
    """A project, gcloud before it, and cluster.sh that is run in front of both."""

    def __init__(self, stack):
        self.directory = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="multivac-gcp.")))
        self.cloud = landscape.Landscape()
        self.server = rest.Server(self.cloud)
        stack.callback(self.server.server_close)
        stack.callback(self.server.shutdown)
        self.gcloud = landscape.CommandLine(self.cloud, self.directory)
        stack.callback(self.gcloud.listener.close)

    def start(self, *arguments, project=PROJECT, region=REGION):
        environment = os.environ | {
            "PATH": f"{self.gcloud.program.parent}:{os.environ['PATH']}",
            "MULTIVAC_GCP_WAIT_SECONDS": "0.01",
            "CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDRESOURCEMANAGER": self.server.url,
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        return subprocess.Popen(
            [str(GCP / "cluster.sh"), project, region, *arguments], env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip

    def run(self, *arguments, status=0, **more):
        process = self.start(*arguments, **more)
        try:
            out, err = process.communicate(timeout=TIMEOUT)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        assert process.returncode == status, f"status {process.returncode}\n{out}\n{err}"
        return out + err


class Case(unittest.TestCase):
    maxDiff = 4000

    def setUp(self):
        self.stack = contextlib.ExitStack()
        self.addCleanup(self.stack.close)
        self.site = Site(self.stack)
        self.cloud = self.site.cloud

    def another(self):
        return Site(self.stack)

    def made(self):
        self.site.run()
        self.cloud.calls.clear()

    def counts(self, said, **expected):
        found = re.search(r"(\d+) created, (\d+) updated, (\d+) unchanged, (\d+) different", said)
        assert found, said
        counted = dict(zip(["created", "updated", "unchanged", "different"], map(int, found.groups())))
        self.assertEqual({**dict.fromkeys(counted, 0), **expected}, counted, said)


class Cluster(Case):
    def test_a_cluster_is_made_once_and_the_second_run_writes_nothing(self):
        dry = self.site.run("--dry-run")
        self.counts(dry, created=13)
        self.assertEqual([], self.cloud.writes())
        self.counts(self.site.run(), created=13)
        state = self.cloud.state()
        self.cloud.calls.clear()
        again = self.site.run()
        self.counts(again, unchanged=13)
        self.assertEqual([], self.cloud.writes())
        self.assertEqual(state, self.cloud.state())
        for command in ["get-credentials multivac --region=europe-west1", "setup.py --kubernetes", "k8s-deploy.sh VERSION", "values-gke.yaml", "digests.yaml"]:
            self.assertIn(command, again)

    def test_a_cluster_is_private_runs_as_an_account_of_its_own_and_has_no_public_control_plane(self):
        self.site.run()
        cluster = self.cloud.objects["container clusters multivac"]
        self.assertTrue(cluster["networkConfig"]["defaultEnablePrivateNodes"])
        self.assertEqual(NODES, cluster["autoscaling"]["autoprovisioningNodePoolDefaults"]["serviceAccount"])
        self.assertEqual(
            {"dnsEndpointConfig": {"allowExternalTraffic": True}, "ipEndpointsConfig": {"enabled": False}}, cluster["controlPlaneEndpointsConfig"]
        )
        roles = {one["role"] for policy in self.cloud.policies.values() for one in policy["bindings"] if f"serviceAccount:{NODES}" in one["members"]}
        self.assertEqual({"roles/container.defaultNodeServiceAccount", "roles/artifactregistry.reader"}, roles)

    def test_the_bucket_is_never_public_and_only_the_backups_service_account_may_write_there(self):
        self.site.run("--namespace", "prod", "--service-account", "b")
        bucket = self.cloud.objects[f"storage buckets {BUCKET}"]
        self.assertEqual((True, "enforced", True), (bucket["uniform_bucket_level_access"], bucket["public_access_prevention"], bucket["versioning_enabled"]))
        [one] = self.cloud.policies[f"storage buckets {BUCKET}"]["bindings"]
        self.assertEqual("roles/storage.objectUser", one["role"])
        [member] = one["members"]
        self.assertTrue(member.endswith(f"/workloadIdentityPools/{PROJECT}.svc.id.goog/subject/ns/prod/sa/b"), member)

    def test_a_role_of_somebody_else_or_on_a_condition_is_not_taken_for_ours(self):
        role = "roles/container.defaultNodeServiceAccount"
        theirs = [{"role": role, "members": ["user:ops@example.org"]}, {"role": role, "members": [f"serviceAccount:{NODES}"], "condition": {"title": "x"}}]
        self.cloud.policies[f"projects {PROJECT}"] = {"bindings": list(theirs)}
        self.counts(self.site.run(), created=13)
        self.assertEqual([*theirs, {"role": role, "members": [f"serviceAccount:{NODES}"]}], self.cloud.policies[f"projects {PROJECT}"]["bindings"])

    def test_the_values_have_the_address_and_the_bucket(self):
        values = self.site.directory / "gke.yaml"
        self.assertIn(f"-f {values}", self.site.run("--values", str(values)))
        import yaml

        said = yaml.safe_load(values.read_text())
        self.assertEqual("198.51.100.7", said["edge"]["service"]["loadBalancerIP"])
        self.assertEqual(BUCKET.removeprefix("gs://"), said["backup"]["volume"]["csi"]["volumeAttributes"]["bucketName"])

    def test_what_was_changed_by_hand_is_put_right_where_that_is_possible(self):
        self.made()
        state = self.cloud.state()
        self.cloud.objects[f"storage buckets {BUCKET}"].update(public_access_prevention="inherited", versioning_enabled=False, lifecycle_config=None)
        self.cloud.objects["container clusters multivac"]["controlPlaneEndpointsConfig"]["ipEndpointsConfig"]["enabled"] = True
        self.cloud.objects["compute networks subnets multivac"]["privateIpGoogleAccess"] = False
        self.counts(self.site.run("--dry-run"), updated=3, unchanged=10)
        self.assertEqual([], self.cloud.writes())
        self.counts(self.site.run(), updated=3, unchanged=10)
        self.assertEqual(state, self.cloud.state())

    def test_a_cluster_of_another_kind_is_told_and_left_alone(self):
        self.made()
        cluster = self.cloud.objects["container clusters multivac"]
        cluster["autopilot"], cluster["networkConfig"] = {}, {}
        state = self.cloud.state()
        said = self.site.run(status=1)
        for part in ["not an Autopilot cluster", "no Dataplane V2", "nodes have public addresses"]:
            self.assertIn(part, said)
        self.assertEqual(([], state), (self.cloud.writes(), self.cloud.state()))

    def test_a_cluster_that_could_not_be_made_is_told(self):
        self.made()
        self.cloud.objects["container clusters multivac"].update(status="ERROR", statusMessage="no quota")
        self.assertIn("is ERROR: no quota", self.site.run(status=1))


class ClusterFailures(Case):
    def test_killed_after_a_write_the_next_run_ends_well(self):
        whole = self.another()
        whole.run()
        self.assertGreater(len(whole.cloud.writes()), 13)
        # The first, after the network, between account and role, within the bucket, after the last.
        for number in (1, 2, 7, 12, 15):
            with self.subTest(f"after {number} writes"):
                site, seen = self.another(), []

                def killing(command, _, site=site, seen=seen, number=number):
                    if command.rpartition(" ")[2] in landscape.WRITES:
                        seen.append(command)
                        if len(seen) == number:
                            os.killpg(process.pid, signal.SIGKILL)

                site.cloud.after = killing
                process = site.start()
                process.communicate(timeout=TIMEOUT)
                self.assertEqual(-signal.SIGKILL, process.returncode)
                self.assertNotEqual(whole.cloud.state(), site.cloud.state())
                site.cloud.after = lambda *_: None
                site.run()
                self.assertEqual(whole.cloud.state(), site.cloud.state())

    def test_what_passes_is_tried_again_and_a_lost_reply_makes_nothing_twice(self):
        failed, lost = set(), set()

        def fail(command, _):
            if command not in failed and command != "projects describe":
                failed.add(command)
                raise UNAVAILABLE

        def lose(command, _):
            if command.rpartition(" ")[2] in landscape.WRITES and command not in lost:
                lost.add(command)
                raise UNAVAILABLE

        self.cloud.before, self.cloud.after = fail, lose
        self.counts(self.site.run(), created=13)
        whole = self.another()
        whole.run()
        self.assertEqual(whole.cloud.state(), self.cloud.state())
        self.assertGreater(len(lost), 10)

    def test_all_rights_that_are_missing_are_told_at_once_and_nothing_is_begun(self):
        self.cloud.denied = {"container.clusters.create", "storage.buckets.create"}
        said = self.site.run(status=2)
        for part in [*self.cloud.denied, "nothing was changed"]:
            self.assertIn(part, said)
        self.assertEqual([], self.cloud.writes())
        self.counts(self.site.run("--dry-run"), created=13)

    def test_a_right_that_nobody_could_ask_about_stops_the_run_and_another_completes_it(self):
        self.cloud.iam_answers = False

        def before(command, _):
            if command == "storage buckets create":
                raise Refused("PERMISSION_DENIED", "storage.buckets.create")

        self.cloud.before = before
        self.assertIn("another run does the rest", self.site.run(status=1))
        self.cloud.before = lambda *_: None
        self.site.run()
        self.counts(self.site.run(), unchanged=13)

    def test_what_is_no_project_region_or_name_is_told_before_gcloud_is_asked(self):
        said = self.site.run("--name", "Multi_VAC", "--namespace", "-", status=2, project="12", region="europe-west1-b")
        for part in ["ID of a project", "a zone is none", "small letters", "name of a namespace"]:
            self.assertIn(part, said)
        self.assertEqual([], self.site.gcloud.lines)

    def test_nobody_logged_in_and_no_such_project_are_told(self):
        self.assertIn("there is no project", self.site.run(status=2, project="another-project"))
        self.site.gcloud.account = False
        self.assertIn("gcloud auth login", self.site.run(status=2))


class ClusterCommands(Case):
    def test_the_stand_in_refuses_commands_flags_and_parts_that_are_not_there(self):
        wide = [f"--project={PROJECT}", "--format=json", "--quiet"]
        for words in ["container clusters make x", "compute networks create x --range=1", "compute addresses create x", "services list", "storage buckets create"]:
            with self.subTest(words), self.assertRaises(Usage):
                self.site.gcloud.do([*words.split(), *wide], "")
        for words in ["compute networks describe x", "compute routers create x --region=r --network=x", "storage buckets describe gs://x"]:
            with self.subTest(words), self.assertRaises(Refused):
                self.site.gcloud.do([*words.split(), *wide], "")

    def test_the_real_gcloud_knows_every_command_and_flag(self):
        if not REAL_GCLOUD:
            print("SKIPPED the real gcloud is not here")
            return
        self.site.run("--values", str(self.site.directory / "gke.yaml"))
        self.cloud.objects[f"storage buckets {BUCKET}"] = {"name": BUCKET}
        self.cloud.objects["container clusters multivac"].update(releaseChannel={}, controlPlaneEndpointsConfig={"dnsEndpointConfig": {}, "ipEndpointsConfig": {}})
        self.cloud.objects["compute networks subnets multivac"].pop("privateIpGoogleAccess")
        self.counts(self.site.run(), updated=3, unchanged=10)
        commands = {" ".join(["gcloud", *words]) for words, _ in self.site.gcloud.lines if "--display-name" not in " ".join(words)}
        commands.add(f"gcloud container clusters get-credentials multivac --region={REGION} --project={PROJECT} --dns-endpoint")
        self.assertGreater(len(commands), 30)
        wrong = f"gcloud container clusters create-auto x --region={REGION} --private"
        # Its own parser, which says what it has against a command without running it.
        file = self.site.directory / "commands.json"
        file.write_text(json.dumps([{"command_string": command} for command in [*sorted(commands), wrong]]))
        environment = os.environ | {"CLOUDSDK_CONFIG": str(self.site.directory / "cloudsdk"), "CLOUDSDK_CORE_DISABLE_PROMPTS": "1"}
        words = [REAL_GCLOUD, "meta", "lint-gcloud-commands", f"--commands-file={file}"]
        done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=TIMEOUT)
        refused = {one["command_string"]: one["error_message"] for one in json.loads(done.stdout) if not one["success"]}
        self.assertEqual([wrong], list(refused), refused)
