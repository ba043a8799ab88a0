"""gcloud as apply.py needs it: lists, creates, updates and deletes objects of five kinds, and says what kind of failure one is.

Everything that is sent goes through standard input, so that neither a command line nor a file ever holds a secret.
"""

import json
import os
import re
import subprocess
import time
import urllib.request

# A call may take gcloud's own repetitions of it, half a minute while the service answers 503.
TIMEOUT_SECONDS = 180


class Failed(Exception):
    """A call that failed. `why` is one of WHYS' keys, or `other`."""

    def __init__(self, why, said):
        super().__init__(said)
        self.why, self.said = why, said


# What gcloud prints for each, as seen of version 528 in front of a server that answers so. The first that matches counts:
# a disabled API is also told as a permission that is denied.
WHYS = {
    "no such command": r"Invalid choice: ",
    "disabled": r"SERVICE_DISABLED|has not been used in project|[Ii]t is disabled",
    "not logged in": r"UNAUTHENTICATED|[Ii]nvalid authentication|active account|gcloud auth login|[Rr]eauthentication",
    "denied": r"PERMISSION_DENIED|does not have permission|have permission to access",
    "transient": r"\b(RESOURCE_EXHAUSTED|UNAVAILABLE|ABORTED|DEADLINE_EXCEEDED|INTERNAL)\b|'status': '?(429|5\d\d)|connectivity issues",
    "in use": r"FAILED_PRECONDITION",
    "not found": r"NOT_FOUND|[Nn]ot found",
}


def why(said):
    return next((name for name, pattern in WHYS.items() if re.search(pattern, said)), "other")


class Kind:
    """One kind of object. `label` is the user label that tells those of ours apart, beside app=multivac."""

    def __init__(self, name, group, right, label=None, labels="userLabels", tracks=("",), listing="list", content=None):
        self.name, self.group, self.right, self.label, self.labels = name, group, right, label, labels
        self.tracks, self.listing, self.content = tracks, listing, content


# Where a command is not generally available yet, the release track that has it is tried after it: gcloud 528 has policies in
# alpha and channels in beta only.
CHANNELS = Kind(
    "channel", ["monitoring", "channels"], "monitoring.notificationChannels", "channel", tracks=("", "beta"),
    content="--channel-content-from-file=-",
)  # fmt: skip
METRICS = Kind("log metric", ["logging", "metrics"], "logging.logMetrics", content="--config-from-file=-")
UPTIME = Kind("uptime", ["monitoring", "uptime"], "monitoring.uptimeCheckConfigs", "uptime", listing="list-configs")
POLICIES = Kind(
    "policy", ["monitoring", "policies"], "monitoring.alertPolicies", "rule", tracks=("", "alpha"), content="--policy-from-file=-"
)
DASHBOARDS = Kind(
    "dashboard", ["monitoring", "dashboards"], "monitoring.dashboards", "dashboard", labels="labels", content="--config-from-file=-"
)
KINDS = [CHANNELS, METRICS, UPTIME, POLICIES, DASHBOARDS]


