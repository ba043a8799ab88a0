#!/usr/bin/env bash
# Builds both images, and publishes them where a registry is named:
#
#     scripts/images.sh VERSION                multivac-api:VERSION and multivac-worker:VERSION
#     scripts/images.sh VERSION REGISTRY       REGISTRY/multivac-api:VERSION …, pushed
#
# What it needs   Docker with compose. To log in first: REGISTRY_USER and REGISTRY_PASSWORD in the environment.
# What it returns docker's status.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
[[ $# == 1 || $# == 2 ]] || { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"; exit 2; }

# The name of an image has to be in lower case, unlike that of a repository.
registry=${2:-}
registry=${registry,,}
export MULTIVAC_VERSION=$1 MULTIVAC_REGISTRY=${registry:+${registry%/}/} MULTIVAC_REVISION
MULTIVAC_REVISION=$(git rev-parse HEAD 2>/dev/null || echo unknown)
# Compose requires it, although nothing is started.
export MULTIVAC_USER=65532:65532

docker compose build
[[ -n $MULTIVAC_REGISTRY ]] || exit 0
if [[ -n ${REGISTRY_USER:-} ]]; then
    printf '%s' "${REGISTRY_PASSWORD:?}" | docker login --username "$REGISTRY_USER" --password-stdin "${registry%%/*}"
fi
docker compose push api worker
