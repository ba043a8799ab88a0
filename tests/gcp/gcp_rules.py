#!/usr/bin/env python3
"""Tries deploy/gcp without a cloud: every file by Google's own protobuf classes, and apply.sh in front of a stand-in of gcloud.

    scripts/gcp.sh

What it needs   what scripts/gcp.sh installs: google-cloud-monitoring, -logging and -monitoring-dashboards, PyYAML. promtool and
                the real gcloud are used where they are; what needs them is SKIPPED else.
What it returns 0 if every rule holds, else 1; a line for each, and the last line counts them.
"""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import rules  # noqa: E402
import world  # noqa: E402, F401 (it leads to those that follow)
import cloud as clouds  # noqa: E402
import render  # noqa: E402
from cloud import PROJECT  # noqa: E402
from cluster_rules import Cluster, ClusterCommands, ClusterFailures  # noqa: E402, F401
from failures import Failures, Missing, Real, StandIn  # noqa: E402, F401
from world import DOCS, GCP, HOOK, HOST, KEY, MONITORING, TIMEOUT, Case, bare, config_of, policy_file, read  # noqa: E402


class Files(Case):
    def test_the_rendered_files_are_what_deploy_monitoring_makes_of_them(self):
        done = subprocess.run([sys.executable, str(GCP / "render.py"), "--check"], capture_output=True, text=True, timeout=TIMEOUT)
        self.assertEqual(0, done.returncode, done.stdout + done.stderr)

    def test_what_is_not_as_it_would_be_rendered_is_named(self):
        self.world.change("policies/stuck.json", lambda body: body.update(severity="WARNING"))
        (self.world.files / "policies/gone.json").write_text("{}")
        command = [sys.executable, str(GCP / "render.py"), "--check", "--to", str(self.world.files)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT)
        self.assertEqual(1, done.returncode)
        self.assertIn("policies/stuck.json is not", done.stdout)
        self.assertIn("policies/gone.json is not", done.stdout)

    def test_every_file_is_parsed_strictly_by_googles_classes_and_has_values_that_google_takes(self):
        counted = 0
        for kind, pattern in [("policies", "policies/*.json"), ("dashboards", "dashboards/*.json"), ("metrics", "log-metrics/*.json")]:
            for path in sorted(GCP.glob(pattern)):
                body = json.loads(path.read_text().replace("@DOCS@", f"{DOCS}/"))
                if kind == "metrics":
                    body["name"] = path.stem
                clouds.check(kind, body)
                counted += 1
        for path, value in [("email", "a@example.org"), ("pagerduty", KEY), ("webhook", HOOK)]:
            clouds.check("channels", json.loads((GCP / f"channels/{path}.json").read_text().replace("@VALUE@", value)))
        for kind, path in [("uptime", "uptime.json"), ("policies", "uptime-policy.json")]:
            text = (GCP / path).read_text().replace("@HOST@", HOST).replace("@PROJECT@", PROJECT).replace("@DOCS@", DOCS)
            clouds.check(kind, json.loads(text))
        self.assertGreater(counted, 30)

    def test_every_alert_has_a_policy_with_its_severity_its_runbook_and_nothing_of_prometheus_templates(self):
        source = render.Source(MONITORING)
        keys = source.keys()
        self.assertEqual(sorted(keys), sorted(path.stem for path in GCP.glob("policies/*.json")))
        for key, (_, rule) in keys.items():
            policy = read(GCP / f"policies/{key}.json")
            self.assertEqual({"page": "CRITICAL", "ticket": "WARNING"}[rule["labels"]["severity"]], policy["severity"])
            self.assertEqual({"app": "multivac", "rule": key}, policy["userLabels"])
            self.assertTrue(policy["documentation"]["links"][0]["url"].endswith(f"#{rule['alert'].lower()}"), key)
            self.assertNotIn("{{", json.dumps(policy))
            self.assertNotIn("ALERTS", policy["conditions"][0]["conditionPrometheusQueryLanguage"]["query"])

    def test_every_series_that_a_query_needs_is_recorded_by_the_rules_for_managed_prometheus(self):
        rules_yaml = render.load(GCP / "rules.yaml")
        self.assertEqual(("monitoring.googleapis.com/v1", "Rules"), (rules_yaml["apiVersion"], rules_yaml["kind"]))
        recorded = set()
        for group in rules_yaml["spec"]["groups"]:
            self.assertEqual({"name", "interval", "rules"}, set(group))
            for rule in group["rules"]:
                self.assertLessEqual(set(rule), {"record", "expr", "labels"})
                recorded.add(rule["record"])
        needed = set()
        for path in [*GCP.glob("policies/*.json"), *GCP.glob("dashboards/*.json"), GCP / "rules.yaml"]:
            needed |= set(re.findall(r"\bmultivac:[a-z0-9_:]+", path.read_text()))
        self.assertEqual(set(), needed - recorded)
        self.assertGreater(len(needed), 20)

    def test_the_log_metrics_look_for_what_the_edge_writes(self):
        template = (GCP.parent / "nginx/templates/nginx.conf.template").read_text()
        if "log_format gcp" not in template:
            print("SKIPPED the edge has no log format for Google Cloud")
            return
        written = template[template.index("log_format gcp") :].partition("access_log")[0]
        for part in ['"logging.googleapis.com/labels":{"program":"edge"}', '"httpRequest":{', '"status":$log_status', '"cache":"$upstream_cache_status"']:
            self.assertIn(part, written)

    def test_the_log_metric_of_backups_looks_for_what_export_prints(self):
        source = GCP.parent.parent / "crates/multivac-core/src/commands/backup.rs"
        if not source.is_file():
            print("SKIPPED there is no export")
            return
        [line] = re.findall(r'eprintln!\("(\{data\} data and .*sha256.*)"\)', source.read_text())
        for name, value in [("{data}", "12"), ("{tombstones}", "3"), ("{file}", " in /data/x"), ("{sha256}", "0a" * 32)]:
            line = line.replace(name, value)
        pattern = re.search(r'=~ "(.*)"$', read(GCP / "log-metrics/multivac_backup_succeeded.json")["filter"])[1]
        self.assertRegex(line, pattern)

    def test_prometheus_parses_every_query(self):
        promtool = os.environ.get("MULTIVAC_TEST_PROMTOOL") or shutil.which("promtool")
        if not promtool:
            print("SKIPPED there is no promtool")
            return
        queries = [read(path)["conditions"][0]["conditionPrometheusQueryLanguage"]["query"] for path in GCP.glob("policies/*.json")]
        for path in GCP.glob("dashboards/*.json"):
            queries += map(json.loads, re.findall(r'"prometheusQuery": ("(?:[^"\\]|\\.)*")', path.read_text()))
        written = self.world.directory / "queries.yml"
        group = {"name": "all", "rules": []}
        for number, query in enumerate(queries):
            group["rules"].append({"record": f"query:{number}", "expr": query.replace("${__interval}", "5m")})
        written.write_text(json.dumps({"groups": [group]}))
        done = subprocess.run([promtool, "check", "rules", str(written)], capture_output=True, text=True, timeout=TIMEOUT)
        self.assertEqual(0, done.returncode, done.stdout + done.stderr)
        self.assertIn(f"{len(queries)} rules found", done.stdout)

    def test_templates_are_translated_or_refused(self):
        for text, expected in [
            ("{{ $value }} data", "${metric.label.value} data"),
            ("{{ $value | humanize }}", "${metric.label.value}"),
            ("for {{ $value | humanizeDuration }}", "for ${metric.label.value} s"),
            ('{{ printf "%.1f" $value }} of {{ $labels.disk }}', "${metric.label.value} of ${metric_or_resource.label.disk}"),
        ]:
            self.assertEqual(expected, render.translated(text))
        for text in ["{{ if $value }}x{{ end }}", '{{ with query "up" }}{{ . }}{{ end }}']:
            with self.assertRaises(render.Untranslatable):
                render.translated(text)


