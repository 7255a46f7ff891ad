#!/usr/bin/env bash
# The kernel is a pure function of the log: no floats, clocks, randomness, unordered maps, files, network, environment.
# Types and calls are named in engine/kernel/clippy.toml; what clippy cannot see, dependencies, is looked at here.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$ROOT"

cargo clippy --locked -q -p solyx-kernel --lib --no-deps -- \
    -D warnings -D clippy::disallowed_types -D clippy::disallowed_methods -D clippy::float_arithmetic -D clippy::lossy_float_literal \
    -D clippy::print_stdout -D clippy::print_stderr -D unsafe_code

# What the kernel may depend on directly. A new line here needs a reason.
allowed=" aes blake3 ctr postcard serde solyx-schemas thiserror "
dependencies=$(cargo tree --locked -p solyx-kernel -e normal --depth 1 --prefix none --format '{lib}' | tail -n +2 | tr '_' '-')
[ -n "$dependencies" ] || fail 3 "the kernel's dependencies cannot be told" "cargo tree printed none" "run ops/lib/purity.sh by itself"
for dependency in $dependencies; do
    case "$allowed" in
        *" $dependency "*) ;;
        *)
            say "engine/kernel depends on $dependency, which is not on the list in ops/lib/purity.sh"
            exit 1
            ;;
    esac
done
