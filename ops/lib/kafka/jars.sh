# shellcheck shell=bash
# Apache Kafka's jars: fetched from Maven Central once, each compared with the hash kept in jars.sha256.
# To renew the hashes after a change of pom.xml: fetch into an empty directory with the command below, then
# (cd DIRECTORY && LC_ALL=C sha256sum *.jar) > ops/lib/kafka/jars.sha256, and read the difference.

KAFKA_VERSION=4.3.1
KAFKA_JARS="${XDG_CACHE_HOME:-$HOME/.cache}/solyx/kafka-$KAFKA_VERSION"
KAFKA_LIB="$ROOT/ops/lib/kafka"
JAVA_LEAST=17

need_java() {
    local package=openjdk-17-jre-headless found
    if ! have java; then
        apt-cache show "$package" > /dev/null 2>&1 || package=default-jre-headless
        need_packages "$package"
    fi
    found=$(java -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p' | head -n 1)
    [ "${found:-0}" -ge "$JAVA_LEAST" ] \
        || fail 3 "Java is too old" "found ${found:-none}, needed at least $JAVA_LEAST" "apt-get install openjdk-17-jre-headless, or put a newer java first on the PATH"
}

need_python() {
    have python3 || need_packages python3
}

# Its words on stderr, without the colours that it sets and resets even for nobody.
maven() {
    mvn -B -q "$@" 2>&1 | sed $'s/\e\\[[0-9;]*m//g' >&2
}

# Whether DIR holds the jars of the list and nothing else; says of each jar what is wrong with it.
jars_are_right() {
    local names extra bad
    bad=$(cd "$1" && LC_ALL=C sha256sum --check --quiet --strict "$KAFKA_LIB/jars.sha256" 2> /dev/null) \
        || { printf '%s\n' "$bad"; return 1; }
    names=$(sed 's/^[0-9a-f]*  //' "$KAFKA_LIB/jars.sha256")
    extra=$(cd "$1" && printf '%s\n' *.jar | grep -vxF "$names" || true)
    [ -z "$extra" ] || { printf '%s: not in the list\n' "$extra"; return 1; }
}

# The stamp is the hash of the list they were compared with; where it is missing or another, they are compared again.
need_kafka_jars() {
    local list stamp="$KAFKA_JARS/verified" fresh wrong
    need_java
    list=$(sha256sum < "$KAFKA_LIB/jars.sha256")
    [ "$(cat "$stamp" 2> /dev/null || true)" != "$list" ] || return 0
    if ! compgen -G "$KAFKA_JARS/*.jar" > /dev/null; then
        have mvn || need_packages maven
        step "fetching Apache Kafka $KAFKA_VERSION from Maven Central" "54 MB, under a minute"
        mkdir -p "$(dirname "$KAFKA_JARS")"
        fresh=$(mktemp -d "$KAFKA_JARS.XXXXXX")
        maven -f "$KAFKA_LIB/pom.xml" org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies \
            -DoutputDirectory="$fresh" \
            || { rm -rf "$fresh"; fail 3 "Apache Kafka could not be fetched" "mvn said the above" "it needs https://repo.maven.apache.org, or a mirror in ~/.m2/settings.xml"; }
        # Another command may have been first.
        mv -T "$fresh" "$KAFKA_JARS" 2> /dev/null || rm -rf "$fresh"
    fi
    wrong=$(jars_are_right "$KAFKA_JARS") \
        || fail 3 "a jar of Apache Kafka is not the one that is pinned" "in $KAFKA_JARS: ${wrong//$'\n'/; }" \
            "rm -r $KAFKA_JARS and try again; if it stays, the repository the jars come from gives out others than ops/lib/kafka/jars.sha256 says"
    printf '%s\n' "$list" > "$stamp"
}

# kafka_java CLASS ARGUMENTS…: a short-lived tool.
kafka_java() {
    java -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Xmx256m -Dorg.slf4j.simpleLogger.defaultLogLevel=warn -cp "$KAFKA_JARS/*" "$@"
}
