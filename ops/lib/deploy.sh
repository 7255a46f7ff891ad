#!/usr/bin/env bash
# Looks over ops/deploy: YAML, Kubernetes' and Compose's schemas, what they name, and all scripts of the shell. The tools come from
# PyPI, once, into a directory of their own; where they cannot be had it says what was not looked at, and why, and goes on.
# Exit code 1 when there is a finding.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$ROOT"

if [ "${1:-}" = "--help" ] || [ "${1:-}" = "-h" ]; then
    sed -n '2,4s/^# //p' "$ROOT/ops/lib/deploy.sh"
    exit 0
fi

# The least release of Kubernetes that these manifests are for, among those that the tool has the schemas of.
KUBERNETES=1.35
TOOLS=(yamllint==1.38.0 kubernetes-validate==1.37.0 check-jsonschema==0.39.0)
YAMLLINT='{extends: default, rules: {line-length: {max: 140}, document-start: disable, comments-indentation: disable}}'
venv="$CARGO_TARGET_DIR/python-deploy"
status=0

need_tools() {
    have python3 || return 1
    [ "$(cat "$venv/tools" 2> /dev/null || true)" != "${TOOLS[*]}" ] || return 0
    rm -rf "$venv"
    mkdir -p "$CARGO_TARGET_DIR"
    { python3 -m venv "$venv" && "$venv/bin/pip" install -q --disable-pip-version-check "${TOOLS[@]}"; } >&2 || return 1
    printf '%s' "${TOOLS[*]}" > "$venv/tools"
}

look() {
    local what=$1
    shift
    "$@" || { say "   $what: see above"; status=1; }
}

if need_tools; then
    base=ops/deploy/kubernetes/base
    look "YAML" "$venv/bin/yamllint" --strict -d "$YAMLLINT" ops/deploy
    look "Compose's schema" "$venv/bin/check-jsonschema" --builtin-schema vendor.compose-spec ops/deploy/compose.yaml
    mapfile -t manifests < <(find "$base" -maxdepth 1 -name '*.yaml' ! -name kustomization.yaml | sort)
    look "Kubernetes' schemas" "$venv/bin/kubernetes-validate" --quiet --strict -k "$KUBERNETES" "${manifests[@]}"
    look "what the files name" "$venv/bin/python" ops/lib/deploy.py ops/deploy
else
    say "   ops/deploy is not looked at: ${TOOLS[*]} could not be installed from PyPI (python3 with venv, and a network, once)"
fi
if have shellcheck; then
    mapfile -t scripts < <(find .ci ops connectors replay-tests -type f -perm -u+x -exec grep -lE -m 1 '^#!.*[/ ](ba)?sh$' {} + | sort)
    look "shellcheck" shellcheck -x -P ops:ops/lib:ops/tests "${scripts[@]}"
else
    say "   the scripts are not looked at: shellcheck is not installed (apt-get install shellcheck)"
fi
exit "$status"
