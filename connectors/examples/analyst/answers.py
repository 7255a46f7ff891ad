#!/usr/bin/env python3
"""Three questions to a cell's topics, answered with DuckDB: cost by tenant, waiting by hour, carbon by job.

Nothing is asked of the engine. The topics say what happened, the epoch records say which of it counts:

- Of an epoch number, the first record by position whose previous chain hash is the head counts. An epoch is there when its record and
  as many outputs of its epoch and term are there as the record says; outputs of any other epoch and term are dropped.
- Input records that an epoch record lists as skipped do not count, nor does what no epoch has read yet.
- A position in an epoch record is an ordinal: the count of committed data records of the topic-partition, not Kafka's offset.

Cost by tenant is what each placement was expected to cost when it was decided: the terms for rent, energy, carbon and egress of
JobPlaced, in the cell's currency. A job that was placed twice is in it twice; it is no invoice. GPU-hours are metered (UsageMetered).
Waiting is from admission, or from the job's not-before if that is later, to the first placement, by the hour (UTC) in which it began.
Carbon by job is the carbon term of its placements, and its kilograms at the carbon price in force then (CostWeightsSet); where that
price was zero the topics do not say.
"""

import argparse
import io
import json
import pathlib
import sys
import tempfile

import duckdb
import fastavro
from blake3 import blake3
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, TopicPartition
from confluent_kafka.schema_registry import SchemaRegistryClient

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "python"))

from connection import Connection, add_arguments, fail  # noqa: E402

INPUTS = ["policy", "jobs", "usage"]
FRAME_LEN = 5

TABLES = """
CREATE TABLE requested (job VARCHAR PRIMARY KEY, not_before_us BIGINT);
CREATE TABLE admitted (job VARCHAR PRIMARY KEY, tenant VARCHAR, epoch BIGINT, now_us BIGINT);
CREATE TABLE placed (
    job VARCHAR, tenant VARCHAR, epoch BIGINT, now_us BIGINT, currency VARCHAR,
    rent_micros HUGEINT, energy_micros HUGEINT, carbon_micros HUGEINT, egress_micros HUGEINT, carbon_micros_per_kg BIGINT);
CREATE TABLE metered (job VARCHAR, meter VARCHAR, quantity HUGEINT);
"""

# GPU_TIME is in thousandths of a GPU × µs: 3.6e12 of them are a GPU-hour.
COST_BY_TENANT = """
WITH hours AS (
    SELECT tenant, sum(quantity) / 3.6e12 AS gpu_hours
    FROM metered JOIN admitted USING (job) WHERE meter = 'GPU_TIME' GROUP BY tenant)
SELECT tenant, currency, count(*) AS placements, any_value(gpu_hours) AS metered_gpu_hours,
    sum(rent_micros) AS rent_micros, sum(energy_micros) AS energy_micros, sum(carbon_micros) AS carbon_micros,
    sum(egress_micros) AS egress_micros, sum(rent_micros + energy_micros + carbon_micros + egress_micros) AS total_micros
FROM placed LEFT JOIN hours USING (tenant)
GROUP BY tenant, currency ORDER BY total_micros DESC, tenant
"""

WAITING_BY_HOUR = """
WITH waits AS (
    SELECT greatest(now_us, coalesce(not_before_us, now_us)) AS from_us,
        (SELECT min(now_us) FROM placed WHERE placed.job = admitted.job) AS placed_us
    FROM admitted LEFT JOIN requested USING (job))
SELECT strftime(make_timestamp(from_us - from_us % 3600000000), '%Y-%m-%dT%H:00Z') AS hour, count(*) AS jobs,
    count(placed_us) AS placed, quantile_disc(placed_us - from_us, 0.5) AS p50_us,
    quantile_disc(placed_us - from_us, 0.95) AS p95_us, max(placed_us - from_us) AS max_us
FROM waits GROUP BY hour ORDER BY hour
"""

CARBON_BY_JOB = """
SELECT job, tenant, currency, count(*) AS placements, sum(carbon_micros) AS carbon_micros,
    sum(CASE WHEN carbon_micros_per_kg > 0 THEN carbon_micros::DOUBLE / carbon_micros_per_kg END) AS carbon_kg
FROM placed GROUP BY job, tenant, currency ORDER BY carbon_micros DESC, job
"""


