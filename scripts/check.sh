#!/usr/bin/env bash
# All of CI, in order: format, layout and wording of the code, clippy with warnings as errors, licences and advisories of the
# dependencies, all tests against a real Redis and a real MongoDB, the rules of the edge with a real nginx, a few power cuts, the
# rules of web pages, the console and /docs with a real Chromium, the clients in examples/, the rules of setup.py, of Prometheus with
# promtool, dashboards and alerts with a real Prometheus while one part after the other is killed, those of deploy/gcp, of the chart
# for Kubernetes, of releases and CI's files, a short fuzz run over HTTP, documentation with warnings as errors.
#
#     scripts/check.sh             a few minutes once the dependencies are built
#     scripts/check.sh --images    also builds the images and tests docker compose (compose-test.sh)
#
# What it needs   Rust (cargo, rustfmt, clippy), a C compiler, git, python3; test-backends.sh installs the servers, browser.sh
#                 Chromium.
#                 cargo-deny for the licences and advisories, helm for the chart, kubectl for its Secrets: what is missing is SKIPPED.
#                 MULTIVAC_TEST_KUBECONFIG may name a cluster, which is asked what it would take (k8s-check.sh).
# What it returns 0 if every step passed. All steps run, so that one failure does not hide the next; the last
#                 line is always the totals of all tests, `N passed, N failed`.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 2

# rust-toolchain.toml names a toolchain. Where rustup does not have it and may not install it, the default one serves if it
# is of the same release under another name.
release=$(sed -n 's/^channel = "\(.*\)"$/\1/p' rust-toolchain.toml)
if ! cargo --version >/dev/null 2>&1 && [[ $(cargo +stable --version 2>/dev/null) == "cargo $release "* ]]; then
    export RUSTUP_TOOLCHAIN=stable
fi

# The public Rust images come without these two.
for part in rustfmt clippy; do
    name=${part/rustfmt/fmt}
    if ! cargo "$name" --version >/dev/null 2>&1 && command -v rustup >/dev/null; then rustup component add "$part"; fi
done

missing=()
command -v cargo >/dev/null || missing+=("cargo (https://rustup.rs)")
cargo fmt --version >/dev/null 2>&1 || missing+=("rustfmt (rustup component add rustfmt)")
cargo clippy --version >/dev/null 2>&1 || missing+=("clippy (rustup component add clippy)")
command -v cc >/dev/null || missing+=("a C compiler (Debian: gcc)")
command -v git >/dev/null || missing+=("git")
command -v python3 >/dev/null || missing+=("python3")
if [[ ${#missing[@]} -gt 0 ]]; then
    printf 'check: missing: %s\n' "${missing[@]}" >&2
    exit 2
fi

log=$(mktemp "${TMPDIR:-/tmp}/multivac-check.XXXXXX")
trap 'rm -f "$log"' EXIT
failed=()

# step NAME COMMAND…
step() {
    local name=$1 started=$SECONDS outcome=ok
    shift
    printf '\n==> %s: %s\n' "$name" "$*"
    "$@" || { outcome=FAILED; failed+=("$name"); }
    printf '==> %s: %s after %s s\n' "$name" "$outcome" "$((SECONDS - started))"
}

# CI=1: a backend that is not there is a failed test here, never a skipped one.
tests() { CI=1 scripts/test-backends.sh cargo test --workspace --locked --no-fail-fast 2>&1 | tee "$log"; }

# As deny.toml says. The list of advisories has to be fetched; all else is known without a network.
licences() {
    if ! cargo deny --version >/dev/null 2>&1; then
        echo 'check: SKIPPED: licences and advisories: cargo-deny is not installed (cargo install --locked cargo-deny)'
        return
    fi
    local deny=(cargo deny --locked check --hide-inclusion-graph) said failed=0
    "${deny[@]}" bans licenses sources || failed=1
    if said=$("${deny[@]}" advisories 2>&1); then
        printf '%s\n' "$said"
    elif [[ $said == *'failed to fetch advisory database'* ]]; then
        echo 'check: SKIPPED: advisories: their database cannot be reached'
    else
        printf '%s\n' "$said"
        failed=1
    fi
    return $failed
}

# The rules of the edge, each of which counts as a test.
edge() { scripts/e2e.sh 2>&1 | tee -a "$log"; }
# The power is cut a few times; scripts/power-cut.py by itself does it more often.
power() { scripts/test-backends.sh scripts/power-cut.py --cuts 2 --seed 12 2>&1 | tee -a "$log"; }
browser() { scripts/browser.sh 2>&1 | tee -a "$log"; }
examples() { scripts/examples.sh 2>&1 | tee -a "$log"; }
setup() { { tests/setup/setup_rules.py && tests/setup/kubernetes_rules.py; } 2>&1 | tee -a "$log"; }
monitoring() { scripts/monitoring-check.sh 2>&1 | tee -a "$log"; }
# The faults that matter most, by a clock that runs 20 times as fast; scripts/alerts.sh by itself tries all of them, with the rules
# as they are.
alerts() {
    {
        deploy/monitoring/grafana/dashboards.py --check && scripts/alerts.sh --faster 20 --panels &&
            scripts/alerts.sh --faster 20 --only 'Redis killed|MongoDB stopped|one worker of two killed|poison|ledger'
    } 2>&1 | tee -a "$log"
}
gcp() { scripts/gcp.sh 2>&1 | tee -a "$log"; }
kubernetes() { scripts/k8s-check.sh 2>&1 | tee -a "$log"; }
release() { scripts/release-check.sh 2>&1 | tee -a "$log"; }
compose() { scripts/compose-test.sh 2>&1 | tee -a "$log"; }

step format cargo fmt --all --check
step tree scripts/check-tree.sh
step clippy cargo clippy --workspace --all-targets --locked -- -D warnings
step licences licences
step tests tests
step edge edge
step power power
step browser browser
step examples examples
step setup setup
step monitoring monitoring
step alerts alerts
step gcp gcp
step kubernetes kubernetes
step release release
[[ ${1:-} != --images ]] || step compose compose
step fuzz scripts/fuzz-http.sh 20
step docs env RUSTDOCFLAGS=-Dwarnings cargo doc --workspace --no-deps --locked

printf '\n'
if [[ ${#failed[@]} -gt 0 ]]; then
    printf 'check: failed: %s\n' "${failed[*]}"
    # By name once more, since what they said is far above.
    grep -E -A 1 '^(test .* FAILED$|BROKEN )' "$log" | grep -v '^--$'
fi
# One line for each test binary: `test result: ok. 12 passed; 0 failed; …`; one for each script that counts rules:
# `e2e: 84 rules hold, 0 broken`.
awk '/^test result: / { for (i = 2; i <= NF; i++) { if ($i ~ /^passed/) passed += $(i - 1); if ($i ~ /^failed/) failures += $(i - 1) } }
     /^(e2e|power-cut|browser|examples|setup|monitoring|alerts|gcp|k8s-check|setup-kubernetes|release|compose-test): [0-9]/ { passed += $2; failures += $5 }
     END { printf "%d passed, %d failed\n", passed, failures }' "$log"
[[ ${#failed[@]} == 0 ]]
