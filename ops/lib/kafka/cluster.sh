# shellcheck shell=bash
# A cluster's directory: what is written in it, and which of its brokers run.
#
#   cluster                      what it is made of; its first line marks the directory as ours
#   kafka.toml                   how solyx reaches it
#   node-N/                      server.properties, data, log, pid
#   certificates/, principals/   with --secure
#   through/                     with --through: how a client that is kept apart reaches it, and what to forward
#   registry/                    of ops/registry
#
# Variables of the cluster that is open: DIR, CLUSTER_ID, BROKERS, SECURE, CLIENT_PORTS, CONTROLLER_PORTS, MTLS_PORTS (by node);
# THROUGH (names) and THROUGH_PORTS (by name and node: the broker's port, the advertised one).

CLUSTER_MARK='# a Kafka of solyx, written by ops/kafka'
PREFIX=solyx
THROUGH=''
CLIENT_PORTS=() CONTROLLER_PORTS=() MTLS_PORTS=() THROUGH_PORTS=()

kafka_default_dir() {
    printf '%s\n' "${XDG_STATE_HOME:-$HOME/.local/state}/solyx/kafka"
}

admin() {
    python3 "$KAFKA_LIB/admin.py" "$@"
}

# admin_request WHAT ARGUMENTS…: as the brokers' own principal where the cluster is secure.
admin_request() {
    local what=$1 tls=()
    shift
    [ "$SECURE" = no ] || tls=(--ca "$DIR/certificates/ca.pem" --certificate "$DIR/certificates/admin.pem" --key "$DIR/certificates/admin.key")
    admin "$what" "${tls[@]}" "$@"
}

cluster_exists() {
    [ "$(head -n 1 "$DIR/cluster" 2> /dev/null || true)" = "$CLUSTER_MARK" ]
}

read_cluster() {
    local key value
    while IFS='=' read -r key value; do
        case "$key" in
            id) CLUSTER_ID=$value ;;
            brokers) BROKERS=$value ;;
            secure) SECURE=$value ;;
            client_ports) read -ra CLIENT_PORTS <<< "0 $value" ;;
            controller_ports) read -ra CONTROLLER_PORTS <<< "0 $value" ;;
            mtls_ports) read -ra MTLS_PORTS <<< "0 $value" ;;
            through) THROUGH=$value ;;
            through_ports) read -ra THROUGH_PORTS <<< "$value" ;;
        esac
    done < "$DIR/cluster"
}

write_cluster() {
    printf '%s\n' "$CLUSTER_MARK" "id=$CLUSTER_ID" "brokers=$BROKERS" "secure=$SECURE" "client_ports=${CLIENT_PORTS[*]:1}" \
        "controller_ports=${CONTROLLER_PORTS[*]:1}" "mtls_ports=${MTLS_PORTS[*]:1}" \
        "through=$THROUGH" "through_ports=${THROUGH_PORTS[*]}" > "$DIR/cluster.new"
    mv "$DIR/cluster.new" "$DIR/cluster"
}

