#!/usr/bin/env bash
# Every test that the rules of scheduling name is there: a rule whose test was renamed or taken away is shown by nothing.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$ROOT"

page=engine/kernel/SCHEDULING.md
# Names of tests are sentences; what is shorter is a field or a file.
names=$(sed -n '/^## Which test shows what/,$p' "$page" | grep -oE '\b[a-z0-9]+(_[a-z0-9]+){4,}\b' | sort -u)
[ -n "$names" ] || fail 3 "no test is named" "looked below 'Which test shows what' in $page" "the heading may have changed"
there=$(grep -rhoE 'fn [a-z0-9_]+' --include='*.rs' engine connectors ops projections replay-tests | cut -c4- | sort -u)
missing=$(comm -23 <(printf '%s\n' "$names") <(printf '%s\n' "$there"))
[ -z "$missing" ] || fail 1 "$page names tests that are not there" "$(printf '%s' "$missing" | tr '\n' ' ')" "name the ones that show it now"
say "$(printf '%s\n' "$names" | wc -l) tests are named, and all are there"
