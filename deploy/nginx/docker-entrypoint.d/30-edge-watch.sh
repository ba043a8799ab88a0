#!/bin/sh
# Run by the image's entrypoint: finds the api's replicas, and starts a watcher in the background that reloads nginx's
# configuration, without dropping a connection, when
#
# - the replicas have changed. A replica is every address of MULTIVAC_EDGE_API's names whose /readyz is 200; nginx itself
#   asks DNS only once, at its start. A replica that is not ready gets no questions, even if no other is left: with an
#   unfilled index it would say that it has no answer, and the last answers kept by nginx are better. But where all are
#   fenced, since none reaches MongoDB, they go on taking data, and refuse questions by themselves. While DNS does not
#   answer, or a replica is too busy to, the last known state is kept;
# - the certificate or its key has changed. nginx reads copies, so that a pair that does not fit never reaches it.
#
# nginx reads the list of users at every request by itself.
set -eu
umask 077

conf=$MULTIVAC_EDGE_DIR/nginx.conf
upstream=$MULTIVAC_EDGE_DIR/upstream.conf
pid=$MULTIVAC_EDGE_DIR/nginx.pid
crt=$MULTIVAC_EDGE_DIR/tls.crt
key=$MULTIVAC_EDGE_DIR/tls.key

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

# ready BEFORE ADDRESS…: prints those that are ready, and those that were ready before and do not answer in time; where there
# is none, those that are fenced.
ready() {
    before=" $1 "
    shift
    found='' fenced=''
    for address in "$@"; do
        outcome=0
        # Longer than the api's /readyz itself may take.
        reply=$(curl --noproxy '*' --silent --max-time 5 --write-out ' %{http_code}' "http://$address/readyz") || outcome=$?
        case $outcome:$reply in
            0:*' 200') found="$found $address" ;;
            0:*'"missing":["fenced'*' 503') fenced="$fenced $address" ;;
            28:*) case $before in *" $address "*) found="$found $address" ;; esac ;;
        esac
    done
    echo "${found:-$fenced}"
}

# nginx avoids a failed replica for a second; within that time the watcher finds that it is not ready.
servers() {
    for address in "$@"; do echo "server $address max_fails=2 fail_timeout=1s;"; done >"$upstream.new"
    mv "$upstream.new" "$upstream"
}

certificate() { cat "$MULTIVAC_EDGE_CERTIFICATE" "$MULTIVAC_EDGE_KEY" 2>/dev/null | cksum; }

# reload: checks the configuration, then has nginx read it again.
reload() { nginx -t -q -c "$conf" 2>/dev/null && nginx -s reload -c "$conf" 2>/dev/null; }

# take_certificate: has nginx use the certificate and key as they are now; 1 if they do not fit, and nothing is changed.
take_certificate() {
    cp "$crt" "$crt.old" && cp "$key" "$key.old" || return 1
    if cp "$MULTIVAC_EDGE_CERTIFICATE" "$crt" && cp "$MULTIVAC_EDGE_KEY" "$key" && reload; then
        return 0
    fi
    mv "$crt.old" "$crt" && mv "$key.old" "$key"
    return 1
}

watch() {
    known_servers=$1 known_certificate=$2
    started=
    while sleep "$MULTIVAC_EDGE_WATCH_SECONDS"; do
        if [ -s "$pid" ] && kill -0 "$(cat "$pid")" 2>/dev/null; then
            started=yes
        elif [ -n "$started" ]; then
            return # nginx has ended
        else
            continue
        fi
        there=$(addresses)
        if [ -n "$there" ]; then
            now=$(echo $(ready "$known_servers" $there))
            if [ "$now" != "$known_servers" ]; then
                servers ${now:-$no_replica}
                if reload; then
                    say "replicas: ${now:-none}"
                    known_servers=$now
                fi
            fi
        fi
        now=$(certificate)
        if [ "$now" != "$known_certificate" ]; then
            if take_certificate; then
                say "the certificate has changed"
            else
                say "the certificate and its key do not fit or are missing; keeping the previous ones"
            fi
            known_certificate=$now
        fi
    done
}

known=$(certificate)
cp "$MULTIVAC_EDGE_CERTIFICATE" "$crt"
cp "$MULTIVAC_EDGE_KEY" "$key"
first=$(echo $(ready '' $(addresses)))
servers ${first:-$no_replica}
say "replicas: ${first:-none yet}"
watch "$first" "$known" &
