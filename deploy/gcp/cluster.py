"""What cluster.sh does; its head explains the arguments.

`objects` is the list of what there is to be, in the order in which one needs the other: how it is asked for, how it is made, and
what of it may be put right. `bring` goes through one of them. Nothing is remembered between runs: what is there is asked.
"""

import argparse
import json
import os
import pathlib
import re
import shutil
import sys
import tempfile
import time

from gcloud import Failed, Gcloud

APIS = ["artifactregistry", "compute", "container", "iam", "logging", "monitoring", "storage"]
# Of a whole run. The rights to look are found missing by looking.
RIGHTS = [
    "serviceusage.services.enable", "compute.networks.create", "compute.subnetworks.create", "compute.routers.create",
    "compute.routers.update", "compute.addresses.create", "iam.serviceAccounts.create", "iam.serviceAccounts.actAs",
    "resourcemanager.projects.setIamPolicy", "artifactregistry.repositories.create", "artifactregistry.repositories.setIamPolicy",
    "container.clusters.create", "storage.buckets.create", "storage.buckets.update", "storage.buckets.setIamPolicy",
]  # fmt: skip
# Of nodes, pods and Services; Autopilot takes its own secondary ranges for the latter two.
RANGE = "10.64.0.0/20"
LIFECYCLE = {"rule": [{"action": {"type": "Delete"}, "condition": {"daysSinceNoncurrentTime": 30}}]}
ATTEMPTS = 6
WAIT_SECONDS = float(os.environ.get("MULTIVAC_GCP_WAIT_SECONDS") or 5)
# A cluster takes five to ten minutes.
CLUSTER_SECONDS = 1800
NO_SUCH = ("not found", "disabled")


def say(line):
    print(f"cluster: {line}", file=sys.stderr, flush=True)


class Thing:
    """One object. `ask` prints it as JSON; `make` are the commands that make it; `differs` names what of it is not as it should be
    with the command that puts it right, or None where nothing does."""

    def __init__(self, kind, name, ask, make, there=lambda found: True, differs=lambda found: []):
        self.kind, self.name, self.ask, self.make, self.there, self.differs = kind, name, ask, make, there, differs


def objects(given, number, lifecycle):
    name, region, project = given.name, given.region, given.project
    where = f"--region={region}"
    nodes = f"{name}-nodes@{project}.iam.gserviceaccount.com"
    bucket = f"gs://{given.bucket}"
    backups = (
        f"principal://iam.googleapis.com/projects/{number}/locations/global/workloadIdentityPools/{project}.svc.id.goog"
        f"/subject/ns/{given.namespace}/sa/{given.service_account}"
    )
    apis = [f"{api}.googleapis.com" for api in APIS]
    missing = []

    def all_enabled(found):
        missing[:] = [api for api in apis if api not in [one["config"]["name"] for one in found]]
        return not missing

    yield Thing("APIs", "", ["services", "list", "--enabled"], lambda: [["services", "enable", *(missing or apis)]], all_enabled)
    yield Thing(
        "network", name, ["compute", "networks", "describe", name], lambda: [["compute", "networks", "create", name, "--subnet-mode=custom"]]
    )
    yield Thing(
        "subnet", name, ["compute", "networks", "subnets", "describe", name, where],
        lambda: [["compute", "networks", "subnets", "create", name, where, f"--network={name}", f"--range={RANGE}", "--enable-private-ip-google-access"]],
        differs=lambda found: [] if found.get("privateIpGoogleAccess") else [
            ("no private access to Google's services", ["compute", "networks", "subnets", "update", name, where, "--enable-private-ip-google-access"])
        ],
    )  # fmt: skip
    yield Thing(
        "router", name, ["compute", "routers", "describe", name, where], lambda: [["compute", "routers", "create", name, where, f"--network={name}"]]
    )
    yield Thing(
        "NAT", name, ["compute", "routers", "nats", "describe", name, f"--router={name}", where],
        lambda: [["compute", "routers", "nats", "create", name, f"--router={name}", where, "--auto-allocate-nat-external-ips", "--nat-all-subnet-ip-ranges"]],
    )  # fmt: skip
    yield Thing(
        "address", f"{name}-edge", ["compute", "addresses", "describe", f"{name}-edge", where],
        lambda: [["compute", "addresses", "create", f"{name}-edge", where, "--network-tier=PREMIUM"]],
    )  # fmt: skip
    yield Thing(
        "account", nodes, ["iam", "service-accounts", "describe", nodes],
        lambda: [["iam", "service-accounts", "create", f"{name}-nodes", f"--display-name=Nodes of the cluster {name}"]],
    )  # fmt: skip
    yield binding("projects", project, f"serviceAccount:{nodes}", "roles/container.defaultNodeServiceAccount")
    # Its tags can be moved: where a registry has no referrers, cosign keeps what is signed in a tag that grows. Digests are what counts.
    yield Thing(
        "registry", name, ["artifacts", "repositories", "describe", name, f"--location={region}"],
        lambda: [["artifacts", "repositories", "create", name, f"--location={region}", "--repository-format=docker"]],
    )  # fmt: skip
    yield binding("artifacts repositories", name, f"serviceAccount:{nodes}", "roles/artifactregistry.reader", f"--location={region}")
    yield Thing(
        "bucket", bucket, ["storage", "buckets", "describe", bucket],
        lambda: [["storage", "buckets", "create", bucket, f"--location={region}", "--uniform-bucket-level-access", "--public-access-prevention"]],
        differs=lambda found: bucket_differs(bucket, lifecycle, found),
    )  # fmt: skip
    yield binding("storage buckets", bucket, backups, "roles/storage.objectUser")
    # Last, since it takes minutes; --async, so that a run that is killed meanwhile and a lost reply are the same to the next run.
    yield Thing(
        "cluster", name, ["container", "clusters", "describe", name, where],
        lambda: [[
            "container", "clusters", "create-auto", name, where, "--async", "--release-channel=regular", "--enable-private-nodes",
            f"--network={name}", f"--subnetwork={name}", f"--service-account={nodes}", "--enable-dns-access", "--no-enable-ip-access",
        ]],
        differs=lambda found: cluster_differs(name, where, nodes, found),
    )  # fmt: skip


