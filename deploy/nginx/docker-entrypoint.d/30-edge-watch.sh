#!/bin/sh
# Run by the image's entrypoint: finds the api's replicas, and starts a watcher in the background that reloads nginx's
# configuration, without losing a request, when
#
# - the replicas have changed. A replica is every address of MULTIVAC_EDGE_API's names whose /readyz is 200; nginx itself
#   asks DNS only once, at its start. Where none is ready, those that are loading their index or are fenced (cut off from
#   the store) go on taking data, and the fenced ones refuse questions by themselves. One that is loading gets none: it
#   would say that it has no answer, and none at all, or a stale one, is better. While DNS does not answer, or a replica is
#   too busy to, the last known state is kept;
# - the certificate or its key has changed. nginx reads copies, so that a pair that does not fit never reaches it.
#
# It warns, once a day, from 30 days before the certificate expires. nginx reads the list of users at every request by itself.
#
# A second process writes the metrics, in Prometheus' text format, which nginx serves (metrics.conf). It asks nothing but nginx, so
# that no server that hangs keeps it. Figures that are not kept up to date are not shown: it removes them when the watcher has said
# nothing for a minute, nginx shows none once this process is gone, and the watcher starts it again.
set -eu
umask 077

conf=$MULTIVAC_EDGE_DIR/nginx.conf
upstream=$MULTIVAC_EDGE_DIR/upstream.conf
questions=$MULTIVAC_EDGE_DIR/questions.conf
pid=$MULTIVAC_EDGE_DIR/nginx.pid
crt=$MULTIVAC_EDGE_DIR/tls.crt
key=$MULTIVAC_EDGE_DIR/tls.key
closing=$MULTIVAC_EDGE_DIR/closing
metrics=$MULTIVAC_EDGE_DIR/metrics
counting=$MULTIVAC_EDGE_DIR/counting
counts=$MULTIVAC_EDGE_DIR/count
totals=$MULTIVAC_EDGE_DIR/totals
watched=$MULTIVAC_EDGE_DIR/watched

# An upstream needs at least one server. Nothing listens on the discard port.
no_replica=127.0.0.1:9

# say [LEVEL] TEXT: LEVEL is ERROR, WARNING or INFO, which is the default.
say() {
    level=INFO
    case $1 in ERROR | WARNING) level=$1 && shift ;; esac
    case $MULTIVAC_EDGE_LOG_FORMAT in
        gcp) printf '{"severity":"%s","time":"%s","message":"multivac edge: %s"}\n' $level "$(date -u +%FT%TZ)" "$(printf %s "$*" | tr -d '"\\' | tr '\n' ' ')" >&2 ;;
        *) if [ $level = INFO ]; then echo "multivac edge: $*" >&2; else echo "multivac edge: $level: $*" >&2; fi ;;
    esac
}

# put FILE: its text from standard input, whole or not at all.
put() { cat >"$1.new" && mv "$1.new" "$1"; }

# Prints the addresses of every name, sorted; a name that is not found has none.
addresses() {
    for target in $(echo "$MULTIVAC_EDGE_API" | tr ',' ' '); do
        port=${target##*:}
        timeout 10 getent ahosts "$(echo "${target%:*}" | tr -d '[]')" | while read -r address _; do
            case $address in *:*) echo "[$address]:$port" ;; *) echo "$address:$port" ;; esac
        done
    done | sort -u
}

# state ADDRESS BEFORE: prints what its /readyz says of it; nothing if it should get no request. One that is too busy to say is
# what it was before.
state() {
    outcome=0
    # Longer than the api's /readyz itself may take.
    said=$(curl --noproxy '*' --silent --max-time 5 --write-out ' %{http_code}' "http://$1/readyz") || outcome=$?
    case "$outcome $said" in
        0*' 200') echo ready ;;
        0*stopping* | 0*'not there yet'*) ;;
        0*'index is not filled'*) echo loading ;;
        0*fenced*) echo fenced ;;
        28*) echo "$2" ;;
    esac
}

# states BEFORE ADDRESS…: prints ADDRESS=STATE of each that has one.
states() {
    before=" $1 "
    shift
    for address in "$@"; do
        was=${before#* "$address="}
        if [ "$was" = "$before" ]; then was=; fi
        now=$(state "$address" "${was%% *}")
        watched
        [ -z "$now" ] || echo "$address=$now"
    done
}

# in_state STATE ADDRESS=STATE…
in_state() {
    wanted=$1
    shift
    for entry in "$@"; do
        case $entry in *="$wanted") echo "${entry%=*}" ;; esac
    done
}

