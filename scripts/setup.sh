#!/usr/bin/env bash
# Makes what the full system needs before its first start: a certificate, passwords, and the first user.
#
#     scripts/setup.sh                     makes what is missing; run again, it changes nothing
#     scripts/setup.sh --user NAME         adds a user who may feed and retract, or changes the password, and prints it once
#     scripts/setup.sh --user NAME --ask   the same, with a password that you type
#     scripts/setup.sh --remove-user NAME  removes a user
#     scripts/setup.sh --rotate WHAT       new passwords of redis or mongo, or a new keyfile; prints what to restart
#
# What it makes   secrets/ (never committed, mode 700, each file 600), and .env, which tells docker compose the user that
#                 the containers run as: you, so that they can read the files; the user 65532 if you are root.
#                   edge/   tls.crt, tls.key     a self-signed certificate; replace it by your own
#                           htpasswd             the users who may change data, with the hashes of their passwords
#                   app/    redis_url, mongo_url what the api and the workers connect with
#                   redis/  redis.conf           its password
#                   mongo/  keyfile, root_password, app_password (and the previous root passwords, which changing it needs)
#                   curlrc  for `curl -K secrets/curlrc …`: the first user's name and password, and the certificate
# What it needs   bash, openssl.
# Elsewhere       MULTIVAC_SECRETS names another directory, MULTIVAC_ENV_FILE another file.
# What it returns 0; 2 and the reason if it cannot.
set -euo pipefail
umask 077

cd "$(dirname "${BASH_SOURCE[0]}")/.."
readonly SECRETS=${MULTIVAC_SECRETS:-secrets} ENV_FILE=${MULTIVAC_ENV_FILE:-.env}
readonly FIRST=multivac

say() { printf 'setup: %s\n' "$*" >&2; }
fail() { say "$*"; exit 2; }

new_password() { openssl rand -hex 24; }

# missing FILE: whether it has to be made.
missing() { [[ ! -s $SECRETS/$1 ]]; }

# put FILE: writes the standard input to it, all or nothing.
put() {
    cat >"$SECRETS/$1.new"
    mv "$SECRETS/$1.new" "$SECRETS/$1"
    own "$SECRETS/$1"
}

# No container runs as root, so root's files would be unreadable to all of them. The owner is chosen at the first run, which
# another user may have done.
OWNER=$(id -u):$(id -g)
[[ $(id -u) != 0 ]] || OWNER=$(grep -s '^MULTIVAC_USER=' "$ENV_FILE" | tail -n 1 | cut -d = -f 2) || true
readonly OWNER=${OWNER:-65532:65532}
own() { [[ $(id -u) != 0 ]] || chown "$OWNER" "$@"; }

# --- users who may change data ---------------------------------------------------------------------------------

# A thousand rounds, the minimum: nginx computes the hash at every request, and a password of 192 random bits needs no more.
hash_of() { openssl passwd -6 -salt "rounds=1000\$$(openssl rand -hex 8)" -stdin; }

others_than() { [[ ! -s $SECRETS/edge/htpasswd ]] || awk -F : -v name="$1" '$1 != name' "$SECRETS/edge/htpasswd"; }

# enter NAME PASSWORD: adds the user, or changes the password; valid from the next request on.
enter() {
    { others_than "$1"; printf '%s:%s\n' "$1" "$(printf '%s' "$2" | hash_of)"; } | put edge/htpasswd
    # curlrc may hold the old password of this user.
    if [[ -s $SECRETS/curlrc ]] && grep -qF "user = \"$1:" "$SECRETS/curlrc"; then for_curl "$1" "$2"; fi
}

# for_curl NAME PASSWORD: writes curlrc. It is for the person who runs curl, not for a container.
for_curl() {
    printf 'user = "%s:%s"\ncacert = "%s/edge/tls.crt"\n' "$1" "$2" "$SECRETS" >"$SECRETS/curlrc.new"
    mv "$SECRETS/curlrc.new" "$SECRETS/curlrc"
}

check_name() { [[ ${1:-} =~ ^[A-Za-z0-9._-]{1,64}$ ]] || fail "a name has 1 to 64 letters, digits, '.', '_' or '-'"; }