class Everything(Case):
    everything = True

    def test_the_first_run_makes_everything_and_the_second_nothing(self):
        dry = self.world.run(*self.world.everybody(), "--dry-run")
        self.assertEqual([], self.cloud.writes())
        files = len(self.world.policies()) + len(list(GCP.glob("dashboards/*.json"))) + len(list(GCP.glob("log-metrics/*.json")))
        everything = files + 3 + 1 + 1  # Channels, the uptime check and its policy.
        self.counts(dry, created=everything, unchanged=0)
        said = self.world.run(*self.world.everybody())
        self.counts(said, created=everything, updated=0, deleted=0, unchanged=0, stale=0)
        self.assertEqual(everything, len(self.cloud.writes()))
        state = self.cloud.state()
        self.cloud.forget_calls()
        again = self.world.run(*self.world.everybody(), "--prune")
        self.counts(again, created=0, updated=0, deleted=0, unchanged=everything, stale=0)
        self.assertEqual([], self.cloud.writes())
        self.assertEqual(state, self.cloud.state())


class Applying(Case):
    def test_pages_and_tickets_are_told_to_those_who_were_named(self):
        self.world.applied()
        names = {one["userLabels"]["channel"]: one["name"] for one in self.cloud.objects["channels"].values()}
        self.assertEqual({"page-pagerduty", "page-email", "ticket-webhook"}, set(names))
        for policy in self.cloud.objects["policies"].values():
            expected = ["page-email", "page-pagerduty"] if policy["severity"] == "CRITICAL" else ["ticket-webhook"]
            self.assertEqual(sorted(names[one] for one in expected), sorted(policy["notificationChannels"]))

    def test_the_uptime_check_asks_for_healthz_with_a_valid_certificate_and_its_policy_watches_it(self):
        self.world.applied()
        [config] = self.cloud.objects["uptime"].values()
        self.assertEqual(HOST, config["monitoredResource"]["labels"]["host"])
        http = config["httpCheck"]
        self.assertEqual((True, True, "/healthz", 443), (http["useSsl"], http["validateSsl"], http["path"], http["port"]))
        self.assertEqual(("60s", "ok"), (config["period"], config["contentMatchers"][0]["content"]))
        [policy] = self.world.find("policies", rule="uptime")
        self.assertIn(config["name"].rpartition("/")[2], policy["conditions"][0]["conditionThreshold"]["filter"])
        self.assertNotIn("@", json.dumps(policy))

    def test_a_changed_rule_is_one_update_and_its_condition_keeps_its_name(self):
        self.world.applied()
        [before] = self.world.find("policies", rule="stuck")
        condition = "conditionPrometheusQueryLanguage"
        self.world.change("policies/stuck.json", lambda body: body["conditions"][0][condition].update(query="vector(1) > 0"))
        said = self.world.run(*self.world.everybody(), "--dry-run")
        self.assertEqual([], self.cloud.writes())
        self.assertRegex(said, r"would be updated +policy +stuck")
        self.counts(self.world.run(*self.world.everybody()), created=0, updated=1)
        self.assertEqual([("update", "policies", before["name"])], self.cloud.writes())
        [after] = self.world.find("policies", rule="stuck")
        self.assertEqual("vector(1) > 0", after["conditions"][0][condition]["query"])
        self.assertEqual(before["conditions"][0]["name"], after["conditions"][0]["name"])

    def test_what_was_left_out_of_a_file_goes(self):
        self.world.applied()
        name = next(path for path in sorted(self.world.files.glob("dashboards/*.json")))
        tiles = len(read(name)["mosaicLayout"]["tiles"])
        self.world.change(f"dashboards/{name.name}", lambda body: body["mosaicLayout"]["tiles"].pop())
        self.counts(self.world.run(), updated=1)
        [dashboard] = self.world.find("dashboards", dashboard=name.stem)
        self.assertEqual(tiles - 1, len(dashboard["mosaicLayout"]["tiles"]))

    def test_what_is_changed_by_hand_is_put_right(self):
        self.world.applied()
        [policy] = self.world.find("policies", rule="stuck")
        policy["enabled"] = False
        [metric] = [one for one in self.cloud.objects["metrics"].values() if one["name"] == "multivac_edge_5xx"]
        metric["filter"] = "severity=ERROR"
        [config] = self.cloud.objects["uptime"].values()
        config["period"] = "900s"
        self.counts(self.world.run(*self.world.everybody()), created=0, updated=3)
        self.assertEqual((True, "60s"), (self.world.find("policies", rule="stuck")[0]["enabled"], config_of(self.cloud)["period"]))
        self.counts(self.world.run(*self.world.everybody()), updated=0)

    def test_only_prune_deletes_and_only_what_is_ours(self):
        self.world.applied()
        foreign = {
            "policies": policy_file("stuck") | {"userLabels": {"app": "multivac"}},
            "dashboards": read(next(GCP.glob("dashboards/*.json"))) | {"labels": {}},
            "metrics": {"name": "multivac_of_others", "filter": "severity=ERROR", "description": "Somebody's own."},
            "channels": {"type": "email", "displayName": "MultiVAC: email (page)", "labels": {"email_address": "x@example.org"}},
        }
        names = {kind: self.cloud.create(kind, body)["name"] for kind, body in foreign.items()}
        kept = {kind: dict(self.cloud.objects[kind][name]) for kind, name in names.items()}
        (self.world.files / "policies/stuck.json").unlink()
        next(self.world.files.glob("log-metrics/*.json")).unlink()
        self.cloud.forget_calls()
        said = self.world.run(*self.world.everybody())
        self.counts(said, deleted=0, stale=2, updated=0, created=0)
        self.assertRegex(said, r"stale +policy +stuck")
        dry = self.world.run(*self.world.everybody(), "--prune", "--dry-run")
        self.assertRegex(dry, r"would be deleted +policy +stuck")
        self.assertEqual([], self.cloud.writes())
        self.counts(self.world.run(*self.world.everybody(), "--prune"), deleted=2, stale=0, updated=0, created=0)
        self.assertEqual([], self.world.find("policies", rule="stuck"))
        for kind, name in names.items():
            self.assertEqual(kept[kind], self.cloud.objects[kind][name])

    def test_names_that_are_not_unique_confuse_nothing(self):
        title = policy_file("stuck")["displayName"]
        for number in range(3):
            self.cloud.create("policies", policy_file("deadletters") | {"displayName": title, "userLabels": {"team": f"t{number}"}})
        before = self.cloud.state()["policies"]
        self.world.applied()
        for name, policy in before.items():
            self.assertEqual(policy, self.cloud.objects["policies"][name])
        self.assertEqual(1, len(self.world.find("policies", rule="stuck")))

    def test_of_two_with_one_label_the_older_one_is_kept_and_the_other_is_stale(self):
        self.world.applied()
        [one] = self.world.find("policies", rule="stuck")
        second = self.cloud.create("policies", {key: value for key, value in bare(one).items() if key != "conditions"} | {"conditions": [bare(one["conditions"][0])]})
        self.counts(self.world.run(*self.world.everybody()), stale=1, created=0, updated=0)
        self.counts(self.world.run(*self.world.everybody(), "--prune"), deleted=1)
        self.assertEqual([one["name"]], [left["name"] for left in self.world.find("policies", rule="stuck")])
        self.assertNotEqual(one["name"], second["name"])

    def test_without_channels_each_policy_keeps_its_own_and_a_new_one_gets_those_of_the_others(self):
        (self.world.files / "policies/stuck.json").unlink()
        self.world.applied()
        shutil.copy(GCP / "policies/stuck.json", self.world.files / "policies")
        self.counts(self.world.run("--prune"), created=1, updated=0, deleted=0, stale=0)
        [stuck] = self.world.find("policies", rule="stuck")
        self.assertEqual(2, len(stuck["notificationChannels"]))
        self.counts(self.world.run("--prune"), created=0, updated=0, deleted=0, stale=0)

    def test_runbooks_are_links_where_it_is_known_where_they_are(self):
        self.world.run("--host", HOST)
        [stuck] = self.world.find("policies", rule="stuck")
        self.assertNotIn("links", stuck["documentation"])
        self.assertIn("Runbook: docs/operations.md#stuck", stuck["documentation"]["content"])
        self.world.run("--host", HOST, "--docs", DOCS)
        self.cloud.forget_calls()
        self.world.run("--host", HOST)
        self.assertEqual([], self.cloud.writes())
        [stuck] = self.world.find("policies", rule="stuck")
        self.assertEqual(f"{DOCS}/docs/operations.md#stuck", stuck["documentation"]["links"][0]["url"])

    def test_it_says_where_nobody_is_told(self):
        said = self.world.run("--host", HOST)
        self.assertIn("nobody is told of a page", said)
        self.assertIn("nobody is told of a ticket", said)

    def test_a_channel_that_is_there_is_used_and_one_that_is_not_is_refused(self):
        slack = self.cloud.create("channels", {"type": "email", "displayName": "ours", "labels": {"email_address": "x@example.org"}})["name"]
        said = self.world.run("--page", f"projects/{PROJECT}/notificationChannels/999999", status=2)
        self.assertIn("there is no channel", said)
        self.world.applied("--host", HOST, "--page", slack, "--ticket", slack)
        self.assertTrue(all(policy["notificationChannels"] == [slack] for policy in self.cloud.objects["policies"].values()))
        self.counts(self.world.run("--host", HOST, "--prune"), updated=0, deleted=0)

    def test_another_host_is_another_check_and_the_policy_follows(self):
        self.world.applied()
        [old] = self.cloud.objects["uptime"]
        said = self.world.run("--host", "other.example.org")
        self.counts(said, created=1, updated=1, stale=1)
        self.counts(self.world.run("--host", "other.example.org", "--prune"), deleted=1, updated=0)
        [new] = self.cloud.objects["uptime"].values()
        self.assertNotEqual(old, new["name"])
        [policy] = self.world.find("policies", rule="uptime")
        self.assertIn(new["name"].rpartition("/")[2], json.dumps(policy))

    def test_a_gcloud_that_has_every_command_generally_is_used_so(self):
        self.world.gcloud.newer = True
        self.world.applied()
        tracks = {words[0] for words, _ in self.world.gcloud.lines}
        self.assertEqual({"monitoring", "logging", "auth"}, tracks)


