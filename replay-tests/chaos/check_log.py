"""Checks of the log alone: ranges, outputs, the chain, hashes, ids, placements, time."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from contract import INPUTS, merkle_root, record_hash
from findings import Findings
from journal import Sent
from logbook import Epoch, Logbook, Stored, epochs_of

Journals = dict[str, dict[int, Sent]]

# `now` of an epoch against the append time of its record: what the engine promises, and the millisecond that append times have.
CLOCK_AHEAD_MAX_US = 5_000_000 + 1_000
RUN_ENDS = {"RunFinished", "RunFailed", "RunStopped"}


@dataclass
class Checked:
    """What the checks of a log found and counted."""

    findings: Findings = field(default_factory=Findings)
    # Epoch records, and outputs, that belong to no epoch that counts.
    dropped: int = 0
    loose: int = 0
    sorts: dict[str, int] = field(default_factory=dict)


def checked(log: Logbook, journals: Journals) -> tuple[Checked, list[Epoch]]:
    """Every check of the log alone."""
    found = Checked()
    findings = found.findings
    epochs, dropped = epochs_of(log)
    found.dropped = len(dropped)
    findings.expect(bool(epochs), findings.lost, "there is no epoch")
    for record in dropped:
        # It has to be another leader's for a number that is taken; a break in the chain would leave everything after it out.
        number = record.event["epoch"]
        words = f"{record} of epoch {number} does not follow on the chain, which ends at {len(epochs)}"
        findings.expect(number < len(epochs), findings.diverged, words)
    check_ranges(log, epochs, findings)
    found.loose = check_outputs(log, epochs, findings)
    check_hashes(epochs, findings)
    check_ids(epochs, findings)
    found.sorts = check_producers(log, epochs, journals, findings)
    check_placements(epochs, findings)
    return found, epochs


def check_ranges(log: Logbook, epochs: list[Epoch], findings: Findings) -> None:
    """Every input record is in exactly one epoch: ranges touch, and the last ends where the topic-partition does."""
    taken: dict[tuple[str, int], int] = defaultdict(int)
    for epoch in epochs:
        order = [(INPUTS.index(part["topic"]), part["partition"]) for part in epoch.body["inputs"]]
        findings.expect(order == sorted(set(order)), findings.diverged, f"epoch {epoch.number} names its ranges out of order or twice")
        epoch.skipped = {(part["topic"], part["partition"], part["ordinal"]): part["reason"] for part in epoch.body["skipped"]}
        for part in epoch.body["inputs"]:
            place, begin, end = (part["topic"], part["partition"]), part["from_ordinal"], part["next_ordinal"]
            expected, words = taken[place], f"epoch {epoch.number} takes {place[0]}/{place[1]} from {begin} to {end}"
            findings.expect(begin <= expected, findings.lost, f"{words}, leaving out {expected} to {begin}")
            findings.expect(begin >= expected, findings.doubled, f"{words}, of which {begin} to {expected} was taken before")
            for ordinal in range(begin, end):
                stored = log.at(*place, ordinal)
                if findings.expect(stored is not None, findings.diverged, f"{words}, but the log has no {ordinal}") and stored:
                    epoch.inputs.append(stored)
            taken[place] = max(expected, end)
        inside = {stored.place for stored in epoch.inputs}
        for place in epoch.skipped:
            findings.expect(place in inside, findings.diverged, f"epoch {epoch.number} lists {place}, which it did not take")
    for place, records in log.inputs.items():
        left = len(records) - taken[place]
        if left > 0:
            findings.lost.append(f"{left} records of {place[0]}/{place[1]} from ordinal {taken[place]} on are in no epoch")


def check_outputs(log: Logbook, epochs: list[Epoch], findings: Findings) -> int:
    """Every decision once, in the numbers that the record names. How many outputs belong to no epoch that counts."""
    by_epoch: dict[tuple[int, int], list[Stored]] = defaultdict(list)
    for (topic, partition), records in sorted(log.outputs.items()):
        highest = -1
        for record in records:
            if not findings.expect(record.event is not None, findings.diverged, f"{record} does not decode") or record.event is None:
                continue
            term = record.event["term"]
            findings.expect(
                term >= highest, findings.diverged, f"{record} is of term {term}, written after one of term {highest}: a leader that was fenced wrote",
            )
            highest = max(highest, term)
            if record.kind != "EpochCommitted":
                by_epoch[record.event["epoch"], term].append(record)
    counting = 0
    for epoch in epochs:
        epoch.outputs = sorted(by_epoch.get((epoch.number, epoch.body["term"]), []), key=lambda stored: stored.event["index"])
        counting += len(epoch.outputs)
        found = Counter((stored.topic, stored.partition) for stored in epoch.outputs)
        named = {(part["topic"], part["partition"]): part["records"] for part in epoch.body["outputs"]}
        for place in sorted(set(found) | set(named)):
            has, wants = found[place], named.get(place, 0)
            words = f"epoch {epoch.number} has {has} outputs in {place[0]}/{place[1]}, its record names {wants}"
            findings.expect(has >= wants, findings.lost, words)
            findings.expect(has <= wants, findings.doubled, words)
        indexes = [stored.event["index"] for stored in epoch.outputs]
        words = f"epoch {epoch.number} numbers its outputs {indexes[:6]}…"
        findings.expect(indexes == list(range(len(indexes))), findings.doubled if len(set(indexes)) < len(indexes) else findings.diverged, words)
    return sum(len(records) for records in by_epoch.values()) - counting


def check_hashes(epochs: list[Epoch], findings: Findings) -> None:
    """The roots that the records name, computed again over what the log has; and `now`, which goes forward and not ahead."""
    now = 0
    for epoch in epochs:
        body = epoch.body
        inputs = [_hash(stored, stored.ordinal, epoch.skipped.get(stored.place)) for stored in epoch.inputs]
        outputs = [_hash(stored, None, None) for stored in epoch.outputs]
        for name, leaves in [("input_root", inputs), ("output_root", outputs)]:
            found = merkle_root(leaves).hex()
            findings.expect(found == body[name], findings.diverged, f"epoch {epoch.number} has the {name} {body[name]}, the log gives {found}")
        findings.expect(body["now_us"] >= now, findings.diverged, f"epoch {epoch.number} is earlier than the one before")
        now = body["now_us"]
        ahead = now - epoch.record.append_ms * 1_000
        findings.expect(ahead <= CLOCK_AHEAD_MAX_US, findings.diverged, f"epoch {epoch.number} is {ahead / 1e6:.3f} s ahead of its record's append time")


def _hash(stored: Stored, ordinal: int | None, reason: str | None) -> bytes:
    whole = [stored.value]
    if stored.event is None or stored.schema is None or reason in ("UNDECODABLE", "UNKNOWN_SCHEMA"):
        content = whole
    else:
        event = stored.event
        identity = f"{event['cell']}/{event['epoch']}/{event['term']}/{event['index']}" if ordinal is None else event["event_id"]
        source = event["cell"] if ordinal is None else event["source"]
        content = [identity.encode(), source.encode(), stored.schema.name.encode(), stored.schema.hash, stored.value[5:]]
    return record_hash(stored.topic, stored.partition, ordinal, stored.key, content)


def check_ids(epochs: list[Epoch], findings: Findings) -> None:
    """An id is counted once; what comes after is listed, and nothing is listed as a duplicate of what was not counted."""
    counted: dict[tuple[str, str], bytes] = {}
    for epoch in epochs:
        for stored in epoch.inputs:
            reason = epoch.skipped.get(stored.place)
            if stored.event is None:
                findings.expect(reason is not None, findings.diverged, f"{stored} is no event and counts in epoch {epoch.number}")
                continue
            identity = (stored.event["source"], stored.event["event_id"])
            before = counted.get(identity)
            words = f"{identity[0]} {identity[1]} at {stored} in epoch {epoch.number}"
            if reason is None:
                findings.expect(before is None, findings.doubled, f"{words} is counted a second time")
                counted[identity] = stored.value
            elif reason == "DUPLICATE":
                findings.expect(before == stored.value, findings.lost, f"{words} is listed as a duplicate of what was not counted")
            elif reason == "CONFLICT":
                findings.expect(before not in (None, stored.value), findings.lost, f"{words} is listed as a conflict with what was not counted")


def check_producers(log: Logbook, epochs: list[Epoch], journals: Journals, findings: Findings) -> dict[str, int]:
    """What producers were told is written is there, as they said it, and came to what it should. How much of each sort."""
    offsets = {(topic, stored.partition, stored.offset): stored for (topic, _), records in log.inputs.items() for stored in records}
    reasons = {stored.place: epoch.skipped.get(stored.place) for epoch in epochs for stored in epoch.inputs}
    counted = {
        (stored.event["source"], stored.event["event_id"])
        for epoch in epochs for stored in epoch.inputs if stored.event is not None and stored.place not in epoch.skipped
    }
    sorts: Counter[str] = Counter()
    for source, sent_records in journals.items():
        for sent in sent_records.values():
            sorts["said"] += 1
            sorts["acknowledged twice"] += len(sent.acknowledged) > 1
            if not sent.acknowledged:
                sorts["never acknowledged"] += 1
            for partition, offset in sent.acknowledged:
                stored = offsets.get((sent.topic, partition, offset))
                words = f"{source} {sent.number} ({sent.what}), acknowledged at {sent.topic}/{partition} offset {offset}"
                if not findings.expect(stored is not None, findings.lost, f"{words}, is not in the log") or stored is None:
                    continue
                same = stored.value == sent.value and stored.key == sent.key
                findings.expect(same, findings.diverged, f"{words}, is another record in the log")
                reason = reasons.get(stored.place)
                # Of two events under one id either may come first in the order of application; that only one counts is for check_ids.
                if sent.what in ("garbage", "misplaced"):
                    findings.expect(reason is not None, findings.diverged, f"{words}, counts, expected it to be listed")
            if sent.what in ("job", "node", "energy", "carbon") and sent.acknowledged:
                findings.expect((source, sent.event_id) in counted, findings.lost, f"{source} {sent.number} ({sent.what}) was acknowledged and never counted")
    return dict(sorts)


def check_placements(epochs: list[Epoch], findings: Findings) -> None:
    """No job runs twice at once, and no GPU is given to two runs at once."""
    open_runs: dict[str, Stored] = {}
    shares: dict[tuple[str, int], int] = defaultdict(int)
    runs: set[str] = set()
    # A run that was told to stop with its job is given up without a word when its node is fenced or its lease has passed.
    stopping: set[str] = set()
    fenced: dict[str, int] = {}
    leases: dict[str, int] = {}
    run_lease_us = 0

    def give(placed: Stored, sign: int) -> None:
        for part in placed.event["nodes"]:
            for gpu in part["gpus"]:
                shares[part["node"], gpu] += sign * part["gpu_milli_each"]
                words = f"epoch {placed.event['epoch']} gives GPU {gpu} of {part['node']} to {placed.event['run']}, which another run holds"
                findings.expect(shares[part["node"], gpu] <= 1_000, findings.doubled, words)

    def ended(job: str, run: str | None) -> None:
        if job in open_runs and open_runs[job].event["run"] == run:
            give(open_runs.pop(job), -1)

    def given_up(placed: Stored, now_us: int) -> bool:
        lease_until = max(placed.event["now_us"] + run_lease_us, leases.get(placed.event["run"], 0))
        return lease_until <= now_us or any(fenced.get(part["node"], -1) >= placed.event["epoch"] for part in placed.event["nodes"])

    for epoch in epochs:
        for stored in epoch.inputs:
            if stored.place in epoch.skipped:
                continue
            if stored.kind in RUN_ENDS:
                ended(stored.event["job"], stored.event["run"])
            elif stored.kind == "RunLeaseRenewed":
                leases[stored.event["run"]] = max(leases.get(stored.event["run"], 0), stored.event["lease_until_us"])
            elif stored.kind == "NodeStateChanged" and stored.event["state"] == "FENCED":
                fenced[stored.event["node"]] = epoch.number
            elif stored.kind == "SchedulingPolicySet":
                run_lease_us = stored.event["run_lease_us"]
        now_us = epoch.record.event["now_us"]
        for job in [job for job in stopping if job in open_runs and given_up(open_runs[job], now_us)]:
            ended(job, open_runs[job].event["run"])
        for stored in epoch.outputs:
            event = stored.event
            if stored.kind == "JobRequeued":
                ended(event["job"], event["run"])
            elif stored.kind == "JobCancelled":
                stopping.add(event["job"])
            elif stored.kind == "JobPlaced":
                words = f"epoch {epoch.number} places {event['job']} as {event['run']}"
                findings.expect(event["job"] not in open_runs, findings.doubled, f"{words} while an earlier run has not ended")
                findings.expect(event["run"] not in runs, findings.doubled, f"{words}, a run that was there before")
                if event["job"] in open_runs:
                    give(open_runs.pop(event["job"]), -1)
                runs.add(event["run"])
                open_runs[event["job"]] = stored
                give(stored, 1)


def longest_gap_ms(epochs: list[Epoch]) -> int:
    """The longest time for which input had been there and no epoch was committed: from the append of an epoch's oldest input, or the epoch before
    if that came later, to the append of the epoch's record."""
    longest, before = 0, 0
    for epoch in epochs:
        if epoch.inputs and before:
            oldest = min(stored.append_ms for stored in epoch.inputs)
            longest = max(longest, epoch.record.append_ms - max(before, oldest))
        before = epoch.record.append_ms
    return longest