class Decoder:
    """Events by the registry's schemas. Logical types are left out: instants stay microseconds."""

    def __init__(self, registry):
        self.registry, self.schemas = registry, {}

    def event(self, value):
        """The record's full name and its fields; None for what no schema describes, which never counts."""
        if value is None or len(value) < FRAME_LEN or value[0] != 0:
            return None
        schema = self.schema(int.from_bytes(value[1:FRAME_LEN], "big"))
        if schema is None:
            return None
        try:
            return schema["name"], fastavro.schemaless_reader(io.BytesIO(value[FRAME_LEN:]), schema, None)
        except (EOFError, ValueError, IndexError, KeyError, TypeError, UnicodeDecodeError):
            return None

    def schema(self, schema_id):
        if schema_id not in self.schemas:
            try:
                text = self.registry.get_schema(schema_id).schema_str
            except Exception as error:
                if getattr(error, "http_status_code", None) != 404:
                    fail("the registry does not answer", error, "check --registry")
                self.schemas[schema_id] = None
                return None
            self.schemas[schema_id] = fastavro.parse_schema(without_logical_types(json.loads(text)))
        return self.schemas[schema_id]


def without_logical_types(schema):
    if isinstance(schema, list):
        return [without_logical_types(branch) for branch in schema]
    if isinstance(schema, dict):
        return {key: without_logical_types(value) for key, value in schema.items() if key != "logicalType"}
    return schema


def read_topic(connection, name):
    """Committed records up to the topic's end: {partition: [(key, value), …]}; the place in a list is the ordinal."""
    topic = connection.topic(name)
    consumer = Consumer(
        connection.kafka
        | {
            "group.id": connection.group(),
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
        }
    )
    partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
    if not partitions:
        fail(f"there is no topic {topic}", "the brokers do not know it", "check --prefix")
    records = {partition: [] for partition in partitions}
    consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in partitions])
    unread = set(partitions)
    while unread:
        for message in consumer.consume(10_000, timeout=0.2):
            error = message.error()
            if error is None:
                if message.partition() in unread:
                    records[message.partition()].append(message.value())
            elif error.code() == KafkaError._PARTITION_EOF:
                unread.discard(message.partition())
            elif error.fatal() or not error.retriable():
                fail(f"cannot read {topic}", error, "check the rights and the brokers")
    consumer.close()
    return records


class History:
    """The epochs that count, and their outputs."""

    def __init__(self, decoder, decisions):
        self.epochs, self.outputs = [], []
        candidates, outputs = [], {}
        for partition, values in decisions.items():
            for value in values:
                event = decoder.event(value)
                if event is None:
                    continue
                name, body = event
                if name == "solyx.decisions.EpochCommitted":
                    candidates.append((body, blake3(value[FRAME_LEN:]).hexdigest()))
                else:
                    outputs.setdefault((body["epoch"], body["term"], partition), []).append(event)
        self._follow(candidates, outputs)

    def _follow(self, candidates, outputs):
        """All epoch records have one key, so that they are in one partition: the order of the list is that of positions."""
        head = "00" * 32
        for epoch, chain_hash in candidates:
            if epoch["epoch"] != len(self.epochs) or epoch["previous_chain_hash"] != head:
                continue
            whole = []
            for count in epoch["outputs"]:
                if count["topic"] != "decisions":
                    continue
                written = outputs.get((epoch["epoch"], epoch["term"], count["partition"]), [])
                if len(written) < count["records"]:
                    return  # The rest of it was written after we read.
                whole += written[: count["records"]]
            self.outputs += sorted(whole, key=lambda event: event[1]["index"])
            self.epochs.append(epoch)
            head = chain_hash

    def inputs(self, decoder, topic, records):
        """Input events that count, with the epoch that took them, in the order of epochs."""
        for epoch in self.epochs:
            skipped = {(s["partition"], s["ordinal"]) for s in epoch["skipped"] if s["topic"] == topic}
            for taken in epoch["inputs"]:
                if taken["topic"] != topic:
                    continue
                partition = taken["partition"]
                for ordinal in range(taken["from_ordinal"], taken["next_ordinal"]):
                    if (partition, ordinal) in skipped:
                        continue
                    event = decoder.event(records[partition][ordinal])
                    if event is None:
                        fail(
                            "a record that counts cannot be read",
                            f"{topic}/{partition}/{ordinal} has no schema in the registry",
                            "name the registry that the engine uses",
                        )
                    yield epoch["epoch"], *event