# servers FILE ADDRESS…: nginx avoids a failed replica for a second; within that time the watcher finds that it is not ready.
servers() {
    file=$1
    shift
    for address in "$@"; do echo "server $address max_fails=2 fail_timeout=1s;"; done | put "$file"
}

# upstreams ADDRESS=STATE…: writes which replicas get questions, and which get all else; leaves in $told what to say of it.
upstreams() {
    asked=$(in_state ready "$@")
    fed=$asked
    told=$(echo $asked)
    if [ -z "$asked" ]; then
        asked=$(in_state fenced "$@")
        fed=$(echo $asked $(in_state loading "$@"))
        told=none${fed:+ that is ready; data go to $fed}
    fi
    servers "$questions" ${asked:-$no_replica}
    servers "$upstream" ${fed:-$no_replica}
}

certificate() { cat "$MULTIVAC_EDGE_CERTIFICATE" "$MULTIVAC_EDGE_KEY" 2>/dev/null | cksum; }

# Prints the processes of nginx that take connections; one that ends after a reload is called otherwise.
workers() {
    for process in $(grep -ls "^PPid:[[:space:]]*$(cat "$pid")\$" /proc/[0-9]*/status); do
        process=${process%/status}
        case $(tr -d '\0' <"$process/cmdline" 2>/dev/null) in
            *'shutting down'*) ;;
            *'worker process'*) echo "${process#/proc/}" ;;
        esac
    done
}

# ending WORKER…: whether none of them takes connections any more.
ending() {
    left=" $(echo $(workers)) "
    for worker in "$@"; do
        case $left in *" $worker "*) return 1 ;; esac
    done
}

# reload: checks the configuration, then has nginx read it again.
#
# The old workers close every connection that is idle, also one whose client is about to send its next request. From 1.27.4 on
# nginx spares those that were in use within seconds. Before an older one reloads, its replies end their connections for a
# while (`watch` removes the file), so that those still open then have been idle for as long.
reload() {
    if reload_once; then reloads=$((reloads + 1)); else failed=$((failed + 1)) && return 1; fi
}
reload_once() {
    nginx -t -q -c "$conf" 2>/dev/null || return 1
    if [ "$MULTIVAC_EDGE_CLOSING_SECONDS" = 0 ]; then
        nginx -s reload -c "$conf" 2>/dev/null
        return
    fi
    : >"$closing"
    sleep "$MULTIVAC_EDGE_CLOSING_SECONDS"
    old=$(workers)
    nginx -s reload -c "$conf" 2>/dev/null || return 1
    # They are told to end once the new ones run, which takes seconds on a busy machine.
    for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
        if ending $old; then return; fi
        sleep 0.5
    done
}

# take_certificate: has nginx use the certificate and key as they are now; 1 if they do not fit, and nothing is changed.
take_certificate() {
    # -f: a copy of a file that nobody may write, as a Secret of Kubernetes has them, can only be replaced.
    cp -f "$crt" "$crt.old" && cp -f "$key" "$key.old" || return 1
    if cp -f "$MULTIVAC_EDGE_CERTIFICATE" "$crt" && cp -f "$MULTIVAC_EDGE_KEY" "$key" && reload; then
        rm -f "$crt.old" "$key.old"
        return 0
    fi
    mv "$crt.old" "$crt" && mv "$key.old" "$key"
    return 1
}

# Once an hour; a warning once a day.
warned_on='' looked=0
warn_of_expiry() {
    now=$(date +%s)
    if [ $((now - looked)) -lt 3600 ]; then return; fi
    looked=$now
    ends=$(certificate_end)
    if [ -z "$ends" ] || [ $((ends - now)) -gt 2592000 ] || [ "$warned_on" = "$(date +%F)" ]; then return; fi
    warned_on=$(date +%F)
    say WARNING "the certificate expires within 30 days: in $(((ends - now) / 3600)) hours"
}

# watched: says that this process is there, what it knows of the replicas, and how often nginx has taken a configuration.
reloads=0 failed=0 ready=0 unready=0
watched() { echo "$(date +%s) $ready $unready $reloads $failed" | put "$watched"; }

# --- metrics ------------------------------------------------------------------------------------------------------

