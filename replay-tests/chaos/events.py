"""What the producers say: mostly jobs that can run, beside them what a real world says and what it should not."""

from __future__ import annotations

import random
import time
from collections import deque
from typing import Any

from contract import Contract
from journal import Sent

TENANTS = ["ants", "bees", "crows"]
NODES = [f"north-{n:03}" for n in range(1, 11)] + [f"south-{n:03}" for n in range(1, 7)]
ZONES = ["DE-LU", "US-TEX-ERCO"]
HOUR_US = 3_600_000_000
# What else is said, for each job that is asked for.
SHARES = [
    ("cancel", 0.05), ("hold", 0.04), ("node", 0.02), ("energy", 0.02), ("carbon", 0.02), ("duplicate", 0.02), ("conflict", 0.005),
    ("garbage", 0.01), ("misplaced", 0.005),
]


def now_us() -> int:
    """The producer's clock."""
    return time.time_ns() // 1_000


def _published() -> dict[str, int]:
    """Prices and carbon occur when they are published. The time is the revision too, so that two producers do not give the same."""
    at = now_us()
    return {"occurred_us": at, "published_us": at, "revision": at}


class Events:
    """Makes a producer's events. What it said before is passed in after a restart, so that ids go on and never repeat."""

    def __init__(self, contract: Contract, source: str, rng: random.Random, said: dict[int, Sent]) -> None:
        self.contract, self.source, self.rng = contract, source, rng
        self.number = max(said, default=-1) + 1
        self.jobs: deque[str] = deque(maxlen=60)
        self.old: deque[Sent] = deque(maxlen=400)
        # What takes back an earlier event: (when, kind, of what).
        self.later: deque[tuple[float, str, str]] = deque()
        for sent in list(said.values())[-400:]:
            self._remember(sent)

    def batch(self) -> list[Sent]:
        """One job, and now and then something else."""
        made = [self._job(), *self.taken_back(time.monotonic())]
        for kind, share in SHARES:
            if self.rng.random() < share and (extra := getattr(self, f"_{kind}")()) is not None:
                made.append(extra)
        return made

    def taken_back(self, until: float) -> list[Sent]:
        """What takes back holds and states of nodes, as far as it is due."""
        made = []
        while self.later and self.later[0][0] <= until:
            _, kind, of = self.later.popleft()
            made.append(self._release(of) if kind == "release" else self._node(of, "READY"))
        return made

    def _remember(self, sent: Sent) -> None:
        if sent.what == "job":
            self.jobs.append(sent.note["job"])
        if sent.what in ("job", "cancel", "energy"):
            self.old.append(sent)

    def _sent(self, what: str, topic: str, key: str, value: bytes, headers: list[tuple[str, bytes]], event_id: str | None,
              **note: Any) -> Sent:
        sent = Sent(self.number, what, topic, key.encode(), value, headers, event_id, note)
        self.number += 1
        self._remember(sent)
        return sent

    def _event(self, what: str, topic: str, key: str, event: str, fields: dict[str, Any], event_id: str | None = None,
               **note: Any) -> Sent:
        identity = event_id or f"{self.source}/{self.number}"
        body = {"event_id": identity, "source": self.source, "occurred_us": now_us(), **fields}
        value, headers = self.contract.frame(event, body), self.contract.headers(event, body)
        return self._sent(what, topic, key, value, headers, identity, **note)

    def _job(self, event_id: str | None = None, what: str = "job") -> Sent:
        job, rng = f"{self.source}-{self.number}", self.rng
        gang = rng.choices([(1, 1), (1, 2), (1, 4), (2, 8)], [60, 30, 9, 1])[0]
        fields = {
            "job": job, "tenant": rng.choice(TENANTS), "kind": "BATCH", "class": rng.choice(["standard", "standard", "scavenger"]),
            "gang": {
                "replicas_min": gang[0], "replicas_max": gang[0], "gpus": gang[1], "gpu_milli_each": 1000, "cpu_milli": 1000,
                "memory_mib": 4096, "exclusive_node": False,
            },
            "models": [{"model": "H100", "speed_milli": 1000}], "expected_work_us": rng.randrange(800_000, 3_000_000),
            "preemptible": True, "attestation_required": False, "hold": False,
        }
        return self._event(what, "jobs", job, "JobRequested", fields, event_id, job=job)

    def _cancel(self) -> Sent | None:
        if not self.jobs:
            return None
        job = self.rng.choice(self.jobs)
        return self._event("cancel", "jobs", job, "JobCancelRequested", {"job": job, "actor": "chaos", "reason": "drawn"})

    def _hold(self) -> Sent | None:
        if not self.jobs:
            return None
        job = self.rng.choice(self.jobs)
        self.later.append((time.monotonic() + 2, "release", job))
        return self._event("hold", "jobs", job, "JobHoldSet", {"job": job, "action": "HOLD", "actor": "chaos", "reason": "drawn"})

    def _release(self, job: str) -> Sent:
        return self._event("hold", "jobs", job, "JobHoldSet", {"job": job, "action": "RELEASE", "actor": "chaos", "reason": "due"})

    def _node(self, node: str | None = None, state: str | None = None) -> Sent:
        if node is None:
            node, state = self.rng.choice(NODES), self.rng.choice(["CORDONED", "DRAINING", "DOWN", "FENCED"])
            self.later.append((time.monotonic() + 2, "ready", node))
        return self._event("node", "nodes", node, "NodeStateChanged", {"node": node, "state": state, "reason": "drawn"})

    def _hour(self) -> tuple[int, int]:
        begin = now_us() // HOUR_US * HOUR_US
        return begin, begin + HOUR_US

    def _energy(self) -> Sent:
        (begin, end), zone = self._hour(), self.rng.choice(ZONES)
        fields = {
            "zone": zone, "from_us": begin, "to_us": end, "price_micros_per_mwh": self.rng.randrange(20_000_000, 200_000_000),
            "currency": "USD", "kind": "REAL_TIME", **_published(),
        }
        return self._event("energy", "energy", zone, "EnergyPriced", fields)

    def _carbon(self) -> Sent:
        (begin, end), zone = self._hour(), self.rng.choice(ZONES)
        fields = {
            "zone": zone, "from_us": begin, "to_us": end, "mg_per_kwh": self.rng.randrange(50_000, 600_000), "status": "ACTUAL",
            "signal": "AVERAGE", "method": "LOCATION", **_published(),
        }
        return self._event("carbon", "energy", zone, "CarbonReported", fields)

    def _duplicate(self) -> Sent | None:
        """The bytes of an earlier event once more."""
        if not self.old:
            return None
        old = self.rng.choice(self.old)
        sent = Sent(self.number, "duplicate", old.topic, old.key, old.value, old.headers, old.event_id, {"of": old.number})
        self.number += 1
        return sent

    def _conflict(self) -> Sent | None:
        """Another event under an id that was used."""
        jobs = [sent for sent in self.old if sent.what == "job"]
        return self._job(self.rng.choice(jobs).event_id, "conflict") if jobs else None

    def _garbage(self) -> Sent:
        """Bytes that are no event, of each sort."""
        good = self._job(what="template")
        value = self.rng.choice([
            self.rng.randbytes(self.rng.randrange(0, 60)),
            good.value[: self.rng.randrange(5, len(good.value) - 1)],
            good.value + b"\0",
            b"\0" + (99_999).to_bytes(4, "big") + good.value[5:],
            b"",
        ])
        return self._sent("garbage", "jobs", good.note["job"], value, [], None)

    def _misplaced(self) -> Sent:
        """A good event under a key that is not its own."""
        good = self._job(what="template")
        return self._sent("misplaced", "jobs", "elsewhere", good.value, good.headers, good.event_id)
