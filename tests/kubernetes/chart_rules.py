#!/usr/bin/env python3
"""Tries deploy/helm/multivac and deploy/k8s without a cluster, or, where one's address is given, in front of its API server.

    tests/kubernetes/chart_rules.py             scripts/k8s-check.sh finds what it needs

What it needs   python3 with PyYAML; helm; promtool (MULTIVAC_TEST_PROMTOOL). MULTIVAC_TEST_KUBECONFIG names a file for kubectl: what is rendered
                is then applied with `--dry-run=server` in a namespace of its own, which is removed.
What it returns 0 if every rule holds, else 1; a line for each, and the last line counts them.
"""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
from concurrent.futures import ThreadPoolExecutor

import yaml

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
import chart  # noqa: E402
import rules  # noqa: E402
from chart import CHART, ROOT, WAYS, containers, helm, objects, of_kind, pods  # noqa: E402
from refused import REFUSED  # noqa: E402

PROMTOOL = os.environ.get("MULTIVAC_TEST_PROMTOOL", "promtool")
KUBECONFIG = os.environ.get("MULTIVAC_TEST_KUBECONFIG")
SCHEMA = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
# What Kubernetes checks, or whose names are the user's.
OPEN = {("global",), *((part, "affinity") for part in ("edge", "api", "worker", "redis", "mongo", "backup")), ("backup", "volume")}


def all_at_once(function, items):
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(function, items))


class Values(unittest.TestCase):
    def test_helm_lints_every_way(self):
        for way, done in zip(WAYS, all_at_once(lambda way: helm("lint", "--strict", str(CHART), *WAYS[way]), WAYS)):
            with self.subTest(way):
                self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
                self.assertNotIn("[WARNING]", done.stdout)

    def test_bad_values_are_refused_by_a_message_that_names_them(self):
        done = all_at_once(lambda one: helm("template", "multivac", str(CHART), *one[0]), REFUSED)
        for (arguments, *named), refusal in zip(REFUSED, done):
            with self.subTest(" ".join(arguments)):
                self.assertNotEqual(refusal.returncode, 0, "it is taken")
                for word in named:
                    self.assertIn(word, refusal.stderr)

    def test_a_key_that_is_not_known_is_refused_at_every_level(self):
        levels = [(path, part) for path, part in chart.levels(SCHEMA) if part.get("additionalProperties") is False]
        self.assertGreater(len(levels), 30)

        def tried(level):
            values = chart.at(level[0], {"notAKey": 1})
            return helm("template", "multivac", str(CHART), "-f", "-", given=json.dumps(values))

        for (path, _), done in zip(levels, all_at_once(tried, levels)):
            with self.subTest("/".join(map(str, path)) or "the root"):
                self.assertNotEqual(done.returncode, 0, "it is taken")
                self.assertIn("notAKey", done.stderr)

    def test_every_level_is_closed_or_holds_what_is_not_ours(self):
        for path, part in chart.levels(SCHEMA):
            with self.subTest("/".join(map(str, path))):
                # Of labels, annotations and settings the names are free, not the kinds of values.
                typed = isinstance(part.get("additionalProperties"), dict)
                self.assertTrue(part.get("additionalProperties") is False or typed or path in OPEN or path[-2:] == ("tolerations", 0), part)

    def test_values_yaml_explains_every_key_that_the_schema_has(self):
        values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
        for path, part in chart.levels(SCHEMA):
            here = values
            for key in path:
                here = here.get(key) if isinstance(here, dict) else None
            for name in part.get("properties", {}) if path else set(part["properties"]) - {"enabled"}:
                # What may be left out has no place in values.yaml: limits that are none, entries of lists.
                if isinstance(here, dict) and path[-1:] != ("resources",):
                    with self.subTest(".".join((*map(str, path), name))):
                        self.assertIn(name, here)

    def test_older_clusters_are_refused(self):
        done = helm("template", "multivac", str(CHART), "--kube-version", "1.29.5")
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("1.30", done.stderr)