class Gcloud:
    def __init__(self, project):
        self.project = project
        self.track = {}

    def run(self, *arguments, given=None):
        """What a command prints. Nothing is ever asked: a component that is missing is an error, not a question."""
        environment = {**os.environ, "CLOUDSDK_CORE_DISABLE_PROMPTS": "1"}
        try:
            done = subprocess.run(
                ["gcloud", *arguments], input=given or "", env=environment, capture_output=True, text=True, timeout=TIMEOUT_SECONDS
            )
        except subprocess.TimeoutExpired:
            raise Failed("transient", f"gcloud did not end within {TIMEOUT_SECONDS} s") from None
        if done.returncode != 0:
            said = done.stderr.strip() or f"gcloud ended with status {done.returncode}"
            raise Failed(why(said), said)
        return done.stdout

    def command(self, kind, verb, *arguments, given=None):
        track = [self.track[kind.name]] if self.track.get(kind.name) else []
        printed = self.run(*track, *kind.group, verb, *arguments, f"--project={self.project}", "--format=json", "--quiet", given=given)
        return json.loads(printed) if printed.strip() else None

    def list(self, kind):
        """All objects of a kind, ours and others'."""
        tracks = [self.track[kind.name]] if kind.name in self.track else kind.tracks
        for number, track in enumerate(tracks):
            self.track[kind.name] = track
            try:
                return self.command(kind, kind.listing) or []
            except Failed as failed:
                if failed.why != "no such command" or number + 1 == len(tracks):
                    raise
        return []

    def create(self, kind, body):
        if kind is UPTIME:
            return self.command(kind, "create", body["displayName"], *uptime_flags(body))
        name = [body["name"]] if kind is METRICS else []
        return self.command(kind, "create", *name, kind.content, given=json.dumps(body))

    def update(self, kind, name, body, before):
        if kind is UPTIME:
            return self.command(kind, "update", name, *uptime_flags(body, before))
        return self.command(kind, "update", name, kind.content, given=json.dumps(body))

    def delete(self, kind, name):
        self.command(kind, "delete", name)

    def missing_rights(self, rights):
        """Which of these rights the account lacks in the project; None if that cannot be found out.

        gcloud has no command for it, so Resource Manager is asked, with gcloud's own token and at the address that gcloud
        is configured to use.
        """
        token = self.run("auth", "print-access-token").strip()
        address = os.environ.get("CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDRESOURCEMANAGER") or "https://cloudresourcemanager.googleapis.com/"
        request = urllib.request.Request(
            f"{address.rstrip('/')}/v3/projects/{self.project}:testIamPermissions",
            json.dumps({"permissions": rights}).encode(),
            {"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as reply:
                granted = json.load(reply).get("permissions", [])
        except (OSError, ValueError):
            return None
        return [right for right in rights if right not in granted]


def uptime_flags(body, before=None):
    """The flags for an uptime check: there is none that reads a file. A field that has no flag here is an error.

    gcloud 528 takes no notice of user labels unless regions are given too; and it deletes all of them if regions are given and
    no label changes, so one that means nothing does.
    """
    left = json.loads(json.dumps(body))
    http, resource, [matcher] = left.pop("httpCheck"), left.pop("monitoredResource"), left.pop("contentMatchers")
    labels = left.pop("userLabels")
    if before and labels.items() <= before.get("userLabels", {}).items():
        labels = {**labels, "repaired": str(int(time.time() * 1000))}
    labels = ",".join(f"{key}={value}" for key, value in sorted(labels.items()))
    method, matches = http.pop("requestMethod"), matcher.pop("matcher")
    flags = [
        f"--path={http.pop('path')}",
        f"--port={http.pop('port')}",
        f"--request-method={method.lower()}",
        f"--validate-ssl={str(http.pop('validateSsl')).lower()}",
        f"--period={int(left.pop('period')[:-1]) // 60}",
        f"--timeout={left.pop('timeout')[:-1]}",
        f"--matcher-content={matcher.pop('content')}",
        f"--matcher-type={matches.lower().replace('_', '-')}",
    ]
    regions = ",".join(region.lower().replace("_", "-") for region in left.pop("selectedRegions"))
    use_ssl, kind, host = http.pop("useSsl"), resource.pop("type"), resource.pop("labels")
    name = left.pop("displayName")
    if before is None:
        flags += [
            f"--protocol={'https' if use_ssl else 'http'}",
            f"--resource-type={kind.replace('_', '-')}",
            "--resource-labels=" + ",".join(f"{key}={value}" for key, value in sorted(host.items())),
            f"--user-labels={labels}",
            f"--regions={regions}",
        ]
    else:
        flags += [f"--display-name={name}", f"--update-user-labels={labels}", f"--set-regions={regions}"]
    if left or http or resource or matcher:
        raise ValueError(f"uptime.json: apply.sh knows no flag for {left or http or resource or matcher}")
    return flags