class Secrets(Case):
    def test_a_secret_is_in_no_command_line_no_file_and_no_output(self):
        said = self.world.run(*self.world.everybody())
        self.world.change("channels/pagerduty.json", lambda body: body.update(description="another"))
        said += self.world.run(*self.world.everybody())
        seen = 0
        for words, given in self.world.gcloud.lines:
            for secret in (KEY, HOOK):
                self.assertNotIn(secret, " ".join(words))
                seen += secret in given
        self.assertEqual(3, seen)
        self.assertNotIn(KEY, said)
        self.assertNotIn("s3cret", said)
        for path in self.world.directory.rglob("*"):
            if path.is_file() and path.name not in ("key", "hook"):
                self.assertNotIn(KEY, path.read_text(errors="replace"))

    def test_a_new_key_is_one_update_of_the_channel_that_all_policies_keep(self):
        self.world.applied()
        [before] = self.world.find("channels", channel="page-pagerduty")
        (self.world.directory / "key").write_text("fedcba9876543210fedcba9876543210\n")
        self.counts(self.world.run(*self.world.everybody()), created=0, updated=1)
        self.assertEqual([("update", "channels", before["name"])], self.cloud.writes())
        [after] = self.world.find("channels", channel="page-pagerduty")
        self.assertEqual("fedcba9876543210fedcba9876543210", after["labels"]["service_key"])

    def test_a_channel_that_somebody_elses_policy_uses_is_kept(self):
        self.world.applied()
        [channel] = self.world.find("channels", channel="page-email")
        self.cloud.create("policies", policy_file("stuck") | {"userLabels": {}, "notificationChannels": [channel["name"]]})
        hook = f"webhook={self.world.directory / 'hook'}"
        said = self.world.run("--host", HOST, "--page", hook, "--ticket", hook, "--prune")
        self.counts(said, kept=1, deleted=1)
        self.assertIn(channel["name"], self.cloud.objects["channels"])

    def test_a_file_without_a_secret_is_told_before_anything_is_done(self):
        (self.world.directory / "key").write_text("\n")
        (self.world.directory / "hook").write_text("http://not.safe\n")
        said = self.world.run(*self.world.everybody(), "--ticket", "pagerduty=/nowhere", "--page", "sms=1", status=2)
        for part in ["the file has no key", "no https URL", "cannot be read", "email=ADDRESS", "nothing was changed"]:
            self.assertIn(part, said)
        self.assertEqual([], self.cloud.calls)


if __name__ == "__main__":
    rules.run("gcp")
