"""What is missing, what fails half-way, and whether the stand-in is like the real gcloud."""

import json
import os
import pathlib
import shutil
import signal
import sys

import cloud as clouds
import command_line
import rest
from cloud import PROJECT, Refused
from world import GCP, HOST, TIMEOUT, Case, policy_file, same

REAL_GCLOUD = shutil.which("gcloud")
UNAVAILABLE = "The service is currently unavailable."


class Missing(Case):
    """Before anything is changed."""

    def refused(self, *expected, arguments=None, **more):
        said = self.world.run(*(self.world.everybody() if arguments is None else arguments), status=2, **more)
        for part in (*expected, "nothing was changed"):
            self.assertIn(part, said)
        self.assertEqual([], self.cloud.writes())
        return said

    def test_without_gcloud_it_says_where_to_get_it(self):
        tools = self.world.directory / "tools"
        tools.mkdir()
        for tool in ("bash", "dirname", "env"):
            (tools / tool).symlink_to(shutil.which(tool))
        (tools / "python3").symlink_to(sys.executable)
        self.world.path = str(tools)
        self.refused("gcloud is missing: https://")

    def test_without_an_account_it_says_how_to_log_in(self):
        self.world.gcloud.account = False
        self.refused("gcloud auth login")

    def test_all_rights_that_are_missing_are_told_at_once(self):
        self.cloud.denied = {"monitoring.alertPolicies.update", "logging.logMetrics.create", "monitoring.dashboards.create"}
        said = self.refused(*self.cloud.denied)
        self.assertNotIn("monitoring.alertPolicies.create", said)

    def test_rights_to_look_that_are_missing_are_told_with_the_others(self):
        self.cloud.denied = {"monitoring.alertPolicies.list", "logging.logMetrics.list", "monitoring.uptimeCheckConfigs.create"}
        self.refused(*self.cloud.denied)

    def test_the_right_to_delete_is_asked_for_by_prune_alone(self):
        self.cloud.denied = {"monitoring.alertPolicies.delete"}
        self.refused("monitoring.alertPolicies.delete", arguments=[*self.world.everybody(), "--prune"])
        self.world.run(*self.world.everybody())

    def test_apis_that_are_not_enabled_are_told_with_the_command_that_enables_them(self):
        self.cloud.disabled = {"Cloud Monitoring", "Cloud Logging"}
        said = self.refused(f"gcloud services enable logging.googleapis.com --project={PROJECT}")
        self.assertEqual(1, said.count("gcloud services enable monitoring.googleapis.com"), said)

    def test_a_project_that_is_not_there_is_told(self):
        self.refused("there is no such project", arguments=["--host", HOST], project="another-project")

    def test_what_is_no_project_id_or_host_is_told_before_gcloud_is_asked(self):
        self.refused("not the ID of a project", "a host's name alone", arguments=["--host", "https://a/"], project="123456789012")
        self.assertEqual([], self.world.gcloud.lines)

    def test_a_metric_of_the_same_name_that_is_not_ours_is_told(self):
        self.cloud.create("metrics", {"name": "multivac_edge_5xx", "filter": "severity=ERROR", "description": "Mine."})
        self.cloud.forget_calls()
        self.refused("multivac_edge_5xx that is not ours")

    def test_a_dry_run_needs_no_right_to_write(self):
        self.cloud.denied = {f"{right}.{verb}" for right in clouds.RIGHTS.values() for verb in clouds.WRITES}
        said = self.world.run(*self.world.everybody(), "--dry-run")
        self.assertIn("to apply this, rights are missing: ", said)
        self.assertEqual([], self.cloud.writes())

    def test_an_unknown_argument_is_refused(self):
        self.world.run("--purge", status=2)


