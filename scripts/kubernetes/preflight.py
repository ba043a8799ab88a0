"""What has to be so before anything is changed. Every check is made, and all that fails is told at once."""

import json
import os
import re
import shutil
import urllib.error
import urllib.request

from cluster import Failure, run, say

KUBERNETES, HELM = (1, 30), (3, 14)
WARN_DAYS = 14
# Under data these may not change: other keys, another database, another server.
FIXED = ["namespace", "partitions", "redis.mode", "redis.nodes", "mongo.mode"]
SECRETS = {
    "edgeTls": ("edge-tls", ["tls.crt", "tls.key"]),
    "edgeUsers": ("edge-htpasswd", ["htpasswd"]),
    "app": ("app", ["redis_url", "mongo_url"]),
    "redis": ("redis", ["redis.conf"]),
    "mongo": ("mongo", ["keyfile", "root_password", "app_password"]),
}
# What a kind is asked for by `kubectl auth can-i`, where it is not its small plural.
PLURALS = {"NetworkPolicy": "networkpolicies", "PodMonitoring": "podmonitorings", "Rules": "rules"}


def of(values, name):
    for part in name.split("."):
        values = values.get(part) if isinstance(values, dict) else None
    return values


def merged(below, above):
    """Values as Helm merges them: null takes a key away."""
    if not isinstance(below, dict) or not isinstance(above, dict):
        return above
    both = {**below, **{key: merged(below.get(key), value) for key, value in above.items()}}
    return {key: value for key, value in both.items() if value is not None or key not in above}


