# shellcheck shell=bash
# What --secure adds: certificates, passwords, the brokers' settings for both, and each principal's connection file.
#
# Three listeners: CLIENT (TLS and a password, SCRAM-SHA-512), MTLS (TLS and a certificate; the brokers' own too) and CONTROLLER (the
# same, between controllers). A certificate's CN is its principal. `admin` and the brokers may everything; what the others may is
# in acls.tsv. Passwords, keys and the connection files are readable by their owner only, as all of the directory is.

RIGHTS="$KAFKA_LIB/acls.tsv"
CERTIFICATE_DAYS=3650

# The principals with a password.
principals() {
    { echo admin; grep -v '^#' "$RIGHTS" | cut -f 1; } | awk 'NF && !seen[$0]++'
}

new_key() {
    openssl genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1" 2> /dev/null \
        || openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1" 2> /dev/null
}

# certificate FILE CN PURPOSE [FROM UNTIL]: FILE.key and FILE.pem, signed by our authority. Times as YYYYMMDDHHMMSSZ.
certificate() {
    local file=$1 cn=$2 purpose=$3 work time=(-days "$CERTIFICATE_DAYS")
    [ $# -lt 5 ] || time=(-startdate "$4" -enddate "$5")
    work=$(mktemp -d "$DIR/certificates/work.XXXXXX")
    new_key "$file.key"
    touch "$work/index"
    # `openssl ca`, since it alone can make one that has expired, in every version.
    cat > "$work/ca.conf" << END
[ca]
default_ca = ours
[ours]
database = $work/index
new_certs_dir = $work
rand_serial = yes
default_md = sha256
policy = any
x509_extensions = leaf
unique_subject = no
[any]
commonName = supplied
[leaf]
basicConstraints = critical, CA:false
keyUsage = critical, digitalSignature
extendedKeyUsage = $purpose
subjectAltName = IP:127.0.0.1, DNS:localhost
END
    openssl req -new -key "$file.key" -subj "/CN=$cn" -out "$work/request"
    openssl ca -batch -notext -config "$work/ca.conf" -cert "$DIR/certificates/ca.pem" -keyfile "$DIR/certificates/ca.key" \
        -in "$work/request" -out "$file.pem" "${time[@]}" > "$work/said" 2>&1 \
        || { cat "$work/said" >&2; fail 3 "the certificate of $cn could not be made" "openssl said the above" "is it OpenSSL 1.1 or newer? openssl version"; }
    rm -rf "$work"
}

# Once for a cluster: a principal added to the table later gets its password only in a new cluster.
make_secrets() {
    local node name certificates="$DIR/certificates"
    [ ! -f "$certificates/made" ] || return 0
    have openssl || need_packages openssl
    say "   making certificates and passwords"
    (
        umask 077
        rm -rf "$certificates"
        mkdir -p "$certificates" "$DIR/principals"
        new_key "$certificates/ca.key"
        openssl req -x509 -new -key "$certificates/ca.key" -subj "/CN=solyx test authority" -days "$CERTIFICATE_DAYS" \
            -addext "keyUsage = critical, keyCertSign, cRLSign" -out "$certificates/ca.pem"
        for node in $(nodes); do
            certificate "$certificates/broker-$node" broker "serverAuth, clientAuth"
            cat "$certificates/broker-$node.key" "$certificates/broker-$node.pem" "$certificates/ca.pem" > "$certificates/broker-$node.chain.pem"
        done
        certificate "$certificates/admin" admin clientAuth
        certificate "$certificates/operator" operator clientAuth
        certificate "$certificates/expired" operator clientAuth 20200101000000Z 20210101000000Z
        for name in $(principals); do
            # Without a line's end, which a reader would have to take off.
            openssl rand -hex 24 | tr -d '\n' > "$DIR/principals/$name.password"
        done
        touch "$certificates/made"
    )
}

# For the file of arguments of the tool that formats.
scram_arguments() {
    local name
    for name in $(principals); do
        printf '%s\n' --add-scram "'SCRAM-SHA-512=[name=$name,iterations=8192,password=$(cat "$DIR/principals/$name.password")]'"
    done
}

secure_properties() {
    cat << END

authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:admin;User:broker
allow.everyone.if.no.acl.found=false
sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.client.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.mtls.ssl.client.auth=required
listener.name.controller.ssl.client.auth=required
ssl.principal.mapping.rules=RULE:^CN=([a-z0-9-]+)\$/\$1/,DEFAULT
ssl.keystore.type=PEM
ssl.keystore.location=$DIR/certificates/broker-$1.chain.pem
ssl.truststore.type=PEM
ssl.truststore.location=$DIR/certificates/ca.pem
END
}

write_principals() {
    local name client mtls
    client=$(bootstrap "${CLIENT_PORTS[@]:1}") mtls=$(bootstrap "${MTLS_PORTS[@]:1}")
    for name in $(principals); do
        [ -f "$DIR/principals/$name.password" ] || continue
        password_lines "$name" | write_connection "$DIR/principals/$name.toml" "$client"
    done
    password_lines operator | write_connection "$DIR/kafka.toml" "$client"
    certificate_lines operator | write_connection "$DIR/principals/mtls-operator.toml" "$mtls" operator
    certificate_lines expired | write_connection "$DIR/principals/expired.toml" "$mtls" operator
}

password_lines() {
    printf '%s\n' 'protocol = "SASL_SSL"' "ca_file = \"$DIR/certificates/ca.pem\"" 'mechanism = "SCRAM-SHA-512"' \
        "username = \"$1\"" "password_file = \"$DIR/principals/$1.password\""
}

certificate_lines() {
    printf '%s\n' 'protocol = "SSL"' "ca_file = \"$DIR/certificates/ca.pem\"" "certificate_file = \"$DIR/certificates/$1.pem\"" \
        "key_file = \"$DIR/certificates/$1.key\""
}

# At each start, so that rows added to the table come into force; one taken out stays in force until `down --wipe`.
give_rights() {
    local given
    given=$(admin_request acls --timeout 30 --prefix "$PREFIX" "$RIGHTS" "$(admin_port 1)") \
        || fail 3 "the rights could not be given" "the broker said the above" "correct the row of ops/lib/kafka/acls.tsv, and ops/kafka up again"
    say "   $given rights of acls.tsv given"
}