# Prints when the certificate that nginx serves ends, in seconds since 1970; nothing if it cannot be had. By curl, since not every
# image of nginx has an openssl, and not every `date` reads a date.
certificate_end() {
    curl --noproxy '*' --silent --insecure --verbose --max-time 2 --unix-socket "$MULTIVAC_EDGE_DIR/certificate.sock" https://nginx/ 2>&1 | awk '
        tolower($0) ~ /^\* +expire date: / {
            sub(/^[^:]*: */, "")
            split($3, time, ":")
            year = $4
            month = (index("JanFebMarAprMayJunJulAugSepOctNovDec", $1) + 2) / 3
            if (month < 3) { year--; month += 12 }
            days = 365 * year + int(year / 4) - int(year / 100) + int(year / 400) + int((153 * month - 457) / 5) + $2 - 719469
            printf "%.0f\n", days * 86400 + time[1] * 3600 + time[2] * 60 + time[3]
            exit
        }'
}

# count: adds what nginx has written since the last time to the totals, which are, in this order: requests with 2xx, 3xx, 4xx and
# 5xx, of them limited and stale, refused connections; then how much of each of the three files is counted.
count() {
    read -r ok moved wrong broken limited stale refused read_0 read_1 read_refused <"$totals"
    {
        tail -c "+$((read_0 + 1))" "$counts.0"
        echo /
        tail -c "+$((read_1 + 1))" "$counts.1"
        echo /
        tail -c "+$((read_refused + 1))" "$counts.refused"
    } 2>/dev/null | awk -v totals="$(cat "$totals")" '
        BEGIN { split(totals, total, " "); file = 8 }
        /^\/$/ { file++; next }
        { total[file] += length($0) + 1 }
        /^R/ { total[7]++; next }
        # What was no HTTP has a status that begins with 0.
        { class = substr($0, 1, 1); total[class < 1 ? 3 : class < 2 ? 1 : class > 5 ? 4 : class - 1]++ }
        /^429/ { total[5]++ }
        /S$/ { total[6]++ }
        END { for (i = 1; i <= 10; i++) printf "%.0f ", total[i]; print "" }' | put "$totals"
    read -r ok moved wrong broken limited stale refused read_0 read_1 read_refused <"$totals"
    # nginx writes to one file for ten seconds and then to the other; what it holds back follows within a second.
    phase=$(($(date +%s) % 20))
    case $phase in
        1[3-8]) if [ "$read_0" != 0 ]; then : >"$counts.0" && read_0=0; fi ;;
        [3-8]) if [ "$read_1" != 0 ]; then : >"$counts.1" && read_1=0; fi ;;
    esac
    if [ "$read_refused" -gt 65536 ]; then : >"$counts.refused" && read_refused=0; fi
    echo "$ok $moved $wrong $broken $limited $stale $refused $read_0 $read_1 $read_refused" | put "$totals"
}

# metric NAME TYPE HELP [LABELS VALUE]…: prints one, unless a value is empty.
metric() {
    name=$1 type=$2 help=$3
    shift 3
    case "$*" in '' | *' ') return ;; esac
    printf '# HELP %s %s\n# TYPE %s %s\n' "$name" "$help" "$name" "$type"
    while [ $# -gt 0 ]; do
        printf '%s%s %s\n' "$name" "$1" "$2"
        shift 2
    done
}

# connections: prints those of clients that are active, and of them those that are read from, written to and idle. Without the one
# that asks; and where `stream` passes each on to a server of nginx's own, that counts as another.
connections() {
    curl --noproxy '*' --silent --fail --max-time 2 --unix-socket "$MULTIVAC_EDGE_DIR/status.sock" http://nginx/ | awk -v both="${MULTIVAC_EDGE_STREAM:+2}" '
        /^Active/ { active = $3 - 1 }
        /^Reading/ { print both ? int((active + 1) / 2) : active, $2, $4 - 1, $6 }'
}

