# shellcheck shell=bash
# Processes beside a script, ended when it says so: in groups of their own, so that Ctrl-C leaves their end to the script's trap.

# background LOG COMMAND…: starts it in a process group of its own; its id is in STARTED.
BACKGROUND=()
STARTED=
background() {
    local log=$1
    shift
    set -m
    "$@" > "$log" 2>&1 < /dev/null &
    STARTED=$!
    set +m
    BACKGROUND+=("$STARTED")
}

end_background() {
    local pid
    for pid in "${BACKGROUND[@]}"; do
        kill -TERM -- "-$pid" 2> /dev/null || true
    done
    for pid in "${BACKGROUND[@]}"; do
        wait "$pid" 2> /dev/null || true
    done
    BACKGROUND=()
}
