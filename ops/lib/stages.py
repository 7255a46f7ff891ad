"""Puts the runs of a demonstration side by side, from what `solyx … --json` wrote. Integers only, as solyx writes them."""

import json
import pathlib
import sys


def load(folder, stage, what):
    return json.loads((folder / f"{stage}.{what}.json").read_text(encoding="utf-8"))


def money(micros):
    return f"{micros // 10**6:,}"


def figures(folder, stage):
    run, billing, dcim, audit, jobs = (load(folder, stage, w) for w in ("run", "billing", "dcim", "audit", "jobs"))
    totals = billing["totals"]
    energy = [site["totals"] for site in dcim["sites"]]
    own = sum(e["energy_j"] for e in energy)
    both = own + sum(e["bought_energy_j"] for e in energy)
    return {
        "events imported": f"{jobs['events']:,}",
        "epochs": f"{run['epochs']:,}",
        "jobs with cost or revenue": f"{len(billing['jobs']):,}",
        "jobs still waiting": f"{run['waiting_jobs']:,}",
        f"revenue, {billing['reference_currency']}": money(totals["revenue_micros"]),
        f"cost, {billing['reference_currency']}": money(totals["cost_micros"]),
        f"margin, {billing['reference_currency']}": money(totals["margin_micros"]),
        "energy, kWh": f"{both // 3_600_000:,}",
        "of it on our own": f"{100 * own // both if both else 0} %",
        "carbon, kg CO2e": f"{sum(e['carbon_mg'] for e in energy) // 10**6:,}",
        "run, s": f"{run['elapsed_ms'] / 1000:.1f}",
        "audit": f"{'passes' if audit['ok'] else 'FAILS'}, {audit['events_per_s']:,} events/s",
    }


def main():
    if sys.argv[1] == "--one-job":
        billing = json.loads(pathlib.Path(sys.argv[2]).read_text(encoding="utf-8"))
        jobs = sorted(billing["jobs"], key=lambda job: (-job["revenue_micros"], job["subject"]))
        print(jobs[0]["subject"] if jobs else "")
        return
    folder, stages = pathlib.Path(sys.argv[1]), sys.argv[2:]
    columns = [figures(folder, stage) for stage in stages]
    rows = [["", *stages]] + [[name, *(column.get(name, "") for column in columns)] for name in columns[0]]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        cells = [row[0].ljust(widths[0])] + [cell.rjust(width) for cell, width in zip(row[1:], widths[1:])]
        print("  ".join(cells).rstrip())
    if not all(load(folder, stage, "audit")["ok"] for stage in stages):
        sys.exit(1)


if __name__ == "__main__":
    main()
