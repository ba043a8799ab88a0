# shellcheck shell=bash
# What several scripts need: building the programs, free ports, processes that end with the script, counted rules.
# Sourced, not run. Needs bash, python3, and cargo for `build`.

# build CARGO-ARGUMENTS…: builds the programs and exports where each is: MULTIVAC_BUILT_API, MULTIVAC_BUILT_WORKER, and
# MULTIVAC_BUILT_<NAME> for a benchmark. Only cargo knows where it puts what it builds.
build() {
    local built name path
    built=$(cargo build --locked --workspace --bins "$@" --message-format json-render-diagnostics | python3 -c '
import json, sys
for message in map(json.loads, sys.stdin):
    if message.get("executable"):
        kind, is_test = message["target"]["kind"], message["profile"]["test"]
        if kind == ["bench"] or kind == ["bin"] and not is_test:
            print(message["target"]["name"].removeprefix("multivac-").upper(), message["executable"])')
    while read -r name path; do export "MULTIVAC_BUILT_$name=$path"; done <<<"$built"
}

# with_servers NAME [ARGUMENT…]: the first time, runs scripts/NAME.sh again with a new Redis and a new MongoDB, in place
# of this process. Servers that are given are not used: they are not empty, and may matter to somebody.
with_servers() {
    local name=$1
    shift
    [[ ${MULTIVAC_INSIDE:-} != "$name" ]] || return 0
    exec env -u MULTIVAC_TEST_REDIS_URL -u MULTIVAC_TEST_MONGO_URL MULTIVAC_INSIDE="$name" \
        scripts/test-backends.sh "scripts/$name.sh" "$@"
}

# --- installing what is missing ------------------------------------------------------------------------------------

# The script has a `say` and a `fail` of its own.
as_root() { if [[ $(id -u) == 0 ]]; then "$@"; else sudo -n "$@"; fi }

apt_install() {
    local by_hand="please install: $*"
    command -v apt-get >/dev/null || fail "no apt-get here; $by_hand"
    [[ $(id -u) == 0 ]] || sudo -n true 2>/dev/null || fail "neither root nor sudo without a password; $by_hand"
    say "installing $*"
    # Debian's packages start their services when they are installed, unless this file is there.
    local policy=/usr/sbin/policy-rc.d made_policy=
    if [[ ! -e $policy ]]; then
        printf '#!/bin/sh\nexit 101\n' | as_root tee $policy >/dev/null
        as_root chmod +x $policy
        made_policy=yes
    fi
    local status=0
    {
        as_root apt-get update -q &&
            as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "$@"
    } </dev/null >&2 || status=$?
    [[ -z $made_policy ]] || as_root rm -f $policy
    [[ $status == 0 ]] || fail "apt-get failed; $by_hand"
}

# Debian installs nginx in a directory that only root's PATH has.
find_binary() { PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin command -v "$1" || true; }

# need_prometheus: exports where Prometheus, Alertmanager and their tools are, MULTIVAC_TEST_PROMETHEUS, _PROMTOOL, _ALERTMANAGER
# and _AMTOOL; installs Debian's packages if one is missing.
need_prometheus() {
    local name packages=()
    for name in PROMETHEUS PROMTOOL ALERTMANAGER AMTOOL; do find_prometheus_tool $name; done
    [[ -n $MULTIVAC_TEST_PROMETHEUS && -n $MULTIVAC_TEST_PROMTOOL ]] || packages+=(prometheus)
    [[ -n $MULTIVAC_TEST_ALERTMANAGER && -n $MULTIVAC_TEST_AMTOOL ]] || packages+=(prometheus-alertmanager)
    [[ ${#packages[@]} == 0 ]] || apt_install "${packages[@]}"
    for name in PROMETHEUS PROMTOOL ALERTMANAGER AMTOOL; do
        find_prometheus_tool $name
        name=MULTIVAC_TEST_$name
        [[ -n ${!name} ]] || fail "${name#MULTIVAC_TEST_} is not in the packages ${packages[*]}; please name it in $name"
        export "${name?}"
    done
}

# Debian calls Alertmanager prometheus-alertmanager, so that it is not mistaken for another one.
find_prometheus_tool() {
    local variable=MULTIVAC_TEST_$1 program=${1,,}
    [[ -z ${!variable:-} ]] || return 0
    printf -v "$variable" '%s' "$(find_binary "$program")"
    [[ -n ${!variable} ]] || printf -v "$variable" '%s' "$(find_binary "prometheus-$program")"
}

# virtual_environment NAME==VERSION…: leaves in $venv a directory with these packages of PyPI and Python, made the first time.
virtual_environment() {
    local name="$*"
    name=${name//==/-}
    venv=${XDG_CACHE_HOME:-$HOME/.cache}/multivac/${name// /+}-$(python3 -c 'import sys; print(sys.implementation.cache_tag)')
    [[ ! -e $venv/complete ]] || return 0
    python3 -c 'import ensurepip' 2>/dev/null || apt_install python3-venv
    say "installing $* into $venv"
    { python3 -m venv --clear "$venv" && "$venv/bin/pip" install -q --disable-pip-version-check "$@" && touch "$venv/complete"; } >&2 ||
        fail "$* could not be installed from PyPI"
}

# axe_core: prints where axe.min.js is, which finds what people with a screen reader, with a keyboard or with weak eyes cannot use
# in a page. From the npm registry, the first time.
axe_core() {
    local version=4.14.1 checksum=29348999450cdf2849a8e70b7912fc2da85a849da39c0d0d5394f51d4a9ed95c
    local kept=${XDG_CACHE_HOME:-$HOME/.cache}/multivac/axe-core-$version file made
    file=$kept/axe.min.js
    if [[ ! -e $file ]]; then
        command -v npm >/dev/null || apt_install npm
        say "fetching axe-core $version into $kept"
        mkdir -p "$kept"
        made=$(mktemp -d "$kept/made.XXXXXX")
        # Moved whole, so that another script never finds a part of it.
        { (cd "$made" && npm pack --silent "axe-core@$version" && tar -xzf "axe-core-$version.tgz") &&
            mv "$made/package/axe.min.js" "$file"; } </dev/null >&2 || fail "axe-core $version could not be fetched from npm"
        rm -rf "$made"
    fi
    sha256sum --check --quiet - <<<"$checksum  $file" >&2 || fail "$file is not axe-core $version: remove it"
    printf '%s\n' "$file"
}

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

# until_true SECONDS COMMAND…: tries again until it succeeds; 1 if it does not in that time.
until_true() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@"; do
        [[ $SECONDS -lt $deadline ]] || return 1
        sleep 0.1
    done
}

# --- processes that end with the script ---------------------------------------------------------------------------

directory=''
running=()

# temporary_directory NAME: leaves a new one in $directory. At the end of the script, `clean_up` removes it; a script that
# has more to clean up defines a clean_up of its own.
temporary_directory() {
    directory=$(mktemp -d "${TMPDIR:-/tmp}/multivac-$1.XXXXXX")
    trap clean_up EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
}

clean_up() {
    stop_all
    # A process of theirs, such as the watcher of an nginx that was killed, may still be writing into it.
    until_true 10 rm -rf "$directory" 2>/dev/null
}

# start NAME COMMAND…: in the background, its output in NAME.log and NAME.err.log; leaves its process in $pid.
start() {
    local name=$1
    shift
    "$@" </dev/null >>"$directory/$name.log" 2>>"$directory/$name.err.log" &
    pid=$!
    running+=("$pid")
}

# stop_all: ends what was started. The programs promise to end within 30 seconds.
stop_all() {
    local pid
    for pid in "${running[@]}"; do kill -TERM "$pid" 2>/dev/null || true; done
    for pid in "${running[@]}"; do
        timeout 35 tail --pid="$pid" -f /dev/null || kill -KILL "$pid" 2>/dev/null || true
    done
    running=()
}

# stop PID: ends one of them.
stop() {
    local pid others=()
    for pid in "${running[@]}"; do [[ $pid == "$1" ]] || others+=("$pid"); done
    running=("$1")
    stop_all
    running=("${others[@]}")
}

# print_table FILE: what the load client printed, in columns; a line without tabs is a heading.
print_table() {
    {
        printf 'what\tcount\tseconds\ta second\tp50 ms\tp90 ms\tp99 ms\tmax ms\tnot 200\n'
        cat "$1"
    } | awk -F '\t' 'NF < 2 { print; next }
        { printf "%-44s %8s %8s %9s %8s %8s %8s %8s %8s\n", $1, $2, $3, $4, $5, $6, $7, $8, $9 }'
}

# --- rules --------------------------------------------------------------------------------------------------------

held=0 broken=0 broken_names=''

# What a broken rule saw: a rule leaves it in $saw, or the script defines a function of its own.
saw=''
seen() { printf '%s' "$saw"; }

# rule NAME COMMAND…: prints one line and counts it.
rule() {
    local name=$1
    shift
    saw=''
    if "$@"; then
        held=$((held + 1))
        printf 'ok      %s\n' "$name"
    else
        broken=$((broken + 1)) broken_names+="${broken_names:+; }$name"
        printf 'BROKEN  %s\n        %s\n' "$name" "$(seen)"
    fi
}

# rules_of COMMAND…: runs a command that prints such lines, and counts them.
rules_of() {
    local lines returned=0
    lines=$("$@") || returned=$?
    printf '%s\n' "$lines"
    held=$((held + $(grep -c '^ok ' <<<"$lines" || true)))
    if grep -q '^BROKEN ' <<<"$lines"; then
        broken=$((broken + $(grep -c '^BROKEN ' <<<"$lines")))
        broken_names+="${broken_names:+; }$(sed -n 's/^BROKEN  //p' <<<"$lines" | paste -sd ';')"
    elif [[ $returned != 0 ]]; then
        rule "$1 runs to its end" false
    fi
}

# count_rules NAME: the last line; 1 if a rule is broken.
count_rules() {
    printf '%s: %d rules hold, %d broken%s\n' "$1" "$held" "$broken" "${broken_names:+: $broken_names}"
    [[ $broken == 0 ]]
}
