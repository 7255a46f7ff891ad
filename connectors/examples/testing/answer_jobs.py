#!/usr/bin/env python3
"""Stands in for an engine: checks each request for a job as the engine would, and decides. The first is rejected, the others are
admitted and placed. For tests; exit code 1 when a request is not as the contract wants it, or does not come."""

import argparse
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "python"))

import datetime  # noqa: E402
import io  # noqa: E402
import json  # noqa: E402
import time  # noqa: E402
import uuid  # noqa: E402

import fastavro  # noqa: E402
from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition  # noqa: E402
from confluent_kafka.schema_registry import SchemaRegistryClient  # noqa: E402
from connection import Connection, add_arguments  # noqa: E402

JOB_REQUESTED = "solyx.jobs.JobRequested"
TERMS = ["rent", "energy", "carbon", "egress", "latency", "risk", "waiting", "policy"]


def murmur2(data):
    """As `org.apache.kafka.common.utils.Utils.murmur2`."""
    mask, m = 0xFFFFFFFF, 0x5BD1E995
    h = 0x9747B28C ^ len(data)
    for i in range(0, len(data) // 4 * 4, 4):
        k = int.from_bytes(data[i : i + 4], "little") * m & mask
        k = (k ^ k >> 24) * m & mask
        h = (h * m & mask) ^ k
    tail = data[len(data) // 4 * 4 :]
    if tail:
        h = (h ^ int.from_bytes(tail, "little")) * m & mask
    h = (h ^ h >> 13) * m & mask
    return h ^ h >> 15


def partition_of(key, partitions):
    return (murmur2(key) & 0x7FFFFFFF) % partitions


def instant(text):
    delta = datetime.datetime.fromisoformat(text) - datetime.datetime.fromtimestamp(0, datetime.UTC)
    return delta // datetime.timedelta(microseconds=1)


def without_logical_types(schema):
    if isinstance(schema, list):
        return [without_logical_types(branch) for branch in schema]
    if isinstance(schema, dict):
        return {key: without_logical_types(value) for key, value in schema.items() if key != "logicalType"}
    return schema


def request_of(message, registry, partitions):
    """The request, or an AssertionError that says what is wrong with it."""
    value = message.value()
    assert value[0] == 0, "there is no Confluent frame"
    schema = json.loads(registry.get_schema(int.from_bytes(value[1:5], "big")).schema_str)
    assert f"{schema['namespace']}.{schema['name']}" == JOB_REQUESTED, f"it is a {schema['name']}"
    body = io.BytesIO(value[5:])
    event = fastavro.schemaless_reader(body, fastavro.parse_schema(without_logical_types(schema)), None)
    assert not body.read(), "bytes follow the body"
    key = event["job"].encode()
    assert message.key() == key, f"its key is {message.key()}"
    assert message.partition() == partition_of(key, partitions), f"its partition is {message.partition()}"
    headers = dict(message.headers())
    expected = {"ce_specversion": "1.0", "ce_id": event["event_id"], "ce_source": event["source"], "ce_type": JOB_REQUESTED}
    for name, text in expected.items():
        assert headers[name] == text.encode(), f"header {name} is {headers[name]}"
    assert instant(headers["ce_time"].decode()) == event["occurred_us"], f"header ce_time is {headers['ce_time']}"
    return event


def decisions_on(event, epoch):
    """Names and bodies of what is decided on a request."""
    now_us = time.time_ns() // 1000
    head = {"cell": "cell-test", "epoch": epoch, "term": 1, "now_us": now_us, "job": event["job"], "tenant": event["tenant"]}
    if epoch == 0:
        limit = {"kind": "UNDECLARED", "subject": event["tenant"]}
        return [("JobRejected", head | {"index": 0, "limit": limit, "detail": "nobody declared this tenant"})]
    place = {
        "run": f"{event['job']}/1",
        "attempt": 1,
        "pool": "pool-test",
        "site": "site-test",
        "nodes": [{"node": "node-test", "gpus": [0], "gpu_milli_each": 1000}],
        "replicas": 1,
        "gpu_milli": 1000,
        "gpu_model": "H100",
        "speed_milli": 1000,
        "from_work_us": 0,
        "start_us": now_us,
        "lease_until_us": now_us + 60_000_000,
        "currency": "USD",
        "terms": {f"{term}_micros": 100_000 for term in TERMS},
        "backfilled": False,
    }
    return [("JobAdmitted", head | {"index": 0}), ("JobPlaced", head | {"index": 1} | place)]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True, help="requests as JSON lines, for `solyx events validate`")
    arguments = parser.parse_args()
    connection = Connection(arguments)
    registry = SchemaRegistryClient(connection.registry)
    consumer = Consumer(connection.kafka | {"group.id": connection.group(), "isolation.level": "read_committed"})
    topics = consumer.list_topics(timeout=10).topics
    partitions = {name: len(topics[connection.topic(name)].partitions) for name in ("jobs", "decisions")}
    consumer.assign([TopicPartition(connection.topic("jobs"), p, OFFSET_BEGINNING) for p in range(partitions["jobs"])])
    producer = Producer(connection.kafka | {"transactional.id": f"answer-{uuid.uuid4()}"})
    producer.init_transactions(30)
    seen, deadline = 0, time.monotonic() + 90
    with open(arguments.out, "w") as out:
        while seen < arguments.count:
            assert time.monotonic() < deadline, f"{arguments.count - seen} requests did not come"
            message = consumer.poll(0.5)
            if message is None or message.error():
                continue
            event = request_of(message, registry, partitions["jobs"])
            out.write(json.dumps({"type": JOB_REQUESTED, **event}) + "\n")
            producer.begin_transaction()
            for kind, body in decisions_on(event, seen):
                latest = registry.get_latest_version(f"solyx.decisions.{kind}")
                encoded = io.BytesIO()
                fastavro.schemaless_writer(encoded, fastavro.parse_schema(json.loads(latest.schema.schema_str)), body)
                producer.produce(
                    connection.topic("decisions"),
                    b"\0" + latest.schema_id.to_bytes(4, "big") + encoded.getvalue(),
                    key=message.key(),
                    partition=partition_of(message.key(), partitions["decisions"]),
                    headers={"ce_type": f"solyx.decisions.{kind}"},
                )
            producer.commit_transaction(30)
            seen += 1
    consumer.close()


if __name__ == "__main__":
    try:
        main()
    except AssertionError as error:
        sys.exit(f"error: a request is not as it should be\n  detail: {error}\n  hint: see the contract in ARCHITECTURE.md")
