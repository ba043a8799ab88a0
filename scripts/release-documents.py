#!/usr/bin/env python3
"""Writes what scripts/images.sh signs beside an image: what it is made of, and what made it.

    docker export CONTAINER | scripts/release-documents.py sbom NAME VERSION PLATFORM CRATES
    scripts/release-documents.py provenance NAME VERSION PLATFORMS
    scripts/release-documents.py digests VERSION REGISTRY CHART_VERSION CHART_DIGEST API_DIGEST WORKER_DIGEST

`sbom`          CycloneDX 1.6: the crates that cargo compiled into the binary (CRATES: what `cargo tree` printed in the very build,
                so that features and target are those of the build, which `cargo metadata` and cargo-cyclonedx overestimate), with
                Cargo.lock's checksums, and of the image's files, that come on standard input as a tar archive: Debian's packages,
                our binaries and, where the image has no list of packages, each shared library with its checksum.
`provenance`    the predicate of SLSA 1: the commit, the parameters and who built it, as CI's variables tell. It says of a build
                by hand that it is one, and of files that are not committed that they were used.
`digests`       values for the chart, which name both images by their digests.

What it needs   python3 (3.9 or newer); for `provenance` git.
What it returns the document on standard output.
"""

import argparse
import datetime
import hashlib
import json
import os
import pathlib
import re
import subprocess
import sys
import tarfile
import urllib.parse
import uuid

ROOT = pathlib.Path(__file__).resolve().parent.parent


def now():
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


# --- what an image is made of ----------------------------------------------------------------------------------------


def checksums():
    """(name, version): checksum, of Cargo.lock. Read by hand: Python has no TOML before 3.11, and cargo writes this file."""
    found = {}
    for block in (ROOT / "Cargo.lock").read_text(encoding="utf-8").split("[[package]]"):
        fields = dict(re.findall(r'^(name|version|checksum) = "(.*)"$', block, re.M))
        if "checksum" in fields:
            found[fields["name"], fields["version"]] = fields["checksum"]
    return found


def crates(lines):
    """The components and the graph of what `cargo tree --prefix depth --format '|{p}|{l}|{r}'` printed."""
    known, components, graph, path = checksums(), {}, {}, []
    for line in lines:
        depth, package, licence, repository = (line.rstrip("\n").removesuffix(" (*)").split("|") + ["", ""])[:4]
        name, version = package.split()[:2]
        version = version.removeprefix("v")
        reference = f"pkg:cargo/{name}@{urllib.parse.quote(version)}"
        component = {"type": "library", "bom-ref": reference, "name": name, "version": version, "purl": reference}
        if licence:
            component["licenses"] = [{"expression": licence.replace("/", " OR ")}]
        if (name, version) in known:
            component["hashes"] = [{"alg": "SHA-256", "content": known[name, version]}]
        if repository.startswith("https://"):
            component["externalReferences"] = [{"type": "vcs", "url": repository}]
        components[reference] = component
        graph.setdefault(reference, set())
        path = [*path[: int(depth)], reference]
        if len(path) > 1:
            graph[path[-2]].add(reference)
    return components, graph


def fields_of(text):
    return dict(re.findall(r"^([A-Za-z_-]+)[:=] *\"?(.*?)\"?$", text, re.M))


def packages(text, distribution):
    for paragraph in re.split(r"\n\s*\n", text):
        fields = fields_of(paragraph)
        if "Package" in fields and "deinstall" not in fields.get("Status", ""):
            version = urllib.parse.quote(fields["Version"])
            purl = f"pkg:deb/debian/{fields['Package']}@{version}?arch={fields.get('Architecture', 'all')}&distro={distribution}"
            yield {"type": "library", "bom-ref": purl, "name": fields["Package"], "version": fields["Version"], "purl": purl}


def files(archive):
    """The system and the packages of an image, its binaries, and its libraries by themselves."""
    system, listed, binaries, libraries = {}, [], [], []
    for member in archive:
        name = member.name.removeprefix("./")
        if not member.isfile():
            continue
        if name.endswith("os-release"):
            system = fields_of(archive.extractfile(member).read().decode())
        elif re.fullmatch(r"var/lib/dpkg/(status|status\.d/[^/]+)", name) and not name.endswith(".md5sums"):
            listed.append(archive.extractfile(member).read().decode())
        elif name.startswith("usr/local/bin/") or re.search(r"\.so(\.[0-9.]+)?$", name):
            content = hashlib.sha256(archive.extractfile(member).read()).hexdigest()
            one = {"type": "file", "bom-ref": f"file:/{name}", "name": f"/{name}", "hashes": [{"alg": "SHA-256", "content": content}]}
            (binaries if name.startswith("usr/local/bin/") else libraries).append(one)
    distribution = f"{system.get('ID', 'unknown')}-{system.get('VERSION_ID', 'unknown')}"
    found = [package for text in listed for package in packages(text, distribution)]
    return system, found or libraries, binaries


