#!/bin/sh
# Makes one Redis Cluster of nodes that have met (cluster-node.sh): half of them masters with slots, the others their replicas.
#
#     cluster-init.sh
#
# What it does    Gives slots to masters, on as many machines as there are, and a master to each node that has no slots, one on another
#                 machine if there is one. What is done already stays, so it can be run again at any time, also where another run was cut
#                 off in the middle; slots that somebody has are never moved. (`redis-cli --cluster create` refuses nodes that have met.)
# What it needs   MULTIVAC_REDIS_NODES: the names of all nodes; /run/secrets/redis/admin_password.
# What it returns 0 when every slot is served; 1 and the reason if the nodes do not answer in time or hold data without slots.
set -eu

REDISCLI_AUTH=$(cat /run/secrets/redis/admin_password)
export REDISCLI_AUTH
readonly SLOTS=16384
count=$(echo "$MULTIVAC_REDIS_NODES" | wc -w)
masters=$((count / 2))
cli() {
    host=$1
    shift
    timeout 10 redis-cli -h "$host" --user admin --no-auth-warning "$@" | tr -d '\r'
}
field() { cli "$1" cluster info 2>/dev/null | sed -n "s/^$2://p"; }
fail() {
    echo "redis-init: $*" >&2
    exit 1
}
# until_each WHAT FIELD VALUE: waits until every node says so.
until_each() {
    tries=0
    for name in $MULTIVAC_REDIS_NODES; do
        while [ "$(field "$name" "$2")" != "$3" ]; do
            tries=$((tries + 1))
            [ $tries -lt 300 ] || fail "$name: $1: not within ten minutes"
            sleep 2
        done
    done
}
# A line for each node: name, its id, its machine, whether it is a master, how many slots ranges it has, the id of its master.
survey() {
    for name in $MULTIVAC_REDIS_NODES; do
        machine=$(cli "$name" config get syslog-ident | sed -n 2p)
        cli "$name" cluster nodes | awk -v name="$name" -v machine="${machine:-unknown}" '
            $3 ~ /myself/ { print name, $1, machine, ($3 ~ /master/ ? "master" : "replica"), NF - 8, $4 }'
    done
}

until_each "it knows all $count nodes" cluster_known_nodes "$count"

first=${MULTIVAC_REDIS_NODES%% *}
if [ "$(field "$first" cluster_slots_assigned)" != $SLOTS ]; then
    for name in $MULTIVAC_REDIS_NODES; do
        [ "$(field "$name" cluster_slots_assigned)" != 0 ] || [ "$(cli "$name" dbsize)" = 0 ] ||
            fail "$name holds data and nobody has slots; it is not for a program to say whose they are"
    done
    # By the names' order, so that every run comes to the same: again and again one on the machine that has fewest.
    chosen=$(survey | awk -v masters=$masters '
        { name[NR] = $1; machine[NR] = $3 }
        END {
            for (i = 0; i < masters; i++) {
                best = 0
                for (n = 1; n <= NR; n++) if (!taken[n] && (!best || load[machine[n]] < load[machine[best]])) best = n
                taken[best] = 1; load[machine[best]]++; print name[best]
            }
        }')
    number=0
    for name in $chosen; do
        from=$((SLOTS * number / masters)) to=$((SLOTS * (number + 1) / masters - 1))
        number=$((number + 1))
        cli "$name" cluster nodes | awk '$3 ~ /myself/ { exit NF > 8 }' || continue
        said=$(cli "$name" cluster addslotsrange $from $to)
        [ "$said" = OK ] || fail "$name does not take the slots $from to $to: $said"
        echo "redis-init: $name has the slots $from to $to"
    done
fi
until_each 'it knows who has every slot' cluster_slots_assigned $SLOTS

for name in $MULTIVAC_REDIS_NODES; do
    # The master with the fewest replicas, rather on another machine.
    master=$(survey | awk -v name="$name" '
        $1 == name { own = $3; idle = $4 == "master" && $5 == 0 }
        $4 == "master" && $5 > 0 { id[++n] = $2; machine[n] = $3 }
        $4 == "replica" { replicas[$6]++ }
        END {
            for (i = 1; idle && i <= n; i++) {
                cost = 2 * replicas[id[i]] + (machine[i] == own)
                if (best == "" || cost < least) { best = id[i]; least = cost }
            }
            print best
        }')
    [ -n "$master" ] || continue
    said=$(cli "$name" cluster replicate "$master")
    [ "$said" = OK ] || fail "$name cannot become a replica of $master: $said"
    echo "redis-init: $name is a replica of $master"
done
until_each 'the cluster serves' cluster_state ok
echo 'redis-init: every slot is served'
