# shellcheck shell=bash
# What connectors/examples need: a Python with their packages, and the Java example built. Sourced after common.sh.

EXAMPLES="$ROOT/connectors/examples"
EXAMPLES_PYTHON="$CARGO_TARGET_DIR/python-examples/bin/python"
EXAMPLES_JAVA="$CARGO_TARGET_DIR/java-examples"
# shellcheck disable=SC2034 # for those who source this
EXAMPLES_JAR="$EXAMPLES_JAVA/target/publish-jobs.jar"

# The packages of the examples and of their tests.
need_examples_python() {
    local venv="${EXAMPLES_PYTHON%/bin/python}"
    if cmp -s "$EXAMPLES/python/requirements.txt" "$venv/requirements.txt" && cmp -s "$EXAMPLES/testing/requirements.txt" "$venv/testing.txt"; then
        return
    fi
    # shellcheck disable=SC2046 # a list of names
    need_packages $(missing_for_tests)
    { python3 -m venv --clear "$venv" \
        && "$venv/bin/pip" install -q --disable-pip-version-check -r "$EXAMPLES/testing/requirements.txt"; } >&2 \
        || fail 3 "the examples' Python packages could not be installed" "pip said the above" "they come from PyPI; check the network, or PIP_INDEX_URL"
    cp "$EXAMPLES/python/requirements.txt" "$venv/requirements.txt"
    cp "$EXAMPLES/testing/requirements.txt" "$venv/testing.txt"
}

# Built outside of the checkout.
build_java_example() {
    mkdir -p "$EXAMPLES_JAVA"
    rm -rf "$EXAMPLES_JAVA/src"
    cp -r "$EXAMPLES/java/pom.xml" "$EXAMPLES/java/src" "$EXAMPLES_JAVA/"
    mvn -q -B -f "$EXAMPLES_JAVA/pom.xml" package >&2 \
        || fail 1 "the Java example does not build" "mvn said the above" "mvn -f connectors/examples/java package"
}