def load(connection):
    """A database with the tables above, and the number of epochs."""
    decoder = Decoder(SchemaRegistryClient(connection.registry))
    # Decisions first: what an epoch record says was read is then certainly there.
    history = History(decoder, read_topic(connection, "decisions"))
    rows = {"requested": [], "admitted": [], "placed": [], "metered": []}
    prices = []
    for topic in INPUTS:
        for epoch, name, body in history.inputs(decoder, topic, read_topic(connection, topic)):
            match name:
                case "solyx.policy.CostWeightsSet" if body["scope"] == "cell":
                    prices.append((epoch, body["carbon_micros_per_kg"]))
                case "solyx.jobs.JobRequested":
                    rows["requested"].append((body["job"], body["not_before_us"]))
                case "solyx.usage.UsageMetered":
                    rows["metered"].append((body["job"], body["meter"], body["quantity"]))
    price, next_price = 0, 0
    for name, body in history.outputs:
        # An epoch folds what it reads before it decides, so that its own weights are in force.
        while next_price < len(prices) and prices[next_price][0] <= body["epoch"]:
            price, next_price = prices[next_price][1], next_price + 1
        match name:
            case "solyx.decisions.JobAdmitted":
                rows["admitted"].append((body["job"], body["tenant"], body["epoch"], body["now_us"]))
            case "solyx.decisions.JobPlaced":
                terms = [body["terms"][f"{term}_micros"] for term in ("rent", "energy", "carbon", "egress")]
                head = (body["job"], body["tenant"], body["epoch"], body["now_us"], body["currency"])
                rows["placed"].append((*head, *terms, price))
    database = duckdb.connect()
    database.execute(TABLES)
    for table, values in rows.items():
        insert(database, table, values)
    return database, history


def insert(database, table, values):
    """Through a file of JSON: row by row would take minutes for a million rows, and this needs no further package."""
    if not values:
        return
    columns = {row[0]: row[1] for row in database.execute(f"DESCRIBE {table}").fetchall()}
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
        file.writelines(json.dumps(dict(zip(columns, row, strict=True))) + "\n" for row in values)
        file.flush()
        read = f"read_json('{file.name}', format = 'newline_delimited', columns = {columns})"
        database.execute(f"INSERT INTO {table} SELECT * FROM {read}")


def answers(database):
    """Each question's rows, as dictionaries."""
    found = {}
    for name, query in (
        ("cost_by_tenant", COST_BY_TENANT),
        ("waiting_by_hour", WAITING_BY_HOUR),
        ("carbon_by_job", CARBON_BY_JOB),
    ):
        result = database.execute(query)
        names = [column[0] for column in result.description]
        found[name] = [dict(zip(names, row, strict=True)) for row in result.fetchall()]
    return found


def shown(name, value):
    """A value as people read it, and whether it stands at the right."""
    if value is None:
        return "", True
    if name.endswith("_micros"):
        return f"{value / 1e6:,.2f}", True
    if name.endswith("_us"):
        return f"{value / 1e6:,.0f} s", True
    if isinstance(value, float):
        return f"{value:,.2f}", True
    return (f"{value:,}", True) if isinstance(value, int) else (str(value), False)


def table(rows):
    if not rows:
        return "nothing"
    heads = [name.removesuffix("_micros").removesuffix("_us").replace("_", " ") for name in rows[0]]
    cells = [[shown(name, value) for name, value in row.items()] for row in rows]
    widths = [max(len(head), *(len(row[i][0]) for row in cells)) for i, head in enumerate(heads)]
    right = [all(row[i][1] for row in cells) for i in range(len(heads))]

    def line(texts):
        padded = (text.rjust(w) if r else text.ljust(w) for text, w, r in zip(texts, widths, right, strict=True))
        return "  ".join(padded).rstrip()

    return "\n".join([line(heads), *(line([text for text, _ in row]) for row in cells)])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object; amounts are exact micro-units")
    parser.add_argument("--jobs", type=int, default=20, metavar="N", help="jobs shown in the table of carbon; 20 when not given")
    arguments = parser.parse_args()
    database, history = load(Connection(arguments))
    found = answers(database)
    if arguments.json:
        print(json.dumps({"epochs": len(history.epochs), **found}))
        return
    skipped = sum(len(epoch["skipped"]) for epoch in history.epochs)
    print(f"{len(history.epochs):,} epochs; {skipped:,} input records do not count\n")
    print("Cost by tenant: expected when each placement was decided, all placements; GPU-hours as metered")
    print(table(found["cost_by_tenant"]))
    print("\nWaiting by hour (UTC) in which it began: from admission or not-before to the first placement")
    print(table(found["waiting_by_hour"]))
    carbon = found["carbon_by_job"]
    print(f"\nCarbon by job: the carbon term of its placements; {min(arguments.jobs, len(carbon))} of {len(carbon):,} jobs")
    print(table(carbon[: arguments.jobs]))


if __name__ == "__main__":
    main()
