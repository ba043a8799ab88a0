"""What apply.sh does; its head explains the arguments.

In order: `checks` asks for everything that could stop it and changes nothing; `wanted` fills this directory's files in;
`bring` creates or updates one object; `prune` deletes. An object is known by two user labels, app=multivac and one that names it
(rule=stuck), and carries a third, the digest of what it was made of: so a change of the files is seen although the server adds
fields of its own and hides secrets, and a change by hand is seen by comparing the fields.
"""

import argparse
import hashlib
import json
import os
import pathlib
import re
import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import gcloud
from gcloud import CHANNELS, DASHBOARDS, KINDS, METRICS, POLICIES, UPTIME, Failed

HERE = pathlib.Path(os.environ.get("MULTIVAC_GCP_FILES") or pathlib.Path(__file__).resolve().parent)
APP = "multivac"
# What log-based metrics have in place of user labels: a name that begins so, and a description that ends so.
METRIC_PREFIX, METRIC_MARK = "multivac_", "(kept by MultiVAC's deploy/gcp)"
ATTEMPTS = 4
WAIT_SECONDS = float(os.environ.get("MULTIVAC_GCP_WAIT_SECONDS") or 2)
NEEDED_BY = {"CRITICAL": "page", "WARNING": "ticket"}


def say(line):
    print(f"apply: {line}", file=sys.stderr, flush=True)


class Wanted:
    def __init__(self, kind, key, body):
        self.kind, self.key, self.body = kind, key, body
        if kind.label:
            labels = body.setdefault(kind.labels, {})
            labels.update({"app": APP, kind.label: key})
            labels["digest"] = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:32]


# --- whose an object is, and whether it is as it should be -----------------------------------------------------------


def key_of(kind, found):
    """The name by which an object is ours; None for all others."""
    if kind is METRICS:
        ours = found["name"].startswith(METRIC_PREFIX) and found.get("description", "").endswith(METRIC_MARK)
        return found["name"] if ours else None
    labels = found.get(kind.labels) or {}
    return labels.get(kind.label) if labels.get("app") == APP else None


def is_within(wanted, found):
    """Whether what is wanted is there; the server adds fields, and leaves out those that are empty."""
    if isinstance(wanted, dict):
        found = found if isinstance(found, dict) else {}
        return all(is_within(value, found.get(name)) for name, value in wanted.items())
    if isinstance(wanted, list):
        found = found or []
        return len(wanted) == len(found) and all(map(is_within, wanted, found))
    if found is None:
        return wanted in (False, 0, "", "0s")
    if isinstance(found, str) and found.startswith("****"):
        return True  # A secret, of which only the end is shown: the digest tells whether it is the same.
    if isinstance(wanted, (int, float)) and not isinstance(wanted, bool):  # A long integer comes as a string.
        return re.fullmatch(r"[-+.0-9e]+", str(found)) is not None and float(wanted) == float(found)
    return resource(str(wanted)) == resource(str(found))


def resource(text):
    """A channel's name without its project, which the server may name by its number."""
    return re.sub(r"^projects/[^/]+/notificationChannels/", "", text)


# --- from arguments and files to what is wanted ----------------------------------------------------------------------


def read(path):
    return json.loads((HERE / path).read_text(encoding="utf-8"))


def filled(value, names):
    """A template's strings with each @NAME@ replaced."""
    if isinstance(value, dict):
        return {key: filled(part, names) for key, part in value.items()}
    if isinstance(value, list):
        return [filled(part, names) for part in value]
    if isinstance(value, str):
        return re.sub(r"@([A-Z_]+)@", lambda found: names.get(found[1], found[0]), value)
    return value


