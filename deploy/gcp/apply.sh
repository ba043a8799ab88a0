#!/usr/bin/env bash
# Brings alert policies, notification channels, log-based metrics, the uptime check and dashboards of a Google Cloud project to
# what this directory holds:
#
#     deploy/gcp/apply.sh PROJECT [--host HOST] [--docs URL] [--page CHANNEL]… [--ticket CHANNEL]… [--dry-run] [--prune]
#
#     --host HOST        the name of MultiVAC's edge, for the uptime check. Left out, a check that is there is kept.
#     --docs URL         where this repository can be read, for links to the runbooks: https://git.example.org/multivac/blob/main.
#                        Left out, the links that are there are kept.
#     --page CHANNEL     who is told of pages, and --ticket CHANNEL of tickets; each may be given again:
#                          email=ADDRESS
#                          pagerduty=FILE    the file has the integration's key
#                          webhook=FILE      the file has the URL, since a token is often a part of it
#                          projects/PROJECT/notificationChannels/ID    one that is there, such as Slack's
#                        With neither, each policy keeps its channels, and a new one gets those of the others.
#     --dry-run          says what would be done, and changes nothing
#     --prune            deletes what is ours and not in this directory any more; without it, that is told as stale
#
# What it does    Finds what is ours by user labels (app=multivac; log-based metrics by their name and description), creates what
#                 is missing, updates what differs, and prints a line for each object and the totals. Objects of others are never
#                 touched, whatever their names. A run that ended half-way is completed by the next.
# What it needs   gcloud, logged in, with the roles that README.md names; python3 (3.9 or newer).
# What it returns 0 if all is as it should be, 1 if something failed on the way, 2 if nothing was begun, since an argument, a
#                 right or an API is missing: all that is missing is told at once.
set -euo pipefail
command -v python3 >/dev/null || { echo 'apply: python3 is missing' >&2; exit 2; }
exec python3 "$(dirname "${BASH_SOURCE[0]}")/apply.py" "$@"
