"""The checker: `check.py DIR` reads the log that a chaos run left, and what came of it, with nothing of the engine's.

It is Python over Apache Kafka's records (read_committed), Avro and hashes; of solyx it asks only what is to be compared: the views as kept, a view
rebuilt from the first record, and at last its own audit. The last line is JSON; exit code 1 when something was lost, doubled or diverged.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import journal
from check_log import checked, longest_gap_ms
from contract import Contract
from findings import Findings
from logbook import Epoch, read_log
from recount import check_invoices
from tryout import try_out

VIEWS = ["billing", "dcim", "failover", "jobs"]
VIEW_MAX_S = 180


def say(words: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} check: {words}", file=sys.stderr, flush=True)


def solyx(binary: str, *arguments: str) -> dict[str, Any]:
    """What a command says as JSON; an empty dictionary with `failed` when it says nothing."""
    done = subprocess.run([binary, *arguments, "--json"], capture_output=True, text=True, timeout=VIEW_MAX_S, check=False)
    try:
        said = json.loads(done.stdout.strip().splitlines()[-1])
        return said if isinstance(said, dict) else {"failed": done.stdout}
    except (ValueError, IndexError):
        return {"failed": f"exit {done.returncode}: {(done.stderr or done.stdout).strip()[-300:]}"}


def first_difference(ours: Any, theirs: Any, path: str = "") -> str | None:
    """Where two values of JSON differ first, in words."""
    if type(ours) is not type(theirs):
        return f"{path or 'the whole'}: {str(ours)[:120]} and {str(theirs)[:120]}"
    if isinstance(ours, dict):
        for key in sorted(set(ours) | set(theirs)):
            if (found := first_difference(ours.get(key), theirs.get(key), f"{path}.{key}")) is not None:
                return found
        return None
    if isinstance(ours, list):
        if len(ours) != len(theirs):
            return f"{path}: {len(ours)} and {len(theirs)} elements"
        for index, (one, other) in enumerate(zip(ours, theirs)):
            if (found := first_difference(one, other, f"{path}[{index}]")) is not None:
                return found
        return None
    return None if ours == theirs else f"{path}: {ours} and {theirs}"


def check_views(run: Path, binary: str, kept: list[str], findings: Findings) -> dict[str, Any]:
    """Kept views are what a rebuild from the first record gives. The rebuilt billing view."""
    fresh = run / "rebuilt"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir()
    shutil.copy(run / "kafka" / "kafka.toml", fresh / "kafka.toml")
    billing: dict[str, Any] = {}
    for view in VIEWS:
        rebuilt = solyx(binary, "view", view, "--rebuild", "--log", str(fresh))
        findings.expect("failed" not in rebuilt, findings.diverged, f"the {view} view cannot be rebuilt: {rebuilt.get('failed')}")
        if view == "billing":
            billing = rebuilt
        for name in kept:
            found = solyx(binary, "view", view, "--kept", "--log", str(run / name))
            difference = first_difference(rebuilt, found)
            findings.expect(difference is None, findings.diverged, f"the {view} view that {name} keeps differs from a rebuild (rebuilt, kept) at {difference}")
    return billing


def check(run: Path, binary: str, kept: list[str]) -> tuple[Findings, dict[str, Any]]:
    """Every check over a run's directory."""
    contract = Contract()
    settings = tomllib.loads((run / "kafka" / "kafka.toml").read_text())
    log = read_log(settings["bootstrap"], settings["prefix"], contract)
    journals = {path.stem: journal.read(path) for path in sorted((run / "producers").glob("*.jsonl"))}
    found, epochs = checked(log, journals)
    findings, inputs = found.findings, sum(map(len, log.inputs.values()))
    say(f"{inputs} input records, {len(epochs)} epochs, {found.dropped} epoch records that do not count")
    outputs = sum(len(epoch.outputs) for epoch in epochs)
    reasons = _reasons(epochs)
    say(f"{outputs} decisions, {found.loose} outputs of no epoch that counts; not counted: {reasons}; producers: {found.sorts}")
    billing = check_views(run, binary, kept, findings)
    lines = check_invoices(epochs, billing, findings) if "invoices" in billing else 0
    say(f"{len(VIEWS)} views of {len(kept)} instances against a rebuild; {lines} lines of {len(billing.get('invoices', []))} invoices counted again")
    audit = solyx(binary, "audit", "--log", str(run / "rebuilt"))
    findings.expect(audit.get("ok") is True, findings.diverged, f"the audit says {json.dumps(audit)[:400]}")
    counted = "{epochs} epochs, {events} events, {events_per_s} events/s from the cluster".format_map(audit) if audit.get("ok") else ""
    say(f"audit: {counted or json.dumps(audit)[:300]}")
    if findings.is_clean():
        seen, missed = try_out(log, journals)
        findings.expect(not missed, findings.diverged, f"the checker is blind to {', '.join(missed)}")
        say(f"tried out: {len(seen)} of {len(seen) + len(missed)} alterations of the log are found")
    numbers = {
        "events": inputs, "decisions": outputs, "failovers": len({epoch.body["term"] for epoch in epochs}) - 1 if epochs else 0,
        "lost": len(findings.lost), "doubled": len(findings.doubled), "diverged": len(findings.diverged),
        "longest_gap_ms": longest_gap_ms(epochs),
    }
    return findings, numbers


def _reasons(epochs: list[Epoch]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for epoch in epochs:
        for reason in epoch.skipped.values():
            counts[reason] = counts.get(reason, 0) + 1
    return counts


def main() -> None:
    run = Path(sys.argv[1])
    kept = sorted(path.name for path in run.glob("project-*"))
    findings, numbers = check(run, os.environ["SOLYX_BIN"], kept)
    for words in findings.words():
        say(words)
    print(json.dumps(numbers))
    sys.exit(0 if findings.is_clean() else 1)


if __name__ == "__main__":
    main()
