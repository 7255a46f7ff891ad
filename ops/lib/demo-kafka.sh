# shellcheck shell=bash
# What `ops/demo --kafka` does beside what the plain demonstration does. Sourced by it, with `out`, `solyx` and `show` defined.

. "$ROOT/ops/lib/background.sh"
. "$ROOT/ops/lib/examples.sh"

LIVE_FLEET="$ROOT/ops/fleets/live.toml"
ENGINES_UP_S=60
JOBS_DONE_S=120

# kafka_up: a broker and a registry in $out/kafka, which stop when this ends in any way, unless --keep was given.
kafka_up() {
    case "$out" in *[[:space:]\"\'\\,]*) fail 2 "the directory's name is not one Kafka's configuration can hold" "$out" "name one without spaces, commas and quotes" ;; esac
    trap kafka_end EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    "$ROOT/ops/kafka" up --dir "$out/kafka"
    "$ROOT/ops/registry" up --kafka "$out/kafka"
}

kafka_end() {
    local status=$?
    trap - EXIT
    trap '' INT TERM
    end_background
    if [ "$keep" = yes ]; then
        say "the broker and the registry stay up; stop them with: ops/kafka down --dir $out/kafka"
    elif [ -d "$out/kafka" ]; then
        "$ROOT/ops/kafka" down --dir "$out/kafka" || say "they may still run: ops/kafka status --dir $out/kafka"
    fi
    exit "$status"
}

# kafka_topics PREFIX FLEET.toml DIR…: the topics of a cell, and worlds that are on them.
kafka_topics() {
    local prefix=$1 fleet=$2 settings="$out/kafka/$1.toml" dir
    shift 2
    sed "s/^prefix = .*/prefix = \"$prefix\"/" "$out/kafka/kafka.toml" > "$settings"
    for dir in "$@"; do
        "$solyx" topics apply --kafka "$settings" --log "$dir" --fleet "$fleet"
    done
}

# What only a log on Kafka has: its records as they are on the topics, and a copy that somebody without Kafka can check.
kafka_mirror() {
    step "some records, and a copy in files that is audited without Kafka" "half a minute"
    local head copied
    show tail decisions --partition 0 --last 2 --log hybrid | cut -c 1-200
    show mirror --log hybrid --to-archive hybrid-archive
    show audit --archive hybrid-archive | tee "$out/hybrid-archive.txt"
    head=$(grep '^chain head' "$out/hybrid.txt")
    copied=$(grep '^chain head' "$out/hybrid-archive.txt" || echo none)
    [ "$copied" = "$head" ] || fail 1 "the copy has another chain head than the run" "$copied; the run has $head" "solyx audit --log $out/hybrid"
    say "   the copy's chain head is the run's"
}

leader() {
    (cd "$out/live" && "$solyx" leader show --log desk --json) | python3 -c '
import json, sys, time
recent = (time.time() - 3) * 1000
alive = [one for one in json.load(sys.stdin)["instances"] if one["seen_ms"] > recent]
print(len(alive), next((one["instance"] for one in alive if one["leads"]), "nobody"))' 2> /dev/null || echo "0 nobody"
}

# await_leader COUNT NOT: until COUNT engines are alive and one leads whose name is not NOT; it is in LEADER.
await_leader() {
    local alive until=$((SECONDS + ENGINES_UP_S))
    while :; do
        read -r alive LEADER <<< "$(leader)"
        [ "$alive" -lt "$1" ] || [ "$LEADER" = nobody ] || [ "$LEADER" = "$2" ] || return 0
        [ "$SECONDS" -lt "$until" ] || fail 3 "no engine leads" "after $ENGINES_UP_S s $alive are alive" "their logs are $out/live/*.log"
        sleep 0.3
    done
}

jobs_are() {
    (cd "$out/live" && "$solyx" view jobs --log desk --json) | python3 -c 'import json, sys; print(json.load(sys.stdin)["count"][sys.argv[1]])' "$1"
}

# jobs_published COUNT SECONDS: by a program that is not solyx, which then reads what is decided.
jobs_published() {
    local words=(connectors/examples/python/publish_jobs.py --config "$out/live/desk/kafka.toml" --count "$1" --gpus 4 --work "$2")
    printf '\n$ python %s\n' "${words[*]}"
    (cd "$ROOT" && "$EXAMPLES_PYTHON" "${words[@]}")
    published=$((published + $1))
}

# Engines that take over from one another, while jobs come and run.
kafka_live() {
    local published=0 name parts=(desk engine-a engine-b executor views) until first killed
    declare -A pid=()
    step "live: two engines, an executor and views on a small fleet, in real time" "a minute"
    mkdir -p "$out/live"
    kafka_topics solyx-live "$LIVE_FLEET" "${parts[@]/#/$out/live/}" > "$out/live/topics.txt"
    show publish "$LIVE_FLEET" --log live/desk
    for name in engine-a engine-b; do
        background "$out/live/$name.log" "$solyx" run --log "$out/live/$name" --instance "$name"
        pid[$name]=$STARTED
    done
    background "$out/live/executor.log" "$solyx" execute --log "$out/live/executor"
    background "$out/live/views.log" "$solyx" project --log "$out/live/views"
    await_leader 2 ""
    jobs_published 6 20
    show leader show --log live/desk
    first=$LEADER
    show leader transfer --log live/desk
    await_leader 2 "$first"
    show leader show --log live/desk
    killed=$LEADER
    printf '\n$ kill -9 %s    # %s, which leads\n' "${pid[$killed]}" "$killed"
    kill -KILL "${pid[$killed]}"
    wait "${pid[$killed]}" 2> /dev/null || true
    jobs_published 2 10
    await_leader 1 "$killed"
    show leader show --log live/desk
    until=$((SECONDS + JOBS_DONE_S))
    while [ "$(jobs_are "done")" -lt "$published" ]; do
        [ "$SECONDS" -lt "$until" ] || fail 1 "some jobs did not finish" "$(jobs_are "done") of $published are done after $JOBS_DONE_S s" "the parts' logs are $out/live/*.log"
        sleep 1
    done
    show view jobs --kept --log live/views | head -n 12
    show audit --log live/desk
    end_background
    say "   $published jobs were published and are done; $first handed over, $killed was killed, $LEADER led at the end"
}
