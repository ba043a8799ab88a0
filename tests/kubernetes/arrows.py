"""Which connections the network policies let through: each one that is drawn, and none that is not, tried from pods that look like each part."""

import json
import time

from place import Failure

# Who connects to what: docs/security.md's picture, not the chart's templates.
PROGRAMS = ["api", "worker", "backup", "restore"]
DRAWN = {
    ("edge", 8443): ["test"],
    ("edge", 8080): ["test"],
    ("edge", 9113): [],
    ("api", 5000): ["edge", "test"],
    ("worker", 5001): [],
    ("redis", 6379): PROGRAMS,
    ("mongo", 27017): [*PROGRAMS, "mongo", "mongo-init", "drill"],
    # The API server: nothing of ours has any business there.
    ("kubernetes", 443): [],
}
COMPONENTS = ["edge", "api", "worker", "redis", "redis-init", "mongo", "mongo-init", "backup", "restore", "drill", "test"]
# From other namespaces: one that the values name as that of the monitoring, and any other.
FROM_MONITORING = [("edge", 8443), ("edge", 8080), ("edge", 9113), ("api", 5000), ("worker", 5001), ("kubernetes", 443)]
FROM_ELSEWHERE = [("edge", 8443), ("edge", 8080), ("kubernetes", 443)]
IMAGE = "nginxinc/nginx-unprivileged:1"


def pod(name, labels):
    container = {
        "name": "look",
        "image": IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sleep", "3600"],
        "resources": {"requests": {"cpu": "1m", "memory": "8Mi"}, "limits": {"memory": "64Mi"}},
        "securityContext": {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}},
        # Never ready, so that no Service sends it what is meant for the part that it looks like.
        "readinessProbe": {"exec": {"command": ["false"]}, "periodSeconds": 60},
    }
    spec = {
        "containers": [container],
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 0,
        "securityContext": {"runAsNonRoot": True, "runAsUser": 101, "seccompProfile": {"type": "RuntimeDefault"}},
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": spec}


def targets(place):
    """An address and a port of each part."""
    found = {}
    for part, port in DRAWN:
        if part == "kubernetes":
            continue
        running = [each for each in place.pods(part) if each["status"].get("podIP") and not each["metadata"]["name"].startswith("look-")]
        if not running:
            raise Failure(f"no {part} runs")
        found[part, port] = running[0]["status"]["podIP"]
    service = json.loads(place.kubectl("get", "service", "kubernetes", "--namespace=default", "--output=json"))
    found["kubernetes", 443] = service["spec"]["clusterIP"]
    return found


def reached(place, name, where):
    """Which of the targets this pod can connect to; all are tried at once."""
    tries = "; ".join(f"(timeout 4 bash -c '</dev/tcp/{address}/{port}' 2>/dev/null && echo {part} {port}) &" for (part, port), address in where.items())
    said = place.kubectl("exec", name, "--", "bash", "-c", tries.replace("&;", "&") + " wait; echo done", seconds=60).split("\n")
    if "done" not in said:
        raise Failure(f"{name} could not look: {said}")
    return {(line.split()[0], int(line.split()[1])) for line in said if " " in line}


def look(place, monitoring, elsewhere, report):
    """Rules for every source: exactly the drawn connections succeed."""
    where = targets(place)
    ours = {"app.kubernetes.io/name": "multivac", "app.kubernetes.io/instance": place.release}
    sources = [(place, f"look-{part}", {**ours, "app.kubernetes.io/component": part}, [to for to, who in DRAWN.items() if part in who]) for part in COMPONENTS]
    # The same labels elsewhere open nothing.
    sources.append((place, "look-unlabelled", {}, None))
    sources.append((monitoring, "look-monitoring", {}, FROM_MONITORING))
    sources.append((elsewhere, "look-elsewhere", {**ours, "app.kubernetes.io/component": "api"}, FROM_ELSEWHERE))
    # A pod without labels is no part of the release: only what the parts let in is to be seen.
    tried = 0
    for where_from in {id(source[0]): source[0] for source in sources}.values():
        items = [pod(name, labels) for owner, name, labels, _ in sources if owner is where_from]
        where_from.kubectl("apply", "--filename=-", given=json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
    try:
        wait_for(sources)
        # The policies of a new pod arrive a moment after it.
        time.sleep(5)
        for owner, name, _, drawn in sources:
            wanted = set(FROM_ELSEWHERE if drawn is None else drawn)
            got = reached(owner, name, where)
            if got != wanted:
                # Once more: the machine may have been too busy to connect, or its policies late.
                time.sleep(10)
                got = reached(owner, name, where)
            tried += len(where)
            arrows = ", ".join(f"{part}:{port}" for part, port in sorted(wanted)) or "nothing"
            more = ", ".join(f"{part}:{port}" for part, port in sorted(got - wanted))
            fewer = ", ".join(f"{part}:{port}" for part, port in sorted(wanted - got))
            report.rule(f"{name.removeprefix('look-')} reaches {arrows} of {len(where)}", got == wanted, f"also {more or 'nothing'}; not {fewer or 'nothing'}")
    finally:
        for owner in {id(source[0]): source[0] for source in sources}.values():
            names = [name for each, name, _, _ in sources if each is owner]
            owner.kubectl("delete", "pod", *names, "--ignore-not-found", "--force", "--grace-period=0", "--wait=false", seconds=60)
    return tried


def wait_for(sources, seconds=180):
    deadline = time.monotonic() + seconds
    for owner, name, _, _ in sources:
        while (owner.get("pod", name) or {}).get("status", {}).get("phase") != "Running":
            if time.monotonic() > deadline:
                raise Failure(f"{name} does not start within {seconds} s")
            time.sleep(1)