def binding(group, name, member, role, *where):
    """A role that is given; asked for in the whole policy, since adding what is there is a write too."""
    words = group.split()

    def there(policy):
        return any(one["role"] == role and member in one.get("members", []) and "condition" not in one for one in policy.get("bindings", []))

    add = [*words, "add-iam-policy-binding", name, *where, f"--member={member}", f"--role={role}", "--condition=None"]
    return Thing("role", f"{role} of {member.rpartition('/')[2]}", [*words, "get-iam-policy", name, *where], lambda: [add], there)


def bucket_differs(bucket, lifecycle, found):
    update = ["storage", "buckets", "update", bucket]
    if not found.get("uniform_bucket_level_access"):
        yield "access is not uniform", [*update, "--uniform-bucket-level-access"]
    if found.get("public_access_prevention") != "enforced":
        yield "it may be made public", [*update, "--public-access-prevention"]
    if not found.get("versioning_enabled"):
        yield "it is not versioned", [*update, "--versioning"]
    if not any(
        rule.get("action", {}).get("type") == "Delete" and rule.get("condition", {}).get("daysSinceNoncurrentTime")
        for rule in (found.get("lifecycle_config") or {}).get("rule", [])
    ):
        yield "old versions stay for ever", [*update, f"--lifecycle-file={lifecycle}"]


def cluster_differs(name, where, nodes, found):
    """What of a cluster is not as said. Most of it cannot be changed any more."""
    if not found.get("autopilot", {}).get("enabled"):
        yield "it is not an Autopilot cluster", None
    if found.get("networkConfig", {}).get("datapathProvider") != "ADVANCED_DATAPATH":
        yield "it has no Dataplane V2", None
    if not found.get("workloadIdentityConfig", {}).get("workloadPool"):
        yield "it has no Workload Identity", None
    network = found.get("networkConfig", {}).get("defaultEnablePrivateNodes") or found.get("privateClusterConfig", {}).get("enablePrivateNodes")
    if not network:
        yield "its nodes have public addresses", None
    account = found.get("autoscaling", {}).get("autoprovisioningNodePoolDefaults", {}).get("serviceAccount")
    if account != nodes:
        yield f"its nodes run as {account or 'the default service account'}", None
    if found.get("releaseChannel", {}).get("channel") != "REGULAR":
        yield "another release channel", ["container", "clusters", "update", name, where, "--release-channel=regular"]
    endpoints = found.get("controlPlaneEndpointsConfig", {})
    if not endpoints.get("dnsEndpointConfig", {}).get("allowExternalTraffic"):
        yield "no access by its DNS name", ["container", "clusters", "update", name, where, "--enable-dns-access"]
    if endpoints.get("ipEndpointsConfig", {}).get("enabled", True):
        yield "its control plane has a public address", ["container", "clusters", "update", name, where, "--no-enable-ip-access"]


