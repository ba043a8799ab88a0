#!/usr/bin/env bash
# Builds the images, starts docker-compose.yml as a new user does, and feeds and asks through https:
#
#     scripts/compose-test.sh
#
# What it does    Uses a project of its own (name, ports, secrets, volumes), which it removes at the end; the images stay,
#                 as multivac-api:compose-test and multivac-worker:compose-test. Checks what the containers may do and
#                 what docker inspect shows; feeds 10,000 data while the workers are scaled from 2 to 4 to 1, counts
#                 them, restarts everything and counts again; scales the api under questions; starts the profile
#                 `monitoring`'s Prometheus, and has its targets up.
# What it needs   A Docker engine with compose 2.24 or newer; curl, openssl, python3. What is not there of Prometheus's image,
#                 promtool and otelcol (or MULTIVAC_TEST_OTELCOL), it says to have SKIPPED.
# What it returns 0 if every rule holds, else 1; a line for each, and the last line counts them. Without an engine it
#                 says SKIPPED, and returns 0, or 1 where CI is set. Two minutes, and what the images take to build.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if ! docker info >/dev/null 2>&1 || ! docker compose version >/dev/null 2>&1; then
    echo 'compose-test: SKIPPED: there is no Docker engine here, or no docker compose'
    # In CI a skipped test is a failed one.
    [[ -n ${CI:-} ]] && exit 1 || exit 0
fi
for tool in curl openssl python3; do
    command -v $tool >/dev/null || { printf 'compose-test: %s is missing\n' $tool >&2; exit 2; }
done

readonly TEXT='The entropy of the universe can be reversed by gathering all of the starlight.'
readonly INSUFFICIENT='INSUFFICIENT DATA FOR MEANINGFUL ANSWER.'
readonly PROJECT=multivac-test-$$

. scripts/lib.sh
temporary_directory compose
readonly SECRETS=$directory/secrets

export MULTIVAC_VERSION=compose-test MULTIVAC_SECRETS=$SECRETS MULTIVAC_ENV_FILE=$directory/env
MULTIVAC_HTTPS_PORT=$(free_port) MULTIVAC_HTTP_PORT=$(free_port)
MULTIVAC_PROMETHEUS_PORT=$(free_port)
export MULTIVAC_HTTPS_PORT MULTIVAC_HTTP_PORT MULTIVAC_PROMETHEUS_PORT
# e2e.sh tests the limits of the edge; here the load must get through.
export MULTIVAC_EDGE_RATE=1000 MULTIVAC_EDGE_BURST=1000
readonly BASE=https://localhost:$MULTIVAC_HTTPS_PORT
touch "$directory/env"

compose() { docker compose --project-name "$PROJECT" --env-file "$directory/env" --progress quiet "$@" </dev/null; }

clean_up() {
    local status=$?
    trap '' INT TERM
    stop_all
    if [[ $status != 0 ]]; then compose logs --no-color --tail 15 >&2 || true; fi
    # Where setup.py was not run, compose still asks for its setting.
    [[ -s $directory/env ]] || echo MULTIVAC_USER=65532:65532 >"$directory/env"
    compose --profile monitoring down --volumes --timeout 20 >/dev/null 2>&1 || true
    rm -rf "$directory"
}

say() { printf 'compose-test: %s\n' "$*"; }

timed() {
    local what=$1 started=$SECONDS
    shift
    "$@"
    say "$what took $((SECONDS - started)) s"
}

request() { curl --silent --noproxy '*' --max-time 60 --config "$SECRETS/curlrc" "$@"; }
stat() { request "$BASE/multivac/stats" | python3 -c 'import json, sys; print(json.load(sys.stdin)[sys.argv[1]])' "$1"; }
answer_is() { saw=$(request "$BASE/multivac") && [[ $saw == "$1" ]]; }

# --- before setup, and setup ------------------------------------------------------------------------------------

says_what_to_do() { saw=$(compose up --detach 2>&1) && return 1; [[ $saw == *'run scripts/setup.py first'* ]]; }
rule 'without setup, compose says to run it' says_what_to_do
scripts/setup.py 2>/dev/null
files() { find "$SECRETS" "$directory/env" -type f -exec sha256sum {} +; }
runs_again() {
    local before
    before=$(files)
    scripts/setup.py 2>/dev/null && [[ $(files) == "$before" ]]
}
rule 'setup changes nothing when run again' runs_again
for_the_owner() { saw=$(find "$SECRETS" \( -type f ! -perm 600 -o -type d ! -perm 700 \) -print) && [[ -z $saw ]]; }
rule 'every secret is for its owner alone' for_the_owner

