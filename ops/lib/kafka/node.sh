# shellcheck shell=bash
# Brokers as processes: format, start, wait until they answer, stop.

START_DEADLINE_S=60
STOP_DEADLINE_S=12

# Formats the nodes that have no data yet, at the same time.
format_nodes() {
    local node pids=() pid arguments
    for node in $(nodes); do
        [ ! -f "$DIR/node-$node/data/meta.properties" ] || continue
        arguments="$DIR/node-$node/format.arguments"
        # In a file, since it has the passwords' digests in it.
        (
            umask 077
            printf '%s\n' kafka.tools.StorageTool format -t "$CLUSTER_ID" -c "\"$DIR/node-$node/server.properties\"" > "$arguments"
            [ "$SECURE" = no ] || scram_arguments >> "$arguments"
        )
        kafka_java "@$arguments" > "$DIR/node-$node/format.log" 2>&1 &
        pids+=("$node:$!")
    done
    for pid in "${pids[@]}"; do
        node=${pid%%:*}
        wait "${pid#*:}" || { tail -n 5 "$DIR/node-$node/format.log" >&2; fail 3 "the storage of broker $node could not be made" "the tool said the above" "free disk at $DIR, or ops/kafka down --wipe --dir $DIR and start anew"; }
        rm -f "$DIR/node-$node/format.arguments"
    done
}

# start_node N: in a session of its own, so that the terminal's signals do not reach it.
start_node() {
    local dir="$DIR/node-$1" heap=512m detach=()
    [ "$BROKERS" = 1 ] || heap=384m
    ! have setsid || detach=(setsid)
    [ ! -f "$dir/log" ] || mv "$dir/log" "$dir/log.before"
    # 9 is the lock of the command that starts it.
    nohup "${detach[@]}" java "-Xmx$heap" -Xms128m -XX:+UseSerialGC -XX:+ExitOnOutOfMemoryError \
        -Dorg.slf4j.simpleLogger.showDateTime=true "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSXXX" \
        -Dorg.slf4j.simpleLogger.showThreadName=false -Dorg.slf4j.simpleLogger.showShortLogName=true \
        -cp "$KAFKA_JARS/*" kafka.Kafka "$dir/server.properties" > "$dir/log" 2>&1 < /dev/null 9>&- &
    printf '%s\n' $! > "$dir/pid"
}

# wait_ready NODES…: until each of them says that all of the running ones are registered.
wait_ready() {
    local node ports=() wanted until=$((SECONDS + START_DEADLINE_S)) said
    for node in "$@"; do
        ports+=("$(admin_port "$node")")
    done
    while :; do
        for node in "$@"; do
            [ -n "$(node_pid "$node")" ] || [ "$SECONDS" -lt $((until - START_DEADLINE_S + 1)) ] || broker_died "$node"
        done
        # A paused one counts until the others miss it, and then not.
        wanted=$(for node in $(running_nodes); do is_paused "$node" || printf '%s\n' "$node"; done | paste -sd' ' -)
        said=$(admin_request brokers "${ports[@]}" 2> /dev/null | cut -d' ' -f2- | sort -u || true)
        [ "$said" != "$wanted" ] || return 0
        [ "$SECONDS" -lt "$until" ] || break
        sleep 0.2
    done
    for node in "$@"; do
        is_in "$node" "$said" || last_words "$node"
    done
    fail 3 "the brokers did not come up in $START_DEADLINE_S s" "running: ${wanted:-none}; they say: ${said//$'\n'/; }" \
        "see above and $DIR/node-*/log; a busy machine may need another ops/kafka up; ops/kafka down stops them"
}

# is_in NUMBER TEXT: whether the last line of the text has the number.
is_in() {
    [[ " $(tail -n 1 <<< "$2") " = *" $1 "* ]]
}

# What broker N complained of last, or its last lines when it did not.
last_words() {
    local words log="$DIR/node-$1/log"
    words=$(grep -E ' (WARN|ERROR) |Exception|Caused by' "$log" | tail -n 3 || true)
    say "from $log:"
    cut -c 1-300 <<< "${words:-$(tail -n 8 "$log")}" >&2
}

broker_died() {
    last_words "$1"
    fail 3 "broker $1 died while starting" "see above" \
        "no memory or disk left, or damaged data? ops/kafka down --wipe --dir $DIR begins anew and loses what is on it"
}

# signal_nodes SIGNAL NODES…
signal_nodes() {
    local signal=$1 node pid
    shift
    for node in "$@"; do
        pid=$(node_pid "$node")
        [ -z "$pid" ] || kill "-$signal" "$pid" 2> /dev/null || true
    done
}

# stop_nodes NODES…: asks, waits, and then kills. A paused one is resumed, or it would not hear.
stop_nodes() {
    local until=$((SECONDS + STOP_DEADLINE_S)) node left
    signal_nodes TERM "$@"
    signal_nodes CONT "$@"
    while :; do
        left=()
        for node in "$@"; do
            [ -z "$(node_pid "$node")" ] || left+=("$node")
        done
        [ "${#left[@]}" != 0 ] || break
        if [ "$SECONDS" -ge "$until" ]; then
            say "   broker ${left[*]} did not stop in $STOP_DEADLINE_S s and is killed"
            kill_nodes "${left[@]}"
            break
        fi
        sleep 0.1
    done
    for node in "$@"; do
        rm -f "$DIR/node-$node/pid"
    done
}

kill_nodes() {
    local node
    signal_nodes KILL "$@"
    for node in "$@"; do
        while [ -n "$(node_pid "$node")" ]; do
            sleep 0.05
        done
        rm -f "$DIR/node-$node/pid"
    done
}

is_paused() {
    local stat
    stat=$(ps -o stat= -p "$(node_pid "$1")" 2> /dev/null || true)
    [ "${stat:0:1}" = T ]
}

# node_state N: up, paused, "not answering" or down. ANSWERS has what `admin brokers` said.
node_state() {
    if [ -z "$(node_pid "$1")" ]; then
        printf 'down\n'
    elif is_paused "$1"; then
        printf 'paused\n'
    elif grep -q "^$(admin_port "$1") .*\b$1\b" <<< "$ANSWERS"; then
        printf 'up\n'
    else
        printf 'not answering\n'
    fi
}

node_resident_mib() {
    local pid
    pid=$(node_pid "$1")
    [ -z "$pid" ] || ps -o rss= -p "$pid" | awk '{print int($1 / 1024)}'
}