choose_ports() {
    local ports names
    mapfile -t names < <(through_names)
    mapfile -t ports < <(admin ports $((BROKERS * (3 + 2 * ${#names[@]}))))
    CLIENT_PORTS=(0 "${ports[@]:0:BROKERS}")
    CONTROLLER_PORTS=(0 "${ports[@]:BROKERS:BROKERS}")
    MTLS_PORTS=(0 "${ports[@]:2 * BROKERS:BROKERS}")
    THROUGH_PORTS=("${ports[@]:3 * BROKERS}")
}

# The names of --through, one a line.
through_names() {
    tr ',' '\n' <<< "$THROUGH" | sed '/^$/d'
}

# through_port PLACE NODE WHICH: WHICH is 0 for the broker's port, 1 for the advertised one; PLACE that of the name, from 0.
through_port() {
    printf '%s\n' "${THROUGH_PORTS[$((2 * ($1 * BROKERS + $2 - 1) + $3))]}"
}

# One command at a time on a directory.
lock_cluster() {
    exec 9> "$DIR/lock"
    ! have flock || flock -w 120 9 || fail 3 "another command holds $DIR" "it did not end in 120 s" "wait for it, or look which process has $DIR/lock open"
}

nodes() {
    seq 1 "$BROKERS"
}

node_dir() {
    printf '%s\n' "$DIR/node-$1"
}

# The id of the process of node N, or nothing. A number left in a file may meanwhile be another process's: its command tells.
node_pid() {
    local pid
    pid=$(cat "$DIR/node-$1/pid" 2> /dev/null || true)
    if [ -n "$pid" ] && ps -ww -o command= -p "$pid" 2> /dev/null | grep -qF "kafka.Kafka $DIR/node-$1/server.properties"; then
        printf '%s\n' "$pid"
    fi
}

running_nodes() {
    local node
    for node in $(nodes); do
        [ -z "$(node_pid "$node")" ] || printf '%s\n' "$node"
    done
}

# Those that serve the other brokers and admin requests: the listener that answers without a password.
admin_port() {
    if [ "$SECURE" = yes ]; then
        printf '%s\n' "${MTLS_PORTS[$1]}"
    else
        printf '%s\n' "${CLIENT_PORTS[$1]}"
    fi
}

# join SEPARATOR WORDS…
join() {
    local separator=$1 joined=${2:-} word
    shift 2
    for word in "$@"; do
        joined+="$separator$word"
    done
    printf '%s\n' "$joined"
}

# bootstrap PORTS…
bootstrap() {
    join , "${@/#/127.0.0.1:}"
}

write_server_properties() {
    local node=$1 voters=() n copies=1 in_sync=1 security=PLAINTEXT
    for n in $(nodes); do
        voters+=("$n@127.0.0.1:${CONTROLLER_PORTS[$n]}")
    done
    [ "$BROKERS" = 1 ] || copies=3 in_sync=2
    [ "$SECURE" = no ] || security=SASL_SSL
    local listeners="CLIENT://127.0.0.1:${CLIENT_PORTS[$node]}" map="CLIENT:$security" between=CLIENT
    if [ "$SECURE" = yes ]; then
        listeners+=",MTLS://127.0.0.1:${MTLS_PORTS[$node]}" map+=",MTLS:SSL,CONTROLLER:SSL" between=MTLS
    else
        map+=",CONTROLLER:PLAINTEXT"
    fi
    local advertised=$listeners place=0 name
    for name in $(through_names); do
        listeners+=",THROUGH_$place://127.0.0.1:$(through_port "$place" "$node" 0)"
        advertised+=",THROUGH_$place://127.0.0.1:$(through_port "$place" "$node" 1)"
        map+=",THROUGH_$place:PLAINTEXT"
        place=$((place + 1))
    done
    # The voters are listed here and not kept in the log, so that ports may change between two starts.
    cat > "$DIR/node-$node/server.properties" << END
node.id=$node
process.roles=broker,controller
controller.quorum.voters=$(join , "${voters[@]}")
controller.listener.names=CONTROLLER
inter.broker.listener.name=$between
listeners=$listeners,CONTROLLER://127.0.0.1:${CONTROLLER_PORTS[$node]}
advertised.listeners=$advertised,CONTROLLER://127.0.0.1:${CONTROLLER_PORTS[$node]}
listener.security.protocol.map=$map
log.dirs=$DIR/node-$node/data

auto.create.topics.enable=false
unclean.leader.election.enable=false
# A log that is the truth does not lose its beginning; a topic may say otherwise.
log.retention.ms=-1
default.replication.factor=$copies
min.insync.replicas=$in_sync
offsets.topic.replication.factor=$copies
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=$copies
transaction.state.log.min.isr=$in_sync
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=$copies
share.coordinator.state.topic.min.isr=$in_sync
share.coordinator.state.topic.num.partitions=4
group.initial.rebalance.delay.ms=0
# A broker that died is missed sooner, and may sooner come back.
broker.session.timeout.ms=6000
broker.heartbeat.interval.ms=1000

# Small, so that three brokers share two processors.
num.network.threads=2
num.io.threads=3
num.replica.fetchers=1
num.recovery.threads.per.data.dir=1
background.threads=2
log.cleaner.threads=1
log.cleaner.dedupe.buffer.size=16777216
group.coordinator.threads=1
share.coordinator.threads=1
END
    [ "$SECURE" = no ] || secure_properties "$node" >> "$DIR/node-$node/server.properties"
}

# write_connection FILE BOOTSTRAP [PRINCIPAL] [security lines on stdin]: the file that solyx reads. A principal that no user name says is named.
write_connection() {
    local copies=1 in_sync=1 security url
    [ "$BROKERS" = 1 ] || copies=3 in_sync=2
    security=$(cat)
    {
        printf '%s\n' "bootstrap = \"$2\"" "prefix = \"$PREFIX\"" "replication = $copies" "min_insync_replicas = $in_sync"
        [ -z "${3:-}" ] || printf 'principal = "%s"\n' "$3"
        [ -z "$security" ] || printf '\n[security]\n%s\n' "$security"
        url=$(cat "$DIR/registry/url" 2> /dev/null || true)
        [ -z "$url" ] || printf '\n[registry]\nurl = "%s"\n' "$url"
    } > "$1.new"
    mv "$1.new" "$1"
}

# kafka.toml, and with --secure one of each principal.
write_connections() {
    if [ "$SECURE" = yes ]; then
        write_principals
    else
        write_connection "$DIR/kafka.toml" "$(bootstrap "${CLIENT_PORTS[@]:1}")" < /dev/null
        write_through
    fi
}

write_through() {
    local name node place=0 advertised
    for name in $(through_names); do
        mkdir -p "$DIR/through"
        advertised=()
        : > "$DIR/through/$name.ports"
        for node in $(nodes); do
            advertised+=("$(through_port "$place" "$node" 1)")
            printf '%s %s\n' "$(through_port "$place" "$node" 1)" "$(through_port "$place" "$node" 0)" >> "$DIR/through/$name.ports"
        done
        write_connection "$DIR/through/$name.toml" "$(bootstrap "${advertised[@]}")" < /dev/null
        place=$((place + 1))
    done
}