# --- the images ---------------------------------------------------------------------------------------------------

timed 'building the images' compose build --quiet

megabytes() { docker image inspect --format '{{.Size}}' "$1" | awk '{ print int($1 / 1000000) }'; }
small() {
    local base
    base=$(megabytes gcr.io/distroless/cc-debian12:nonroot 2>/dev/null) || base=0
    saw="$1: $(megabytes "$1") MB, its base $base MB"
    say "$saw"
    [[ $(($(megabytes "$1") - base)) -lt 60 ]]
}
no_shell() { ! saw=$(docker run --rm --entrypoint sh "$1" -c : 2>&1); }
labelled() {
    saw=$(docker image inspect --format '{{.Config.User}} {{index .Config.Labels "org.opencontainers.image.title"}} {{index .Config.Labels "org.opencontainers.image.licenses"}}' "$1")
    [[ $saw == "65532:65532 ${1%:*} MIT OR Apache-2.0" ]]
}
for image in multivac-api:compose-test multivac-worker:compose-test; do
    rule "$image is small" small $image
    rule "$image has no shell" no_shell $image
    rule "$image says what it is, and is not root" labelled $image
done

# --- the start ------------------------------------------------------------------------------------------------------

timed 'the first start' compose up --detach --wait
ids() { compose ps --all --quiet; }