class Objects(unittest.TestCase):
    def each(self, check):
        for way in WAYS:
            for one in objects(way):
                with self.subTest(f"{way}: {one['kind']} {one['metadata']['name']}"):
                    check(one)

    def test_names_labels_and_namespaces_are_as_they_should_be(self):
        def check(one):
            metadata = one["metadata"]
            self.assertNotIn("namespace", metadata, "it is where it is applied")
            # What Kubernetes puts behind the name of a Job or a StatefulSet has to fit too.
            self.assertLessEqual(len(metadata["name"]), 63 if one["kind"] != "CronJob" else 52)
            self.assertEqual(metadata["labels"]["app.kubernetes.io/name"], "multivac")
            self.assertEqual(metadata["labels"]["app.kubernetes.io/instance"], "multivac")
            self.assertIn("app.kubernetes.io/component", metadata["labels"])

        self.each(check)

    def test_nothing_is_twice_and_two_releases_share_nothing(self):
        for way in ("production", "cluster", "operator"):
            seen = [(one["kind"], one["metadata"]["name"]) for one in objects(way)]
            self.assertEqual(len(seen), len(set(seen)))
            others = {(one["kind"], one["metadata"]["name"]) for one in objects(way, "other")}
            self.assertFalse(set(seen) & others)

    def test_the_chart_makes_no_secret_and_no_password(self):
        for way in WAYS:
            self.assertFalse(of_kind(way, "Secret"), way)
        for path in (CHART / "templates").rglob("*"):
            if path.is_file():
                self.assertIsNone(re.search(r"\b(lookup|rand[A-Z]\w+|gen[A-Z]\w+|derivePassword)\b", path.read_text(encoding="utf-8")), path)

    def test_only_tests_are_hooks(self):
        def check(one):
            if chart.is_test(one):
                self.assertEqual(one["metadata"]["annotations"]["helm.sh/hook"], "test")
                self.assertEqual(one["metadata"]["labels"]["app.kubernetes.io/component"], "test")

        self.each(check)

    def test_selectors_find_what_they_are_for(self):
        for way in WAYS:
            found = [set(pod["metadata"]["labels"].items()) for _, pod in pods(way)]
            for one in of_kind(way, "Service", "PodDisruptionBudget", "PodMonitor", "PodMonitoring", "Deployment", "StatefulSet"):
                with self.subTest(f"{way}: {one['kind']} {one['metadata']['name']}"):
                    selector = one["spec"]["selector"]
                    selector = set((selector if one["kind"] == "Service" else selector["matchLabels"]).items())
                    self.assertEqual(sum(selector <= labels for labels in found), 1)

    def test_what_scales_has_no_count_and_what_does_not_has_one(self):
        scaled = {"keda": "worker", "workers by hpa": "worker", "api by hpa": "api", "gke": "api"}
        for way, component in scaled.items():
            counts = {one["metadata"]["name"]: one["spec"].get("replicas") for one in of_kind(way, "Deployment")}
            self.assertIsNone(counts.pop(f"multivac-{component}"), way)
            self.assertNotIn(None, counts.values(), way)
            targets = [one["spec"]["scaleTargetRef"]["name"] for one in of_kind(way, "HorizontalPodAutoscaler", "ScaledObject")]
            self.assertEqual(targets, [f"multivac-{component}"])
        self.assertEqual({one["spec"].get("replicas") for one in of_kind("counts left alone", "Deployment")}, {None})
        self.assertNotIn(None, {one["spec"].get("replicas") for one in of_kind("production", "Deployment")})

    def test_a_disruption_budget_blocks_no_drain(self):
        for way in WAYS:
            floors = {one["metadata"]["name"]: one["spec"].get("replicas") for one in of_kind(way, "Deployment", "StatefulSet")}
            for one in of_kind(way, "HorizontalPodAutoscaler"):
                floors[one["spec"]["scaleTargetRef"]["name"]] = one["spec"]["minReplicas"]
            for one in of_kind(way, "ScaledObject"):
                floors[one["spec"]["scaleTargetRef"]["name"]] = one["spec"]["minReplicaCount"]
            for one in of_kind(way, "PodDisruptionBudget"):
                with self.subTest(f"{way}: {one['metadata']['name']}"):
                    self.assertEqual(one["spec"]["maxUnavailable"], 1)
                    self.assertGreaterEqual(floors[one["metadata"]["name"]] or 2, 2)
        self.assertFalse(of_kind("small", "PodDisruptionBudget"))


