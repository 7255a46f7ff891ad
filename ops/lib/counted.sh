#!/usr/bin/env bash
# rustc for the workspace's own crates, with LLVM's counters of branches in them (SanitizerCoverage): what ops/fuzz builds with, as
# RUSTC_WORKSPACE_WRAPPER. Crates of others, RocksDB among them, are taken as they are; nothing is compiled again for ordinary builds.
set -euo pipefail
rustc=$1
shift
exec "$rustc" "$@" -C passes=sancov-module -C llvm-args=-sanitizer-coverage-level=3 \
    -C llvm-args=-sanitizer-coverage-inline-8bit-counters -C llvm-args=-sanitizer-coverage-prune-blocks=1