publish() {
    read -r seen ready unready reloads failed <"$watched"
    now=$(date +%s)
    if [ $((now - seen)) -gt 60 ]; then
        rm -f "$metrics"
        return
    fi
    set -- $(connections)
    active=${1:-} reading=${2:-} writing=${3:-} waiting=${4:-}
    {
        metric multivac_edge_replicas gauge "Addresses of the api, by whether they are ready." '{state="ready"}' "$ready" '{state="unready"}' "$unready"
        metric multivac_edge_reloads_total counter "Times that nginx has taken a changed configuration or certificate." '' "$reloads"
        metric multivac_edge_reload_failures_total counter "Times that it has refused one." '' "$failed"
        metric multivac_edge_connections gauge "Connections of clients: active in all; of them read from, written to, and waiting for a request." \
            '{state="active"}' "$active" '{state="reading"}' "$reading" '{state="writing"}' "$writing" '{state="waiting"}' "$waiting"
        [ -z "$MULTIVAC_EDGE_REFUSED" ] ||
            metric multivac_edge_connections_refused_total counter "Connections closed since their address had too many open." '' "$refused"
        metric multivac_edge_requests_total counter "Requests to both public ports, by the class of their status; without /healthz over http." \
            '{status="2xx"}' "$ok" '{status="3xx"}' "$moved" '{status="4xx"}' "$wrong" '{status="5xx"}' "$broken"
        metric multivac_edge_limited_total counter "Requests refused with 429 since their address sent too many." '' "$limited"
        metric multivac_edge_stale_total counter "Answers served stale since no replica answered." '' "$stale"
        metric multivac_edge_certificate_expires_seconds gauge "Time until the certificate that is served ends; negative afterwards." '' "${ends:+$((ends - now))}"
        metric multivac_edge_watch_timestamp_seconds gauge "When the watcher last looked at the replicas, since 1970." '' "$seen"
    } | put "$metrics"
}

# meter: writes the metrics for as long as nginx runs.
meter() {
    started='' asked=0 ends=
    while :; do
        if runs; then started=yes; elif [ -n "$started" ]; then return; fi
        count
        # The certificate once a minute; one that could not be had, every ten seconds.
        if [ -n "$started" ] && [ $(($(date +%s) - asked)) -ge $([ -n "$ends" ] && echo 60 || echo 10) ]; then
            ends=$(certificate_end)
            asked=$(date +%s)
        fi
        publish
        # More often than nginx goes from one file to the other, whatever the watcher does.
        sleep 2
    done
}

start_meter() {
    if [ "$MULTIVAC_EDGE_METRICS_LISTEN" = off ] || [ -e "$counting" ]; then return; fi
    meter &
    # Once it has ended, this leads to nothing, also where nobody has fetched its status.
    ln -sfn "/proc/$!/exe" "$counting"
}

# --- watching -----------------------------------------------------------------------------------------------------

runs() { [ -s "$pid" ] && kill -0 "$(cat "$pid")" 2>/dev/null; }

# counted ADDRESS=STATE…: keeps how many of the addresses are ready.
counted() {
    ready=$(in_state ready "$@" | wc -l)
    unready=$((addressed - ready))
    watched
}

watch() {
    known_servers=$1 known_certificate=$2
    started=
    while sleep "$MULTIVAC_EDGE_WATCH_SECONDS"; do
        rm -f "$closing"
        if runs; then
            started=yes
        elif [ -n "$started" ]; then
            return # nginx has ended
        else
            watched
            continue
        fi
        start_meter
        there=$(addresses)
        if [ -n "$there" ]; then
            now=$(echo $(states "$known_servers" $there))
            addressed=$(echo "$there" | wc -l)
            if [ "$now" != "$known_servers" ]; then
                upstreams $now
                if reload; then
                    say "replicas: $told"
                    known_servers=$now
                fi
            fi
        fi
        counted $known_servers
        now=$(certificate)
        if [ "$now" != "$known_certificate" ]; then
            if take_certificate; then
                say "the certificate has changed"
                # In a few seconds, when no old process of nginx serves the previous one any more.
                warned_on='' looked=$(($(date +%s) - 3595))
            else
                say ERROR "the certificate and its key do not fit or are missing; keeping the previous ones"
            fi
            known_certificate=$now
        fi
        warn_of_expiry
    done
}

rm -f "$closing" "$crt.old" "$key.old" "$counting" "$metrics" "$counts".*
echo '0 0 0 0 0 0 0 0 0 0' >"$totals"
: >"$counts.refused"
known=$(certificate)
cp -f "$MULTIVAC_EDGE_CERTIFICATE" "$crt"
cp -f "$MULTIVAC_EDGE_KEY" "$key"
there=$(addresses)
addressed=$(echo $there | wc -w)
first=$(echo $(states '' $there))
waited=0
while [ -z "$(in_state ready $first)" ] && [ "$waited" -lt "$MULTIVAC_EDGE_WAIT_SECONDS" ]; do
    sleep 1
    waited=$((waited + 1))
    there=$(addresses)
    addressed=$(echo $there | wc -w)
    first=$(echo $(states '' $there))
done
upstreams $first
say "replicas: $told"
counted $first
start_meter
watch "$first" "$known" &
