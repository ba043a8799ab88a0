#!/usr/bin/env bash
# Renders deploy/k8s out of the chart, for those who want no Helm:
#
#     scripts/render-k8s.sh                            deploy/k8s/small.yaml, production.yaml, gke.yaml
#     scripts/render-k8s.sh --check                    says which of them are not what the chart makes; CI asks it
#     scripts/render-k8s.sh --namespace N --to DIR     the same for another namespace than `multivac`, into another directory
#
# What it does    The release is `multivac`. What only Helm needs is left out: its labels and tests. No object names its namespace, but some
#                 addresses hold it (members of MongoDB and of a Redis Cluster, what KEDA asks), and so does what setup.py writes.
# What it needs   helm 3.14 or newer, or 4; python3.
# What it returns 0; 1 if --check finds a difference; 2 if something is missing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"; exit 2; }

readonly CHART=deploy/helm/multivac
check='' namespace=multivac to=deploy/k8s
while [[ $# -gt 0 ]]; do
    case $1 in
        --check) check=yes ;;
        --namespace | --to)
            [[ $# -ge 2 ]] || usage
            case $1 in --namespace) namespace=$2 ;; --to) to=$2 ;; esac
            shift
            ;;
        *) usage ;;
    esac
    shift
done
command -v helm >/dev/null || { echo 'render-k8s: helm is missing (https://helm.sh)' >&2; exit 2; }

directory=$(mktemp -d "${TMPDIR:-/tmp}/multivac-render.XXXXXX")
trap 'rm -rf "$directory"' EXIT

# written NAME: out of helm's standard output. The order is made here, since Helm's own has changed between its versions.
written() {
    NAMESPACE=$namespace NAME=$1 python3 -c '
import os, re, sys

ORDER = ["NetworkPolicy", "PodDisruptionBudget", "ConfigMap", "PersistentVolumeClaim", "Service", "StatefulSet", "Job", "Deployment", "CronJob"]
name, namespace = os.environ["NAME"], os.environ["NAMESPACE"]
documents = []
for text in re.split(r"^---\n", sys.stdin.read(), flags=re.M):
    text = re.sub(r"^# Source: .*\n", "", text, flags=re.M)
    text = re.sub(r"^ *(helm\.sh/chart|helm\.sh/resource-policy|app\.kubernetes\.io/managed-by): .*\n", "", text, flags=re.M)
    text = re.sub(r"^ *annotations: \{ helm\.sh/resource-policy: keep \}\n", "", text, flags=re.M)
    text = re.sub(r"[ \t]+$", "", text, flags=re.M)
    text = text.strip()
    kind = re.search(r"^kind: (\S+)$", text, re.M)
    if kind:
        called = re.search(r"^metadata:\n(?:  .*\n)*?  name: (\S+)$", text, re.M)[1]
        place = ORDER.index(kind[1]) if kind[1] in ORDER else len(ORDER)
        documents.append(((place, kind[1], called), text))
print(f"""\
# MultiVAC without Helm, written by scripts/render-k8s.sh from deploy/helm/multivac; change it there. For the namespace `{namespace}`:
#
#     kubectl create namespace {namespace}
#     kubectl label namespace {namespace} pod-security.kubernetes.io/enforce=restricted
#     scripts/setup.py --kubernetes --namespace {namespace} --name HOST     # the Secrets
#     kubectl --namespace {namespace} apply -f deploy/k8s/{name}.yaml
#
# For another namespace, since addresses hold it: scripts/render-k8s.sh --namespace N --to DIR. Images are named without a registry: name yours,
# with digests, by an overlay of `kubectl kustomize` (images:). A Job is a new one whenever what it does has changed, and the old may be deleted.""")
for _, text in sorted(documents):
    print("---")
    print(text)
'
}

status=0
mkdir -p "$to"
for name in small production gke; do
    values=()
    [[ $name == production ]] || values=(-f "$CHART/values-$name.yaml")
    helm template multivac "$CHART" --namespace "$namespace" --kube-version 1.30.0 --skip-tests --no-hooks "${values[@]}" \
        2>"$directory/said" >"$directory/rendered" || { cat "$directory/said" >&2; exit 2; }
    written "$name" <"$directory/rendered" >"$directory/$name.yaml"
    if cmp -s "$directory/$name.yaml" "$to/$name.yaml"; then
        continue
    elif [[ -n $check ]]; then
        printf 'render-k8s: %s is not what the chart makes; run scripts/render-k8s.sh\n' "$to/$name.yaml"
        diff -u "$to/$name.yaml" "$directory/$name.yaml" | cut -c 1-160 | head -30 || true
        status=1
    else
        cp "$directory/$name.yaml" "$to/$name.yaml"
        printf 'render-k8s: %s written\n' "$to/$name.yaml"
    fi
done
exit $status