def sbom(arguments):
    with open(arguments.crates, encoding="utf-8") as lines:
        components, graph = crates(lines)
    with tarfile.open(fileobj=sys.stdin.buffer, mode="r|") as archive:
        system, parts, binaries = files(archive)
    root = f"image:{arguments.name}:{arguments.version}:{arguments.platform}"
    if system:
        parts.append(
            {"type": "operating-system", "bom-ref": "system", "name": system.get("ID", "unknown"), "version": system.get("VERSION_ID", "unknown")}
        )
    others = {part["bom-ref"]: part for part in [*parts, *binaries]}
    graph = {**{reference: set() for reference in others}, **graph}
    [program] = [reference for reference in components if components[reference]["name"] == arguments.name]
    graph[root] = {*others, program}
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid4()}",
        "version": 1,
        "metadata": {
            "timestamp": now(),
            "component": {"type": "container", "bom-ref": root, "name": arguments.name, "version": arguments.version},
            "properties": [{"name": "multivac:platform", "value": arguments.platform}],
        },
        "components": [*others.values(), *components.values()],
        "dependencies": [{"ref": reference, "dependsOn": sorted(graph[reference])} for reference in sorted(graph)],
    }


# --- what made it ----------------------------------------------------------------------------------------------------


def git(*words):
    done = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, timeout=60)
    return done.stdout.strip() if done.returncode == 0 else ""


def builder():
    """Who built it, and the address of the run, by the variables of GitLab, GitHub or Jenkins."""
    env = os.environ.get
    if env("GITLAB_CI"):
        return f"{env('CI_SERVER_URL')}/{env('CI_PROJECT_PATH')}/-/runners/{env('CI_RUNNER_ID')}", env("CI_JOB_URL")
    if env("GITHUB_ACTIONS"):
        server, repository = env("GITHUB_SERVER_URL"), env("GITHUB_REPOSITORY")
        return f"{server}/{env('GITHUB_WORKFLOW_REF')}", f"{server}/{repository}/actions/runs/{env('GITHUB_RUN_ID')}"
    if env("JENKINS_URL"):
        return env("JENKINS_URL"), env("BUILD_URL")
    return "urn:multivac:built-by-hand", None


def source():
    """Where the commit is from, without a password that the address may hold."""
    url = os.environ.get("CI_PROJECT_URL") or git("remote", "get-url", "origin") or "unknown"
    parts = urllib.parse.urlsplit(url)
    return "git+" + (parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl() if parts.scheme else url)


def provenance(arguments):
    builder_id, run = builder()
    metadata = {"finishedOn": now()}
    if run:
        metadata["invocationId"] = run
    return {
        "buildDefinition": {
            "buildType": "urn:multivac:scripts/images.sh:1",
            "externalParameters": {"name": arguments.name, "version": arguments.version, "platforms": arguments.platforms.split(",")},
            "internalParameters": {"uncommittedFiles": bool(git("status", "--porcelain", "--untracked-files=no"))},
            "resolvedDependencies": [{"uri": source(), "digest": {"gitCommit": git("rev-parse", "HEAD") or "unknown"}}],
        },
        "runDetails": {"builder": {"id": builder_id}, "metadata": metadata},
    }


def digests(arguments):
    for digest in (arguments.chart_digest, arguments.api, arguments.worker):
        if not re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
            sys.exit(f"release-documents: {digest!r} is no digest")
    return f"""\
# The images of MultiVAC {arguments.version}, for its chart: helm upgrade … -f digests.yaml
# The chart itself is oci://{arguments.registry}/charts/multivac {arguments.chart_version}, {arguments.chart_digest}
images:
  registry: "{arguments.registry}"
  api: {{ repository: multivac-api, tag: "{arguments.version}", digest: "{arguments.api}" }}
  worker: {{ repository: multivac-worker, tag: "{arguments.version}", digest: "{arguments.worker}" }}
"""


COMMANDS = {
    sbom: ["name", "version", "platform", "crates"],
    provenance: ["name", "version", "platforms"],
    digests: ["version", "registry", "chart_version", "chart_digest", "api", "worker"],
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for command, names in COMMANDS.items():
        below = commands.add_parser(command.__name__)
        below.set_defaults(command=command)
        for name in names:
            below.add_argument(name)
    arguments = parser.parse_args()
    document = arguments.command(arguments)
    sys.stdout.write(document if isinstance(document, str) else json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