class Bringing:
    def __init__(self, cloud, dry_run):
        self.cloud, self.dry_run = cloud, dry_run
        self.counts = dict.fromkeys(["created", "updated", "unchanged", "different"], 0)

    def call(self, words):
        return self.cloud.run(*words, f"--project={self.cloud.project}", "--format=json", "--quiet")

    def find(self, thing):
        """The object, or None. What passes is tried again."""
        for attempt in range(ATTEMPTS):
            try:
                found = json.loads(self.call(thing.ask) or "null")
                return found if found is not None and thing.there(found) else None
            except Failed as failed:
                if failed.why in NO_SUCH:
                    return None
                if failed.why != "transient" or attempt + 1 == ATTEMPTS:
                    raise
                time.sleep(WAIT_SECONDS)

    def write(self, thing, words, done):
        """A command that writes, again where it may have failed only for now: a service account that was just made is not known
        everywhere at once, nor an API that was just enabled. `done` says whether it was done although no reply told so."""
        for attempt in range(ATTEMPTS):
            try:
                self.call(words)
                return
            except Failed as failed:
                passes = failed.why in ("transient", "disabled", "not found") or re.search(r"does not exist|ALREADY_EXISTS|already exists", failed.said)
                if passes and done():
                    return
                if not passes or attempt + 1 == ATTEMPTS:
                    raise
                time.sleep(WAIT_SECONDS)

    def tell(self, what, thing, more=""):
        self.counts[what] += 1
        would = "would be " if self.dry_run and what in ("created", "updated") else ""
        print(f"{would + what:<18} {thing.kind:<9} {thing.name}{more}", flush=True)

    def bring(self, thing):
        found, what, why = self.find(thing), "unchanged", []
        if found is None:
            what = "created"
            if self.dry_run:
                return self.tell(what, thing)
            for words in thing.make():
                self.write(thing, words, lambda: self.find(thing) is not None)
            found = self.find(thing)
        if thing.kind == "cluster":
            found = self.wait(thing, found)
        for difference, words in thing.differs(found or {}):
            if words is None:
                self.tell("different", thing, f": {difference}, which cannot be changed")
            else:
                if not self.dry_run:
                    self.write(thing, words, lambda said=difference: said not in [one for one, _ in thing.differs(self.find(thing) or {})])
                what = "created" if what == "created" else "updated"
                why.append(difference)
        self.tell(what, thing, f": {', '.join(why)}" if why and what == "updated" else "")

    def wait(self, thing, found):
        deadline = time.monotonic() + CLUSTER_SECONDS
        while found is None or found["status"] in ("PROVISIONING", "RECONCILING"):
            if found and found["status"] == "RECONCILING" or self.dry_run:
                return found
            if time.monotonic() > deadline:
                raise Failed("transient", f"the cluster is not running after {CLUSTER_SECONDS} s")
            say(f"the cluster {thing.name} is being made")
            time.sleep(4 * WAIT_SECONDS)
            found = self.find(thing)
        if found["status"] not in ("RUNNING", "RECONCILING"):
            raise Failed("other", f"the cluster {thing.name} is {found['status']}: {found.get('statusMessage', '')}")
        return found


def next_commands(given):
    context = f"gke_{given.project}_{given.region}_{given.name}"
    registry = f"{given.region}-docker.pkg.dev/{given.project}/{given.name}"
    values = f" -f {given.values}" if given.values else ""
    return f"""
Next, with the name of the edge for HOST (its DNS record: the address {given.name}-edge), and the version for VERSION:

    gcloud container clusters get-credentials {given.name} --region={given.region} --project={given.project} --dns-endpoint
    gcloud auth configure-docker {given.region}-docker.pkg.dev
    scripts/images.sh VERSION {registry} --key cosign.key
    scripts/setup.py --kubernetes --context {context} --namespace {given.namespace} --name HOST
    scripts/k8s-deploy.sh VERSION --context {context} --namespace {given.namespace} \\
        -f deploy/helm/multivac/values-gke.yaml{values} -f target/release-VERSION/digests.yaml --cosign-key cosign.pub --url https://HOST
    deploy/gcp/apply.sh {given.project} --host HOST --page email=… --ticket email=…"""