class Failures(Case):
    """On the way."""

    def whole(self):
        """The state after an undisturbed run, of another world."""
        other = Case()
        other.setUp()
        try:
            other.world.run(*self.world.everybody())
            return same(other.cloud.state())
        finally:
            other.doCleanups()

    def test_a_right_that_nobody_could_ask_about_stops_the_run_and_another_completes_it(self):
        self.cloud.iam_answers = False
        self.cloud.denied = {"monitoring.alertPolicies.create"}
        said = self.world.run(*self.world.everybody(), status=1)
        self.assertIn("Resource Manager does not say", said)
        self.assertIn("monitoring.alertPolicies.create", said)
        self.assertIn("another run does the rest", said)
        self.counts(said, created=3 + len(list(GCP.glob("log-metrics/*.json"))) + 1)
        self.cloud.denied = set()
        self.world.run(*self.world.everybody())
        self.assertEqual(self.whole(), same(self.cloud.state()))

    def test_what_passes_is_tried_again(self):
        failed = set()

        def before(verb, kind, _):
            if (verb, kind) not in failed:
                failed.add((verb, kind))
                status = {"list": "RESOURCE_EXHAUSTED", "create": "UNAVAILABLE", "update": "ABORTED", "delete": "INTERNAL"}[verb]
                raise Refused(status, UNAVAILABLE)

        self.cloud.before = before
        self.world.run(*self.world.everybody())
        self.assertEqual({(verb, kind) for kind in clouds.CLASSES for verb in ("list", "create")}, failed)
        self.assertEqual(self.whole(), same(self.cloud.state()))
        self.world.change("policies/stuck.json", lambda body: body.update(displayName="another"))
        (self.world.files / "policies/deadletters.json").unlink()
        self.counts(self.world.run(*self.world.everybody(), "--prune"), updated=1, deleted=1, created=0)
        self.assertTrue({("update", "policies"), ("delete", "policies")} <= failed)

    def test_what_does_not_pass_is_told_and_nothing_is_said_to_be_done(self):
        def before(verb, kind, _):
            if kind == "dashboards" and verb == "create":
                raise Refused("UNAVAILABLE", UNAVAILABLE)

        self.cloud.before = before
        said = self.world.run(*self.world.everybody(), status=1)
        self.assertIn(UNAVAILABLE, said)
        self.assertNotRegex(said, r"created +dashboard")
        self.assertEqual(4, sum(call[:2] == ("create", "dashboards") for call in self.cloud.calls))

    def test_a_reply_that_is_lost_makes_nothing_twice(self):
        self.cloud.lost_replies = [("create", kind) for kind in clouds.CLASSES]
        said = self.world.run(*self.world.everybody())
        self.assertEqual([], self.cloud.lost_replies)
        self.assertEqual(self.whole(), same(self.cloud.state()))
        self.counts(said, created=len([one for objects in self.cloud.objects.values() for one in objects]), updated=0)

    def test_a_dashboard_that_somebody_changes_meanwhile_is_read_again(self):
        self.world.applied()
        [dashboard] = self.world.find("dashboards", dashboard="overview")
        dashboard["displayName"] = "by hand"
        meanwhile = iter([True])

        def before(verb, kind, _):
            if (verb, kind) == ("update", "dashboards") and next(meanwhile, False):
                dashboard["etag"] = "of somebody else"

        self.cloud.before = before
        self.counts(self.world.run(*self.world.everybody()), updated=1)
        self.assertNotEqual("by hand", self.world.find("dashboards", dashboard="overview")[0]["displayName"])

    def test_killed_after_any_write_it_is_completed_by_the_next_run(self):
        whole = self.whole()
        for after in (1, 3, 7, 8, 12, 16):
            with self.subTest(f"after {after} writes"):
                case = Case()
                case.setUp()
                try:
                    self.kill_after(case.world, after)
                    self.assertNotEqual(whole, same(case.cloud.state()))
                    said = case.world.run(*self.world.everybody(), "--prune")
                    self.counts(said, updated=0, deleted=0, stale=0, unchanged=after)
                    self.assertEqual(whole, same(case.cloud.state()))
                finally:
                    case.doCleanups()

    def kill_after(self, world, after):
        """The write is done, and its caller is gone before the reply."""
        killed = []

        def before(verb, *_):
            if verb in clouds.WRITES and len(world.cloud.writes()) == after:
                os.killpg(process.pid, signal.SIGKILL)
                killed.append(verb)

        world.cloud.before = before
        process = world.start(*self.world.everybody())
        process.communicate(timeout=TIMEOUT)
        world.cloud.before = lambda *_: None
        self.assertEqual((-signal.SIGKILL, 1), (process.returncode, len(killed)))