class Channels:
    """The channels that were asked for, as objects to be brought and as names to be used."""

    def __init__(self, arguments, problems):
        self.wanted, self.names, self.given = [], {"page": [], "ticket": []}, bool(arguments.page or arguments.ticket)
        for use in ("page", "ticket"):
            for text in getattr(arguments, use):
                self.add(use, text, problems)

    def add(self, use, text, problems):
        kind, equals, value = text.partition("=")
        if re.fullmatch(r"projects/[^/]+/notificationChannels/[0-9]+", text):
            self.names[use].append(text)
            return
        if not equals or kind not in ("email", "pagerduty", "webhook"):
            problems.append(f"--{use} {text.partition('=')[0]}: email=ADDRESS, pagerduty=FILE, webhook=FILE, or the name of a channel")
            return
        if kind != "email":
            try:
                value = pathlib.Path(value).read_text(encoding="utf-8").strip()
            except (OSError, ValueError) as error:
                problems.append(f"--{use} {kind}: its file cannot be read: {error}")
                return
        right = {"email": r"[^@\s,]+@[^@\s,]+", "pagerduty": r"\S+", "webhook": r"https://\S+"}[kind]
        if not re.fullmatch(right, value):
            problems.append(f"--{use} {kind}: " + {"email": "not an address", "pagerduty": "the file has no key"}.get(kind, "no https URL"))
            return
        before = sum(1 for one in self.wanted if one.key.startswith(f"{use}-{kind}"))
        key = f"{use}-{kind}" + (f"-{before + 1}" if before else "")
        self.wanted.append(Wanted(CHANNELS, key, filled(read(f"channels/{kind}.json"), {"VALUE": value, "USE": use})))


class Project:
    """What is there, by kind, and what was done."""

    def __init__(self, tool, dry_run):
        self.tool, self.dry_run = tool, dry_run
        self.found, self.counts = {}, dict.fromkeys(["created", "updated", "unchanged", "deleted", "stale", "kept"], 0)

    def look(self, kind):
        self.found[kind.name] = self.tool.list(kind)

    def ours(self, kind, key):
        """Those of ours with this key, the oldest first; more than one after two runs at once, or a reply that was lost."""
        return sorted((one for one in self.found[kind.name] if key_of(kind, one) == key), key=lambda one: (len(one["name"]), one["name"]))

    def tell(self, outcome, kind, key, more=""):
        self.counts[outcome] += 1
        would = "would be " if self.dry_run and outcome in ("created", "updated", "deleted") else ""
        print(f"{would + outcome:<17} {kind.name:<10} {key}{more}", flush=True)

    def bring(self, wanted):
        """Makes an object what it should be, and returns it. What may pass is tried again, after a look at what is there:
        a call of which no reply came may have done its work."""
        kind, asked = wanted.kind, None
        for attempt in range(1, ATTEMPTS + 1):
            there = self.candidates(wanted)
            try:
                if not there:
                    asked = "created"
                    if self.dry_run:
                        break
                    made = self.tool.create(kind, wanted.body)
                    self.found[kind.name].append(made)
                    break
                made = there[0]
                if self.is_as_wanted(wanted, made):
                    break
                asked = asked or "updated"
                if self.dry_run:
                    break
                body = dict(wanted.body) if kind in (METRICS, UPTIME) else {**wanted.body, "name": made["name"]}
                if kind is DASHBOARDS:
                    body["etag"] = made["etag"]
                if kind is POLICIES:
                    body["conditions"] = keep_names(wanted.body["conditions"], made["conditions"])
                made = self.tool.update(kind, made["name"], body, made) or made
                break
            except Failed as failed:
                if failed.why not in ("transient", "not found") or attempt == ATTEMPTS:
                    raise
                time.sleep(WAIT_SECONDS * attempt)
                self.look(kind)
        self.tell(asked or "unchanged", kind, wanted.key)
        return made if there or not self.dry_run else {"name": f"projects/-/{kind.name}/{wanted.key}"}

    def candidates(self, wanted):
        there = self.ours(wanted.kind, wanted.key)
        if wanted.kind is UPTIME:  # Whom it asks cannot be changed, so one for another host is another check.
            there = [one for one in there if host_of(one) == host_of(wanted.body)]
        return there

    @staticmethod
    def is_as_wanted(wanted, found):
        return is_within(wanted.body, found)

    def leftovers(self, kind, kept):
        """What is ours and not among the names that are kept."""
        return [one for one in self.found[kind.name] if key_of(kind, one) and one["name"] not in kept]

    def drop(self, kind, found, prune):
        key = key_of(kind, found)
        if not prune:
            return self.tell("stale", kind, key, "  (--prune deletes it)")
        if not self.dry_run:
            for attempt in range(1, ATTEMPTS + 1):
                try:
                    self.tool.delete(kind, found["name"])
                    break
                except Failed as failed:
                    if failed.why == "in use":
                        return self.tell("kept", kind, key, "  (a policy that is not ours uses it)")
                    if failed.why == "not found":
                        break
                    if failed.why != "transient" or attempt == ATTEMPTS:
                        raise
                    time.sleep(WAIT_SECONDS * attempt)
        return self.tell("deleted", kind, key)


