#!/usr/bin/env bash
# Licences of all dependencies against deny.toml. With cargo-deny installed it does the work, and advisories too when their
# database can be fetched; without it the licence expressions of `cargo metadata` are checked here, offline.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$ROOT"

if ! have cargo-deny; then
    python3 ops/lib/licences.py deny.toml
    say "   advisories are not checked: cargo-deny is not installed (cargo install --locked cargo-deny)"
    exit 0
fi
cargo deny --log-level error check licenses bans sources
if cargo deny fetch db > /dev/null 2>&1; then
    cargo deny --log-level error check advisories
else
    say "   advisories are not checked: their database could not be fetched"
fi
