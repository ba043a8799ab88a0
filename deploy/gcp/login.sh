#!/usr/bin/env bash
# Logs a job of CI in to Google Cloud, and to a GKE cluster, by the token that CI gives the job: no key is stored anywhere.
#
#     deploy/gcp/login.sh PROVIDER ACCOUNT gke_PROJECT_REGION_CLUSTER <TOKEN
#
#     PROVIDER    projects/NUMBER/locations/global/workloadIdentityPools/POOL/providers/PROVIDER
#     ACCOUNT     the service account that the token may act as; it needs roles/container.developer
#     TOKEN       on standard input: the job's OpenID Connect token, whose audience is https://iam.googleapis.com/PROVIDER
#
# What it does    Writes the token and gcloud's description of where it is into CLOUDSDK_CONFIG, readable by the owner alone,
#                 logs in with them, and puts the cluster's context into KUBECONFIG. Both must be set, so that a developer's own are
#                 never overwritten.
# What it needs   gcloud with gke-gcloud-auth-plugin, kubectl.
# What it returns 0 when the context of this name is there.
set -euo pipefail
[[ $# == 3 ]] || { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"; exit 2; }
: "${CLOUDSDK_CONFIG:?a directory for this login alone}" "${KUBECONFIG:?a file for this login alone}"
IFS=_ read -r kind project region cluster <<<"$3"
[[ $kind == gke && -n $cluster ]] || { echo "login: $3 is not gke_PROJECT_REGION_CLUSTER" >&2; exit 2; }

umask 077
mkdir -p "$CLOUDSDK_CONFIG" "$(dirname "$KUBECONFIG")"
export CLOUDSDK_CORE_DISABLE_PROMPTS=1 USE_GKE_GCLOUD_AUTH_PLUGIN=True
timeout 60 cat >"$CLOUDSDK_CONFIG/token"
[[ -s $CLOUDSDK_CONFIG/token ]] || { echo 'login: there is no token on standard input' >&2; exit 2; }
timeout 60 gcloud iam workload-identity-pools create-cred-config "$1" --service-account="$2" \
    --credential-source-file="$CLOUDSDK_CONFIG/token" --output-file="$CLOUDSDK_CONFIG/login.json"
timeout 120 gcloud auth login --cred-file="$CLOUDSDK_CONFIG/login.json"
timeout 120 gcloud container clusters get-credentials "$cluster" --region="$region" --project="$project" --dns-endpoint
timeout 60 kubectl config get-contexts --output=name "$3"