class Pods(unittest.TestCase):
    def each(self, check):
        for way in WAYS:
            for name, owner, pod, container in containers(way):
                with self.subTest(name):
                    check(owner, pod["spec"], container)

    def test_pods_and_containers_are_as_restricted_wants_them(self):
        def check(_owner, pod, container):
            security = pod["securityContext"]
            self.assertIs(security["runAsNonRoot"], True)
            self.assertGreater(security["runAsUser"], 0)
            self.assertEqual(security["runAsGroup"], security["runAsUser"])
            self.assertEqual(security["seccompProfile"], {"type": "RuntimeDefault"})
            self.assertEqual(
                container["securityContext"],
                {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}},
            )
            self.assertFalse({"hostNetwork", "hostPID", "hostIPC"} & set(pod))
            self.assertIs(pod["automountServiceAccountToken"], False)
            self.assertIs(pod["enableServiceLinks"], False)

        self.each(check)

    def test_containers_say_what_they_need(self):
        def check(_owner, _pod, container):
            self.assertLessEqual({"cpu", "memory"}, set(container["resources"]["requests"]))
            self.assertIn("memory", container["resources"]["limits"])

        self.each(check)

    def test_autopilot_is_told_how_much_disk_is_needed(self):
        for name, owner, _, container in containers("gke"):
            if owner["kind"] in ("Deployment", "StatefulSet", "CronJob") and container["name"] != "keyfile":
                with self.subTest(name):
                    self.assertIn("ephemeral-storage", container["resources"]["requests"])

    def test_what_runs_for_long_is_probed_with_a_time_out_and_ends_in_time(self):
        def check(owner, pod, container):
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                if probe in container:
                    self.assertGreaterEqual(container[probe]["timeoutSeconds"], 2, probe)
            if owner["kind"] in ("Deployment", "StatefulSet") and container in pod["containers"]:
                self.assertLessEqual({"livenessProbe", "readinessProbe"}, set(container))
                self.assertGreaterEqual(pod["terminationGracePeriodSeconds"], 45)
            if owner["kind"] == "Job":
                self.assertIn("activeDeadlineSeconds", owner["spec"])
            if owner["kind"] == "CronJob":
                self.assertIn("activeDeadlineSeconds", owner["spec"]["jobTemplate"]["spec"])

        self.each(check)

    def test_volumes_are_bounded_and_secrets_are_directories(self):
        def check(_owner, pod, container):
            volumes = {volume["name"]: volume for volume in pod.get("volumes", [])}
            for volume in volumes.values():
                self.assertNotIn("hostPath", volume)
                if "emptyDir" in volume:
                    self.assertIn("sizeLimit", volume["emptyDir"])
            for mount in container.get("volumeMounts", []):
                volume = volumes.get(mount["name"], {})
                if "secret" in volume or "projected" in volume:
                    self.assertNotIn("subPath", mount, "a new one would not arrive")
                    self.assertTrue(mount["mountPath"].startswith("/run/secrets/"))
            for variable in container.get("env", []):
                self.assertNotIn("secretKeyRef", variable.get("valueFrom", {}), "others can read the environment")

        self.each(check)

    def test_secrets_are_those_that_setup_py_makes_or_the_ones_that_are_named(self):
        for way, expected in {
            "cluster": {f"multivac-{name}" for name in ("edge-tls", "edge-htpasswd", "app", "redis", "mongo")},
            "own secrets": {f"mine-{name}" for name in ("edgetls", "edgeusers", "app", "redis", "mongo")},
            "external": {"multivac-edge-tls", "multivac-edge-htpasswd", "multivac-app"},
        }.items():
            named = set(re.findall(r"\bsecret(?:Name)?: \{? ?(?:secretName|name): ([a-z-]+)", chart.text_of(way)))
            self.assertEqual(named, expected, way)

    def test_images_are_named_by_digest_where_one_is_given(self):
        for name, _, _, container in containers("digests"):
            self.assertRegex(container["image"], rf"^[a-z/-]+:[0-9.]+@{chart.DIGEST}$", name)
        ours = {container["image"] for _, _, _, container in containers("registry") if "multivac" in container["image"]}
        version = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))["appVersion"]
        self.assertEqual(ours, {f"localhost:5500/team/multivac-{name}:{version}" for name in ("api", "worker")})

    def test_where_pods_may_run_is_as_the_values_say(self):
        for owner, pod in pods("places"):
            if not chart.is_test(owner):
                with self.subTest(owner["metadata"]["name"]):
                    self.assertLessEqual(chart.PLACE.items(), {key: pod["spec"].get(key) for key in chart.PLACE}.items())


