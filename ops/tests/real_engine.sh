#!/usr/bin/env bash
# The examples against a real engine: jobs that the Python and the Java example publish are decided by `solyx run`, carried out by
# `solyx execute`, and their decisions are read back by both; the analyst's answers are those of the views.
#   ops/tests/real_engine.sh CLUSTER/kafka.toml      of a cluster with a registry that has the schemas
# Its topics (prefix real-engine-…) stay. Java is left out where there is no Maven. SOLYX_BIN names another binary.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../lib/common.sh"
. "$ROOT/ops/lib/background.sh"
. "$ROOT/ops/lib/examples.sh"

if [ $# -ne 1 ] || [ ! -f "$1" ]; then
    sed -n '2,5s/^# \{0,1\}//p' "$ROOT/ops/tests/real_engine.sh" >&2
    exit 2
fi
DONE_S=60
JOBS=3
need_solyx
need_examples_python
work=$(mktemp -d "${TMPDIR:-/tmp}/solyx-real-engine.XXXXXX")

finish() {
    local status=$?
    trap - EXIT
    trap '' INT TERM
    end_background
    if [ "$status" = 0 ]; then rm -rf "$work"; else say "the parts' logs are in $work"; fi
    exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

value() {
    sed -n "s/^$1 = \"\(.*\)\"/\1/p" "$work/kafka.toml"
}

# publishes NAME COMMAND…: each of its jobs is placed, and it says so.
published=0
publishes() {
    local name=$1
    shift
    "$@" --bootstrap "$(value bootstrap)" --registry "$(value url)" --prefix "$(value prefix)" --count "$JOBS" --work 5 --timeout 60 > "$work/$name.out" \
        || { cat "$work/$name.out" >&2; fail 1 "$name: some job was not decided on" "see above" "the engine's log is $work/engine.log"; }
    [ "$(grep -c "^example-$name-.* JobPlaced  *in north/h100" "$work/$name.out")" = "$JOBS" ] \
        || { cat "$work/$name.out" >&2; fail 1 "$name does not print where its jobs were placed" "see above" "expected $JOBS lines with JobPlaced"; }
    published=$((published + JOBS))
    say "   ok: $(grep -m 1 JobPlaced "$work/$name.out")"
}

count() {
    "$SOLYX" view jobs --log "$work/engine" --json | python3 -c 'import json, sys; print(json.load(sys.stdin)["count"]["done"])'
}

sed "s/^prefix = .*/prefix = \"real-engine-$(date +%s)-$$\"/" "$1" > "$work/kafka.toml"
for name in engine executor; do
    "$SOLYX" topics apply --kafka "$work/kafka.toml" --log "$work/$name" --fleet "$ROOT/ops/fleets/live.toml" > /dev/null
done
"$SOLYX" publish "$ROOT/ops/fleets/live.toml" --log "$work/engine" > /dev/null
background "$work/engine.log" "$SOLYX" run --log "$work/engine" --instance engine-a
background "$work/executor.log" "$SOLYX" execute --log "$work/executor"
publishes python "$EXAMPLES_PYTHON" "$EXAMPLES/python/publish_jobs.py"
if have mvn; then
    [ -f "$EXAMPLES_JAR" ] || build_java_example
    publishes java java -jar "$EXAMPLES_JAR"
else
    say "   java/ did not run: there is no Maven"
fi
until=$((SECONDS + DONE_S))
while [ "$(count)" != "$published" ]; do
    [ "$SECONDS" -lt "$until" ] || fail 1 "some jobs did not finish" "$(count) of $published in $DONE_S s" "the parts' logs are in $work"
    sleep 0.5
done
say "   ok: all $published ran and finished"
end_background

# What only reads sees the same as the views.
"$SOLYX" audit --log "$work/engine" > "$work/audit.txt" || { cat "$work/audit.txt" >&2; fail 1 "the audit does not pass" "see above" "solyx audit --log $work/engine"; }
say "   ok: $(head -n 1 "$work/audit.txt")"
"$SOLYX" mirror --log "$work/engine" --to-archive "$work/archive" > /dev/null
"$SOLYX" view jobs --log "$work/engine" --json > "$work/jobs.json"
"$SOLYX" view billing --log "$work/engine" --json > "$work/billing.json"
"$EXAMPLES_PYTHON" "$EXAMPLES/analyst/answers.py" --config "$work/kafka.toml" --json > "$work/answers.json"
"$EXAMPLES_PYTHON" "$EXAMPLES/testing/compare_answers.py" "$work/answers.json" "$work/jobs.json" "$work/billing.json" "$work/archive" > "$work/compared.txt" 2>&1 \
    || { cat "$work/compared.txt" >&2; fail 1 "the analyst's answers are not those of the views" "see above" "compare with solyx view jobs and billing"; }
say "   ok: the analyst's answers: $(tail -n 1 "$work/compared.txt")"
