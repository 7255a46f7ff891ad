"""The contract as files say it: schemas, their ids, framing, hashes. Written from ARCHITECTURE.md, not from the engine's code.

Both the producer and the checker lean on it, so that a mistake of ours shows as records that the engine refuses.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from datetime import datetime, timezone
from hashlib import sha256
from pathlib import Path
from typing import Any

import fastavro

ROOT = Path(__file__).resolve().parents[2]
SCHEMAS = ROOT / "schemas" / "avsc"

# In the order in which an epoch applies them.
INPUTS = [
    "policy", "facility", "assets", "capacity", "nodes", "attestation", "network", "energy", "storage", "leases", "plans",
    "jobs", "runs", "usage",
]
# In the order of topics; outputs of an epoch are in these two.
OUTPUTS = ["quarantine", "decisions"]


@dataclass(frozen=True)
class Schema:
    """One row of the lock file with its schema."""

    id: int
    name: str
    hash: bytes
    parsed: Any


def without(value: Any, name: str) -> Any:
    """A JSON value without the members of a name, at every depth."""
    if isinstance(value, dict):
        return {key: without(part, name) for key, part in value.items() if key != name}
    return [without(part, name) for part in value] if isinstance(value, list) else value


def canonical_hash(schema: Any) -> bytes:
    """SHA-256 of the schema's JSON with keys sorted, without whitespace and without `doc`."""
    text = json.dumps(without(schema, "doc"), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return sha256(text.encode()).digest()


def load_schemas() -> dict[int, Schema]:
    """Every schema by its id; one whose file does not have the locked hash is an error."""
    schemas = {}
    for line in (ROOT / "schemas" / "registry.lock").read_text().splitlines():
        if line.startswith("#") or not line.strip():
            continue
        number, subject, _, locked = line.split()
        file = SCHEMAS / f"{subject.rsplit('.', 1)[1]}.avsc"
        raw = json.loads(file.read_text())
        found = canonical_hash(raw)
        if found.hex() != locked:
            # An earlier version of a subject that has changed since; what is written now has the latest.
            continue
        # Instants stay numbers: a datetime is of no use to arithmetic in microseconds.
        parsed = fastavro.parse_schema(without(raw, "logicalType"), named_schemas={})
        schemas[int(number)] = Schema(int(number), subject, found, parsed)
    return schemas


class Contract:
    """Encodes and decodes by the lock file's ids."""

    def __init__(self) -> None:
        self.schemas = load_schemas()
        self.by_event = {schema.name.rsplit(".", 1)[1]: schema for schema in self.schemas.values()}

    def frame(self, event: str, body: dict[str, Any]) -> bytes:
        """Byte 0, the id big-endian, the Avro body."""
        schema = self.by_event[event]
        out = io.BytesIO()
        out.write(b"\0" + schema.id.to_bytes(4, "big"))
        fastavro.schemaless_writer(out, schema.parsed, body)
        return out.getvalue()

    def headers(self, event: str, body: dict[str, Any]) -> list[tuple[str, bytes]]:
        """The attributes of CloudEvents in Kafka's binary mode."""
        time = datetime.fromtimestamp(body["occurred_us"] / 1_000_000, timezone.utc)
        said = time.replace(microsecond=body["occurred_us"] % 1_000_000).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        fields = {
            "ce_specversion": "1.0", "ce_id": body["event_id"], "ce_source": body["source"],
            "ce_type": self.by_event[event].name, "ce_time": said,
        }
        return [(name, value.encode()) for name, value in fields.items()]

    def schema_of(self, value: bytes | None) -> Schema | None:
        """The schema that a value names, if it names one of ours."""
        if not value or len(value) < 5 or value[0] != 0:
            return None
        return self.schemas.get(int.from_bytes(value[1:5], "big"))

    def decode(self, value: bytes) -> tuple[Schema, dict[str, Any]] | None:
        """The event in a value, whole; None when it is not one."""
        schema = self.schema_of(value)
        if schema is None:
            return None
        body = io.BytesIO(value[5:])
        try:
            event = fastavro.schemaless_reader(body, schema.parsed, None)
        except Exception:  # fastavro raises whatever its reading ran into
            return None
        return (schema, event) if not body.read(1) else None


def record_hash(topic: str, partition: int, ordinal: int | None, key: bytes, content: list[bytes]) -> bytes:
    """SHA-256 over the parts, each with its length before it."""
    place = b"" if ordinal is None else ordinal.to_bytes(8, "little")
    hasher = sha256()
    for part in [topic.encode(), partition.to_bytes(4, "little"), place, key, *content]:
        hasher.update(len(part).to_bytes(8, "little"))
        hasher.update(part)
    return hasher.digest()


def merkle_root(leaves: list[bytes]) -> bytes:
    """The tree hash of RFC 6962, section 2.1, over leaves that are hashes."""

    def root(level: list[bytes]) -> bytes:
        if len(level) == 1:
            return sha256(b"\0" + level[0]).digest()
        half = 1
        while half * 2 < len(level):
            half *= 2
        return sha256(b"\1" + root(level[:half]) + root(level[half:])).digest()

    return root(leaves) if leaves else sha256(b"").digest()
