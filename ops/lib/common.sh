# shellcheck shell=bash
# Shared by the scripts of this folder: say what is done, fail with a way out, find or install what is needed.
# Sourced with `set -euo pipefail` in force.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/solyx/target}"
# It is used from here and from the root.
case "$CARGO_TARGET_DIR" in /*) ;; *) CARGO_TARGET_DIR="$PWD/$CARGO_TARGET_DIR" ;; esac

say() {
    printf '%s\n' "$*" >&2
}

# step "what" "how long": announces a step and the time the one before took.
STEP_STARTED=
step() {
    if [ -n "$STEP_STARTED" ]; then
        say "   done in $((SECONDS - STEP_STARTED)) s"
    fi
    STEP_STARTED=$SECONDS
    if [ $# -gt 0 ]; then
        say "== $1${2:+ ($2)}"
    fi
}

# fail EXIT "what happened" "detail" "the way out"
fail() {
    say "error: $2"
    say "  detail: $3"
    say "  hint: $4"
    exit "$1"
}

have() {
    command -v "$1" > /dev/null 2>&1
}

# The least Rust that builds this, from Cargo.toml.
rust_wanted() {
    sed -n 's/^rust-version = "\(.*\)"/\1/p' "$ROOT/Cargo.toml"
}

# The Rust that is installed where there is none: what the lints and the formatting were last looked at with.
RUST_INSTALLED=1.95.0

# Finds Rust, or installs it for this user with rustup.
need_rust() {
    if ! have cargo && [ -f "${CARGO_HOME:-$HOME/.cargo}/env" ]; then
        # shellcheck source=/dev/null
        . "${CARGO_HOME:-$HOME/.cargo}/env"
    fi
    have cargo || install_rust
    local found wanted
    found=$(rustc --version | cut -d' ' -f2)
    wanted=$(rust_wanted)
    if [ "$(printf '%s\n%s\n' "$wanted" "$found" | sort -V | head -n1)" != "$wanted" ]; then
        fail 3 "Rust is too old" "found $found, needed at least $wanted" "rustup update stable"
    fi
}

install_rust() {
    local script wanted hint
    wanted=$(rust_wanted)
    hint="with no network, install Rust $wanted or newer by hand: https://rustup.rs"
    have curl || need_packages curl
    have curl || fail 3 "Rust is not installed" "no cargo on the PATH, and no curl to fetch it with" "$hint"
    step "installing Rust $RUST_INSTALLED with rustup" "a minute or two"
    script=$(mktemp)
    curl --proto '=https' --tlsv1.2 -sSf -o "$script" https://sh.rustup.rs \
        || fail 3 "Rust is not installed" "no cargo on the PATH, and rustup could not be fetched" "$hint"
    sh "$script" -y -q --no-modify-path --profile minimal --default-toolchain "$RUST_INSTALLED" -c rustfmt -c clippy >&2 \
        || fail 3 "Rust could not be installed" "rustup said the above" "$hint"
    rm -f "$script"
    . "${CARGO_HOME:-$HOME/.cargo}/env"
}

# rustfmt and clippy, which a toolchain may come without.
need_lints() {
    local tool component
    for tool in fmt clippy; do
        component=${tool/fmt/rustfmt}
        cargo "$tool" --version > /dev/null 2>&1 && continue
        have rustup && rustup component add "$component" >&2 && continue
        fail 3 "$component is missing" "cargo $tool does not run" "rustup component add $component"
    done
}

# Packages that compiling needs: for RocksDB and its bindings a C++ compiler, and libclang with the headers of its compiler; OpenSSL's
# headers for the clients of Kafka and of schema registries, and make and zlib's headers for that of Kafka.
missing_for_build() {
    local missing=()
    { have cc && { have c++ || have g++; }; } || missing+=(g++)
    libclang_is_there || missing+=(libclang-dev)
    [ -n "${OPENSSL_DIR:-}" ] || { have pkg-config && pkg-config --exists openssl; } || missing+=(pkg-config libssl-dev)
    { have pkg-config && pkg-config --exists zlib; } || missing+=(pkg-config zlib1g-dev)
    have make || missing+=(make)
    printf '%s ' "${missing[@]}"
}

# libclang-cpp, which comes with the tools, is another library; and libclang alone, without stddef.h and its like, parses nothing.
libclang_is_there() {
    [ -z "${LIBCLANG_PATH:-}" ] || return 0
    local library header
    library=$(find /usr/lib /usr/lib64 /usr/local/lib -maxdepth 4 \( -name 'libclang.so*' -o -name 'libclang-[0-9]*.so*' \) -print -quit \
        2> /dev/null || true)
    header=$(find /usr/lib /usr/lib64 /usr/local/lib -maxdepth 6 -path '*/clang/*/include/stddef.h' -print -quit 2> /dev/null || true)
    [ -n "$library" ] && [ -n "$header" ]
}

# Packages that the tests need beside: Python, to look at licences and to read an archive with a tool that is not ours; shellcheck.
missing_for_tests() {
    local missing=()
    have python3 || missing+=(python3)
    python3 -c 'import ensurepip' > /dev/null 2>&1 || missing+=(python3-venv)
    have shellcheck || missing+=(shellcheck)
    printf '%s ' "${missing[@]}"
}

# Packages that brokers, the registry and the examples need beside: Java with its compiler, Maven, and OpenSSL for certificates.
missing_for_brokers() {
    local missing=()
    have javac || missing+=(default-jdk-headless)
    have mvn || missing+=(maven)
    have openssl || missing+=(openssl)
    printf '%s ' "${missing[@]}"
}

# need_packages NAME…: installs packages by the system's manager; nothing to do for no names.
need_packages() {
    local missing="$*" sudo=
    if [ -z "${missing// /}" ]; then
        return
    fi
    have apt-get || fail 3 "packages are missing" "$missing" \
        "install what they are called in your system's package manager; LIBCLANG_PATH may name libclang's folder"
    if [ "$(id -u)" != 0 ]; then
        have sudo && sudo -n true 2> /dev/null || fail 3 "packages are missing" "$missing" "sudo apt-get install -y $missing"
        sudo=sudo
    fi
    step "installing $missing" "about a minute"
    # Lists of packages that are there already save an update.
    # shellcheck disable=SC2086 # a list of names
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -q $missing > /dev/null 2>&1 \
        || { $sudo apt-get update -q > /dev/null && $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -q $missing > /dev/null; } \
        || fail 3 "packages could not be installed" "$missing" "look at the lines above; with no network, install them by hand"
}

# fastavro, with which a test reads an archive. Where it cannot be had the test says that it did not run.
need_fastavro() {
    local venv="$CARGO_TARGET_DIR/python"
    export SOLYX_PYTHON="$venv/bin/python"
    if "$SOLYX_PYTHON" -c 'import fastavro' > /dev/null 2>&1; then
        return
    fi
    rm -rf "$venv"
    if ! { python3 -m venv "$venv" \
        && "$SOLYX_PYTHON" -m pip install -q --disable-pip-version-check 'fastavro>=1.12,<2' "backports.zstd; python_version < '3.14'"; } >&2; then
        export SOLYX_PYTHON=none
        say "fastavro could not be installed: that it reads an archive is not tested in this run"
    fi
}

# The compiled tree takes about 7 GB.
need_disk() {
    local free_gb
    mkdir -p "$CARGO_TARGET_DIR"
    free_gb=$(df -Pk "$CARGO_TARGET_DIR" | awk 'NR==2 {print int($4 / 1048576)}')
    if [ "$free_gb" -lt 8 ] && [ ! -d "$CARGO_TARGET_DIR/debug" ]; then
        fail 3 "too little disk to build" "$free_gb GB free at $CARGO_TARGET_DIR, needed 8" "free some, or set CARGO_TARGET_DIR to another disk"
    fi
}

# Several checkouts may share the target directory, so that RocksDB is compiled once. Cargo tells their crates apart by the age of
# the sources alone: where another checkout was built last, those of this one are marked as new.
claim_target() {
    local owner="$CARGO_TARGET_DIR/checkout"
    mkdir -p "$CARGO_TARGET_DIR"
    if [ "$(cat "$owner" 2> /dev/null || true)" != "$ROOT" ]; then
        find "$ROOT" -name '*.rs' -not -path '*/target/*' -exec touch {} +
        printf '%s\n' "$ROOT" > "$owner"
    fi
}

# Builds the binary when something changed; quiet when nothing did.
build_solyx() {
    need_rust
    if [ ! -x "$CARGO_TARGET_DIR/debug/solyx" ]; then
        # shellcheck disable=SC2046 # a list of names
        need_packages $(missing_for_build)
        need_disk
        say "building solyx for the first time; RocksDB takes most of it: about 10 minutes on four cores, 20 on two"
    fi
    claim_target
    local log cargo tenths=0
    log=$(mktemp)
    (cd "$ROOT" && cargo build --locked -q --workspace --bin solyx > "$log" 2>&1) &
    cargo=$!
    while kill -0 "$cargo" 2> /dev/null; do
        sleep 0.1
        tenths=$((tenths + 1))
        [ "$tenths" -ne 50 ] || say "building what has changed since the last time: seconds, or some minutes for another checkout"
    done
    if ! wait "$cargo"; then
        cat "$log" >&2
        rm -f "$log"
        fail 3 "solyx does not build" "cargo said the above" "with no network: cargo fetch --locked needs to have run once; otherwise ./ops/test shows more"
    fi
    rm -f "$log"
}

# The binary: the one that SOLYX_BIN names, or the one of this checkout, built when something changed. Sets SOLYX.
# shellcheck disable=SC2034 # for those who source this
need_solyx() {
    SOLYX=${SOLYX_BIN:-}
    if [ -z "$SOLYX" ]; then
        build_solyx
        SOLYX="$CARGO_TARGET_DIR/debug/solyx"
    fi
    [ -x "$SOLYX" ] || fail 3 "there is no solyx to run" "found nothing at $SOLYX" "unset SOLYX_BIN, or let it name the binary"
}
