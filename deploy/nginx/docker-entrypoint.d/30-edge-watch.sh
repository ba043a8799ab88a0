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
set -eu
umask 077

conf=$MULTIVAC_EDGE_DIR/nginx.conf
upstream=$MULTIVAC_EDGE_DIR/upstream.conf
questions=$MULTIVAC_EDGE_DIR/questions.conf
pid=$MULTIVAC_EDGE_DIR/nginx.pid
crt=$MULTIVAC_EDGE_DIR/tls.crt
key=$MULTIVAC_EDGE_DIR/tls.key
closing=$MULTIVAC_EDGE_DIR/closing

# An upstream needs at least one server. Nothing listens on the discard port.
no_replica=127.0.0.1:9

say() { echo "multivac edge: $*" >&2; }

# Prints the addresses of every name, sorted; a name that is not found has none.
addresses() {
    for target in $(echo "$MULTIVAC_EDGE_API" | tr ',' ' '); do
        port=${target##*:}
        getent ahosts "$(echo "${target%:*}" | tr -d '[]')" | while read -r address _; do
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
    for address in "$@"; do echo "server $address max_fails=2 fail_timeout=1s;"; done >"$file.new"
    mv "$file.new" "$file"
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
    cp "$crt" "$crt.old" && cp "$key" "$key.old" || return 1
    if cp "$MULTIVAC_EDGE_CERTIFICATE" "$crt" && cp "$MULTIVAC_EDGE_KEY" "$key" && reload; then
        rm -f "$crt.old" "$key.old"
        return 0
    fi
    mv "$crt.old" "$crt" && mv "$key.old" "$key"
    return 1
}

warned_on=
warn_of_expiry() {
    today=$(date +%F)
    if [ "$today" = "$warned_on" ] || ! command -v openssl >/dev/null; then return; fi
    warned_on=$today
    openssl x509 -noout -checkend 2592000 -in "$crt" >/dev/null ||
        say "WARNING: the certificate expires within 30 days: $(openssl x509 -noout -enddate -in "$crt")"
}

watch() {
    known_servers=$1 known_certificate=$2
    started=
    while sleep "$MULTIVAC_EDGE_WATCH_SECONDS"; do
        rm -f "$closing"
        if [ -s "$pid" ] && kill -0 "$(cat "$pid")" 2>/dev/null; then
            started=yes
        elif [ -n "$started" ]; then
            return # nginx has ended
        else
            continue
        fi
        there=$(addresses)
        if [ -n "$there" ]; then
            now=$(echo $(states "$known_servers" $there))
            if [ "$now" != "$known_servers" ]; then
                upstreams $now
                if reload; then
                    say "replicas: $told"
                    known_servers=$now
                fi
            fi
        fi
        now=$(certificate)
        if [ "$now" != "$known_certificate" ]; then
            if take_certificate; then
                say "the certificate has changed"
                warned_on=
            else
                say "the certificate and its key do not fit or are missing; keeping the previous ones"
            fi
            known_certificate=$now
        fi
        warn_of_expiry
    done
}

rm -f "$closing" "$crt.old" "$key.old"
known=$(certificate)
cp "$MULTIVAC_EDGE_CERTIFICATE" "$crt"
cp "$MULTIVAC_EDGE_KEY" "$key"
first=$(echo $(states '' $(addresses)))
upstreams $first
say "replicas: $told"
watch "$first" "$known" &