def write_values(given, address):
    """What only this cluster knows."""
    text = f"""\
# Made by deploy/gcp/cluster.sh for the cluster {given.name} of {given.project}: scripts/k8s-deploy.sh … -f values-gke.yaml -f {given.values}
edge:
  service: {{ loadBalancerIP: "{address}" }}
backup:
  volume:
    csi:
      driver: gcsfuse.csi.storage.gke.io
      volumeAttributes: {{ bucketName: "{given.bucket}", mountOptions: "implicit-dirs,uid=65532,gid=65532,file-mode=600,dir-mode=700" }}
"""
    pathlib.Path(given.values).write_text(text, encoding="utf-8")


def arguments():
    parser = argparse.ArgumentParser(prog="cluster.sh", description="See the head of cluster.sh.")
    for name in ("project", "region"):
        parser.add_argument(name)
    parser.add_argument("--name", default="multivac")
    parser.add_argument("--namespace", default="multivac")
    parser.add_argument("--service-account", default="multivac-backup")
    parser.add_argument("--values")
    parser.add_argument("--dry-run", action="store_true")
    given = parser.parse_args()
    given.bucket = f"{given.project}-{given.name}-backups"
    return given


def problems(given, cloud):
    """All that is missing, and the project's number."""
    found, number = [], None
    for text, pattern, what in [
        (given.project, r"[a-z][a-z0-9-]{4,28}[a-z0-9]", "not the ID of a project"),
        (given.region, r"[a-z]+-[a-z]+[0-9]+", "not a region, such as europe-west1 (a zone is none)"),
        (given.name, r"[a-z][a-z0-9-]{0,19}[a-z0-9]", "not a name of at most 21 small letters, digits and -"),
        (given.namespace, r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", "not the name of a namespace"),
        (given.service_account, r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?", "not the name of a ServiceAccount"),
    ]:
        if not re.fullmatch(pattern, text):
            found.append(f"{text!r} is {what}")
    if not shutil.which("gcloud"):
        found.append("gcloud is missing: https://cloud.google.com/sdk/docs/install")
    if found:
        return found, number
    try:
        number = json.loads(cloud.run("projects", "describe", given.project, "--format=json", "--quiet"))["projectNumber"]
    except Failed as failed:
        told = {"not logged in": "nobody is logged in: gcloud auth login", "denied": f"there is no project {given.project}, or no right to see it"}
        return [told.get(failed.why, failed.said)], number
    missing = cloud.missing_rights(RIGHTS)
    if missing and not given.dry_run:
        found += [f"the right {right} in {given.project}" for right in missing]
    elif missing is None or missing:
        say(f"to do this, rights are missing: {', '.join(missing)}" if missing else "Resource Manager does not say which rights there are")
    return found, number


def main():
    given = arguments()
    cloud = Gcloud(given.project)
    missing, number = problems(given, cloud)
    if missing:
        for line in missing:
            say(f"missing: {line}" if line.startswith("the right") else line)
        say("nothing was changed")
        return 2
    bringing, failed = Bringing(cloud, given.dry_run), None
    with tempfile.NamedTemporaryFile("w", suffix=".json") as lifecycle:
        json.dump(LIFECYCLE, lifecycle)
        lifecycle.flush()
        try:
            for thing in objects(given, number, lifecycle.name):
                bringing.bring(thing)
            if given.values and not given.dry_run:
                told = bringing.call(["compute", "addresses", "describe", f"{given.name}-edge", f"--region={given.region}"])
                write_values(given, json.loads(told)["address"])
        except Failed as caught:
            failed = caught
            say(f"{caught.said}\ncluster: it stopped here; another run does the rest")
    print(", ".join(f"{count} {what}" for what, count in bringing.counts.items()))
    if failed or bringing.counts["different"]:
        return 1
    print(next_commands(given))
    return 0


if __name__ == "__main__":
    sys.exit(main())
