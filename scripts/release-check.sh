#!/usr/bin/env bash
# Tries releases: what scripts/images.sh writes, signs and pushes, and the files of CI that call it (tests/release):
#
#     scripts/release-check.sh
#
#     MULTIVAC_TEST_REGISTRY=localhost:5500    a registry for trials, by http: images and chart are pushed, signed, tampered with
#     MULTIVAC_TEST_CONTEXT=NAME               a cluster whose nodes pull from it: a pod runs by digest
#     MULTIVAC_TEST_BASE=redis:7               what those images are built on, in place of a build of ours, which takes minutes
#
# What it does    SBOM by CycloneDX's own schema, provenance, digests, what images.sh refuses; .gitlab-ci.yml and the workflows by
#                 the schemas that GitLab and GitHub publish, Jenkinsfile by a Groovy parser. With a registry also the whole of
#                 images.sh by a key of its own. No CI runs here: what only a run there shows (runners, identities, credentials) is untried.
# What it needs   bash, python3, cargo; PyPI's packages are installed into ${XDG_CACHE_HOME:-~/.cache}/multivac. For the registry
#                 Docker with buildx, helm, cosign; what is not there is SKIPPED aloud.
# What it returns 0 if every rule holds, else 1; a line for each, and the last line counts them.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/lib.sh

say() { printf 'release: %s\n' "$*" >&2; }
fail() { say "$*"; exit 2; }

virtual_environment 'cyclonedx-python-lib[json-validation]==11.12.0' check-jsonschema==0.39.0 groovy-parser==0.2.2 pyyaml==6.0.4
exec env PYTHONDONTWRITEBYTECODE=1 "$venv/bin/python" tests/release/release_rules.py
