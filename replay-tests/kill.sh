#!/usr/bin/env bash
# Kills a virtual run at random moments and goes on each time: the log opens, and ends as an undisturbed run's does.
# Ten kills take about half a minute after the build, fifty about two.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../ops/lib/common.sh"

usage() {
    sed -n '2,3s/^# //p' "$0"
    echo "usage: replay-tests/kill.sh [--kills N] [--jobs N] [--seed S]   (50 kills of a run of 300 jobs; another seed each time)"
}

export SOLYX_KILLS=50 SOLYX_KILL_JOBS=300
while [ $# -gt 0 ]; do
    case "$1" in
        -h | --help) usage && exit 0 ;;
        --kills | --jobs | --seed) [ $# -ge 2 ] || fail 2 "$1 needs a number" "nothing follows it" "replay-tests/kill.sh --help" ;;
        *) fail 2 "unknown argument" "found $1" "replay-tests/kill.sh --help" ;;
    esac
    case "$1" in
        --kills) SOLYX_KILLS=$2 ;;
        --jobs) SOLYX_KILL_JOBS=$2 ;;
        --seed) export SOLYX_KILL_SEED=$2 ;;
    esac
    shift 2
done
need_rust
claim_target
cd "$ROOT"
cargo test --locked --workspace -q --test proof -- kills:: --nocapture --test-threads 1 \
    || fail 1 "a killed run did not go on as it should" "see above" "repeat it with the seed that was printed"
