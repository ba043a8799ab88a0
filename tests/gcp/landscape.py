"""A stand-in for what deploy/gcp/cluster.sh makes in Google Cloud: it keeps state, knows commands and flags as gcloud 528 has them,
and refuses what lacks its parts: a subnet without its network, a role for an account that is not there, an API that is not enabled.

`cluster_rules.py` lets the real gcloud parse the same commands where there is one.
"""

import json
import threading

import command_line
import rest
from cloud import PROJECT, Refused, refuse
from command_line import WIDE, Usage

NUMBER = "123456789012"
WRITES = ("create", "create-auto", "update", "enable", "add-iam-policy-binding")
POLICY = ["--member", "--role", "--condition"]
# Group and verb: positional arguments, flags, and those of them that must be given.
COMMANDS = {
    "services list": (0, ["--enabled"], ["--enabled"]),
    "services enable": (99, [], []),
    "projects describe": (1, [], []),
    "projects get-iam-policy": (1, [], []),
    "projects add-iam-policy-binding": (1, POLICY, POLICY),
    "compute networks describe": (1, [], []),
    "compute networks create": (1, ["--subnet-mode"], []),
    "compute networks subnets describe": (1, ["--region"], ["--region"]),
    "compute networks subnets create": (1, ["--region", "--network", "--range", "--enable-private-ip-google-access"], ["--region", "--network", "--range"]),
    "compute networks subnets update": (1, ["--region", "--enable-private-ip-google-access"], ["--region"]),
    "compute routers describe": (1, ["--region"], ["--region"]),
    "compute routers create": (1, ["--region", "--network"], ["--region", "--network"]),
    "compute routers nats describe": (1, ["--region", "--router"], ["--region", "--router"]),
    "compute routers nats create": (
        1, ["--region", "--router", "--auto-allocate-nat-external-ips", "--nat-all-subnet-ip-ranges"], ["--region", "--router"],
    ),
    "compute addresses describe": (1, ["--region"], ["--region"]),
    "compute addresses create": (1, ["--region", "--network-tier"], ["--region"]),
    "iam service-accounts describe": (1, [], []),
    "iam service-accounts create": (1, ["--display-name"], []),
    "artifacts repositories describe": (1, ["--location"], ["--location"]),
    "artifacts repositories create": (1, ["--location", "--repository-format"], ["--location", "--repository-format"]),
    "artifacts repositories get-iam-policy": (1, ["--location"], ["--location"]),
    "artifacts repositories add-iam-policy-binding": (1, ["--location", *POLICY], ["--location", *POLICY]),
    "storage buckets describe": (1, [], []),
    "storage buckets create": (1, ["--location", "--uniform-bucket-level-access", "--public-access-prevention"], []),
    "storage buckets update": (1, ["--uniform-bucket-level-access", "--public-access-prevention", "--versioning", "--lifecycle-file"], []),
    "storage buckets get-iam-policy": (1, [], []),
    "storage buckets add-iam-policy-binding": (1, POLICY, POLICY),
    "container clusters describe": (1, ["--region"], ["--region"]),
    "container clusters create-auto": (
        1,
        ["--region", "--async", "--release-channel", "--enable-private-nodes", "--network", "--subnetwork", "--service-account",
         "--enable-dns-access", "--no-enable-ip-access"],
        ["--region"],
    ),
    "container clusters update": (1, ["--region", "--release-channel", "--enable-dns-access", "--no-enable-ip-access"], ["--region"]),
}  # fmt: skip
APIS = {"compute": "compute", "iam": "iam", "artifacts": "artifactregistry", "container": "container"}