def host_of(config):
    return config.get("monitoredResource", {}).get("labels", {}).get("host")


def keep_names(conditions, before):
    """A condition that keeps its name keeps its incidents."""
    if len(conditions) != len(before):
        return conditions
    return [{**new, "name": old["name"]} if "name" in old else new for new, old in zip(conditions, before)]


# --- before anything is changed --------------------------------------------------------------------------------------


def checks(project, arguments, channels, problems):
    """Lists everything, asks for every right, and adds what is missing to `problems`."""
    if not shutil.which("gcloud"):
        problems.append("gcloud is missing: https://cloud.google.com/sdk/docs/install")
        return
    try:
        project.tool.run("auth", "print-access-token")
    except Failed as failed:
        problems.append(f"gcloud has no account to act for: gcloud auth login ({failed.said.splitlines()[0]})")
        return
    verbs = ["create", "update"] + (["delete"] if arguments.prune else [])
    rights = [f"{kind.right}.{verb}" for kind in KINDS for verb in verbs] + ["logging.logMetrics.get"]
    with ThreadPoolExecutor(len(KINDS) + 1) as pool:
        missing = pool.submit(project.tool.missing_rights, rights)
        for kind, looked in [(kind, pool.submit(look, project, kind)) for kind in KINDS]:
            problem = looked.result()
            if problem and problem not in problems:
                problems.append(problem)
    lacking = missing.result()
    if lacking is None:
        say("note: Resource Manager does not say which rights this account has; one that is missing will stop the run where it is needed")
    elif lacking and arguments.dry_run:
        say(f"note: to apply this, rights are missing: {', '.join(lacking)}")
    elif lacking:
        problems.append(f"rights are missing in {project.tool.project}: {', '.join(lacking)} (README.md names the roles that have them)")
    if problems:
        return
    there = {resource(one["name"]) for one in project.found[CHANNELS.name]}
    for name in [*channels.names["page"], *channels.names["ticket"]]:
        if resource(name) not in there:
            problems.append(f"there is no channel {name}")
    for path in sorted((HERE / "log-metrics").glob("*.json")):
        for one in project.found[METRICS.name]:
            if one["name"] == path.stem and not key_of(METRICS, one):
                problems.append(f"there is a log-based metric {path.stem} that is not ours: its description does not end with {METRIC_MARK!r}")


