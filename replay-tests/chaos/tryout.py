"""Whether the checker would have seen it: the log that it found good is altered in memory, one way at a time, and checked again.

A check that finds nothing in an altered log tests nothing. Every alteration is one that a wrong engine could have made.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable

from check_log import Journals, checked
from logbook import Logbook, Stored, epochs_of
from recount import Recount

Alteration = Callable[[Logbook, random.Random], None]


def _of(log: Logbook, rng: random.Random, kind: str, inputs: bool = False) -> tuple[list[Stored], int]:
    places = log.inputs if inputs else log.outputs
    found = [(records, index) for records in places.values() for index, stored in enumerate(records) if stored.kind == kind]
    return rng.choice(found)


def _renumber(records: list[Stored]) -> None:
    for ordinal, stored in enumerate(records):
        stored.ordinal = ordinal


def lose_a_decision(log: Logbook, rng: random.Random) -> None:
    records, index = _of(log, rng, "JobPlaced")
    del records[index]


def double_a_decision(log: Logbook, rng: random.Random) -> None:
    records, index = _of(log, rng, "JobPlaced")
    records.insert(index, records[index])


def lose_an_acknowledged_input(log: Logbook, rng: random.Random) -> None:
    records, index = _of(log, rng, "JobRequested", inputs=True)
    del records[index]
    _renumber(records)


def leave_the_last_inputs_out(log: Logbook, rng: random.Random) -> None:
    records, _ = _of(log, rng, "JobRequested", inputs=True)
    more = copy.copy(records[-1])
    more.ordinal += 1
    records.append(more)


def change_a_decision(log: Logbook, rng: random.Random) -> None:
    records, index = _of(log, rng, "JobPlaced")
    changed = copy.copy(records[index])
    changed.value = changed.value[:-1] + bytes([changed.value[-1] ^ 1])
    records[index] = changed


def break_the_chain(log: Logbook, rng: random.Random) -> None:
    records, index = _of(log, rng, "EpochCommitted")
    del records[index]


def count_a_duplicate(log: Logbook, rng: random.Random) -> None:
    """The epoch record no longer lists one. Its bytes stay, so that the chain is whole and only the list can show it."""
    epochs, _ = epochs_of(log)
    epoch = rng.choice([epoch for epoch in epochs if any(part["reason"] == "DUPLICATE" for part in epoch.body["skipped"])])
    listed = [part for part in epoch.body["skipped"] if part["reason"] != "DUPLICATE"]
    epoch.record.event = {**epoch.body, "skipped": listed}


def take_a_range_twice(log: Logbook, rng: random.Random) -> None:
    epochs, _ = epochs_of(log)
    epoch = rng.choice([epoch for epoch in epochs[1:] if any(part["from_ordinal"] > 0 for part in epoch.body["inputs"])])
    parts = [{**part, "from_ordinal": max(0, part["from_ordinal"] - 1)} for part in epoch.body["inputs"]]
    epoch.record.event = {**epoch.body, "inputs": parts}


def place_a_job_twice(log: Logbook, rng: random.Random) -> None:
    """A run's end is not there: the next one of the GPU comes while it is held."""
    for records in log.inputs.values():
        for stored in records:
            if stored.kind in ("RunFinished", "RunFailed", "RunStopped"):
                stored.event = {**stored.event, "run": "nobody"}


def run_ahead_of_time(log: Logbook, rng: random.Random) -> None:
    records, index = _of(log, rng, "EpochCommitted")
    records[index].append_ms -= 6_000 + max(0, records[index].event["now_us"] // 1_000 - records[index].append_ms)


def write_after_being_fenced(log: Logbook, rng: random.Random) -> None:
    terms = [(records, index) for records in log.outputs.values() for index, stored in enumerate(records)
             if stored.event is not None and stored.event["term"] > 1]
    records, index = rng.choice(terms)
    late = copy.copy(records[index])
    late.event = {**late.event, "term": 0, "epoch": -1}
    late.schema = next(stored.schema for found in log.outputs.values() for stored in found if stored.kind != "EpochCommitted")
    records.insert(index + 1, late)


ALTERATIONS: list[Alteration] = [
    lose_a_decision, double_a_decision, lose_an_acknowledged_input, leave_the_last_inputs_out, change_a_decision, break_the_chain,
    count_a_duplicate, take_a_range_twice, place_a_job_twice, run_ahead_of_time, write_after_being_fenced,
]


def copied(log: Logbook) -> Logbook:
    """A log of the same records, to be altered; events are shared and never changed in place."""
    def of(places: dict[tuple[str, int], list[Stored]]) -> dict[tuple[str, int], list[Stored]]:
        return {place: [copy.copy(stored) for stored in records] for place, records in places.items()}

    return Logbook(of(log.inputs), of(log.outputs))


def try_out(log: Logbook, journals: Journals, seed: int = 1) -> tuple[list[str], list[str]]:
    """Alterations that were found, and those that were not. One for which the log has nothing to alter is in neither."""
    seen, missed = [], []
    for alter in ALTERATIONS:
        altered = copied(log)
        try:
            alter(altered, random.Random(f"{seed}/{alter.__name__}"))
        except IndexError:
            continue
        (missed if checked(altered, journals)[0].findings.is_clean() else seen).append(alter.__name__)
    # Money: a microsecond of usage more or less does not always show in rounded micros; an hour does.
    epochs = checked(log, journals)[1]
    before = Recount(epochs).invoices()
    for epoch in epochs:
        for stored in epoch.inputs:
            if stored.kind == "UsageMetered" and stored.place not in epoch.skipped:
                kept, stored.event = stored.event, {**stored.event, "quantity": stored.event["quantity"] + 3_600_000_000_000}
                changed = Recount(epochs).invoices() != before
                stored.event = kept
                (seen if changed else missed).append("meter_an_hour_more")
                return seen, missed
    return seen, missed
