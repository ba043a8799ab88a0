#!/bin/sh
# Run by the image's entrypoint: finds the api's replicas, then leaves a watcher behind that has nginx read its
# configuration again, without dropping a connection, when
#
# - the replicas have changed: every address of MULTIVAC_EDGE_API's names that says it is ready. nginx itself asks DNS
#   only once, at its start. Where none is ready there is none: one that does not know everything yet would say that it
#   knows no answer, and the last answers are better. While DNS does not answer, or a replica is too busy to, what was
#   so stays so;
# - the certificate or its key has changed. nginx has copies of them: a pair that does not fit stays out of its way.
#
# (Who may change data is read by nginx at every request.)
set -eu
umask 077

conf=$MULTIVAC_EDGE_DIR/nginx.conf
upstream=$MULTIVAC_EDGE_DIR/upstream.conf
pid=$MULTIVAC_EDGE_DIR/nginx.pid
crt=$MULTIVAC_EDGE_DIR/tls.crt
key=$MULTIVAC_EDGE_DIR/tls.key

# Port 9 discards: a replica that is never there.
nobody=127.0.0.1:9

say() { echo "multivac edge: $*" >&2; }

# The addresses of every name, sorted; a name that is not found has none.
addresses() {
    for target in $(echo "$MULTIVAC_EDGE_API" | tr ',' ' '); do
        port=${target##*:}
        getent ahosts "$(echo "${target%:*}" | tr -d '[]')" | while read -r address _; do
            case $address in *:*) echo "[$address]:$port" ;; *) echo "$address:$port" ;; esac
        done
    done | sort -u
}

# ready BEFORE ADDRESS…: which of them are ready, or were before and have not said otherwise.
ready() {
    before=" $1 "
    shift
    for address in "$@"; do
        outcome=0
        # Longer than the api itself waits for its servers.
        curl --noproxy '*' --silent --fail --max-time 5 --output /dev/null "http://$address/readyz" || outcome=$?
        case $outcome in
            0) echo "$address" ;;
            28) case $before in *" $address "*) echo "$address" ;; esac ;;
        esac
    done
}

# A failed replica is left alone for a second, within which it is found not to be ready.
servers() {
    for address in "$@"; do echo "server $address max_fails=2 fail_timeout=1s;"; done >"$upstream.new"
    mv "$upstream.new" "$upstream"
}

certificate() { cat "$MULTIVAC_EDGE_CERTIFICATE" "$MULTIVAC_EDGE_KEY" 2>/dev/null | cksum; }

# reload: tries the configuration as it is now, then has nginx take it up.
reload() { nginx -t -q -c "$conf" 2>/dev/null && nginx -s reload -c "$conf" 2>/dev/null; }

# take_certificate: has nginx take up the pair that is there now; 1, and all as it was, where it does not fit.
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
            return # with nginx
        else
            continue
        fi
        there=$(addresses)
        if [ -n "$there" ]; then
            now=$(echo $(ready "$known_servers" $there))
            if [ "$now" != "$known_servers" ]; then
                servers ${now:-$nobody}
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
                say "the certificate and its key do not fit, or are not there; going on with those before"
            fi
            known_certificate=$now
        fi
    done
}

known=$(certificate)
cp "$MULTIVAC_EDGE_CERTIFICATE" "$crt"
cp "$MULTIVAC_EDGE_KEY" "$key"
first=$(echo $(ready '' $(addresses)))
servers ${first:-$nobody}
say "replicas: ${first:-none yet}"
watch "$first" "$known" &