healthy() { saw=$(compose ps --format '{{.Service}} {{.Health}}') && [[ $(grep -c ' healthy$' <<<"$saw") == 7 ]]; }
rule 'nginx, two api, two workers, Redis and MongoDB are healthy' healthy
no_secret_shown() {
    local file secret
    saw='secrets in docker inspect'
    docker inspect $(ids) >"$directory/inspect"
    while read -r file; do
        while read -r secret; do
            [[ ${#secret} -lt 16 ]] || ! grep -qF -- "$secret" "$directory/inspect" || { saw="a line of $file"; return 1; }
        done < <(sed 's/^requirepass //; s/^user = "multivac:\(.*\)"$/\1/; s/^multivac://' "$file")
    done < <(find "$SECRETS" -type f ! -name tls.crt ! -name curlrc)
    password=$(sed -n 's/^user = "multivac:\(.*\)"$/\1/p' "$SECRETS/curlrc")
    [[ ${#password} == 48 ]] && ! grep -qF "$password" "$directory/inspect"
}
rule 'docker inspect shows no secret' no_secret_shown
hardened() {
    python3 - "$directory/inspect" "$(sed -n 's/^MULTIVAC_USER=//p' "$directory/env")" <<'CHECK'
import json, sys
for container in json.load(open(sys.argv[1])):
    name, host = container["Config"]["Labels"]["com.docker.compose.service"], container["HostConfig"]
    assert host["ReadonlyRootfs"] and host["CapDrop"] == ["ALL"] and "no-new-privileges:true" in host["SecurityOpt"], name
    assert host["Memory"] > 0, name
    networks = sorted(network.rsplit("_", 1)[-1] for network in container["NetworkSettings"]["Networks"])
    if name == "own-volumes":
        assert [right.removeprefix("CAP_") for right in host["CapAdd"]] == ["CHOWN"] and networks == ["none"], (name, host["CapAdd"], networks)
        continue
    assert not host["CapAdd"], name
    assert container["Config"]["User"] == sys.argv[2], (name, container["Config"]["User"])
    assert networks == (["backend", "edge"] if name == "nginx" else ["backend"]), (name, networks)
    assert bool(host["PortBindings"]) == (name == "nginx"), name
    if name != "mongo-init":
        assert host["RestartPolicy"]["Name"] == "unless-stopped", name
CHECK
}
rule 'no container is root, writes to its root, or has rights; nginx alone has ports' hardened
internal() { saw=$(docker network inspect --format '{{.Internal}}' "${PROJECT}_backend") && [[ $saw == true ]]; }
rule 'the network behind nginx has no way out' internal
own_database_only() {
    # shellcheck disable=SC2016
    saw=$(compose exec -T mongo mongosh --quiet --norc 'mongodb://mongo/?directConnection=true' --eval '
        db.getSiblingDB("multivac").auth("multivac", fs.readFileSync("/run/secrets/mongo/app_password", "utf8"));
        const refused = (what) => { try { what(); return false; } catch (error) { return error.codeName === "Unauthorized"; } };
        print(db.getSiblingDB("multivac").entropy.countDocuments() >= 0,
              refused(() => db.getSiblingDB("other").things.insertOne({})),
              refused(() => db.getSiblingDB("admin").system.users.findOne()),
              refused(() => db.getSiblingDB("multivac").createUser({ user: "x", pwd: "x", roles: [] })))' 2>&1)
    [[ $saw == 'true true true true' ]]
}
rule "the applications' user can touch its own database only" own_database_only
redis_refuses() { saw=$(compose exec -T redis redis-cli ping 2>&1) && [[ $saw == *NOAUTH* ]]; }
rule 'Redis requires its password' redis_refuses
redis_is_safe() { saw=$(compose exec -T redis sh -c 'REDISCLI_AUTH=$(sed -n "s/^requirepass //p" /run/secrets/redis/redis.conf) redis-cli config get "append*" maxmemory-policy' | xargs) && [[ $saw == *'appendonly yes'* && $saw == *'appendfsync always'* && $saw == *'maxmemory-policy noeviction'* ]]; }
rule 'Redis writes everything down and evicts nothing' redis_is_safe
# shellcheck disable=SC2016
redis_lets_nothing_else() {
    saw=$(compose exec -T redis sh -c 'export REDISCLI_AUTH=$(sed -n "s/^requirepass //p" /run/secrets/redis/redis.conf)
        for command in flushall "config set appendonly no" "set other 1" "keys *" shutdown; do redis-cli $command; done' | grep -c NOPERM) && [[ $saw == 5 ]]
}
rule "Redis lets the applications' user do nothing else" redis_lets_nothing_else

# --- the main job ---------------------------------------------------------------------------------------------------

rule 'without data it has no answer' answer_is "$INSUFFICIENT"
refused() { saw=$(curl --silent --noproxy '*' --cacert "$SECRETS/edge/tls.crt" --write-out '%{http_code}' --output /dev/null "$BASE/multivac/data" -d data=x) && [[ $saw == 401 ]]; }
rule 'feeding needs a password' refused
feed() { saw=$(request "$BASE/multivac/data" --data-urlencode "data=$1") && datum=$(sed -n 's/.*"id":"\(.*\)".*/\1/p' <<<"$saw") && [[ -n $datum ]]; }
rule 'it is fed' feed "$TEXT"
rule 'it answers' until_true 20 answer_is "$TEXT"
retracts() { saw=$(request -X DELETE --write-out '%{http_code}' "$BASE/multivac/data/$datum") && [[ $saw == 204 ]] && answer_is "$INSUFFICIENT" && answer_is "$INSUFFICIENT"; }
rule 'it retracts' retracts

# --- 10,000 data while the workers come and go -------------------------------------------------------------------------

# feed_many FROM TO: 50 a request; the ids that got a 200 go to a file of their own.
feed_many() {
    local n reply
    for ((n = $1; n < $2; n += 50)); do
        reply=$(python3 -c 'import json, sys
for n in range(int(sys.argv[1]), int(sys.argv[1]) + 50): print(json.dumps({"data": f"Star number {n} went out. Its light is on the way."}))' "$n" |
            request "$BASE/multivac/data/bulk" -H 'Content-Type: application/x-ndjson' --data-binary @-) || return 1
        python3 -c 'import json, sys
for id in json.loads(sys.argv[1])["ids"]: print(id)' "$reply" >>"$directory/ids-$1" || return 1
    done
}
scaled() { saw=$(compose ps --format '{{.Service}}' | grep -c '^worker$') && [[ $saw == "$1" ]]; }
scale() { compose up --detach --no-recreate --scale "worker=$1" worker; }
# while_fed FROM TO WORKERS
while_fed() {
    feed_many "$1" "$2" &
    local feeding=$!
    running+=("$feeding")
    scale "$3" && wait $feeding && scaled "$3"
}
rule '3,000 data with 2 workers' feed_many 0 3000
rule '4,000 more while they become 4' while_fed 3000 7000 4
rule '3,000 more while they become 1' while_fed 7000 10000 1
all_learned() { saw=$(request "$BASE/multivac/stats") && [[ $(stat queued) == 0 && $(stat processing) == 0 ]]; }
timed 'learning the rest' rule 'the queue becomes empty' until_true 180 all_learned
counts() { saw=$(request "$BASE/multivac/stats") && [[ $(stat accepted) == 10001 && $(stat learned) == 10000 && $(stat retracted) == 1 && $(stat dead) == 0 ]]; }
rule 'all 10,000 are learned, once each' counts
given_ids() { saw="$(cat "$directory"/ids-* | wc -l) ids, $(cat "$directory"/ids-* | sort -u | wc -l) of them different" && [[ $saw == '10000 ids, 10000 of them different' ]]; }
rule 'each has an id of its own' given_ids
stored_ids() {
    compose exec -T mongo mongosh --quiet --norc 'mongodb://mongo/?directConnection=true' --eval '
        db.getSiblingDB("multivac").auth("multivac", fs.readFileSync("/run/secrets/mongo/app_password", "utf8"));
        db.getSiblingDB("multivac").entropy.find({ retracted_at: { $exists: false } }, { _id: 1 }).forEach((datum) => print(datum._id))' >"$directory/stored"
    saw=$(cat "$directory"/ids-* | sort | diff - <(sort "$directory/stored") | head -n 3) && [[ -z $saw ]]
}
rule 'and those are the ids that are stored' stored_ids

worker_status() { saw=$(compose exec -T worker multivac-worker status 2>&1) && [[ $saw == *learned*10000* ]]; }
rule "the worker's status says the same" worker_status

# --- replicas of the api come and go under questions -------------------------------------------------------------------

ask_all_the_while() {
    while [[ ! -e $directory/asked-enough ]]; do
        # By HTTP/1.1; e2e.sh explains what nginx does to HTTP/2 in the instant of a reload.
        request --http1.1 --output /dev/null --write-out '%{http_code}\n' "$BASE/multivac/stats" >>"$directory/asked" || echo failed >>"$directory/asked"
    done
}
ask_all_the_while &
running+=($!)
asking=$!
# From docker, since compose adds the service's name to each line.
log_of() { compose ps --all --quiet "$@" | xargs -n 1 docker logs 2>&1; }
known_replicas() { saw=$(log_of nginx | sed -n 's/^multivac edge: replicas://p' | tail -n 1) && [[ $saw != *none* && $(wc -w <<<"$saw") == "$1" ]]; }
more_replicas() { compose up --detach --no-recreate --scale api=3 api && until_true 30 known_replicas 3; }
rule 'a third api is found by nginx' more_replicas
fewer_replicas() { compose up --detach --no-recreate --scale api=1 api && until_true 30 known_replicas 1; }
rule 'two of three are taken away' fewer_replicas
touch "$directory/asked-enough"
wait $asking || true
none_failed() { saw=$(sort "$directory/asked" | uniq -c | xargs) && [[ $saw =~ ^[0-9]+\ 200$ ]]; }
rule 'no question failed meanwhile' none_failed
say "asked meanwhile: $saw"

# --- a restart ------------------------------------------------------------------------------------------------------------

restarts() { compose down --timeout 20 && compose up --detach --wait; }
timed 'stopping and starting everything' rule 'all of it is stopped and started again' restarts
rule 'it has lost nothing' until_true 30 counts
rule 'it can be fed again' feed "$TEXT"
rule 'and answers as before' until_true 20 answer_is "$TEXT"
old_mongo=$(<"$SECRETS/mongo/app_password") old_root=$(<"$SECRETS/mongo/root_password") old_redis=$(<"$SECRETS/app/redis_url")
mongo_takes() { # USER DATABASE PASSWORD
    saw=$(compose exec -T mongo mongosh --quiet --norc 'mongodb://mongo/?directConnection=true' --eval "
        try { db.getSiblingDB('$2').auth('$1', '$3'); print('taken') } catch (error) { print(error.codeName) }" 2>&1) && [[ $saw == taken ]]
}
rotates() {
    scripts/setup.py --rotate redis 2>/dev/null && scripts/setup.py --rotate mongo 2>/dev/null && scripts/setup.py --rotate mongo 2>/dev/null &&
        scripts/setup.py --rotate keyfile 2>/dev/null &&
        [[ $(<"$SECRETS/app/redis_url") != "$old_redis" ]] && compose restart redis mongo && compose up --detach --wait mongo &&
        compose run --rm -T mongo-init && compose restart api worker && compose up --detach --wait
}
timed 'changing every password' rule 'every password is changed' rotates
# Quoting is not needed, since the passwords are hexadecimal.
old_ones() { ! mongo_takes multivac multivac "$old_mongo" && [[ $saw == *AuthenticationFailed* ]] && ! mongo_takes root admin "$old_root" && mongo_takes root admin "$(<"$SECRETS/mongo/root_password")"; }
rule 'the old ones are refused, the new ones taken' old_ones
rule 'it still answers' until_true 30 answer_is "$TEXT"
rule 'it still learns' feed 'The stars are going out.'

# --- the profile `monitoring` ---------------------------------------------------------------------------------------------

unasked() { saw=$(compose ps --all --format '{{.Service}}' | sort -u | xargs) && [[ $saw == 'api mongo mongo-init nginx own-volumes redis worker' ]]; }
rule 'without the profile, nothing of it is there' unasked
loopback_only() {
    compose --profile monitoring config --format json >"$directory/config" && saw=$(python3 - "$directory/config" 2>&1 <<'CHECK'
import json, sys
services = json.load(open(sys.argv[1]))["services"]
for name in ["prometheus", "alertmanager", "collector", "grafana"]:
    it = services[name]
    assert it["read_only"] and it["cap_drop"] == ["ALL"] and it["security_opt"] == ["no-new-privileges:true"] and it["mem_limit"], name
    assert all(port["host_ip"] == "127.0.0.1" for port in it.get("ports", [])), name
    assert "edge" not in it["networks"] and ":" in it["image"] and not it["image"].endswith(":latest"), name
CHECK
    )
}
rule 'its services are hardened, pinned, on loopback ports alone and not beside clients' loopback_only
prometheus_image=$(compose --profile monitoring config --images | grep '^prom/prometheus:')
if docker image inspect "$prometheus_image" >/dev/null 2>&1 || docker pull --quiet "$prometheus_image" >/dev/null 2>&1; then
    prometheus() { curl --silent --noproxy '*' --max-time 10 --fail --get "http://127.0.0.1:$MULTIVAC_PROMETHEUS_PORT/api/v1/$1" "${@:2}"; }
    starts_monitoring() { saw=$(compose --profile monitoring up --detach --wait prometheus 2>&1); }
    timed "Prometheus's start" rule 'Prometheus becomes healthy' starts_monitoring
    all_up() {
        saw=$(prometheus targets --data state=active | python3 -c 'import collections, json, sys
targets = json.load(sys.stdin)["data"]["activeTargets"]
print(*sorted(collections.Counter((target["labels"]["job"], target["health"]) for target in targets).items()))')
        [[ $saw == "(('multivac-api', 'up'), 2) (('multivac-edge', 'up'), 1) (('multivac-worker', 'up'), 2) (('prometheus', 'up'), 1)" ]]
    }
    rule 'it reads the metrics of every api, every worker and the edge' until_true 60 all_up
    knows() {
        saw=$(prometheus query --data-urlencode "query=$1" | python3 -c 'import json, sys
print(*(sample["value"][1] for sample in json.load(sys.stdin)["data"]["result"]))') && [[ $saw == "$2" ]]
    }
    rule 'the edge says that two replicas are ready' until_true 30 knows 'multivac_edge_replicas{state="ready"}' 2
    rule "and when its certificate ends: in some 824 days" knows 'round(multivac_edge_certificate_expires_seconds / 864000)' 82
    rules_run() { saw=$(prometheus rules | python3 -c 'import json, sys
print(*(rule["name"] + ": " + rule.get("lastError", "") for group in json.load(sys.stdin)["data"]["groups"] for rule in group["rules"] if rule["health"] == "err"))') && [[ -z $saw ]]; }
    rule 'no rule fails' rules_run
    for tool in promtool:'check config --syntax-only deploy/monitoring/prometheus.yml' "${MULTIVAC_TEST_OTELCOL:-otelcol}:validate --config=deploy/monitoring/otel-collector.yml"; do
        # shellcheck disable=SC2086
        valid() { saw=$("${tool%%:*}" ${tool#*:} 2>&1); }
        if command -v "${tool%%:*}" >/dev/null; then rule "$(basename "${tool%%:*}") ${tool#*:}" valid; else say "SKIPPED: there is no ${tool%%:*}"; fi
    done
else
    say "SKIPPED: the profile \`monitoring\`: $prometheus_image cannot be had"
fi

log_is_clean() {
    log_of nginx | grep '^{' | python3 -c 'import json, sys
lines = [json.loads(line) for line in sys.stdin]
assert len(lines) > 5 and all(line["request_id"] for line in lines)' || return 1
    ! log_of | grep -F -e starlight -e "$(sed -n 's/^user = "multivac:\(.*\)"$/\1/p' "$SECRETS/curlrc")" -e "$(<"$SECRETS/mongo/app_password")"
}
rule "nginx's log is JSON, and no log holds a text or a password" log_is_clean

count_rules compose-test
