#!/usr/bin/env bash
# Builds both images and the chart of a version, and publishes them, signed, where a registry is named:
#
#     scripts/images.sh VERSION                multivac-api:VERSION and multivac-worker:VERSION, in the local engine
#     scripts/images.sh VERSION REGISTRY       REGISTRY/multivac-api:VERSION …, and the chart at oci://REGISTRY/charts/multivac, pushed
#
#     --platform LIST   such as linux/amd64,linux/arm64, where the builder can; else the builder's own. More than one needs a REGISTRY
#     --to DIRECTORY    where the files below go; else target/release-VERSION
#     --key FILE        signs with this key of cosign (`cosign generate-key-pair`; COSIGN_PASSWORD in the environment), or with one in a
#                       cloud's key management (gcpkms://…), without a transparency log: what is verified is the key alone
#     --unsigned        publishes without signatures
#
# What it does    Builds by deploy/docker/Dockerfile, writes into DIRECTORY what each image is made of (multivac-api.linux-amd64.cdx.json:
#                 crates and the image's own files, CycloneDX), what made it (….provenance.json: SLSA 1), digests.yaml
#                 (values for the chart: `-f digests.yaml`), and multivac-VERSION.tgz, the chart. Signs images and chart by their digests,
#                 and attests to them what is made of what by whom. It does that with cosign rather than with the builder's own
#                 `--sbom` and `--provenance`: those are not signed, and an engine with its usual image store refuses them.
# What it needs   Docker with buildx, python3, git; helm (without it, and without a REGISTRY, there is no chart). With a REGISTRY: cosign 3,
#                 and something to sign with: --key, or the identity of CI's job (keyless: SIGSTORE_ID_TOKEN of GitLab, `id-token: write`
#                 of GitHub). To log in first: REGISTRY_USER and REGISTRY_PASSWORD in the environment. A registry on localhost is spoken
#                 to by http, as docker does.
# What it returns 0 if all of it is there; 2 if nothing was begun, since something is missing. Run again it does the same again.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"; exit 2; }
say() { printf 'images: %s\n' "$*" >&2; }

names=() platforms='' to='' key='' unsigned=''
while [[ $# -gt 0 ]]; do
    case $1 in
        --platform | --to | --key)
            [[ $# -ge 2 ]] || usage
            case $1 in --platform) platforms=$2 ;; --to) to=$2 ;; --key) key=$2 ;; esac
            shift
            ;;
        --unsigned) unsigned=yes ;;
        -*) usage ;;
        *) names+=("$1") ;;
    esac
    shift
