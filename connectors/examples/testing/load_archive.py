#!/usr/bin/env python3
"""Copies a world's archive to Kafka, as an engine would have written it, with what a reader has to leave out in between: an aborted
transaction, outputs of a writer that was fenced, a request that no epoch has read. For tests."""

import argparse
import pathlib
import re
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "python"))

import io  # noqa: E402
import json  # noqa: E402
import uuid  # noqa: E402

import fastavro  # noqa: E402
from confluent_kafka import Producer  # noqa: E402
from confluent_kafka.schema_registry import SchemaRegistryClient  # noqa: E402
from connection import Connection, add_arguments  # noqa: E402

TOPICS = ["policy", "jobs", "usage", "decisions"]
BATCH = 500


class Encoder:
    """Values framed with the registry's ids."""

    def __init__(self, registry, archive):
        self.registry, self.by_name = registry, {}
        lines = (archive / "registry.lock").read_text().splitlines()
        self.subjects = {int(line.split()[0]): line.split()[1] for line in lines if line and line[0] != "#"}

    def schema(self, name):
        if name not in self.by_name:
            latest = self.registry.get_latest_version(name)
            self.by_name[name] = (latest.schema_id, fastavro.parse_schema(json.loads(latest.schema.schema_str)))
        return self.by_name[name]

    def value(self, name, body):
        schema_id, schema = self.schema(name)
        out = io.BytesIO()
        fastavro.schemaless_writer(out, schema, body)
        return b"\0" + schema_id.to_bytes(4, "big") + out.getvalue()

    def row(self, row):
        body, framing = row["body"], row["framing_id"]
        if isinstance(body, tuple):
            return self.value(*body)
        if framing is None:
            return body
        framing = self.schema(self.subjects[framing])[0] if framing in self.subjects else framing
        return b"\0" + framing.to_bytes(4, "big") + body


def rows(archive, topic):
    """Partition and row, the partitions one after the other, each in order of ordinal."""
    files = [(*map(int, re.findall(r"\d+", path.stem)), path) for path in (archive / topic).glob("*.avro")]
    for partition, _, path in sorted(files):
        with open(path, "rb") as file:
            for row in fastavro.reader(file, return_record_name=True):
                yield partition, row


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser)
    parser.add_argument("archive", type=pathlib.Path)
    arguments = parser.parse_args()
    connection = Connection(arguments)
    encoder = Encoder(SchemaRegistryClient(connection.registry), arguments.archive)
    producer = Producer(connection.kafka | {"transactional.id": f"load-{uuid.uuid4()}", "linger.ms": 5})
    producer.init_transactions(30)
    last_epoch, job_row, total = None, None, 0

    def put(topic, partition, row, value):
        headers = [(h["name"], h["value"]) for h in row["headers"]]
        producer.produce(connection.topic(topic), value, key=row["key"], partition=partition, headers=headers)

    for topic in TOPICS:
        producer.begin_transaction()
        for count, (partition, row) in enumerate(rows(arguments.archive, topic), 1):
            value = encoder.row(row)
            if topic == "decisions" and row["body"][0].endswith("JobPlaced") and count % 7 == 0:
                # A writer of another term decided the same and was fenced before its epoch record.
                name, body = row["body"]
                put(topic, partition, row, encoder.value(name, body | {"term": body["term"] + 1}))
            put(topic, partition, row, value)
            total += 1
            if topic == "jobs":
                job_row = (partition, row, value)
            if topic == "decisions" and row["body"][0].endswith("EpochCommitted"):
                last_epoch = (partition, row)
            producer.poll(0)
            if count % BATCH == 0:
                producer.commit_transaction(30)
                producer.begin_transaction()
                put(topic, partition, row, value)
                producer.flush(30)
                producer.abort_transaction(30)
                producer.begin_transaction()
        producer.commit_transaction(30)

    producer.begin_transaction()
    # The same epoch once more, by a writer that had not seen the first: its previous hash is not the head any longer.
    partition, row = last_epoch
    name, body = row["body"]
    put("decisions", partition, row, encoder.value(name, body | {"term": body["term"] + 1}))
    partition, row, value = job_row
    put("jobs", partition, row, value)
    producer.commit_transaction(30)
    print(f"{total} records loaded")


if __name__ == "__main__":
    main()
