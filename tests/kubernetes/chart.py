"""The chart as Helm renders it: which ways are tried, and what is read out of them."""

import copy
import functools
import json
import os
import pathlib
import re
import subprocess
import tarfile
import tempfile

import yaml

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
CHART = ROOT / "deploy/helm/multivac"
TIMEOUT = 120
NAMESPACE = "trial"
DIGEST = "sha256:" + "0123456789abcdef" * 4

GKE = ["-f", str(CHART / "values-gke.yaml")]
SMALL = ["-f", str(CHART / "values-small.yaml")]
EXTERNAL = "networkPolicies.external=[{\"cidr\": \"10.1.0.0/24\", \"ports\": [6379, 27017]}]"
PLACE = {
    "nodeSelector": {"disk": "fast"},
    "tolerations": [{"key": "only", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
    "priorityClassName": "system-cluster-critical",
}

# Each way of using the chart, by what helm is told. All that is said of the chart is said of each.
WAYS = {
    "production": [],
    "small": SMALL,
    "gke": GKE,
    "keda": ["--set", "worker.autoscaling.kind=keda"],
    "workers by hpa": ["--set", "worker.autoscaling.kind=hpa,worker.autoscaling.metric.labels.team=a"],
    "api by hpa": ["--set", "api.autoscaling.enabled=true"],
    "counts left alone": ["--set", "api.replicas=null,worker.replicas=null,edge.replicas=null"],
    "cluster": ["--set", "redis.mode=cluster,partitions=12"],
    "external": ["--set", "redis.mode=external,mongo.mode=external", "--set-json", EXTERNAL],
    "operator": ["--set", "monitoring.kind=operator,monitoring.labels.release=prometheus,monitoring.dashboards.enabled=true"],
    "gmp": ["--set", "monitoring.kind=gmp,monitoring.dashboards.enabled=true"],
    "no policies": ["--set", "networkPolicies.enabled=false"],
    "traces": ["--set", "networkPolicies.otlp.namespace=tracing,networkPolicies.googleMetadata=true"],
    "no backup": ["--set", "backup.enabled=false"],
    "bucket": ["--set-json", 'backup.volume={"csi": {"driver": "gcsfuse.csi.storage.gke.io", "volumeAttributes": {"bucketName": "b"}}}'],
    "digests": ["--set", ",".join(f"images.{name}.digest={DIGEST}" for name in ("api", "worker", "nginx", "redis", "mongo"))],
    "registry": ["--set", "images.registry=localhost:5500/team/,images.pullSecrets={pull}"],
    "places": [
        part
        for name in ("edge", "api", "worker", "redis", "mongo", "backup")
        for key, value in PLACE.items()
        for part in ("--set-json", f"{name}.{key}={json.dumps(value)}")
    ],
    "storage": ["--set", "redis.storage.class=fast,mongo.storage.class=fast,backup.storage.class=slow"],
    "addresses": ["--set", "edge.service.loadBalancerIP=10.0.0.9,edge.service.sourceRanges={10.0.0.0/8},edge.service.annotations.a=b"],
    "behind": ["--set", "edge.service.type=NodePort,edge.publicPort=8443"],
    "own secrets": ["--set", ",".join(f"secrets.{key}=mine-{key.lower()}" for key in ("edgeTls", "edgeUsers", "app", "redis", "mongo"))],
    "long name": ["--set", "fullnameOverride=multivac-" + "a" * 50 + ",redis.mode=cluster,partitions=12"],
}


def helm(*arguments, given=None):
    # Without a cluster to ask, whatever the shell has.
    environment = {**os.environ, "KUBECONFIG": os.devnull}
    return subprocess.run(["helm", *arguments], input=given, capture_output=True, text=True, timeout=TIMEOUT, env=environment)


class Strict(yaml.SafeLoader):
    """Refuses a key that comes twice, which YAML's readers pass over."""

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        if len(keys) != len(set(keys)):
            raise yaml.YAMLError(f"a key comes twice at {node.start_mark}: {sorted(keys, key=keys.count)[-1]}")
        return super().construct_mapping(node, deep)


def documents(text):
    return [one for one in yaml.load_all(text, Strict) if one]


@functools.lru_cache(maxsize=None)
def text_of(way, release="multivac", chart=None):
    done = helm("template", release, str(chart or CHART), "--namespace", NAMESPACE, "--kube-version", "1.30.0", *WAYS[way])
    if done.returncode:
        raise AssertionError(f"{way}: {done.stderr}")
    return done.stdout


@functools.lru_cache(maxsize=None)
def objects(way, release="multivac"):
    return documents(text_of(way, release))


def of_kind(way, *kinds):
    return [one for one in objects(way) if one["kind"] in kinds]


def named(way, kind, name):
    return [one for one in of_kind(way, kind) if one["metadata"]["name"] == name]


def pods(way):
    """Each pod that the objects make: whose it is, and its template."""
    for one in objects(way):
        spec = one.get("spec", {})
        if one["kind"] == "Pod":
            yield one, {"metadata": one["metadata"], "spec": spec}
        elif one["kind"] == "CronJob":
            yield one, spec["jobTemplate"]["spec"]["template"]
        elif one["kind"] in ("Deployment", "StatefulSet", "Job"):
            yield one, spec["template"]


def containers(way):
    for owner, pod in pods(way):
        for container in pod["spec"].get("initContainers", []) + pod["spec"]["containers"]:
            yield f"{way}: {owner['kind']} {owner['metadata']['name']}: {container['name']}", owner, pod, container


def is_test(one):
    return "helm.sh/hook" in one["metadata"].get("annotations", {})


@functools.lru_cache(maxsize=None)
def packaged():
    """The package of the chart, unpacked."""
    directory = pathlib.Path(tempfile.mkdtemp(prefix="multivac-package."))
    done = helm("package", str(CHART), "--destination", str(directory))
    if done.returncode:
        raise AssertionError(done.stderr)
    with tarfile.open(next(directory.glob("*.tgz"))) as archive:
        archive.extractall(directory)
    return directory


# --- the schema ---------------------------------------------------------------------------------------------------------


def levels(schema):
    """Each object of values that the schema describes: its path, and what is said of it. Definitions are followed."""

    def resolve(part):
        while "$ref" in part:
            part = schema["definitions"][part["$ref"].rpartition("/")[2]]
        return part

    def walk(path, part):
        part = resolve(part)
        if part.get("type") == "object":
            yield path, part
            for name, inner in part.get("properties", {}).items():
                yield from walk((*path, name), inner)
        elif part.get("type") == "array":
            yield from walk((*path, 0), part["items"])

    return list(walk((), schema))


def at(path, value):
    """Values that have `value` at this path. What stands in a list needs what its other keys need."""
    for key in reversed(path):
        value = [value] if key == 0 else {key: copy.deepcopy(value)}
    return value


def metric_names():
    """What the programs and the edge serve, by docs/metrics.md, which tests compare with scrapes; and what is recorded."""
    page = (ROOT / "docs/metrics.md").read_text(encoding="utf-8")
    served = set(re.findall(r"^\| `((?:multivac|process)_[a-z_]+)", page, re.M))
    rules = yaml.safe_load((ROOT / "deploy/monitoring/rules.yml").read_text(encoding="utf-8"))
    recorded = {rule["record"] for group in rules["groups"] for rule in group["rules"] if "record" in rule}
    series = {f"{name}_{part}" for name in served for part in ("bucket", "count", "sum")}
    return served | series, recorded
