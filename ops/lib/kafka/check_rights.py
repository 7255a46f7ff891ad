"""Tries a secure cluster of `ops/kafka up --secure` as its principals do: who is let in, and who may write and read what.

usage: check_rights.py DIR      needs confluent-kafka (pip install confluent-kafka). Exit code 1 when something is not as it should be.
It makes the topics that it needs, and leaves a few records on them.
"""

import pathlib
import sys
import tomllib
import uuid

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic

WAIT_S = 8
TOPICS = ["solyx.jobs", "solyx.policy", "solyx.decisions", "solyx.usage", "solyx.staged.jobs", "other.decisions"]
failures = []


def check(name, holds, detail=""):
    print(f"{'ok  ' if holds else 'FAIL'}  {name}{'' if holds else f': {detail}'}")
    if not holds:
        failures.append(name)


def settings(directory, name, **more):
    """librdkafka's settings of a connection file, quiet on stderr."""
    path = directory / "principals" / f"{name}.toml"
    connection = tomllib.loads(path.read_text())
    security = connection["security"]
    names = {"protocol": "security.protocol", "ca_file": "ssl.ca.location", "mechanism": "sasl.mechanism", "username": "sasl.username",
             "certificate_file": "ssl.certificate.location", "key_file": "ssl.key.location"}
    found = {names[key]: value for key, value in security.items() if key in names}
    if "password_file" in security:
        found["sasl.password"] = pathlib.Path(security["password_file"]).read_text()
    return {"bootstrap.servers": connection["bootstrap"], "log_level": 0, **found, **more}


def write(conf, topic, transactional_id=None):
    """None when a record was written, else the error."""
    seen, said = [], []
    conf = {**conf, "message.timeout.ms": WAIT_S * 1000, "error_cb": lambda error: seen.append(error)}
    if transactional_id:
        conf |= {"transactional.id": transactional_id, "transaction.timeout.ms": 60_000}
    producer = Producer(conf)
    try:
        if transactional_id:
            producer.init_transactions(WAIT_S)
            producer.begin_transaction()
        producer.produce(topic, b"x", b"k", on_delivery=lambda error, _: said.append(error))
        producer.flush(WAIT_S + 2)
        if transactional_id and not said[0]:
            producer.commit_transaction(WAIT_S)
    except KafkaException as error:
        return error.args[0]
    error = said[0] if said else None
    if error and error.code() == KafkaError._MSG_TIMED_OUT and seen:
        return seen[0]
    return error if said else seen[0]


def read(conf, topic):
    """None when a record was read, else the error. Subscribed and not assigned: an assigned partition that may not be read is only silent."""
    seen = []
    group = "other.engine" if conf["sasl.username"] == "engine-other" else f"solyx.{conf['sasl.username']}"
    consumer = Consumer({**conf, "group.id": group, "enable.auto.commit": False, "auto.offset.reset": "earliest", "error_cb": seen.append})
    consumer.subscribe([topic])
    message = consumer.poll(WAIT_S)
    consumer.close()
    if message is None:
        return seen[0] if seen else "nothing came"
    return message.error()


def code(error):
    return error.code() if isinstance(error, KafkaError) else error


def main():
    directory = pathlib.Path(sys.argv[1])
    operator = AdminClient(settings(directory, "operator"))

    def create(client, topic):
        copies = tomllib.loads((directory / "kafka.toml").read_text())["replication"]
        try:
            client.create_topics([NewTopic(topic, num_partitions=1, replication_factor=copies)])[topic].result(30)
        except KafkaException as error:
            return None if error.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS else error.args[0]

    for topic in TOPICS:
        error = create(operator if topic.startswith("solyx.") else AdminClient(settings(directory, "admin")), topic)
        check(f"{'operator' if topic.startswith('solyx.') else 'admin'} makes {topic}", error is None, error)
    refused = KafkaError.TOPIC_AUTHORIZATION_FAILED
    error = create(operator, "other.jobs")
    check("operator may not make a topic of another prefix", code(error) == refused, error)
    error = create(AdminClient(settings(directory, "gateway")), "solyx.more")
    check("gateway may not make topics", code(error) == refused, error)

    for principal, topic, may in [
        ("gateway", "solyx.jobs", True), ("gateway", "solyx.policy", False), ("operator", "solyx.policy", True),
        ("operator", "solyx.staged.jobs", True), ("operator", "solyx.decisions", False), ("engine", "solyx.decisions", True),
        ("engine", "solyx.staged.jobs", False), ("engine-other", "solyx.decisions", False), ("engine-other", "other.decisions", True),
        ("engine", "other.decisions", False), ("meter", "solyx.usage", True), ("meter", "solyx.jobs", False),
        ("analyst", "solyx.jobs", False), ("projection", "solyx.decisions", False), ("signer", "solyx.proofs", True),
        ("signer", "solyx.policy", False), ("engine", "solyx.proofs", False),
    ]:
        error = write(settings(directory, principal), topic)
        check(f"{principal} {'writes' if may else 'may not write'} {topic}", (error is None) if may else code(error) == refused, error)
    for principal, topic, may in [
        ("analyst", "solyx.jobs", True), ("analyst", "solyx.decisions", True), ("gateway", "solyx.decisions", True),
        ("projection", "solyx.policy", True), ("gateway", "solyx.usage", False), ("engine-other", "solyx.decisions", False),
    ]:
        error = read(settings(directory, principal), topic)
        check(f"{principal} {'reads' if may else 'may not read'} {topic}", (error is None) if may else code(error) == refused, error)

    run = uuid.uuid4().hex[:8]
    error = write(settings(directory, "engine"), "solyx.decisions", f"solyx.engine-{run}")
    check("engine writes in a transaction under its own name", error is None, error)
    error = write(settings(directory, "gateway"), "solyx.jobs", f"solyx.engine-{run}")
    check("gateway may not take the engine's name", code(error) == KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED, error)

    error = write(settings(directory, "gateway", **{"sasl.password": "wrong"}), "solyx.jobs")
    check("a wrong password is refused", code(error) == KafkaError._AUTHENTICATION, error)
    plain = {"bootstrap.servers": settings(directory, "gateway")["bootstrap.servers"], "log_level": 0}
    error = write(plain, "solyx.jobs")
    check("a client without TLS is refused", error is not None, error)
    certificate = settings(directory, "mtls-operator")
    error = write(certificate, "solyx.policy")
    check("a certificate's CN is its principal: operator writes solyx.policy", error is None, error)
    error = write(certificate, "solyx.jobs")
    check("a certificate's CN is its principal: operator may not write solyx.jobs", code(error) == refused, error)
    error = write(settings(directory, "expired"), "solyx.policy")
    check("an expired certificate is refused", code(error) in (KafkaError._SSL, KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT), error)
    bare = {key: value for key, value in certificate.items() if "certificate" not in key and "key" not in key}
    error = write(bare, "solyx.policy")
    check("no certificate where one is required is refused", error is not None, error)
    print(f"{len(failures)} not as they should be" if failures else "all as it should be")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
