#!/usr/bin/env python3
"""Publishes jobs and prints what is decided of each.

The program knows nothing of solyx but names: the schema of solyx.jobs.JobRequested comes from the registry, the serializers are those
of confluent-kafka. Exit code 1: some job got no decision in time.
"""

import argparse
import datetime
import sys
import time
import uuid

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.schema_registry import SchemaRegistryClient, record_subject_name_strategy
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

from connection import Connection, add_arguments, fail

RECORD = "solyx.jobs.JobRequested"
SOURCE = "example-python"
# What is final for this program; a job that waits is told, and may still be placed.
FINAL = {"JobPlaced", "JobRejected", "JobCancelled"}


def job_request(job, occurred_us, arguments):
    """A JobRequested; what is left out has the default that the schema gives it."""
    return {
        "event_id": f"{job}/request",
        "source": SOURCE,
        "occurred_us": occurred_us,
        "job": job,
        "tenant": arguments.tenant,
        "kind": "TRAINING",
        "gang": {
            "replicas_min": 1,
            "replicas_max": 1,
            "gpus": arguments.gpus,
            "gpu_milli_each": 1000,
            "cpu_milli": 8000,
            "memory_mib": 65536,
            "exclusive_node": False,
        },
        "expected_work_us": round(arguments.work * 1_000_000),
        "class": arguments.priority_class,
        "preemptible": True,
        "attestation_required": False,
        "hold": False,
    }


def cloud_event_headers(event):
    """CloudEvents 1.0 in Kafka's binary mode; they say what the body says."""
    moment = datetime.datetime.fromtimestamp(0, datetime.UTC) + datetime.timedelta(microseconds=event["occurred_us"])
    return {
        "ce_specversion": "1.0",
        "ce_id": event["event_id"],
        "ce_source": event["source"],
        "ce_type": RECORD,
        "ce_time": moment.isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "content-type": "application/avro",
    }


def publish(connection, registry, jobs, arguments):
    """Publishes a request for each job, and returns when all are durable."""
    serializer = AvroSerializer(
        registry,
        registry.get_latest_version(RECORD).schema,
        conf={
            "auto.register.schemas": False,
            "use.latest.version": True,
            "subject.name.strategy": record_subject_name_strategy,
        },
    )
    # The partition of a key is part of the contract: murmur2, as Kafka's own clients compute it.
    settings = {"enable.idempotence": True, "acks": "all", "partitioner": "murmur2_random", "linger.ms": 5}
    producer = Producer(connection.kafka | settings)
    topic, errors = connection.topic("jobs"), []

    def delivered(error, message):
        # Without an offset the client only infers that the record is there.
        if error or message.offset() is None or message.offset() < 0:
            errors.append(error or "a record was acknowledged without an offset")

    for job in jobs:
        event = job_request(job, time.time_ns() // 1000, arguments)
        value = serializer(event, SerializationContext(topic, MessageField.VALUE))
        producer.produce(topic, value, key=job, headers=cloud_event_headers(event), on_delivery=delivered)
        producer.poll(0)
    left = producer.flush(30)
    if errors or left:
        fail("some jobs were not published", errors[0] if errors else f"{left} are not acknowledged", "see the brokers' logs")


def decisions_from_now(connection):
    """A consumer of all decisions that come from now on, and only of transactions that were committed."""
    settings = {"group.id": connection.group(), "isolation.level": "read_committed", "enable.auto.commit": False}
    consumer = Consumer(connection.kafka | settings)
    topic = connection.topic("decisions")
    partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
    if not partitions:
        fail(f"there is no topic {topic}", "the brokers do not know it", "check --prefix; the engine makes its topics")
    ends = [TopicPartition(topic, p, consumer.get_watermark_offsets(TopicPartition(topic, p))[1]) for p in partitions]
    consumer.assign(ends)
    return consumer


def in_words(decision, kind):
    if kind == "JobPlaced":
        cost = sum(decision["terms"].values()) / 1e6
        return f"in {decision['pool']} at {decision['site']}, {cost:.2f} {decision['currency']} by all terms"
    if "limit" in decision:
        limit = decision["limit"]
        return " ".join(filter(None, [limit["kind"], limit.get("subject"), decision.get("detail")]))
    return ""


def print_decisions(connection, registry, consumer, jobs, seconds):
    """Prints decisions on these jobs until each has a final one; the jobs that have none by then."""
    deserializer = AvroDeserializer(registry)
    waiting, deadline = set(jobs), time.monotonic() + seconds
    while waiting and time.monotonic() < deadline:
        message = consumer.poll(0.5)
        if message is None:
            continue
        if message.error():
            fail("decisions cannot be read", message.error(), "check the rights and the brokers")
        headers = dict(message.headers() or [])
        kind = headers.get("ce_type", b"").decode().rsplit(".", 1)[-1]
        # The key of a decision on a job is the job; other records need not be decoded.
        job = (message.key() or b"").decode()
        if job not in jobs:
            continue
        decision = deserializer(message.value(), SerializationContext(message.topic(), MessageField.VALUE))
        print(f"{job:40} {kind:12} {in_words(decision, kind)}".rstrip(), flush=True)
        if kind in FINAL:
            waiting.discard(job)
    return waiting


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--count", type=int, default=3, metavar="N", help="jobs; 3 when not given")
    parser.add_argument("--tenant", default="11cb48", help="tenant that asks; one of ops/fleets when not given")
    parser.add_argument("--class", dest="priority_class", default="standard", help="priority class; standard when not given")
    parser.add_argument("--gpus", type=int, default=1, metavar="N", help="GPUs of each job; 1 when not given")
    parser.add_argument("--work", type=float, default=3600, metavar="SECONDS", help="expected work of each job; an hour when not given")
    parser.add_argument("--timeout", type=float, default=60, metavar="SECONDS", help="how long to wait for decisions; 0 only publishes")
    arguments = parser.parse_args()
    connection = Connection(arguments)
    registry = SchemaRegistryClient(connection.registry)
    run = uuid.uuid4().hex[:8]
    jobs = [f"example-python-{run}-{n}" for n in range(arguments.count)]
    consumer = decisions_from_now(connection) if arguments.timeout > 0 else None
    publish(connection, registry, jobs, arguments)
    print(f"{len(jobs)} jobs published to {connection.topic('jobs')}", flush=True)
    if consumer is None:
        return 0
    left = print_decisions(connection, registry, consumer, set(jobs), arguments.timeout)
    consumer.close()
    for job in sorted(left):
        print(f"{job:40} no final decision in {arguments.timeout:.0f} s", flush=True)
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
