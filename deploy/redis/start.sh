#!/bin/sh
# Starts a Redis with one user for the applications, who may do what MultiVAC does (rights) and nothing else:
#
#     start.sh [ARGUMENT OF redis-server]…
#
# What it does    Takes the password out of the secret that setup.py makes (`requirepass PASSWORD`), and gives redis-server a
#                 configuration with its hash: no password is in the image, the environment or the list of processes.
#                 Where the secret has an admin_password too, there is a second user, `admin`, who may do everything: the nodes of a
#                 Cluster copy from each other as that one.
# What it needs   rights beside it; /run/secrets/redis/redis.conf; /tmp for the configuration.
# Elsewhere       MULTIVAC_REDIS_CONF names another secret, MULTIVAC_REDIS_SERVER another redis-server.
# What it returns redis-server's status; 2 if there is no password.
set -eu
umask 077

secret=${MULTIVAC_REDIS_CONF:-/run/secrets/redis/redis.conf}
password=$(sed -n 's/^requirepass //p' "$secret")
if [ -z "$password" ]; then
    echo "redis: $secret holds no password: run scripts/setup.py" >&2
    exit 2
fi
hashed() { printf %s "$1" | sha256sum | cut -d ' ' -f 1; }
hash=$(hashed "$password")
admin=$(cat "$(dirname "$secret")/admin_password" 2>/dev/null || true)
rights=$(grep -v '^#' "$(dirname "$0")/rights" | tr '\n' ' ')
server=${MULTIVAC_REDIS_SERVER:-redis-server}
# For --durability. Older ones do not have it, and do not start where a right names what they do not have.
case $("$server" --version) in
    *v=6.* | *v=7.[01].*) ;;
    *) rights="$rights +waitaof" ;;
esac
case " $* " in
    # How clients learn where each slot is.
    *' --cluster-enabled yes '*) rights="$rights +cluster|slots +cluster|info +asking" ;;
esac
configuration=$(mktemp "${TMPDIR:-/tmp}/redis.XXXXXX")
# Redis reads it once, through this descriptor, which keeps it after its name is gone.
exec 9<"$configuration"
{
    sed '/^requirepass /d' "$secret"
    printf 'user default on #%s %s\n' "$hash" "$rights"
    [ -z "$admin" ] || printf 'user admin on #%s ~* &* +@all\nmasteruser admin\nmasterauth %s\n' "$(hashed "$admin")" "$admin"
} >"$configuration"
rm "$configuration"
exec "$server" /dev/fd/9 "$@"
