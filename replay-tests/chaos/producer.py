"""A producer as a process of its own, so that it can be killed: `producer.py JOURNAL BOOTSTRAP PREFIX SOURCE RATE SEED`.

It is idempotent, and says again, with the same event id, whatever it does not know the outcome of: so the log may hold an event twice, and
the engine has to list the second as a duplicate. SIGTERM ends it once everything is acknowledged, or after a while.
"""

from __future__ import annotations

import random
import signal
import sys
import time
from pathlib import Path

from confluent_kafka import KafkaError, KafkaException, Message, Producer

import journal
from contract import Contract
from events import Events

# Records that may be under way before it waits.
IN_FLIGHT_MAX = 500
# How long it goes on after it was told to stop.
STOP_MAX_S = 15.0


class Writer:
    """The client, the journal, and what is not acknowledged yet."""

    def __init__(self, path: Path, bootstrap: str, prefix: str) -> None:
        self.open = {number: sent for number, sent in journal.read(path).items() if not sent.acknowledged}
        self.journal, self.bootstrap, self.prefix = journal.Journal(path), bootstrap, prefix
        self.again: list[int] = sorted(self.open)
        self.client = self._client()

    def _client(self) -> Producer:
        return Producer({
            "bootstrap.servers": self.bootstrap, "client.id": "chaos", "enable.idempotence": True, "acks": "all", "linger.ms": 5,
            "delivery.timeout.ms": 8000, "socket.timeout.ms": 5000, "partitioner": "murmur2", "reconnect.backoff.max.ms": 1000,
            "log_level": 0,
        })

    def say(self, sent: journal.Sent) -> None:
        """Writes it down and sends it."""
        self.journal.sending(sent)
        self.open[sent.number] = sent
        self._send(sent)

    def serve(self, seconds: float) -> None:
        """Takes acknowledgements, and sends again what failed."""
        self.client.poll(seconds)
        again, self.again = self.again, []
        for number in again:
            if number in self.open:
                self._send(self.open[number])

    def _send(self, sent: journal.Sent) -> None:
        def told(error: KafkaError | None, message: Message) -> None:
            # A request failed and a later one came through: the client takes the earlier one's records for written, without an
            # offset. The brokers refuse the gap only where they know the producer, so that is no acknowledgement.
            if error is not None or message.offset() is None or message.offset() < 0:
                self.again.append(sent.number)
            else:
                self.journal.acknowledged(sent.number, message.partition(), message.offset())
                self.open.pop(sent.number, None)

        try:
            self.client.produce(f"{self.prefix}.{sent.topic}", sent.value, sent.key, headers=sent.headers, on_delivery=told)
        except (BufferError, KafkaException) as error:
            self.again.append(sent.number)
            if isinstance(error, KafkaException) and error.args[0].fatal():
                self.client = self._client()
            time.sleep(0.05)


def main() -> None:
    path, bootstrap, prefix, source, rate, seed = sys.argv[1:]
    stopping = False

    def stop(*_: object) -> None:
        nonlocal stopping
        stopping = True

    signal.signal(signal.SIGTERM, stop)
    said = journal.read(Path(path))
    # Another life draws other events: the ids go on, and what was drawn before is in the journal.
    events = Events(Contract(), source, random.Random(f"{seed}/{source}/{len(said)}"), said)
    writer = Writer(Path(path), bootstrap, prefix)
    pause, due = 1 / float(rate), time.monotonic()
    while not stopping:
        if time.monotonic() >= due:
            # What was missed while the brokers were away is not made up for.
            due = max(due + pause, time.monotonic() - 1)
            if len(writer.open) < IN_FLIGHT_MAX:
                for sent in events.batch():
                    writer.say(sent)
        writer.serve(max(0.0, min(0.05, due - time.monotonic())))
    for sent in events.taken_back(float("inf")):
        writer.say(sent)
    end = time.monotonic() + STOP_MAX_S
    while writer.open and time.monotonic() < end:
        writer.serve(0.1)
    sys.exit(1 if writer.open else 0)


if __name__ == "__main__":
    main()