class Monitoring(unittest.TestCase):
    def test_triggers_read_metrics_that_exist(self):
        served, recorded = chart.metric_names()
        (scaled,) = of_kind("keda", "ScaledObject")
        used = {trigger["metadata"]["valueLocation"] for trigger in scaled["spec"]["triggers"]}
        self.assertTrue(used)
        self.assertLessEqual(used, served)
        (autoscaler,) = of_kind("workers by hpa", "HorizontalPodAutoscaler")
        name = autoscaler["spec"]["metrics"][0]["external"]["metric"]["name"]
        self.assertIn(name.split("|")[1], recorded)

    def test_rules_and_dashboards_read_metrics_that_exist(self):
        served, recorded = chart.metric_names()
        for way, kind in {"operator": "PrometheusRule", "gmp": "Rules"}.items():
            text = json.dumps([of_kind(way, kind), [one for one in of_kind(way, "ConfigMap") if "dashboard" in one["metadata"]["name"]]])
            used = set(re.findall(r"\b(?:multivac|process)_[a-z_]+\b|\bmultivac:[a-z0-9_:]+\b", text))
            self.assertGreater(len(used), 50)
            self.assertLessEqual(used, served | recorded)

    def test_the_operator_gets_the_rules_of_deploy_monitoring(self):
        source = yaml.safe_load((ROOT / "deploy/monitoring/rules.yml").read_text(encoding="utf-8"))
        (rule,) = of_kind("operator", "PrometheusRule")
        self.assertEqual(rule["spec"], source)
        self.assertEqual(rule["metadata"]["labels"]["release"], "prometheus")
        with tempfile.NamedTemporaryFile("w", suffix=".yml") as file:
            yaml.safe_dump(rule["spec"], file)
            file.flush()
            done = subprocess.run([PROMTOOL, "check", "rules", "--lint=all", "--lint-fatal", file.name], capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_runbooks_are_links_where_the_values_say_to_what(self):
        done = helm("template", "multivac", str(CHART), *WAYS["operator"], "--set", "monitoring.rules.runbooks=https://git.example.org/main/")
        urls = set(re.findall(r"runbook_url: (\S+)", done.stdout))
        self.assertGreater(len(urls), 10)
        self.assertEqual({url.partition("#")[0] for url in urls}, {"https://git.example.org/main/docs/operations.md"})

    def test_google_gets_the_rules_that_record(self):
        (rule,) = of_kind("gmp", "Rules")
        self.assertEqual(rule["spec"], yaml.safe_load((ROOT / "deploy/gcp/rules.yaml").read_text(encoding="utf-8"))["spec"])
        self.assertNotIn("alert", {key for group in rule["spec"]["groups"] for one in group["rules"] for key in one})

    def test_monitors_name_ports_that_the_pods_have(self):
        for way, kind, endpoints in (("operator", "PodMonitor", "podMetricsEndpoints"), ("gmp", "PodMonitoring", "endpoints")):
            monitors = of_kind(way, kind)
            self.assertEqual(len(monitors), 3)
            for one in monitors:
                (endpoint,) = one["spec"][endpoints]
                wanted = set(one["spec"]["selector"]["matchLabels"].items())
                (pod,) = [pod for _, pod in pods(way) if wanted <= set(pod["metadata"]["labels"].items())]
                self.assertIn(endpoint["port"], {port["name"] for port in pod["spec"]["containers"][0]["ports"]})
                self.assertEqual(endpoint["interval"], "30s")

    def test_dashboards_are_those_of_deploy_monitoring_and_small_enough(self):
        sources = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "deploy/monitoring/grafana").glob("*.json")}
        maps = [one for one in of_kind("operator", "ConfigMap") if "grafana_dashboard" in one["metadata"]["labels"]]
        self.assertEqual({name: text for one in maps for name, text in one["data"].items()}, sources)
        self.assertFalse([one for one in of_kind("production", "ConfigMap") if "dashboard" in one["metadata"]["name"]])
        for way in WAYS:
            for one in of_kind(way, "ConfigMap"):
                # 1 MiB is what Kubernetes takes; `kubectl apply` keeps a second copy in an annotation of at most 256 KiB.
                self.assertLess(len(json.dumps(one)), 250 * 1024, one["metadata"]["name"])


