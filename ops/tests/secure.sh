#!/usr/bin/env bash
# solyx on a cluster with TLS, passwords, certificates and rights: what each principal may, what it may not, and what it is told then.
# It starts a broker of its own (ops/kafka up --secure) in a temporary directory and stops it. SOLYX_BIN names another binary.
# First the binary itself as operator, engine, executor, gateway, analyst, signer and another cell's engine; then, without solyx, who may
# write and read which topic (ops/lib/kafka/check_rights.py). Exit code 1 when something is not as it should be.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../lib/common.sh"
. "$ROOT/ops/lib/examples.sh"
. "$ROOT/ops/lib/background.sh"

if [ "${1:-}" = "--help" ] || [ "${1:-}" = "-h" ]; then
    sed -n '2,5s/^# //p' "$ROOT/ops/tests/secure.sh"
    exit 0
fi

FLEET="$ROOT/ops/fleets/live.toml"
# A decision, and the end of a job of five seconds.
DECIDED_S=60
NOT_MINE="this user may not do that; the page of deployment lists what each kind of writer needs"
ASKING="asking the brokers for their topics failed"
FAILURES=0

need_solyx
need_examples_python
work=$(mktemp -d "${TMPDIR:-/tmp}/solyx-secure.XXXXXX")

finish() {
    local status=$?
    trap - EXIT
    trap '' INT TERM
    end_background
    "$ROOT/ops/kafka" down --wipe --dir "$work/kafka" > /dev/null 2>&1 || true
    if [ "$status" = 0 ]; then rm -rf "$work"; else say "the parts' logs are in $work"; fi
    exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# world NAME [FILE]: a world of a principal, or of a connection file that is made here.
world() {
    mkdir -p "$work/$1"
    cp "${2:-$work/kafka/principals/$1.toml}" "$work/$1/kafka.toml"
}

wrong() {
    say "   WRONG: $1"
    sed 's/^/      /' "$work/said" | head -n 12 >&2
    FAILURES=$((FAILURES + 1))
}

# may NAME WORDS "what" COMMAND…: as NAME, this goes well and says WORDS.
may() {
    local name=$1 words=$2 what="$1 $3" status=0
    shift 3
    "$SOLYX" "$@" --log "$work/$name" > "$work/said" 2>&1 || status=$?
    if [ "$status" = 0 ] && grep -qE -- "$words" "$work/said"; then
        say "   ok: $what"
    else
        wrong "$what: exit code $status, expected 0 and: $words"
    fi
}

# refused NAME "what" HAPPENED DETAIL HINT COMMAND…: as NAME, this ends with 3, and these three parts are all that it says.
refused() {
    local name=$1 what="$1 $2" happened=$3 detail=$4 hint=$5 status=0
    shift 5
    timeout 60 "$SOLYX" "$@" --log "$work/$name" > "$work/said" 2>&1 || status=$?
    if [ "$status" = 3 ] && [ "$(wc -l < "$work/said")" = 3 ] && grep -qE "^error: $happened" "$work/said" && grep -qE "^  detail: .*($detail)" "$work/said" \
        && grep -qE "^  hint: .*($hint)" "$work/said"; then
        say "   ok: $what: $(grep -m 1 '^  detail: ' "$work/said" | cut -c 11-130)"
    else
        wrong "$what: exit code $status, expected 3 and: $happened / $detail / $hint"
    fi
}

# job NAME: a request, as a line of JSON.
job() {
    printf '{"type": "solyx.jobs.JobRequested", "event_id": "%s/request", "source": "secure", "occurred_us": 1795748205631497, "job": "%s", ' "$1" "$1"
    printf '"tenant": "11cb48", "kind": "TRAINING", "class": "standard", "expected_work_us": 5000000, "preemptible": true, '
    printf '"attestation_required": false, "hold": false, "gang": {"replicas_min": 1, "replicas_max": 1, "gpus": 1, '
    printf '"gpu_milli_each": 1000, "cpu_milli": 1000, "memory_mib": 16384, "exclusive_node": false}}\n'
}

count_of() {
    "$SOLYX" view jobs --log "$work/analyst" --json 2> /dev/null | python3 -c 'import json, sys; print(json.load(sys.stdin)["count"][sys.argv[1]])' "$1" || echo 0
}

# eventually "what" COUNT STATE: until so many jobs are in this state.
eventually() {
    local until=$((SECONDS + DECIDED_S))
    while [ "$(count_of "$3")" != "$2" ]; do
        if [ "$SECONDS" -ge "$until" ]; then
            tail -n 3 "$work"/*.log > "$work/said" 2>&1
            wrong "$1: not after $DECIDED_S s"
            return
        fi
        sleep 0.5
    done
    say "   ok: $1"
}

step "a broker with TLS, passwords, certificates and rights" "ten seconds"
"$ROOT/ops/kafka" up --secure --dir "$work/kafka"
principals="$work/kafka/principals"
for name in operator mtls-operator expired engine engine-other executor projection gateway analyst signer; do
    world "$name"
done
printf 'not this one' > "$work/wrong.password"
sed "s#^password_file.*#password_file = \"$work/wrong.password\"#" "$principals/gateway.toml" > "$work/wrong.toml"
world wrong-password "$work/wrong.toml"
sed '/^\[security\]/,$d' "$principals/gateway.toml" > "$work/plain.toml"
world plain-text "$work/plain.toml"
openssl req -x509 -newkey rsa:2048 -nodes -keyout "$work/another.key" -out "$work/another.pem" -subj "/CN=another authority" -days 2 2> /dev/null
sed "s#^ca_file.*#ca_file = \"$work/another.pem\"#" "$principals/gateway.toml" > "$work/authority.toml"
world wrong-authority "$work/authority.toml"
job first > "$work/first.jsonl"
job second > "$work/second.jsonl"

step "who is let in and may do what he is there for" "half a minute"
may operator "39 topics created" "makes the topics" topics apply --fleet "$FLEET"
may mtls-operator "20 events published" "publishes a fleet, known by a certificate" publish "$FLEET"
may operator "20 events published" "publishes it again, known by a password" publish "$FLEET"
background "$work/engine.log" "$SOLYX" run --log "$work/engine" --instance engine-a
background "$work/executor.log" "$SOLYX" execute --log "$work/executor"
background "$work/projection.log" "$SOLYX" project --log "$work/projection"
"$SOLYX" proofs keygen --id first --out "$work/signing.key" > /dev/null
"$SOLYX" proofs keygen --id second --out "$work/second.key" > /dev/null
may operator "key first is declared" "declares a key" proofs declare --key "$work/signing.key.pub"
may gateway "1 events published" "publishes a job" publish "$work/first.jsonl"
eventually "engine, executor and projection: the job is placed, runs and ends" 1 "done"
may operator "engine-a +leads" "sees who leads" leader show
may projection "jobs from" "has kept views" view jobs --kept
may analyst "JobPlaced" "reads decisions" tail decisions --last 100
may analyst "everything came out as recorded" "audits" audit
may signer "signed: " "signs the tree of epochs" proofs sign --key "$work/signing.key"
may analyst "1 signed heads" "audits what was signed" audit
may analyst "all topics are as they have to be" "compares the topics" topics diff

step "who may not" "half a minute"
# A transaction over several topics: one of them says why, the others fail with it.
may_not="TopicAuthorizationFailed|[Tt]opic authorization failed"
unseen="topics apply. creates them, .*or this user may not see them and needs Describe"
refused gateway "may not publish a fleet" "writing to solyx\.[a-z]+ failed" "$may_not" "$NOT_MINE" publish "$FLEET"
refused operator "may not publish a job" "writing to solyx\.jobs failed" "$may_not" "$NOT_MINE" publish "$work/second.jsonl"
refused analyst "may not publish" "fencing earlier writers of solyx\.analyst-solyx-publish failed" "Transactional Id authorization failed" "$NOT_MINE" publish "$work/second.jsonl"
refused gateway "may not declare a key" "writing to solyx\.policy failed" "$may_not" "$NOT_MINE" proofs declare --key "$work/second.key.pub"
refused signer "may not declare a key" "fencing earlier writers of solyx\.signer-solyx-publish failed|writing to solyx\.policy failed" "$may_not" "$NOT_MINE" proofs declare --key "$work/second.key.pub"
refused gateway "may not hand over" "reading solyx\.leader failed" "$may_not" "$NOT_MINE" leader transfer
for command in "tail decisions" "publish $work/second.jsonl" "run --instance engine-b" "view jobs" "audit"; do
    # shellcheck disable=SC2086 # words
    refused engine-other "of another cell: ${command%% *}" "topics of this cell are missing" "solyx\.decisions" "$unseen" $command
done

step "who is not let in" "half a minute"
for command in "publish $work/second.jsonl" "run --instance engine-b" "tail decisions"; do
    # shellcheck disable=SC2086 # words
    refused wrong-password "${command%% *}" "$ASKING" "SASL authentication error: .*invalid credentials" "check user, mechanism and password" $command
    # shellcheck disable=SC2086 # words
    refused expired "${command%% *}" "$ASKING" "certificate" "validity of both sides' certificates" $command
done
refused wrong-authority "tail" "$ASKING" "certificate verify failed" "check ca_file" tail decisions
refused plain-text "tail" "$ASKING" "brokers are down|[Dd]isconnected" "see that the brokers run" tail decisions
if [ "$(count_of requested)" = 1 ]; then
    say "   ok: of all that was refused nothing is on the log"
else
    "$SOLYX" tail jobs --log "$work/analyst" > "$work/said" 2>&1 || true
    wrong "something that was refused is on the log"
fi
end_background
for log in engine executor projection; do
    if grep -E 'WARN|ERROR|^error' "$work/$log.log" > "$work/said"; then
        wrong "$log complained while all was well"
    fi
done

step "each principal on each topic, without solyx" "a minute"
# Last, since it leaves records that mean nothing.
if ! "$EXAMPLES_PYTHON" "$ROOT/ops/lib/kafka/check_rights.py" "$work/kafka" > "$work/said" 2>&1; then
    grep -v '^ok' "$work/said" > "$work/bad" || true
    mv "$work/bad" "$work/said"
    wrong "the table of rights is not what the brokers do"
else
    say "   ok: $(grep -c '^ok' "$work/said") checks"
fi
step
[ "$FAILURES" = 0 ] || fail 1 "$FAILURES things are not as they should be on a secure cluster" "each is named WRONG above" "run it alone: ops/tests/secure.sh"
