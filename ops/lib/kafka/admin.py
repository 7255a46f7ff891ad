"""A few requests of Apache Kafka's protocol and a few free ports, so that the scripts need not start a JVM to ask.

usage: admin.py ports COUNT                       free ports of 127.0.0.1, one a line
       admin.py free PORT…                        exit code 1 when one of them is taken
       admin.py brokers [TLS] PORT…               what each of these brokers says: PORT and the ids of all it knows of
       admin.py acls [TLS] --prefix P TABLE PORT  gives the rights of the table
       admin.py acls --prefix P --print TABLE     the same as commands of kafka-acls.sh
TLS: --ca FILE --certificate FILE --key FILE
"""

import argparse
import random
import socket
import ssl
import struct
import sys

METADATA, CREATE_ACLS = (3, 4), (30, 1)
RESOURCES = {"topic": 2, "group": 3, "cluster": 4, "transactional-id": 5}
PATTERNS = {"literal": 3, "prefixed": 4}
OPERATIONS = {"All": 2, "Read": 3, "Write": 4, "Create": 5, "Delete": 6, "Alter": 7, "Describe": 8,
              "ClusterAction": 9, "DescribeConfigs": 10, "AlterConfigs": 11, "IdempotentWrite": 12}
ALLOW = 3
# Below the ports that Linux hands to outgoing connections, so that they are still free when the cluster comes up again.
PORTS = range(20_000, 32_000)


def is_free(port):
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def text(value):
    raw = value.encode()
    return struct.pack(">h", len(raw)) + raw


class Answer:
    """Reads the fields of an answer in turn."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def number(self, form):
        (value,) = struct.unpack_from(">" + form, self.data, self.at)
        self.at += struct.calcsize(">" + form)
        return value

    def text(self):
        length = self.number("h")
        if length < 0:
            return None
        self.at += length
        return self.data[self.at - length:self.at].decode()


def exactly(stream, length):
    data = b""
    while len(data) < length:
        more = stream.recv(length - len(data))
        if not more:
            raise ConnectionError("the broker closed the connection")
        data += more
    return data


def ask(options, port, request, body):
    stream = socket.create_connection(("127.0.0.1", port), timeout=options.timeout)
    with stream:
        if options.ca:
            context = ssl.create_default_context(cafile=options.ca)
            context.load_cert_chain(options.certificate, options.key)
            stream = context.wrap_socket(stream, server_hostname="127.0.0.1")
        message = struct.pack(">hhi", *request, 1) + text("solyx-ops") + body
        stream.sendall(struct.pack(">i", len(message)) + message)
        (length,) = struct.unpack(">i", exactly(stream, 4))
        answer = Answer(exactly(stream, length))
        answer.number("i")
        return answer


def brokers(options, port):
    """The ids of the brokers that this one knows to be up."""
    answer = ask(options, port, METADATA, struct.pack(">i?", 0, False))
    answer.number("i")
    found = []
    for _ in range(answer.number("i")):
        found.append(answer.number("i"))
        answer.text(), answer.number("i"), answer.text()
    return sorted(found)


def rights(path, prefix):
    """The rows of the table, one operation and one name each, with `solyx` put as the prefix."""
    with open(path, encoding="utf-8") as table:
        for number, line in enumerate(table, 1):
            if line.startswith("#") or not line.strip():
                continue
            cells = line.rstrip("\n").split("\t")
            known = len(cells) == 5 and cells[2] in RESOURCES and cells[3] in PATTERNS
            if not known or not all(name in OPERATIONS for name in cells[1].split(",")):
                sys.exit(f"{path}:{number}: not principal, operations, resource, pattern and names: {line.strip()}")
            principal, operations, resource, pattern, names = cells
            for operation in operations.split(","):
                for name in names.split(","):
                    if name.startswith("solyx."):
                        name = prefix + name.removeprefix("solyx")
                    yield principal, operation, resource, pattern, name


def give(options):
    body = b""
    rows = list(rights(options.table, options.prefix))
    for principal, operation, resource, pattern, name in rows:
        body += struct.pack(">b", RESOURCES[resource]) + text(name) + struct.pack(">b", PATTERNS[pattern])
        body += text(f"User:{principal}") + text("*") + struct.pack(">bb", OPERATIONS[operation], ALLOW)
    answer = ask(options, options.port, CREATE_ACLS, struct.pack(">i", len(rows)) + body)
    answer.number("i")
    for row in rows[: answer.number("i")]:
        code, message = answer.number("h"), answer.text()
        if code:
            sys.exit(f"{' '.join(row)}: error {code}, {message}")
    print(len(rows))


def commands(options):
    for principal, operation, resource, pattern, name in rights(options.table, options.prefix):
        print(f"kafka-acls.sh --bootstrap-server $BOOTSTRAP --command-config $ADMIN --add --allow-principal User:{principal}"
              f" --operation {operation} --{resource}" + (f" {name}" if resource != "cluster" else "")
              + f" --resource-pattern-type {pattern}")


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("--ca")
    parser.add_argument("--certificate")
    parser.add_argument("--key")
    parser.add_argument("--timeout", type=float, default=2.0)
    parser.add_argument("--prefix", default="solyx")
    parser.add_argument("--print", action="store_true", dest="printed")
    parser.add_argument("what", choices=["ports", "free", "brokers", "acls"])
    parser.add_argument("arguments", nargs="*")
    options = parser.parse_intermixed_args()
    if options.what == "ports":
        chosen = []
        while len(chosen) < int(options.arguments[0]):
            port = random.choice(PORTS)
            if port not in chosen and is_free(port):
                chosen.append(port)
        print(*chosen, sep="\n")
    elif options.what == "free":
        sys.exit(0 if all(is_free(int(port)) for port in options.arguments) else 1)
    elif options.what == "brokers":
        for port in options.arguments:
            try:
                print(port, *brokers(options, int(port)))
            except (OSError, struct.error) as error:
                print(port)
                print(f"{port}: {error}", file=sys.stderr)
    elif options.printed:
        options.table = options.arguments[0]
        commands(options)
    else:
        options.table, options.port = options.arguments[0], int(options.arguments[1])
        give(options)


if __name__ == "__main__":
    main()
