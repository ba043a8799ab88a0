#!/usr/bin/env bash
# Makes what MultiVAC runs on in Google Cloud: a GKE Autopilot cluster and what belongs to it.
#
#     deploy/gcp/cluster.sh PROJECT REGION [--name NAME] [--namespace N] [--service-account S] [--values FILE] [--dry-run]
#
#     --name NAME            of the cluster, its network and its registry: multivac
#     --namespace N          where MultiVAC will run, and --service-account S the one of its backups there: multivac, multivac-backup
#     --values FILE          writes the chart's values for this cluster: the reserved address, and the bucket as volume of the backups
#     --dry-run              says what would be done, and changes nothing
#
# What it makes   A network of its own with one subnet and a NAT: nodes have no public address, and reach out for images alone.
#                 A regional address for the edge. A service account for nodes, which may log, measure and pull images, nothing else.
#                 A registry for images and chart in Artifact Registry. The cluster: Autopilot, private nodes,
#                 release channel `regular`, control plane by its DNS name alone (who may speak to it is IAM's matter). Autopilot has
#                 Dataplane V2, which enforces NetworkPolicies, and Workload Identity always. A bucket for backups: uniform
#                 access, never public, versioned, old versions gone after 30 days; only the backups' ServiceAccount may write there,
#                 as a principal of Workload Identity, so there is no key.
# What it does    Asks for each object before it makes it, prints a line for each and the totals. Run again it changes nothing; killed
#                 and run again it goes on, and waits for a cluster that is being made. What is there and cannot be changed
#                 to be as said is told, and left alone. It deletes nothing, ever.
# What it needs   gcloud 528 or newer, logged in, with roles/owner of the project or the rights that it names; python3 (3.9 or newer).
# What it returns 0 if all is as it should be, 1 if something failed or differs, 2 if nothing was begun: all that is missing is
#                 told at once. The last lines are the next commands.
set -euo pipefail
command -v python3 >/dev/null || { echo 'cluster: python3 is missing' >&2; exit 2; }
exec python3 "$(dirname "${BASH_SOURCE[0]}")/cluster.py" "$@"
