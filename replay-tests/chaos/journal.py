"""What a producer wrote down: every event before it was sent, every acknowledgement after it came.

Lines of JSON, appended without a buffer, so that a killed producer leaves all but perhaps half a line. It is the checker's word for
what had been acknowledged, and how a producer that starts again knows what may not have arrived.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Iterator


@dataclass
class Sent:
    """A record as it was handed to the client."""

    number: int
    what: str
    topic: str
    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]
    event_id: str | None
    note: dict[str, Any] = field(default_factory=dict)
    # (partition, offset) of each acknowledgement; more than one when it was sent again and both arrived.
    acknowledged: list[tuple[int, int]] = field(default_factory=list)


def text_of(value: bytes) -> str:
    """Bytes as text of a line."""
    return base64.b64encode(value).decode()


class Journal:
    """One producer's file, open for appending."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.file = path.open("ab", buffering=0)
        # What a kill cut off must not swallow the next line.
        self.file.write(b"\n")

    def _write(self, line: dict[str, Any]) -> None:
        self.file.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")

    def sending(self, sent: Sent) -> None:
        """Before the record is handed over."""
        self._write({
            "send": sent.number, "what": sent.what, "topic": sent.topic, "key": text_of(sent.key), "value": text_of(sent.value),
            "headers": [[name, text_of(value)] for name, value in sent.headers], "id": sent.event_id, "note": sent.note,
        })

    def acknowledged(self, number: int, partition: int, offset: int) -> None:
        """After a broker said so."""
        self._write({"ack": number, "at": [partition, offset]})


def read(path: Path) -> dict[int, Sent]:
    """Everything in a journal, by number."""
    found: dict[int, Sent] = {}
    for line in lines(path):
        if "send" in line:
            headers = [(name, base64.b64decode(value)) for name, value in line["headers"]]
            key, value = base64.b64decode(line["key"]), base64.b64decode(line["value"])
            found[line["send"]] = Sent(line["send"], line["what"], line["topic"], key, value, headers, line["id"], line["note"])
        elif "ack" in line and line["ack"] in found:
            found[line["ack"]].acknowledged.append((line["at"][0], line["at"][1]))
    return found


def lines(path: Path) -> Iterator[dict[str, Any]]:
    """The whole lines of a file of JSON lines."""
    if not path.exists():
        return
    for text in path.read_bytes().split(b"\n"):
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict):
            yield line