class StandIn(Case):
    """It refuses what the real one refuses, or its silence would prove nothing."""

    def gcloud(self, *words, given=""):
        return self.world.gcloud.do([*words, f"--project={PROJECT}", "--format=json", "--quiet"], given)

    def policy(self, **changes):
        return {key: value for key, value in {**policy_file("stuck"), **changes}.items() if value is not None}

    def test_commands_flags_and_arguments_that_are_not_there(self):
        create = ["alpha", "monitoring", "policies", "create"]
        for words in [
            ["monitoring", "policies", "list"],
            ["beta", "monitoring", "policies", "list"],
            ["monitoring", "channels", "list"],
            ["alpha", "monitoring", "policies", "show"],
            ["alpha", "monitoring", "rules", "list"],
            create,
            [*create, "--policy-from-file=-", "--etag=1"],
            [*create, "name", "--policy-from-file=-"],
            ["alpha", "monitoring", "policies", "update", "--policy-from-file=-"],
            ["monitoring", "uptime", "create", "name", "--path=/"],
            ["monitoring", "uptime", "create", "name", "--resource-labels=host=a,project_id=b", "--period=2"],
            ["monitoring", "uptime", "list"],
        ]:
            with self.subTest(" ".join(words)), self.assertRaises(command_line.Usage):
                self.gcloud(*words, given=json.dumps(self.policy()))

    def test_objects_that_are_not_right(self):
        promql = self.policy()["conditions"][0]["conditionPrometheusQueryLanguage"]

        def condition(**changes):
            return {"conditions": [{"displayName": "x", "conditionPrometheusQueryLanguage": {**promql, **changes}}]}

        for changes in [
            {"unknown": 1},
            condition(window="5m"),
            condition(query=" "),
            condition(duration="5 minutes"),
            condition(duration="90000s"),
            condition(evaluationInterval="45s"),
            condition(evaluationInterval="0s"),
            condition(alertRule="not a name"),
            condition(labels={"no-name": "x"}),
            {"conditions": []},
            {"conditions": self.policy()["conditions"] * 2},
            {"conditions": [{"displayName": "x"}]},
            {"combiner": None},
            {"displayName": None},
            {"severity": "PAGE"},
            {"userLabels": {"App": "x"}},
            {"userLabels": {"app": "MultiVAC"}},
            {"userLabels": {"app": "x" * 64}},
            {"notificationChannels": [f"projects/{PROJECT}/notificationChannels/1"]},
            {"alertStrategy": {"notificationRateLimit": {"period": "300s"}}},
            {"alertStrategy": {"autoClose": "60s"}},
            {"documentation": {"content": "x" * 8193, "mimeType": "text/markdown"}},
            {"name": f"projects/{PROJECT}/alertPolicies/1"},
        ]:
            with self.subTest(json.dumps(changes)[:70]), self.assertRaises(Refused):
                self.cloud.create("policies", self.policy(**changes))
        self.assertEqual({}, self.cloud.objects["policies"])
        self.cloud.create("policies", self.policy())

    def test_changes_that_are_not_right(self):
        self.world.applied()
        dashboard = next(iter(self.cloud.objects["dashboards"].values()))
        config = next(iter(self.cloud.objects["uptime"].values()))
        channel = next(iter(self.cloud.objects["channels"]))
        moved = json.loads(json.dumps(config).replace(HOST, "b.example.org"))
        for change in [
            lambda: self.cloud.update("dashboards", dashboard["name"], {key: value for key, value in dashboard.items() if key != "etag"}),
            lambda: self.cloud.update("dashboards", dashboard["name"], {**dashboard, "etag": "old"}),
            lambda: self.cloud.update("policies", f"projects/{PROJECT}/alertPolicies/1", self.policy()),
            lambda: self.cloud.update("uptime", config["name"], moved),
            lambda: self.cloud.delete("channels", channel),
            lambda: self.cloud.create("metrics", {"name": "multivac_edge_5xx", "filter": "x"}),
        ]:
            with self.assertRaises(Refused):
                change()


class Real(Case):
    """The same with the real gcloud, which sends its requests to the stand-in: it knows its own commands and flags best."""

    def test_the_real_gcloud_applies_all_of_it_and_then_nothing(self):
        if not REAL_GCLOUD:
            print("SKIPPED the real gcloud is not here")
            return
        token = self.world.directory / "token"
        token.write_text(rest.TOKEN)
        self.world.path = f"{pathlib.Path(REAL_GCLOUD).parent}:{os.environ['PATH']}"
        for path in [*self.world.policies()[3:], *sorted(self.world.files.glob("log-metrics/*.json"))[1:], *sorted(self.world.files.glob("dashboards/*.json"))[1:]]:
            path.unlink()
        more = {
            "CLOUDSDK_CONFIG": str(self.world.directory / "cloudsdk"),
            "CLOUDSDK_AUTH_ACCESS_TOKEN_FILE": str(token),
            "CLOUDSDK_API_ENDPOINT_OVERRIDES_MONITORING": self.world.server.url,
            "CLOUDSDK_API_ENDPOINT_OVERRIDES_LOGGING": self.world.server.url,
            "CLOUDSDK_CORE_DISABLE_USAGE_REPORTING": "1",
            "CLOUDSDK_COMPONENT_MANAGER_DISABLE_UPDATE_CHECK": "1",
        }
        said = self.world.run(*self.world.everybody(), **more)
        self.counts(said, created=3 + 1 + 1 + 4 + 1, updated=0)
        self.cloud.forget_calls()
        self.counts(self.world.run(*self.world.everybody(), **more), created=0, updated=0, unchanged=10)
        self.assertEqual([], self.cloud.writes())
        # One of each kind is changed by hand, and one of each that is left is taken away.
        for kind in clouds.CLASSES:
            one = next(iter(self.cloud.objects[kind].values()))
            one.update({"filter": "severity=ERROR"} if kind == "metrics" else {"timeout": "30s"} if kind == "uptime" else {"displayName": "by hand"})
        self.counts(self.world.run(*self.world.everybody(), **more), created=0, updated=5, unchanged=5)
        self.world.policies()[0].unlink()
        for pattern in ("log-metrics/*.json", "dashboards/*.json"):
            next(self.world.files.glob(pattern)).unlink()
        said = self.world.run("--host", "other.example.org", "--page", f"pagerduty={self.world.directory / 'key'}", "--prune", **more)
        self.counts(said, created=1, deleted=6)
        self.cloud.denied = {"monitoring.alertPolicies.list"}
        self.cloud.disabled = {"Cloud Logging"}
        said = self.world.run(status=2, **more)
        self.assertIn("monitoring.alertPolicies.list", said)
        self.assertIn("gcloud services enable logging.googleapis.com", said)
