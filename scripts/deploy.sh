#!/usr/bin/env bash
# Starts a published version on a machine with Docker, by ssh, or upgrades what runs there:
#
#     scripts/deploy.sh [USER@]HOST VERSION REGISTRY
#
# What it does    Copies docker-compose.yml, deploy/ and setup.py into ~/multivac there, runs setup.py (which changes
#                 nothing that is there already), notes the version in .env, pulls the images and starts them, nginx
#                 once more, since it reads its templates at its start. The secrets are made there and stay there.
# What it needs   ssh (or MULTIVAC_SSH, such as 'ssh -p 2222'); there: Docker with compose, bash, python3, openssl, and
#                 `docker login` done where the registry asks who pulls.
# What it returns 0 when every container is healthy.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
[[ $# == 3 ]] || { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"; exit 2; }
read -r -a ssh <<<"${MULTIVAC_SSH:-ssh}"

tar --create --gzip docker-compose.yml deploy scripts/setup.py scripts/installation |
    "${ssh[@]}" "$1" 'mkdir -p multivac && tar --extract --gzip --directory multivac'
"${ssh[@]}" "$1" bash -s -- "$(printf '%q %q' "$2" "${3%/}/")" <<'THERE'
set -euo pipefail
cd multivac
scripts/setup.py
# The last sed command adds a newline to the last line if it has none.
sed -i '/^MULTIVAC_VERSION=/d; /^MULTIVAC_REGISTRY=/d; $a\' .env
printf 'MULTIVAC_VERSION=%s\nMULTIVAC_REGISTRY=%s\n' "$1" "${2,,}" >>.env
docker compose pull --quiet api worker
docker compose up --detach --wait --no-build
docker compose restart nginx
docker compose up --detach --wait --no-build
THERE