class Landscape:
    """One project. `calls` has every command as (group and verb, name, flags); `before` may raise Refused or do something else
    first; `after` likewise, when it is done and its reply is not sent yet."""

    def __init__(self):
        self.lock = threading.RLock()
        self.calls, self.denied, self.iam_answers = [], set(), True
        self.before = self.after = lambda command, name: None
        self.enabled, self.objects, self.policies = set(), {}, {}
        # How often a new cluster is asked for until it runs, and a role is refused since its account is not known yet.
        self.provisioning, self.unknown = 2, 1

    def writes(self):
        return [call for call in self.calls if call[0].rpartition(" ")[2] in WRITES]

    def state(self):
        return json.dumps([sorted(self.enabled), self.objects, self.policies], sort_keys=True)

    def test_rights(self, rights):
        if not self.iam_answers:
            raise Refused("UNAVAILABLE", "The service is currently unavailable.")
        return [right for right in rights if right not in self.denied]

    def need(self, kind, name):
        if (key := f"{kind} {name}") not in self.objects:
            raise Refused("NOT_FOUND", f"The resource 'projects/{PROJECT}/{key}' was not found")
        return self.objects[key]

    def make(self, kind, name, body):
        if f"{kind} {name}" in self.objects:
            raise Refused("ALREADY_EXISTS", f"The resource '{kind} {name}' already exists")
        self.objects[f"{kind} {name}"] = {"name": name, **body}

    def do(self, command, names, flags):
        with self.lock:
            self.calls.append((command, names[0] if names else "", flags))
            self.before(command, names)
            group, _, verb = command.rpartition(" ")
            api = APIS.get(group.split()[0])
            if api and f"{api}.googleapis.com" not in self.enabled:
                raise Refused("PERMISSION_DENIED", f"{api} API has not been used in project {PROJECT} before or it is disabled.", "SERVICE_DISABLED")
            found = self.one(group, verb, names, flags)
            self.after(command, names)
            return found

    def one(self, group, verb, names, flags):
        name = names[0] if names else ""
        if group == "services":
            self.enabled |= set(names)
            return [{"config": {"name": api}} for api in sorted(self.enabled)]
        if group == "projects" and verb == "describe":
            return {"projectId": PROJECT, "projectNumber": NUMBER}
        if verb in ("get-iam-policy", "add-iam-policy-binding"):
            return self.policy(group, verb, name, flags)
        if verb == "describe":
            return self.describe(group, name)
        getattr(self, f"{verb.partition('-')[0]}_{group.replace(' ', '_').replace('-', '_')}")(name, flags)
        return None

    def policy(self, group, verb, name, flags):
        if group != "projects":
            self.need(group, name)
        policy = self.policies.setdefault(f"{group} {name}", {"bindings": []})
        if verb == "add-iam-policy-binding":
            member = flags["--member"]
            if flags["--condition"] != "None" or not flags["--role"].startswith("roles/"):
                refuse("role or condition")
            if member.startswith("serviceAccount:"):
                self.unknown -= 1
                if self.unknown >= 0 or f"iam service-accounts {member.partition(':')[2]}" not in self.objects:
                    refuse(f"Service account {member.partition(':')[2]} does not exist.")
            elif not member.startswith(f"principal://iam.googleapis.com/projects/{NUMBER}/locations/global/workloadIdentityPools/{PROJECT}.svc.id.goog/subject/ns/"):
                refuse(f"{member}: no such principal")
            policy["bindings"].append({"role": flags["--role"], "members": [member]})
        return policy

    def describe(self, group, name):
        found = self.need(group, name)
        if found.get("status") == "PROVISIONING":
            self.provisioning -= 1
            if self.provisioning < 0:
                found["status"] = "RUNNING"
        return found

    def create_compute_networks(self, name, flags):
        self.make("compute networks", name, {"autoCreateSubnetworks": flags.get("--subnet-mode") != "custom"})

    def create_compute_networks_subnets(self, name, flags):
        self.need("compute networks", flags["--network"])
        body = {"ipCidrRange": flags["--range"], "privateIpGoogleAccess": "--enable-private-ip-google-access" in flags}
        self.make("compute networks subnets", name, body)

    def update_compute_networks_subnets(self, name, _):
        self.need("compute networks subnets", name)["privateIpGoogleAccess"] = True

    def create_compute_routers(self, name, flags):
        self.need("compute networks", flags["--network"])
        self.make("compute routers", name, {})

    def create_compute_routers_nats(self, name, flags):
        self.need("compute routers", flags["--router"])
        self.make("compute routers nats", name, {"natIpAllocateOption": "AUTO_ONLY"})

    def create_compute_addresses(self, name, flags):
        self.make("compute addresses", name, {"address": "198.51.100.7", "networkTier": flags.get("--network-tier")})

    def create_iam_service_accounts(self, name, _):
        self.make("iam service-accounts", f"{name}@{PROJECT}.iam.gserviceaccount.com", {})

    def create_artifacts_repositories(self, name, flags):
        self.make("artifacts repositories", name, {"format": flags["--repository-format"]})

    def create_storage_buckets(self, name, flags):
        self.make("storage buckets", name, {"location": flags.get("--location")})
        self.update_storage_buckets(name, flags)

    def update_storage_buckets(self, name, flags):
        bucket = self.need("storage buckets", name)
        for flag, key, value in [
            ("--uniform-bucket-level-access", "uniform_bucket_level_access", True),
            ("--public-access-prevention", "public_access_prevention", "enforced"),
            ("--versioning", "versioning_enabled", True),
        ]:
            if flag in flags:
                bucket[key] = value
        if "--lifecycle-file" in flags:
            with open(flags["--lifecycle-file"], encoding="utf-8") as file:
                bucket["lifecycle_config"] = json.load(file)

    def create_container_clusters(self, name, flags):
        account = flags.get("--service-account", "default")
        self.need("compute networks subnets", flags.get("--subnetwork", "default"))
        self.need("iam service-accounts", account)
        body = {
            "status": "PROVISIONING",
            "autopilot": {"enabled": True},
            "networkConfig": {"datapathProvider": "ADVANCED_DATAPATH", "defaultEnablePrivateNodes": "--enable-private-nodes" in flags},
            "workloadIdentityConfig": {"workloadPool": f"{PROJECT}.svc.id.goog"},
            "autoscaling": {"autoprovisioningNodePoolDefaults": {"serviceAccount": account}},
        }
        self.make("container clusters", name, body)
        self.update_container_clusters(name, flags)

    def update_container_clusters(self, name, flags):
        cluster = self.need("container clusters", name)
        if "--release-channel" in flags:
            cluster["releaseChannel"] = {"channel": flags["--release-channel"].upper()}
        endpoints = cluster.setdefault("controlPlaneEndpointsConfig", {"dnsEndpointConfig": {}, "ipEndpointsConfig": {"enabled": True}})
        if "--enable-dns-access" in flags:
            endpoints["dnsEndpointConfig"]["allowExternalTraffic"] = True
        if "--no-enable-ip-access" in flags:
            endpoints["ipEndpointsConfig"]["enabled"] = False