class Packages(unittest.TestCase):
    def test_links_lead_to_files(self):
        links = [path for path in CHART.rglob("*") if path.is_symlink()]
        self.assertGreater(len(links), 3)
        for link in links:
            self.assertTrue(link.exists(), link)
            self.assertTrue(link.resolve().is_relative_to(ROOT), "a copy of the repository would lack it")

    def test_a_package_renders_the_same_as_the_folder(self):
        directory = chart.packaged()
        self.assertFalse([path for path in directory.rglob("*") if path.is_symlink()])
        for path in ("files/nginx/templates/nginx.conf.template", "files/mongo/init.js", "files/redis/start.sh", "files/monitoring/rules.yml"):
            self.assertTrue((directory / "multivac" / path).is_file(), path)
        self.assertFalse(list(directory.rglob("*.py")), "what the chart does not use")
        for way in ("production", "cluster", "operator", "gmp"):
            self.assertEqual(chart.text_of(way, chart=directory / "multivac"), chart.text_of(way), way)

    def test_deploy_k8s_is_what_the_chart_makes(self):
        done = subprocess.run([str(ROOT / "scripts/render-k8s.sh"), "--check"], capture_output=True, text=True, timeout=120)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        for path in sorted((ROOT / "deploy/k8s").glob("*.yaml")):
            text = path.read_text(encoding="utf-8")
            self.assertNotIn("helm.sh", text, path.name)
            self.assertNotIn("\n  namespace:", text, path.name)
            found = {(one["kind"], one["metadata"]["name"]) for one in chart.documents(text)}
            made = {(one["kind"], one["metadata"]["name"]) for one in objects(path.stem) if not chart.is_test(one)}
            # A name with a digest of what a Job does holds the namespace, too.
            self.assertEqual({(kind, re.sub("-init-.*", "", name)) for kind, name in found}, {(kind, re.sub("-init-.*", "", name)) for kind, name in made})


@unittest.skipUnless(KUBECONFIG, "no cluster is given")
class Server(unittest.TestCase):
    """In front of a real API server, in a namespace that enforces `restricted` and warns where it would be broken."""

    @classmethod
    def setUpClass(cls):
        cls.namespace = f"multivac-check-{os.getpid()}"
        labels = "".join(f"    pod-security.kubernetes.io/{mode}: restricted\n" for mode in ("enforce", "warn"))
        cls.kubectl("create", "-f", "-", given=f"apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {cls.namespace}\n  labels:\n{labels}")
        # Pods want it. A controller makes it where there are any; an API server may be alone.
        cls.kubectl("create", "serviceaccount", "default", "--namespace", cls.namespace)

    @classmethod
    def tearDownClass(cls):
        cls.kubectl("delete", "namespace", cls.namespace, "--wait=false")

    @staticmethod
    def kubectl(*arguments, given=None):
        command = ["kubectl", "--kubeconfig", KUBECONFIG, "--request-timeout=60s", *arguments]
        return subprocess.run(command, input=given, capture_output=True, text=True, timeout=chart.TIMEOUT)

    def dry_run(self, text):
        return self.kubectl("apply", "--namespace", self.namespace, "--dry-run=server", "--validate=strict", "-f", "-", given=text)

    def test_the_server_takes_all_that_is_rendered_without_a_warning(self):
        texts = [chart.text_of(way) for way in WAYS]
        texts += [path.read_text(encoding="utf-8") for path in sorted((ROOT / "deploy/k8s").glob("*.yaml"))]
        # Most objects are the same in many ways. None is kept, so those with the same name are not in each other's way.
        different = sorted({json.dumps(one) for text in texts for one in chart.documents(text)})
        self.assertGreater(len(different), 100)
        parts = [different[start::8] for start in range(8)]
        for part, done in zip(parts, all_at_once(lambda part: self.dry_run("\n---\n".join(part)), parts)):
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(done.stderr, "", "a warning")
            self.assertEqual(len(done.stdout.splitlines()), len(part))

    def test_the_server_would_say_what_is_wrong(self):
        text = chart.text_of("production")
        for wrong, said in (
            (text.replace("allowPrivilegeEscalation: false", "allowPrivilegeEscalation: true"), "would violate PodSecurity"),
            (text.replace("minReadySeconds:", "minReadySecond:"), "unknown field"),
            (chart.text_of("keda").replace("pollingInterval:", "pollingIntervall:"), "unknown field"),
            (chart.text_of("gmp").replace("metricRelabeling:", "metricRelabelings:"), "unknown field"),
        ):
            with self.subTest(said):
                self.assertIn(said, self.dry_run(wrong).stderr)


if __name__ == "__main__":
    try:
        rules.run("k8s-check")
    finally:
        if chart.packaged.cache_info().currsize:
            shutil.rmtree(chart.packaged())