def version(text):
    found = re.search(r"v?(\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2])) if found else (0, 0)


class Preflight:
    def __init__(self, cluster, options):
        self.cluster, self.options = cluster, options
        self.failures, self.warnings = [], []
        self.values, self.manifest, self.database, self.deployed = {}, "", "", None

    def check(self, step, *arguments):
        try:
            step(*arguments)
            return True
        except Failure as reason:
            self.failures.append(str(reason))
            return False

    def run(self):
        """True if all is well. What cannot be looked at without what failed before is left out."""
        tools = all([self.check(self.tool, *tool) for tool in self.tools()])
        if not tools:
            return False
        if not self.check(self.reach):
            return False
        self.check(self.api_version)
        if not self.check(self.render):
            return False
        self.check(self.namespace)
        self.check(self.rights)
        self.check(self.kinds)
        self.check(self.storage)
        secrets = [self.check(self.secret, key) for key in SECRETS if not self.is_external(key)]
        if all(secrets):
            self.check(self.certificate)
            self.check(self.database_name)
        for image in ("api", "worker", "nginx", "redis", "mongo"):
            self.check(self.image, image)
        self.check(self.fixed)
        return not self.failures

    def tools(self):
        yield "kubectl", ["kubectl", "version", "--client"], (1, 28)
        yield "helm", ["helm", "version", "--short"], HELM
        yield "openssl", ["openssl", "version"], (1, 1)
        yield "curl", ["curl", "--version"], (7, 60)
        if self.options.cosign_key or self.options.cosign_identity:
            yield "cosign", ["cosign", "version"], (2, 0)

    def tool(self, name, command, least):
        if not shutil.which(name):
            raise Failure(f"{name} is missing; install {name} {least[0]}.{least[1]} or newer")
        said = run(command)
        numbers = re.search(r"(?:GitVersion|Client Version)[^\d]*([\d.]+)", said.stdout) or re.search(r"(\d+\.\d+[\d.]*)", said.stdout)
        if numbers and version(numbers[1]) < least:
            raise Failure(f"{name} is {numbers[1]}; {least[0]}.{least[1]} or newer is needed")

    def reach(self):
        known = run(["kubectl", "config", "get-contexts", "--output=name"]).stdout.split()
        if self.cluster.context not in known:
            raise Failure(f"there is no context {self.cluster.context!r}; there are: {', '.join(known) or 'none'}")
        self.server = json.loads(self.cluster.kubectl("version", "--output=json"))["serverVersion"]

    def api_version(self):
        if version(self.server["gitVersion"]) < KUBERNETES:
            raise Failure(f"the cluster is Kubernetes {self.server['gitVersion']}; 1.30 or newer is needed")

    def render(self):
        """The values, all merged, and the manifest that they make."""
        # As an install, which asks the cluster for nothing.
        said = self.cluster.helm("install", self.cluster.release, self.options.chart, *self.options.values, "--dry-run=client", "--output=json")
        release = json.loads(said[said.index("{") :])
        self.values = merged(release["chart"]["values"], release.get("config") or {})
        self.manifest = release["manifest"]

    def namespace(self):
        if not self.cluster.get("namespace", self.cluster.namespace):
            at = f"--context {self.cluster.context} --namespace {self.cluster.namespace}"
            raise Failure(f"there is no namespace {self.cluster.namespace}: run scripts/setup.py --kubernetes {at}")

    def rendered_kinds(self):
        pairs = re.findall(r"^apiVersion: (\S+)\nkind: (\S+)$", self.manifest, re.MULTILINE)
        return sorted({(group.rpartition("/")[0], kind) for group, kind in pairs})

    def rights(self):
        reviews = []
        for group, kind in [*self.rendered_kinds(), ("coordination.k8s.io", "Lease"), ("", "Secret")]:
            for verb in ("get", "create", "patch", "delete"):
                attributes = {"namespace": self.cluster.namespace, "verb": verb, "group": group, "resource": PLURALS.get(kind, kind.lower() + "s")}
                reviews.append({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": {"resourceAttributes": attributes}})
        # What `kubectl auth can-i` asks, all in one call.
        asked = json.dumps({"apiVersion": "v1", "kind": "List", "items": reviews})
        # One JSON object after the other.
        said, items = self.cluster.kubectl("create", "-f", "-", "--output=json", given=asked).strip(), []
        while said:
            item, end = json.JSONDecoder().raw_decode(said)
            items.append(item)
            said = said[end:].lstrip()
        denied = [item["spec"]["resourceAttributes"] for item in items if not item["status"].get("allowed")]
        lacking = [f"{item['verb']} {item['resource']}" for item in denied]
        if lacking:
            raise Failure(f"you may not {', '.join(lacking)} in the namespace {self.cluster.namespace}")

    def kinds(self):
        offered = set()
        for line in self.cluster.kubectl("api-resources", "--no-headers").splitlines():
            words = line.split()
            offered.add((words[-3].rpartition("/")[0], words[-1]))
        missing = [f"{kind} ({group})" for group, kind in self.rendered_kinds() if (group, kind) not in offered]
        if missing:
            hint = "install what brings them (KEDA, the Prometheus operator, Google's managed collection), or change the values"
            raise Failure(f"the cluster does not know {', '.join(missing)}: {hint}")

    def storage(self):
        there = {item["metadata"]["name"]: item["metadata"].get("annotations") or {} for item in (self.cluster.get("storageclass") or {}).get("items", [])}
        parts = [part for part in ("redis", "mongo") if not self.is_external(part)]
        for part in parts:
            wanted = of(self.values, f"{part}.storage.class")
            if wanted and wanted not in there:
                raise Failure(f"there is no StorageClass {wanted} ({part}.storage.class); there are: {', '.join(there) or 'none'}")
            if not wanted and not any(notes.get("storageclass.kubernetes.io/is-default-class") == "true" for notes in there.values()):
                raise Failure(f"no StorageClass is the default one: name one as {part}.storage.class; there are: {', '.join(there) or 'none'}")

    def is_external(self, part):
        return part in ("redis", "mongo") and of(self.values, f"{part}.mode") == "external"

    def secret_name(self, key):
        return of(self.values, f"secrets.{key}") or f"{self.cluster.name}-{SECRETS[key][0]}"

    def secret(self, key):
        name, keys = self.secret_name(key), list(SECRETS[key][1])
        if key == "redis" and of(self.values, "redis.mode") == "cluster":
            keys.append("admin_password")
        found = self.cluster.secret(name)
        if found is None:
            raise Failure(f"there is no Secret {name}: run scripts/setup.py --kubernetes, or make it with the keys {', '.join(keys)}")
        lacking = [wanted for wanted in keys if not found.get(wanted)]
        if lacking:
            raise Failure(f"the Secret {name} lacks {', '.join(lacking)}")

    def certificate(self):
        name = self.secret_name("edgeTls")
        secret = self.cluster.secret(name)
        # openssl gets both by descriptors, so that the key is in no file.
        crt, key = secret["tls.crt"].decode(), secret["tls.key"].decode()
        read = ["openssl", "x509", "-noout"]
        public = run(["openssl", "x509", "-noout", "-pubkey"], crt)
        if public.returncode:
            raise Failure(f"tls.crt in the Secret {name} is no certificate")
        if run(["openssl", "pkey", "-pubout"], key).stdout != public.stdout:
            raise Failure(f"tls.key in the Secret {name} does not belong to its tls.crt")
        if run([*read, "-checkend", "0"], crt).returncode:
            raise Failure(f"the certificate in the Secret {name} has expired: {run([*read, '-enddate'], crt).stdout.strip()}")
        if run([*read, "-checkend", str(WARN_DAYS * 86400)], crt).returncode:
            self.warnings.append(f"the certificate in the Secret {name} ends within {WARN_DAYS} days: {run([*read, '-enddate'], crt).stdout.strip()}")
        host = self.options.host
        kind = "-checkip" if re.fullmatch(r"[\d.]+|[\da-f:]+", host or "") else "-checkhost"
        if host and "does match" not in run([*read, kind, host], crt).stdout:
            raise Failure(f"the certificate in the Secret {name} is not for {host}, the host of --url")

    def database_name(self):
        """The database in the URL of MongoDB, which is kept with the Lease."""
        url = self.cluster.secret(self.secret_name("app"))["mongo_url"].decode().strip()
        path = re.sub(r"^mongodb(\+srv)?://[^/]*/?", "", url).split("?")[0]
        self.database = path or "multivac"
        lease = self.cluster.get("lease", "multivac-deploy")
        before = ((lease or {}).get("metadata", {}).get("annotations") or {}).get("multivac/database")
        if before and before != self.database:
            raise Failure(f"the Secret {self.secret_name('app')} names the database {self.database}; the data are in {before}")

    def reference(self, name):
        image = of(self.values, f"images.{name}")
        ours = name in ("api", "worker")
        registry = (of(self.values, "images.registry") or "").rstrip("/") if ours else ""
        repository = f"{registry}/{image['repository']}" if registry else image["repository"]
        return repository, image.get("tag") or "", image.get("digest") or ""

    def image(self, name):
        if self.is_external(name):
            return
        repository, tag, digest = self.reference(name)
        first = repository.split("/")[0]
        is_named = "." in first or ":" in first or first == "localhost"
        if is_named:
            status = registry_status(first, repository.partition("/")[2], digest or tag or "latest")
            if status == 404:
                raise Failure(f"the registry {first} has no {repository}{':' + tag if tag else ''}{'@' + digest if digest else ''}")
            if status != 200:
                self.warnings.append(f"whether {repository} has {digest or tag} was not checked: {status}")
        if name not in ("api", "worker") or not (self.options.cosign_key or self.options.cosign_identity):
            return
        if not digest:
            raise Failure(f"{repository} has no digest in the values: a tag can be moved, so its signature proves nothing; add -f digests.yaml")
        by = ["--key", self.options.cosign_key, "--insecure-ignore-tlog=true"]
        if self.options.cosign_identity:
            by = ["--certificate-oidc-issuer", self.options.cosign_issuer, "--certificate-identity-regexp", self.options.cosign_identity]
        verified = run(["cosign", "verify", "--timeout=60s", *by, f"{repository}@{digest}"], None, 90)
        if verified.returncode:
            why = "no signature" if verified.returncode == 10 else verified.stderr.strip().splitlines()[-1] if verified.stderr.strip() else "refused"
            raise Failure(f"{repository}@{digest} is not signed as it should be: {why}")

    def fixed(self):
        history = self.cluster.history()
        if not any(entry["status"] in ("deployed", "superseded", "failed") for entry in history):
            return
        self.deployed = json.loads(self.cluster.helm("get", "values", self.cluster.release, "--all", "--output=json"))
        for name in FIXED:
            if name == "redis.nodes" and of(self.values, "redis.mode") != "cluster":
                continue
            before, now = of(self.deployed, name), of(self.values, name)
            if before is not None and before != now:
                raise Failure(f"{name} is {before!r} and would become {now!r}; data would be out of reach. Export, install a new release, import")
        live = self.cluster.get("statefulset", f"{self.cluster.name}-mongo")
        before, now = live and live["spec"]["replicas"], of(self.values, "mongo.members")
        if before and now and int(now) < before:
            raise Failure(f"mongo.members is {before} and would become {now}: the set would lose members that it counts on")


def registry_status(registry, repository, reference):
    """200, 404, or why it could not be told. Without a password, as whoever may pull without one; or with docker's stored one."""
    local = registry.split(":")[0] in ("localhost", "127.0.0.1")
    url = f"{'http' if local else 'https'}://{registry}/v2/{repository}/manifests/{reference}"
    kinds = ["application/vnd.oci.image.index.v1+json", "application/vnd.oci.image.manifest.v1+json"]
    kinds += ["application/vnd.docker.distribution.manifest.list.v2+json", "application/vnd.docker.distribution.manifest.v2+json"]
    headers = {"Accept": ", ".join(kinds)}
    config = os.path.join(os.environ.get("DOCKER_CONFIG") or os.path.expanduser("~/.docker"), "config.json")
    try:
        with open(config, encoding="utf-8") as file:
            stored = (json.load(file).get("auths") or {}).get(registry, {}).get("auth")
    except (OSError, ValueError):
        stored = None
    basic = {"Authorization": f"Basic {stored}"} if stored else {}
    for _ in range(2):
        try:
            request = urllib.request.Request(url, headers=headers, method="HEAD")
            with urllib.request.urlopen(request, timeout=10) as reply:
                return reply.status
        except urllib.error.HTTPError as error:
            challenge = dict(re.findall(r'(\w+)="([^"]*)"', error.headers.get("WWW-Authenticate") or ""))
            if error.code != 401 or "Authorization" in headers:
                return error.code
            if "realm" not in challenge or not (error.headers.get("WWW-Authenticate") or "").lower().startswith("bearer"):
                headers.update(basic)
                if not basic:
                    return "it wants a password"
                continue
            asked = f"{challenge['realm']}?service={challenge.get('service', '')}&scope=repository:{repository}:pull"
            try:
                with urllib.request.urlopen(urllib.request.Request(asked, headers=basic), timeout=10) as reply:
                    token = json.load(reply)
                headers["Authorization"] = f"Bearer {token.get('token') or token.get('access_token')}"
            except (OSError, ValueError) as refused:
                return f"no token: {refused}"
        except OSError as error:
            return str(error)
    return "it wants another password"


def tell(preflight):
    for warning in preflight.warnings:
        say(f"WARNING: {warning}")
    for failure in preflight.failures:
        say(f"NOT READY: {failure}")


