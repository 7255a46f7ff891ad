#!/usr/bin/env python3
"""Compares the analyst's answers with the views of jobs and billing and with the archive's placements. For tests; exit code 1 when they differ."""

import json
import pathlib
import sys

import fastavro


def placements(archive):
    """JobPlaced of an archive. Its log has one writer, so that every output counts."""
    for path in sorted((archive / "decisions").glob("*.avro")):
        with open(path, "rb") as file:
            for row in fastavro.reader(file, return_record_name=True):
                if isinstance(row["body"], tuple) and row["body"][0] == "solyx.decisions.JobPlaced":
                    yield row["body"][1]


def main():
    answers, view, billing = (json.loads(pathlib.Path(path).read_text()) for path in sys.argv[1:4])
    placed = list(placements(pathlib.Path(sys.argv[4])))
    hours = sum(tenant["metered_gpu_hours"] or 0 for tenant in answers["cost_by_tenant"])
    waiting = answers["waiting_by_hour"]
    terms = ("rent_micros", "energy_micros", "carbon_micros", "egress_micros")
    # What it is, the analyst's value, ours.
    pairs = [
        ("epochs", answers["epochs"], view["epoch"] + 1),
        ("jobs placed", sum(hour["placed"] for hour in waiting), view["waiting"]["placed"]),
        ("longest wait", max(hour["max_us"] or 0 for hour in waiting), view["waiting"]["max_us"]),
        ("jobs with carbon", len(answers["carbon_by_job"]), view["waiting"]["placed"]),
        ("placements", sum(tenant["placements"] for tenant in answers["cost_by_tenant"]), len(placed)),
        ("metered GPU-hours", round(hours, 6), round(int(billing["gpu_time"]["billed"]) / 3.6e12, 6)),
        (
            "cost of all placements",
            sum(tenant["total_micros"] for tenant in answers["cost_by_tenant"]),
            sum(one["terms"][term] for one in placed for term in terms),
        ),
    ]
    different = [f"{name}: found {found}, expected {expected}" for name, found, expected in pairs if found != expected]
    print("\n".join(different or [f"{len(pairs)} totals agree"]), file=sys.stderr)
    sys.exit(1 if different or not placed else 0)


if __name__ == "__main__":
    main()
