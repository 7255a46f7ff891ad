# shellcheck shell=bash
# A cluster's directory: what is written in it, and which of its brokers run.
#
#   cluster                      what it is made of; its first line marks the directory as ours
#   kafka.toml                   how solyx reaches it
#   node-N/                      server.properties, data, log, pid
#   certificates/, principals/   with --secure
#   registry/                    of ops/registry
#
# Variables of the cluster that is open: DIR, CLUSTER_ID, BROKERS, SECURE, CLIENT_PORTS, CONTROLLER_PORTS, MTLS_PORTS (by node).

CLUSTER_MARK='# a Kafka of solyx, written by ops/kafka'
PREFIX=solyx
CLIENT_PORTS=() CONTROLLER_PORTS=() MTLS_PORTS=()

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
        esac
    done < "$DIR/cluster"
}

write_cluster() {
    printf '%s\n' "$CLUSTER_MARK" "id=$CLUSTER_ID" "brokers=$BROKERS" "secure=$SECURE" "client_ports=${CLIENT_PORTS[*]:1}" \
        "controller_ports=${CONTROLLER_PORTS[*]:1}" "mtls_ports=${MTLS_PORTS[*]:1}" > "$DIR/cluster.new"
    mv "$DIR/cluster.new" "$DIR/cluster"
}

choose_ports() {
    local ports
    mapfile -t ports < <(admin ports $((BROKERS * 3)))
    CLIENT_PORTS=(0 "${ports[@]:0:BROKERS}")
    CONTROLLER_PORTS=(0 "${ports[@]:BROKERS:BROKERS}")
    MTLS_PORTS=(0 "${ports[@]:2 * BROKERS}")
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
    # The voters are listed here and not kept in the log, so that ports may change between two starts.
    cat > "$DIR/node-$node/server.properties" << END
node.id=$node
process.roles=broker,controller
controller.quorum.voters=$(join , "${voters[@]}")
controller.listener.names=CONTROLLER
inter.broker.listener.name=$between
listeners=$listeners,CONTROLLER://127.0.0.1:${CONTROLLER_PORTS[$node]}
advertised.listeners=$listeners
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

# write_connection FILE BOOTSTRAP [security lines on stdin]: the file that solyx reads.
write_connection() {
    local copies=1 in_sync=1 security url
    [ "$BROKERS" = 1 ] || copies=3 in_sync=2
    security=$(cat)
    {
        printf '%s\n' "bootstrap = \"$2\"" "prefix = \"$PREFIX\"" "replication = $copies" "min_insync_replicas = $in_sync"
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
    fi
}