done
[[ ${#names[@]} == 1 || ${#names[@]} == 2 ]] || usage
version=${names[0]} registry=${names[1]:-}
# The name of an image has to be in lower case, unlike that of a repository.
registry=${registry,,} registry=${registry%/}
to=${to:-target/release-$version}
revision=$(git rev-parse HEAD 2>/dev/null || echo unknown)
# Another one, with the same targets, is for tests of this script.
dockerfile=${MULTIVAC_DOCKERFILE:-deploy/docker/Dockerfile}
readonly PROGRAMS=(multivac-api multivac-worker)

missing=()
lacks() { ! command -v "$1" >/dev/null; }
[[ $version =~ ^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$ ]] || missing+=("a version that can be an image's tag, which '$version' cannot")
for tool in docker python3 git; do ! lacks "$tool" || missing+=("$tool"); done
docker buildx version >/dev/null 2>&1 || missing+=("docker buildx (Debian: docker-buildx)")
if [[ -n $registry ]]; then
    ! lacks helm || missing+=("helm, for the chart")
    if [[ -z $unsigned ]]; then
        ! lacks cosign || missing+=("cosign, for the signatures (or --unsigned)")
        [[ -z $key || $key == *://* || -r $key ]] || missing+=("the key $key, which cannot be read")
        [[ -n $key || -n ${SIGSTORE_ID_TOKEN:-} || -n ${ACTIONS_ID_TOKEN_REQUEST_URL:-} ]] ||
            missing+=("something to sign with: --key FILE, or the identity of a CI job (or --unsigned)")
    fi
elif [[ $platforms == *,* ]]; then
    missing+=("a REGISTRY: the local engine holds one platform of an image")
fi
if [[ ${#missing[@]} -gt 0 ]]; then
    printf 'images: missing: %s\n' "${missing[@]}" >&2
    exit 2
fi

http=''
[[ ! $registry =~ ^(localhost|127\.0\.0\.1)(:|/|$) ]] || http=yes
mkdir -p "$to"
if [[ -n ${REGISTRY_USER:-} && -n $registry ]]; then
    printf '%s' "${REGISTRY_PASSWORD:?}" | docker login --username "$REGISTRY_USER" --password-stdin "${registry%%/*}"
    printf '%s' "$REGISTRY_PASSWORD" | helm registry login ${http:+--plain-http} --username "$REGISTRY_USER" --password-stdin "${registry%%/*}"
fi

# --- build ---------------------------------------------------------------------------------------------------------

# build TARGET ARGUMENT…
build() {
    docker buildx build --file "$dockerfile" --target "$1" --build-arg "VERSION=$version" --build-arg "REVISION=$revision" \
        --provenance=false --sbom=false ${platforms:+--platform "$platforms"} "${@:2}" .
}

for program in "${PROGRAMS[@]}"; do
    place=--load
    [[ -z $registry ]] || place=--push
    build "${program#multivac-}" $place --tag "${registry:+$registry/}$program:$version" --metadata-file "$to/$program.built.json"
done
rm -rf "$to/crates"
build crates --output "type=local,dest=$to/crates"

# digest PROGRAM: of what was pushed; of all its platforms, where there are more.
digest() { python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["containerimage.digest"])' "$to/$1.built.json"; }

# describe PROGRAM PLATFORM: what its image is made of.
describe() {
    local image=$1:$version crates=$to/crates/$1.crates container status=0
    [[ -z $registry ]] || image=$registry/$1@$(digest "$1")
    [[ $platforms != *,* ]] || crates=$to/crates/${2//\//_}/$1.crates
    container=$(docker create --platform "$2" "$image")
    docker export "$container" | scripts/release-documents.py sbom "$1" "$version" "$2" "$crates" >"$to/$1.${2//\//-}.cdx.json" || status=$?
    docker rm "$container" >/dev/null
    return "$status"
}

all=${platforms:-$(docker version --format '{{.Server.Os}}/{{.Server.Arch}}')}
for program in "${PROGRAMS[@]}"; do
    for platform in ${all//,/ }; do describe "$program" "$platform"; done
    scripts/release-documents.py provenance "$program" "$version" "$all" >"$to/$program.provenance.json"
done
rm -r "$to/crates"

# --- the chart -----------------------------------------------------------------------------------------------------

# Its version has to be a semantic one; a tag may begin with v, and a commit is none at all.
chart_version=${version#v}
[[ $chart_version =~ ^[0-9]+\.[0-9]+\.[0-9]+([-+].*)?$ ]] || chart_version=0.0.0-$(tr -c 'A-Za-z0-9\n' - <<<"g$version")
chart=$to/multivac-$chart_version.tgz
if lacks helm; then
    say 'there is no chart: helm is not here'
else
    helm package deploy/helm/multivac --version "$chart_version" --app-version "$version" --destination "$to"
    scripts/release-documents.py provenance charts/multivac "$version" any >"$to/chart.provenance.json"
fi
if [[ -z $registry ]]; then
    rm -f "$to"/*.built.json
    say "multivac-api:$version and multivac-worker:$version are in the engine; their SBOM, provenance and chart in $to"
    exit 0
fi
pushed=$(helm push ${http:+--plain-http} "$chart" "oci://$registry/charts" 2>&1) || { printf '%s\n' "$pushed" >&2; exit 1; }
chart_digest=$(sed -n 's/^Digest: *//p' <<<"$pushed")

scripts/release-documents.py digests "$version" "$registry" "$chart_version" "$chart_digest" \
    "$(digest multivac-api)" "$(digest multivac-worker)" >"$to/digests.yaml"

# --- signatures ----------------------------------------------------------------------------------------------------

if [[ -z $unsigned ]]; then
    with=(--yes)
    [[ -z $http ]] || with+=(--allow-http-registry)
    if [[ -n $key ]]; then
        # No services at all, neither a log nor a clock of others; else cosign looks for those of sigstore.dev.
        sigstore='{"mediaType": "application/vnd.dev.sigstore.'
        printf '%s' "${sigstore}signingconfig.v0.2+json\", \"rekorTlogConfig\": {}, \"tsaConfig\": {}}" >"$to/signing-config.json"
        printf '%s' "${sigstore}trustedroot+json;version=0.1\"}" >"$to/trusted-root.json"
        with+=(--key "$key" --signing-config "$to/signing-config.json" --trusted-root "$to/trusted-root.json")
    fi
    for program in "${PROGRAMS[@]}"; do
        image=$registry/$program@$(digest "$program")
        cosign sign "${with[@]}" "$image"
        for document in "$to/$program".*.cdx.json; do cosign attest "${with[@]}" --type cyclonedx --predicate "$document" "$image"; done
        cosign attest "${with[@]}" --type slsaprovenance1 --predicate "$to/$program.provenance.json" "$image"
    done
    cosign sign "${with[@]}" "$registry/charts/multivac@$chart_digest"
    cosign attest "${with[@]}" --type slsaprovenance1 --predicate "$to/chart.provenance.json" "$registry/charts/multivac@$chart_digest"
fi
rm -f "$to"/*.built.json "$to/signing-config.json" "$to/trusted-root.json"
say "published${unsigned:+, unsigned}: $to/digests.yaml"
cat "$to/digests.yaml"