def look(project, kind):
    """Lists a kind; returns what is wrong where that fails."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            project.look(kind)
            return None
        except Failed as failed:
            first = failed.said.splitlines()[0]
            if failed.why == "disabled":
                api = "logging.googleapis.com" if kind is METRICS else "monitoring.googleapis.com"
                return f"an API is not enabled: gcloud services enable {api} --project={project.tool.project}"
            if failed.why == "denied":
                return f"a right is missing in {project.tool.project}, or there is no such project: {kind.right}.list"
            if failed.why == "no such command":
                return f"this gcloud has no command `{' '.join(kind.group)}`: gcloud components update ({first})"
            if failed.why != "transient" or attempt == ATTEMPTS:
                return f"{kind.name}: {first}"
            time.sleep(WAIT_SECONDS * attempt)
    return None


# --- all of it -------------------------------------------------------------------------------------------------------


def channels_of(policy, channels, project):
    """Whom a policy tells: whom the arguments name, else whom it tells now, else whom the others of its severity tell."""
    use = NEEDED_BY[policy["severity"]]
    if channels.given:
        return channels.names[use]
    mine = project.ours(POLICIES, policy["userLabels"]["rule"])
    others = [
        one for one in project.found[POLICIES.name] if key_of(POLICIES, one) and one.get("severity") == policy["severity"]
    ]
    return next((one["notificationChannels"] for one in [*mine[:1], *others] if one.get("notificationChannels")), [])


RUNBOOK = "docs/operations.md#"


def docs_of(project, arguments):
    """Where the runbooks are: as the arguments say, else where the policies that are there say."""
    if arguments.docs:
        return arguments.docs.rstrip("/") + "/"
    links = [
        link["url"] for one in project.found[POLICIES.name] if key_of(POLICIES, one)
        for link in one.get("documentation", {}).get("links", []) if RUNBOOK in link["url"]
    ]  # fmt: skip
    return links[0].partition(RUNBOOK)[0] if links else ""


def documented(policy, docs):
    """With the address of its runbook; where that is not known, the path in the repository alone, and no link."""
    policy = filled(policy, {"DOCS": docs})
    if not docs:
        del policy["documentation"]["links"]
    return policy


def apply(project, arguments, channels):
    kept = {kind.name: set() for kind in KINDS}

    def bring(wanted):
        made = project.bring(wanted)
        kept[wanted.kind.name].add(made["name"])
        return made

    for wanted in channels.wanted:
        channels.names[wanted.key.split("-")[0]].append(bring(wanted)["name"])
    if not channels.given:
        kept[CHANNELS.name] = {one["name"] for one in project.found[CHANNELS.name]}
    for path in sorted((HERE / "log-metrics").glob("*.json")):
        bring(Wanted(METRICS, path.stem, {"name": path.stem, **read(path)}))

    docs = docs_of(project, arguments)
    policies = [read(path) for path in sorted((HERE / "policies").glob("*.json"))]
    uptime = read("uptime.json")
    checked = project.ours(UPTIME, uptime["userLabels"]["uptime"])
    host = arguments.host or (host_of(checked[0]) if checked else None)
    if host:
        filled_in = filled(uptime, {"HOST": host, "PROJECT": project.tool.project})
        check = bring(Wanted(UPTIME, uptime["userLabels"]["uptime"], filled_in))
        policies.append(filled(read("uptime-policy.json"), {"CHECK_ID": check["name"].rpartition("/")[2], "HOST": host}))
    else:
        say("note: without --host there is no uptime check, and no alert for it")

    untold = set()
    for policy in policies:
        policy = documented(policy, docs)
        policy["notificationChannels"] = channels_of(policy, channels, project)
        if not policy["notificationChannels"]:
            untold.add(NEEDED_BY[policy["severity"]])
        bring(Wanted(POLICIES, policy["userLabels"]["rule"], policy))
    for path in sorted((HERE / "dashboards").glob("*.json")):
        dashboard = filled(read(path), {"PROJECT": project.tool.project})
        bring(Wanted(DASHBOARDS, dashboard["labels"]["dashboard"], dashboard))
    for use in sorted(untold):
        say(f"note: nobody is told of a {use}: give --{use}")

    # What uses something goes before it.
    for kind in reversed(KINDS):
        for found in project.leftovers(kind, kept[kind.name]):
            project.drop(kind, found, arguments.prune)


def main():
    parser = argparse.ArgumentParser(prog="apply.sh", description="Its head explains the arguments.", allow_abbrev=False)
    parser.add_argument("project")
    parser.add_argument("--host")
    parser.add_argument("--docs")
    parser.add_argument("--page", action="append", default=[], metavar="CHANNEL")
    parser.add_argument("--ticket", action="append", default=[], metavar="CHANNEL")
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--prune", action="store_true")
    arguments = parser.parse_args()
    problems = []
    if not re.fullmatch(r"([a-z0-9.-]+:)?[a-z][a-z0-9-]{4,28}[a-z0-9]", arguments.project):
        problems.append(f"{arguments.project}: not the ID of a project (its number and its name are others)")
    if arguments.host and not re.fullmatch(r"[A-Za-z0-9.-]+", arguments.host):
        problems.append(f"--host {arguments.host}: a host's name alone, without https:// and without a path")
    if arguments.docs and not re.fullmatch(r"https://\S+", arguments.docs):
        problems.append(f"--docs {arguments.docs}: not an https URL")
    channels = Channels(arguments, problems)
    project = Project(gcloud.Gcloud(arguments.project), arguments.dry_run)
    if not problems:
        checks(project, arguments, channels, problems)
    if problems:
        for problem in problems:
            say(problem)
        say("nothing was changed")
        return 2
    status = 0
    try:
        apply(project, arguments, channels)
    except Failed as failed:
        say(failed.said)
        say("stopped here; what is printed above is done, and another run does the rest")
        status = 1
    would = "would be " if arguments.dry_run else ""
    counts = project.counts
    print(
        f"{arguments.project}: {would}{counts['created']} created, {counts['updated']} updated, {counts['deleted']} deleted; "
        f"{counts['unchanged']} unchanged, {counts['stale']} stale, {counts['kept']} kept"
    )
    return status


if __name__ == "__main__":
    sys.exit(main())
