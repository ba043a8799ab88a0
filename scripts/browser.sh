#!/usr/bin/env bash
# Tries with a real Chromium what web pages can do to MultiVAC, and what its console shows (tests/browser):
#
#     scripts/browser.sh                                          # with MULTIVAC_SCREENSHOTS=docs/console, it also takes its pictures
#
# What it does    Builds the programs; starts multivac-api, the edge in front of it and other people's web pages on free ports of
#                 127.0.0.1, and a browser; tries each rule, and ends what it started.
# What it needs   bash, python3, openssl. Chromium and nginx are installed from Debian's packages if they are missing
#                 (as root, or by sudo without a password), Playwright from PyPI and axe-core from npm into
#                 ${XDG_CACHE_HOME:-~/.cache}/multivac.
# What it returns 0 if every rule holds, else 1; a line for each rule, and one that counts them for each file of rules. Some
#                 three minutes once built.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/lib.sh
readonly PLAYWRIGHT=playwright==1.65.2

say() { printf 'browser: %s\n' "$*" >&2; }
fail() { say "$*"; exit 2; }

# As e2e.sh does, so that nothing is built twice.
if [[ -z ${MULTIVAC_BUILT_API:-} ]]; then build --tests; fi

: "${MULTIVAC_TEST_CHROMIUM:=$(find_binary chromium)}" "${MULTIVAC_TEST_NGINX:=$(find_binary nginx)}"
packages=()
[[ -n $MULTIVAC_TEST_CHROMIUM ]] || packages+=(chromium)
[[ -n $MULTIVAC_TEST_NGINX ]] || packages+=(nginx)
[[ ${#packages[@]} == 0 ]] || apt_install "${packages[@]}"
MULTIVAC_TEST_CHROMIUM=${MULTIVAC_TEST_CHROMIUM:-$(find_binary chromium)} MULTIVAC_TEST_NGINX=${MULTIVAC_TEST_NGINX:-$(find_binary nginx)}
export MULTIVAC_TEST_CHROMIUM MULTIVAC_TEST_NGINX
virtual_environment $PLAYWRIGHT
MULTIVAC_TEST_AXE=$(axe_core)
export MULTIVAC_TEST_AXE
# Two files at a time, since most rules wait for something. What each says comes whole, when it has ended.
temporary_directory browser
printf '%s\n' tests/browser/*_rules.py | xargs -P 2 -I {} sh -c '
    said=$1/$(basename "$2").out
    "$0" "$2" >"$said" 2>&1 && status=0 || status=1
    flock "$1" cat "$said"
    exit $status' "$venv/bin/python" "$directory" {}