class CommandLine(command_line.CommandLine):
    """gcloud before it."""

    def do(self, words, given):
        if words == ["auth", "print-access-token"]:
            return rest.TOKEN + "\n"
        if not self.account:
            raise Refused("UNAUTHENTICATED", "You do not currently have an active account selected. Please run: $ gcloud auth login")
        command, names, flags = self.understood(words)
        project = flags.get("--project") or (names[0] if command == "projects describe" else None)
        if project != PROJECT:
            raise Refused("PERMISSION_DENIED", f"Permission denied on resource project {project}.")
        return json.dumps(self.cloud.do(command, names, flags))

    def understood(self, words):
        group = [word for word in words if not word.startswith("-")]
        command = next((" ".join(group[:length]) for length in (4, 3, 2) if " ".join(group[:length]) in COMMANDS), None)
        if not command:
            raise Usage(f"Invalid choice: '{' '.join(group[:3])}'.")
        positional, allowed, required = COMMANDS[command]
        names, flags = group[len(command.split()) :], {}
        for word in words:
            if word.startswith("-"):
                flag, _, flags[flag] = word.partition("=")
                if flag not in [*allowed, *WIDE]:
                    raise Usage(f"unrecognized arguments: {flag}")
        missing = [flag for flag in required if flag not in flags]
        if missing or not names and positional:
            raise Usage(f"argument {' '.join(missing) or 'NAME'}: Must be specified.")
        if len(names) > positional:
            raise Usage(f"unrecognized arguments: {' '.join(names[positional:])}")
        return command, names, flags
