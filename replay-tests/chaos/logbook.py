"""The log as an outsider reads it: every committed record of every topic, with its ordinal, and the epochs that count.

Ordinals are counted here: the place of a record among the committed data records of its topic-partition.
"""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from blake3 import blake3
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, TopicPartition

from contract import INPUTS, OUTPUTS, Contract, Schema

READ_MAX_S = 120.0
Place = tuple[str, int, int]


@dataclass
class Stored:
    """A committed record."""

    topic: str
    partition: int
    ordinal: int
    offset: int
    append_ms: int
    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]
    schema: Schema | None = None
    event: dict[str, Any] | None = None

    @property
    def place(self) -> Place:
        return self.topic, self.partition, self.ordinal

    @property
    def kind(self) -> str:
        """The event's name without its namespace; empty for what does not decode."""
        return self.schema.name.rsplit(".", 1)[1] if self.schema and self.event is not None else ""

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}/{self.ordinal}"


@dataclass
class Epoch:
    """An epoch that counts, with what it took and what it gave."""

    number: int
    record: Stored
    inputs: list[Stored] = field(default_factory=list)
    outputs: list[Stored] = field(default_factory=list)
    skipped: dict[Place, str] = field(default_factory=dict)

    @property
    def body(self) -> dict[str, Any]:
        assert self.record.event is not None
        return self.record.event


@dataclass
class Logbook:
    """Everything there is, by topic-partition in order."""

    inputs: dict[tuple[str, int], list[Stored]]
    outputs: dict[tuple[str, int], list[Stored]]

    def at(self, topic: str, partition: int, ordinal: int) -> Stored | None:
        records = self.inputs.get((topic, partition), [])
        return records[ordinal] if 0 <= ordinal < len(records) else None


def read_log(bootstrap: str, prefix: str, contract: Contract) -> Logbook:
    """Reads every input and output topic from its first record to where it ends now, committed records only."""
    consumer = Consumer({
        "bootstrap.servers": bootstrap, "group.id": "chaos-check", "enable.auto.commit": False, "isolation.level": "read_committed",
        "enable.partition.eof": True, "log_level": 0,
    })
    names = {f"{prefix}.{topic}": topic for topic in INPUTS + OUTPUTS}
    found = consumer.list_topics(timeout=20).topics
    places = [(name, partition) for name in names for partition in found[name].partitions]
    consumer.assign([TopicPartition(name, partition, OFFSET_BEGINNING) for name, partition in places])
    left, end = set(places), time.monotonic() + READ_MAX_S
    records: dict[tuple[str, int], list[Stored]] = defaultdict(list)
    while left:
        if time.monotonic() > end:
            raise TimeoutError(f"{len(left)} topic-partitions could not be read to their end in {READ_MAX_S:.0f} s")
        for message in consumer.consume(500, 0.5):
            name, partition = message.topic(), message.partition()
            if message.error() is not None:
                if message.error().code() == KafkaError._PARTITION_EOF:
                    left.discard((name, partition))
                continue
            into = records[names[name], partition]
            stored = Stored(
                names[name], partition, len(into), message.offset(), message.timestamp()[1], message.key() or b"",
                message.value() or b"", message.headers() or [],
            )
            if (decoded := contract.decode(stored.value)) is not None:
                stored.schema, stored.event = decoded
            into.append(stored)
    consumer.close()
    return Logbook(
        {place: found for place, found in records.items() if place[0] in INPUTS},
        {place: found for place, found in records.items() if place[0] in OUTPUTS},
    )


def chain_hash(record: Stored) -> str:
    """blake3 of the epoch record's Avro body as written."""
    return blake3(record.value[5:]).hexdigest()


def epochs_of(log: Logbook) -> tuple[list[Epoch], list[Stored]]:
    """The epochs that count, in order, and the epoch records that do not."""
    epochs: list[Epoch] = []
    dropped: list[Stored] = []
    head = "0" * 64
    # All epoch records have the cell for a key and stand in one partition.
    for records in (records for (topic, _), records in sorted(log.outputs.items()) if topic == "decisions"):
        for record in records:
            if record.kind != "EpochCommitted" or record.event is None:
                continue
            if record.event["epoch"] == len(epochs) and record.event["previous_chain_hash"] == head:
                epochs.append(Epoch(len(epochs), record))
                head = chain_hash(record)
            else:
                dropped.append(record)
    return epochs, dropped
