"""The stand-in's gcloud: which commands, flags and arguments there are, and how an error is told, as in gcloud 528.

A program of a few lines that is first in PATH (`PROGRAM`) hands each call to the test's process over a Unix socket, so that a call
takes milliseconds and the state is the test's own. `gcp_rules.py` compares COMMANDS with the real gcloud where there is one.
"""

import json
import pathlib
import socket
import sys
import threading

import rest
from cloud import CLASSES, COLLECTIONS, PROJECT, Refused

# What is sent: one JSON line; what comes back: one JSON line.
PROGRAM = """#!{python} -SE
import json, os, socket, sys
given = sys.stdin.read() if any(word.endswith("=-") for word in sys.argv) else ""
with socket.socket(socket.AF_UNIX) as wire:
    wire.connect({path!r})
    wire.sendall((json.dumps([sys.argv[1:], given]) + "\\n").encode())
    reply = json.loads(wire.makefile().readline())
sys.stdout.write(reply["out"])
sys.stderr.write(reply["err"])
sys.exit(reply["status"])
"""

WIDE = ["--project", "--format", "--quiet"]
CONTENT = {"policies": "--policy-from-file", "channels": "--channel-content-from-file", "metrics": "--config-from-file", "dashboards": "--config-from-file"}
UPTIME_BOTH = ["--path", "--port", "--request-method", "--validate-ssl", "--period", "--timeout", "--matcher-content", "--matcher-type"]
# (group, verb): the release tracks that have it, positional arguments, flags, and those of them that must be given.
COMMANDS = {}
for kind, group, tracks in [
    ("policies", "monitoring policies", ["alpha"]),
    ("channels", "monitoring channels", ["alpha", "beta"]),
    ("metrics", "logging metrics", ["alpha", "beta", ""]),
    ("dashboards", "monitoring dashboards", ["alpha", "beta", ""]),
]:
    COMMANDS[group, "list"] = (kind, tracks, 0, [], [])
    COMMANDS[group, "create"] = (kind, tracks, 1 if kind == "metrics" else 0, [CONTENT[kind]], [CONTENT[kind]])
    COMMANDS[group, "update"] = (kind, tracks, 1, [CONTENT[kind]], [CONTENT[kind]])
    COMMANDS[group, "delete"] = (kind, tracks, 1, ["--force"] if kind == "channels" else [], [])
UPTIME_TRACKS = ["alpha", "beta", ""]
COMMANDS["monitoring uptime", "list-configs"] = ("uptime", UPTIME_TRACKS, 0, [], [])
COMMANDS["monitoring uptime", "create"] = (
    "uptime", UPTIME_TRACKS, 1, [*UPTIME_BOTH, "--protocol", "--resource-type", "--resource-labels", "--user-labels", "--regions"], ["--resource-labels"],
)  # fmt: skip
COMMANDS["monitoring uptime", "update"] = ("uptime", UPTIME_TRACKS, 1, [*UPTIME_BOTH, "--display-name", "--update-user-labels", "--set-regions"], [])
COMMANDS["monitoring uptime", "delete"] = ("uptime", UPTIME_TRACKS, 1, [], [])


class Usage(Exception):
    pass