add_user() {
    local name=$1 password again
    if [[ ${2:-} == --ask ]]; then
        read -r -s -p "Password for $name: " password && echo >&2
        [[ ${#password} -ge 12 ]] || fail "a password has at least 12 characters"
        read -r -s -p "Again: " again && echo >&2
        [[ $password == "$again" ]] || fail "the two are not the same"
        enter "$name" "$password"
        say "$name may change data"
    else
        password=$(new_password)
        enter "$name" "$password"
        say "$name may change data, with this password, which is not kept anywhere:"
        printf '%s\n' "$password"
    fi
}

remove_user() {
    cut -d : -f 1 "$SECRETS/edge/htpasswd" 2>/dev/null | grep -qxF -- "$1" || fail "there is no user $1"
    [[ -n $(others_than "$1") ]] || fail "$1 is the only user; without any the edge does not start"
    others_than "$1" | put edge/htpasswd
    say "$1 may no longer change data"
}

# --- what is missing ------------------------------------------------------------------------------------------

make_certificate() {
    local name
    name=$(hostname 2>/dev/null || echo localhost)
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 825 -subj "/CN=MultiVAC" \
        -addext "subjectAltName=DNS:localhost,DNS:$name,IP:127.0.0.1,IP:::1" -addext "extendedKeyUsage=serverAuth" \
        -keyout "$SECRETS/edge/tls.key" -out "$SECRETS/edge/tls.crt" 2>/dev/null || fail "openssl cannot make a certificate"
    own "$SECRETS/edge/tls.key" "$SECRETS/edge/tls.crt"
}

make_what_is_missing() {
    local made=() password
    mkdir -p "$SECRETS"/{edge,app,redis,mongo}

    if missing edge/tls.crt || missing edge/tls.key; then
        make_certificate
        made+=("a self-signed certificate for localhost (edge/tls.crt)")
    fi
    if missing edge/htpasswd; then
        password=$(new_password)
        enter $FIRST "$password"
        for_curl $FIRST "$password"
        made+=("a password for $FIRST (curlrc)")
    fi
    if missing app/redis_url || missing redis/redis.conf; then
        password=$(new_password)
        printf 'requirepass %s\n' "$password" | put redis/redis.conf
        printf 'redis://:%s@redis:6379\n' "$password" | put app/redis_url
        made+=("a password for Redis")
    fi
    if missing app/mongo_url || missing mongo/app_password; then
        password=$(new_password)
        printf '%s' "$password" | put mongo/app_password
        printf 'mongodb://multivac:%s@mongo:27017/multivac?replicaSet=rs0\n' "$password" | put app/mongo_url
        made+=("a password for MongoDB")
    fi
    if missing mongo/root_password; then
        new_password | tr -d '\n' | put mongo/root_password
        made+=("a password for MongoDB's administrator")
    fi
    if missing mongo/keyfile; then
        openssl rand -base64 384 | put mongo/keyfile
        made+=("a key for MongoDB's replica set")
    fi
    own "$SECRETS"/*/

    if ! grep -qs '^MULTIVAC_USER=' "$ENV_FILE"; then
        # If the last line has no end, the new one would be appended to it.
        [[ ! -s $ENV_FILE || -z $(tail -c 1 "$ENV_FILE") ]] || echo >>"$ENV_FILE"
        printf '# The user that the containers run as: the owner of secrets/.\nMULTIVAC_USER=%s\n' "$OWNER" >>"$ENV_FILE"
        made+=("$ENV_FILE")
    fi

    [[ ${#made[@]} -gt 0 ]] || made=("nothing: everything is there")
    local thing
    for thing in "${made[@]}"; do say "made $thing"; done
}

# --- new in place of old ------------------------------------------------------------------------------------------

rotate() {
    case ${1:-} in
        redis)
            rm -f "$SECRETS"/{redis/redis.conf,app/redis_url}
            make_what_is_missing
            say "now: docker compose restart redis api worker"
            ;;
        mongo)
            rm -f "$SECRETS"/{mongo/app_password,app/mongo_url}
            # deploy/mongo/init.js changes the password, for which it needs the one in force. If it has not run since the last
            # rotation, that is an older one, so all previous ones are kept.
            if [[ -s $SECRETS/mongo/root_password ]]; then
                { cat "$SECRETS/mongo/root_password" && echo && cat "$SECRETS/mongo/root_password.old" 2>/dev/null || true; } |
                    put mongo/root_password.old
                rm -f "$SECRETS/mongo/root_password"
            fi
            make_what_is_missing
            say "now: docker compose run --rm mongo-init && docker compose restart api worker"
            ;;
        keyfile)
            rm -f "$SECRETS/mongo/keyfile"
            make_what_is_missing
            say "now: docker compose restart mongo"
            ;;
        *) fail "--rotate takes redis, mongo or keyfile; --user changes a user's password" ;;
    esac
}

# --- from start to end -----------------------------------------------------------------------------------------

command -v openssl >/dev/null || fail "openssl is missing"
case ${1:-} in
    '')
        make_what_is_missing
        say "next: docker compose up -d --wait"
        ;;
    --user)
        check_name "${2:-}"
        [[ -z ${3:-} || $3 == --ask ]] || fail "after the name comes --ask or nothing"
        [[ -d $SECRETS/edge ]] || make_what_is_missing
        add_user "$2" "${3:-}"
        ;;
    --remove-user)
        check_name "${2:-}"
        remove_user "$2"
        ;;
    --rotate)
        [[ -d $SECRETS ]] || fail "there is nothing yet: run scripts/setup.sh"
        rotate "${2:-}"
        ;;
    *)
        sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"
        [[ $1 == -h || $1 == --help ]] || exit 2
        ;;
esac
