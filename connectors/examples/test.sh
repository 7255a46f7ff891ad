#!/usr/bin/env bash
# Runs every example against a broker and a registry and compares what they say with what solyx says.
#   connectors/examples/test.sh BOOTSTRAP REGISTRY_URL
# It makes topics of its own (prefix examples-…), which stay. In place of an engine testing/ loads a world's archive and decides on jobs.
# Java is left out where there is no Maven; what is built and installed goes to $CARGO_TARGET_DIR. SOLYX_BIN names another binary.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$HERE/../../ops/lib/common.sh"
. "$ROOT/ops/lib/examples.sh"

if [ $# -ne 2 ]; then
    sed -n '2,5s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
BOOTSTRAP=$1 REGISTRY=$2
WORK=$(mktemp -d) ANSWERING=
PREFIX="examples-$(date +%s)-$$"
PLACE=(--bootstrap "$BOOTSTRAP" --registry "$REGISTRY")

clean() {
    [ -z "$ANSWERING" ] || kill "$ANSWERING" 2> /dev/null || true
    rm -rf "$WORK"
}
trap clean EXIT

solyx() {
    "$SOLYX" "$@"
}

python() {
    "$EXAMPLES_PYTHON" "$@"
}

# publishes NAME COMMAND…: a program publishes four jobs under a prefix of its own, and is answered.
publishes() {
    local name=$1 prefix="$PREFIX-$1" count=4 placed
    shift
    python "$HERE/testing/make_topics.py" "${PLACE[@]}" --prefix "$prefix" > /dev/null
    python "$HERE/testing/answer_jobs.py" "${PLACE[@]}" --prefix "$prefix" --count $count --out "$WORK/$name.jsonl" &
    ANSWERING=$!
    "$@" "${PLACE[@]}" --prefix "$prefix" --count $count --timeout 60 > "$WORK/$name.out" || {
        cat "$WORK/$name.out" >&2
        fail 1 "$name: some job got no decision" "see above" "run it by hand as README.md says"
    }
    wait "$ANSWERING" || fail 1 "$name: a request is not as the contract wants it" "see above" "compare with ARCHITECTURE.md, Formats"
    ANSWERING=
    solyx events validate "$WORK/$name.jsonl" >&2 || fail 1 "$name: a request is not valid" "see above" "solyx events describe JobRequested"
    placed=$(grep -c ' JobPlaced ' "$WORK/$name.out" || true)
    { [ "$placed" = 3 ] && grep -q ' JobRejected .*UNDECLARED' "$WORK/$name.out"; } \
        || fail 1 "$name does not print what was decided" "$(cat "$WORK/$name.out")" "expected three places and a rejection"
}

need_solyx
step "Python packages" "a minute the first time"
need_examples_python

step "schemas in the registry" "seconds"
solyx schemas register --registry "$REGISTRY" > /dev/null
solyx schemas check --registry "$REGISTRY" | tail -n 1 >&2

step "python/publish_jobs.py" "seconds"
publishes python python "$HERE/python/publish_jobs.py"

if have mvn; then
    step "java/" "a minute the first time"
    build_java_example
    publishes java java -jar "$EXAMPLES_JAR"
else
    say "java/ did not run: there is no Maven"
fi

step "analyst/answers.py" "seconds"
solyx generate --seed 7 --jobs 300 --days 2 --nodes 12 --out "$WORK/world.jsonl" > /dev/null
# A request that comes twice counts once.
grep -m 1 '"solyx.jobs.JobRequested"' "$WORK/world.jsonl" > "$WORK/again.jsonl"
solyx publish "$WORK/world.jsonl" "$WORK/again.jsonl" --staged --log "$WORK/world" > /dev/null
solyx run --log "$WORK/world" --virtual --until-idle > /dev/null
solyx archive export --log "$WORK/world" --archive "$WORK/archive" > /dev/null
solyx view jobs --log "$WORK/world" --json > "$WORK/jobs.json"
solyx view billing --log "$WORK/world" --json > "$WORK/billing.json"
python "$HERE/testing/make_topics.py" "${PLACE[@]}" --prefix "$PREFIX" > /dev/null
python "$HERE/testing/load_archive.py" "${PLACE[@]}" --prefix "$PREFIX" "$WORK/archive" >&2
python "$HERE/analyst/answers.py" "${PLACE[@]}" --prefix "$PREFIX" --json > "$WORK/answers.json"
python "$HERE/analyst/answers.py" "${PLACE[@]}" --prefix "$PREFIX" --jobs 3 > "$WORK/answers.txt"
python "$HERE/testing/compare_answers.py" "$WORK/answers.json" "$WORK/jobs.json" "$WORK/billing.json" "$WORK/archive" \
    || fail 1 "the analyst's answers are not those of the views" "see above" "compare with solyx view jobs and billing"
step
say "all examples in $SECONDS s"