class CommandLine:
    """Serves PROGRAM. `newer` is a gcloud that has every command generally available; `account` is who is logged in."""

    def __init__(self, cloud, directory):
        self.cloud, self.newer, self.account = cloud, False, True
        self.lines = []
        self.program = pathlib.Path(directory, "bin", "gcloud")
        self.program.parent.mkdir()
        path = str(pathlib.Path(directory, "gcloud.socket"))
        self.program.write_text(PROGRAM.format(python=sys.executable, path=path))
        self.program.chmod(0o755)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen(64)
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                wire, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.one, args=[wire], daemon=True).start()

    def one(self, wire):
        with wire:
            words, given = json.loads(wire.makefile().readline())
            self.lines.append((words, given))
            out, err, status = "", "", 0
            dotted = "gcloud." + ".".join(word for word in words[:4] if not word.startswith(("-", "projects/")))
            try:
                out = self.do(words, given)
            except Usage as error:
                err, status = f"ERROR: ({dotted}) {error}\n", 2
            except Refused as refused:
                err, status = f"ERROR: ({dotted}) {told(refused)}\n", 1
            try:
                wire.sendall((json.dumps({"out": out, "err": err, "status": status}) + "\n").encode())
            except OSError:
                pass  # The caller was killed.

    def do(self, words, given):
        if words == ["auth", "print-access-token"]:
            if not self.account:
                raise Refused("UNAUTHENTICATED", "You do not currently have an active account selected. Please run: $ gcloud auth login")
            return rest.TOKEN + "\n"
        kind, verb, names, flags = self.understood(words)
        if flags.get("--project") != PROJECT:
            if not flags.get("--project"):
                raise Usage("The required property [project] is not currently set.")
            raise Refused("PERMISSION_DENIED", f"Permission denied on resource project {flags['--project']}.")
        if flags.get("--format") != "json":
            raise Usage("the test expects --format=json")
        name = names[0] if names else None
        if verb in ("list", "list-configs"):
            return json.dumps(self.cloud.list(kind))
        if verb == "delete":
            self.cloud.delete(kind, full(kind, name), force="--force" in flags)
            return ""
        if kind == "uptime":
            body = self.uptime_body(flags, verb, name)
        else:
            if flags[CONTENT[kind]] != "-":
                given = pathlib.Path(flags[CONTENT[kind]]).read_text()
            try:
                body = json.loads(given)
            except ValueError as error:
                raise Usage(f"Could not parse YAML or JSON string: {error}") from error
        if verb == "create":
            body = {**body, "name": name} if kind == "metrics" else body
            return json.dumps(self.cloud.create(kind, body))
        if kind == "metrics":  # gcloud asks for it first, and puts the given fields over it.
            body = {**self.cloud.get(kind, name), **body}
        return json.dumps(self.cloud.update(kind, full(kind, name), body))

    def understood(self, words):
        rest_of, track = list(words), ""
        if rest_of and rest_of[0] in ("alpha", "beta"):
            track = rest_of.pop(0)
        group, verb = " ".join(rest_of[:2]), (rest_of + ["", "", ""])[2]
        if not any(group == known for known, _ in COMMANDS):
            raise Usage(f"Invalid choice: '{group}'.")
        if (group, verb) not in COMMANDS:
            raise Usage(f"Invalid choice: '{verb}'.")
        kind, tracks, positional, flags, required = COMMANDS[group, verb]
        if track not in tracks and not (self.newer and track == ""):
            raise Usage(f"Invalid choice: '{rest_of[1]}'.\nThis command is available in one or more alternate release tracks.")
        names, seen = [], {}
        for word in rest_of[3:]:
            flag, _, value = word.partition("=")
            if not word.startswith("-"):
                names.append(word)
            elif flag not in flags + WIDE:
                raise Usage(f"unrecognized arguments: {flag}")
            else:
                seen[flag] = value
        missing = [flag for flag in required if flag not in seen]
        if missing or len(names) < positional:
            raise Usage(f"argument {' '.join(missing) or 'NAME'}: Must be specified.")
        if len(names) > positional:
            raise Usage(f"unrecognized arguments: {' '.join(names[positional:])}")
        return kind, verb, names, seen

    def uptime_body(self, flags, verb, name):
        """As gcloud builds it of its flags; an update starts with what is there."""

        def choice(flag, choices):
            value = flags.get(flag)
            if value is not None and value not in choices:
                raise Usage(f"argument {flag}: Invalid choice: '{value}'.")
            return value

        body = {} if verb == "create" else self.cloud.get("uptime", full("uptime", name))
        if verb == "create":
            resource = choice("--resource-type", ["uptime-url"]) or "uptime-url"
            body["monitoredResource"] = {"type": resource.replace("-", "_"), "labels": pairs(flags["--resource-labels"])}
            body["displayName"] = name
            body["httpCheck"] = {"useSsl": choice("--protocol", ["http", "https", "tcp"]) == "https", "requestMethod": "GET", "path": "/"}
            labels = pairs(flags.get("--user-labels", ""))
        else:
            body["displayName"] = flags.get("--display-name", body["displayName"])
            labels = {**body.get("userLabels", {}), **pairs(flags.get("--update-user-labels", ""))}
        regions = flags.get("--regions") or flags.get("--set-regions")
        if regions:  # As the real one: without regions it takes no notice of the labels; if none of them changes it deletes all.
            body["selectedRegions"] = [region.upper().replace("-", "_") for region in regions.split(",")]
            body["userLabels"] = labels if verb == "create" or labels != body.get("userLabels") else {}
        http = body["httpCheck"]
        http["requestMethod"] = (choice("--request-method", ["get", "post"]) or "get").upper()
        if "--path" in flags:
            http["path"] = flags["--path"]
        if "--port" in flags:
            http["port"] = int(flags["--port"])
        if "--validate-ssl" in flags:
            http["validateSsl"] = bool(flags["--validate-ssl"])  # As the real one: `false` is a text that is not empty.
        if choice("--period", ["1", "5", "10", "15"]):
            body["period"] = f"{int(flags['--period']) * 60}s"
        body["timeout"] = f"{int(flags.get('--timeout', '60'))}s"
        if "--matcher-content" in flags:
            matcher = choice("--matcher-type", ["contains-string", "not-contains-string", "matches-regex", "not-matches-regex"])
            body["contentMatchers"] = [{"content": flags["--matcher-content"], "matcher": (matcher or "contains-string").upper().replace("-", "_")}]
        body.pop("checkerType", None)
        return body


def pairs(text):
    return dict(pair.split("=", 1) for pair in text.split(",") if pair)


def full(kind, name):
    return name if kind == "metrics" or name.startswith("projects/") else f"projects/{PROJECT}/{COLLECTIONS[kind]}/{name}"


def told(refused):
    """As gcloud words it; 503 as it does once it has given up."""
    if refused.status == "PERMISSION_DENIED":
        reason = f"\n- '@type': type.googleapis.com/google.rpc.ErrorInfo\n  reason: {refused.reason}" if refused.reason else ""
        return f"[ops@example.org] does not have permission to access projects instance [{PROJECT}] (or it may not exist): {refused.message}{reason}"
    if refused.status == "UNAVAILABLE":
        return (
            f"HttpError accessing <https://monitoring.googleapis.com/>: response: <{{'status': 503}}>, content <{refused.message}>\n"
            "This may be due to network connectivity issues. Please check your network settings, and the status of the service."
        )
    return f"{refused.status}: {refused.message}"


assert set(CONTENT) | {"uptime"} == set(CLASSES)
