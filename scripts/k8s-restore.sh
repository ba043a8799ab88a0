#!/usr/bin/env bash
# Restores a backup into MultiVAC on Kubernetes, while it runs:
#
#     scripts/k8s-restore.sh latest --context C           the newest file of the backup's volume
#     scripts/k8s-restore.sh NAME --context C             a file of that volume: multivac-20261127T021700Z.ndjson.gz
#     scripts/k8s-restore.sh ./FILE --context C           a file of this machine; its name has a slash
#     scripts/k8s-restore.sh … --yes                      without being asked
#
# What it does    Makes a Job out of the CronJob of the backup (its image, settings, volume and rights), which runs
#                 `multivac-api import`: the whole file is verified before anything is changed; nothing that is there is removed or
#                 replaced, and what either side has retracted stays retracted. So api and workers go on running; they follow.
#                 Shows how far it is, then what the store holds. Interrupted, the same again goes on.
# Options         --context C    the context of kubectl's configuration; never the current one by itself
#                 --namespace N  default multivac          --release R  default multivac
#                 --timeout S    seconds for all of it, default 14400
# What it needs   kubectl, with the right to make Jobs in the namespace and to read pods and their logs; python3.
# What it returns 0 restored; 1 it failed, and why; 2 it cannot begin, or was not wanted.
set -euo pipefail

fail() { printf 'k8s-restore: %s\n' "$*" >&2; exit 2; }
usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}" >&2; exit 2; }

source='' context='' namespace=multivac release=multivac yes='' timeout=14400
while [[ $# -gt 0 ]]; do
    case $1 in
        --context | --namespace | --release | --timeout)
            [[ $# -ge 2 ]] || usage
            declare "${1#--}=$2"
            shift
            ;;
        --yes) yes=1 ;;
        -*) usage ;;
        *) [[ -z $source ]] || usage; source=$1 ;;
    esac
    shift
done
[[ -n $source && -n $context ]] || usage
command -v kubectl >/dev/null || fail 'kubectl is missing'
kubectl=(kubectl --context "$context" --namespace "$namespace" --request-timeout=30s)

# As the chart names its objects.
name=$release
[[ $release == *multivac* ]] || name=$release-multivac
cronjob=$("${kubectl[@]}" get cronjob "$name-backup" --output json) ||
    fail "there is no CronJob $name-backup in the namespace $namespace of $context"

case $source in
    latest) from="the newest file of its backups" arguments='["import", "--latest", "/backup"]' ;;
    */*)
        [[ -f $source && -r $source ]] || fail "$source cannot be read"
        from="$source of this machine" arguments='["import", "-"]'
        ;;
    *[!A-Za-z0-9._-]*) fail "$source is no name of a file" ;;
    *) from="$source of its backups" arguments="[\"import\", \"/backup/$source\"]" ;;
esac
if [[ -z $yes ]]; then
    printf 'Restore %s into the release %s of the namespace %s, context %s?\n' "$from" "$release" "$namespace" "$context" >&2
    read -r -p "Type the name of the namespace: " typed || true
    [[ ${typed:-} == "$namespace" ]] || fail 'not wanted'
fi

job=$name-restore-$(date -u +%Y%m%d%H%M%S)
CRONJOB=$cronjob python3 - "$job" "$arguments" "$timeout" "$([[ $source == */* ]] && echo stdin)" <<'PYTHON' |
import json
import os
import sys

job, arguments, timeout, stdin = sys.argv[1:]
template = json.loads(os.environ["CRONJOB"])["spec"]["jobTemplate"]
spec = template["spec"]
labels = {**template["metadata"].get("labels", {}), "app.kubernetes.io/component": "restore"}
# Once: a file from here is sent once. Whoever runs this runs it again.
spec.update(backoffLimit=0, activeDeadlineSeconds=int(timeout), ttlSecondsAfterFinished=86400)
pod = spec["template"]
pod["metadata"]["labels"] = {**pod["metadata"].get("labels", {}), "app.kubernetes.io/component": "restore"}
container = pod["spec"]["containers"][0]
container.update(name="restore", args=json.loads(arguments))
if stdin:
    container.update(stdin=True, stdinOnce=True)
json.dump({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": job, "labels": labels}, "spec": spec}, sys.stdout)
PYTHON
    "${kubectl[@]}" create --filename - >&2 || fail 'the Job cannot be made'

# What the pod or the Job is at: "PHASE of the pod/the Job's last condition".
state() {
    local phase conditions
    phase=$("${kubectl[@]}" get pods --selector "job-name=$job" --output 'jsonpath={.items[0].status.phase}' 2>/dev/null) || phase=''
    conditions=$("${kubectl[@]}" get job "$job" --output 'jsonpath={range .status.conditions[?(@.status=="True")]}{.type}{" "}{end}' 2>/dev/null) ||
        conditions=''
    printf '%s/%s' "$phase" "$conditions"
}

deadline=$((SECONDS + timeout))
until [[ $(state) =~ ^(Running|Succeeded|Failed)/|/.*(Complete|Failed) ]]; do
    if ((SECONDS >= deadline)); then break; fi
    if ((SECONDS % 30 < 2)); then printf 'k8s-restore: waiting for the pod of %s\n' "$job" >&2; fi
    sleep 2
done
# What it says is followed, but for as long as a connection lasts; the Job's own state counts.
if [[ $source == */* ]]; then
    timeout "$timeout" kubectl --context "$context" --namespace "$namespace" attach --stdin --quiet "job/$job" <"$source" 2>&1 || true
else
    timeout "$timeout" kubectl --context "$context" --namespace "$namespace" logs --follow "job/$job" 2>&1 || true
fi
until [[ $(state) =~ (Complete|Failed) ]] && ! [[ $(state) =~ ^Running ]]; do
    if ((SECONDS >= deadline)); then
        printf 'k8s-restore: %s was not done within %s s; kubectl delete job %s ends it\n' "$job" "$timeout" "$job" >&2
        exit 1
    fi
    sleep 2
done
if [[ $(state) != *Complete* ]]; then
    printf 'k8s-restore: %s failed; what it says is above, and in kubectl describe job %s\n' "$job" "$job" >&2
    exit 1
fi
"${kubectl[@]}" logs "job/$job" | grep -q '^the store holds ' || { printf 'k8s-restore: the store did not count what it holds\n' >&2; exit 1; }
printf 'k8s-restore: restored; %s is kept for a day\n' "$job"
