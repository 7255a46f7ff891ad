"""Invoices counted again from the log: UsageMetered × RateCardSet in exact fractions, for prices without tiers."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime, timezone
from fractions import Fraction
from typing import Any

from findings import Findings
from logbook import Epoch, Stored

GPU_MILLI_US_PER_GPU_HOUR = 3_600_000_000_000
Line = tuple[str, str]


def month_of(time_us: int) -> str:
    """The UTC month of an instant."""
    return datetime.fromtimestamp(time_us // 1_000_000, timezone.utc).strftime("%Y-%m")


def next_month_us(time_us: int) -> int:
    """The first instant of the month after that of an instant."""
    at = datetime.fromtimestamp(time_us // 1_000_000, timezone.utc)
    begin = datetime(at.year + at.month // 12, at.month % 12 + 1, 1, tzinfo=timezone.utc)
    return int(begin.timestamp()) * 1_000_000


def half_even(value: Fraction) -> int:
    """Python rounds fractions half to even, as the contract wants it."""
    return round(value)


class Recount:
    """Folds what counts: cards, exchange rates, tenants, jobs, placements, usage."""

    def __init__(self, epochs: list[Epoch]) -> None:
        self.cards: dict[str, dict[str, Any]] = {}
        self.rates: dict[tuple[str, str], list[tuple[int, Fraction]]] = defaultdict(list)
        self.currency: dict[str, str] = {}
        self.jobs: dict[str, dict[str, Any]] = {}
        self.runs: dict[str, dict[str, Any]] = {}
        # (tenant, month) → (job, currency and price) → quantity.
        self.usage: dict[tuple[str, str], dict[tuple[str, str, str, int], Fraction]] = defaultdict(lambda: defaultdict(Fraction))
        for epoch in epochs:
            for stored in epoch.inputs:
                if stored.place not in epoch.skipped and stored.event is not None:
                    self._input(stored)
            for stored in epoch.outputs:
                if stored.kind == "JobPlaced":
                    self.runs[stored.event["run"]] = stored.event

    def _input(self, stored: Stored) -> None:
        event, kind = stored.event, stored.kind
        if kind == "RateCardSet":
            self.cards[event["rate_card"]] = event
        elif kind == "ExchangeRateSet":
            rate = Fraction(event["numerator"], event["denominator"])
            self.rates[event["from_currency"], event["to_currency"]].append((event["effective_from_us"], rate))
        elif kind == "TenantDeclared":
            self.currency[event["tenant"]] = event["billing_currency"]
        elif kind == "JobRequested":
            self.jobs[event["job"]] = event
        elif kind == "UsageMetered" and event["meter"] == "GPU_TIME":
            self._usage(event)

    def _usage(self, event: dict[str, Any]) -> None:
        job, run = self.jobs.get(event["job"]), self.runs.get(event["run"])
        if job is None:
            return
        tenant, begin, end = job["tenant"], event["from_us"], event["to_us"]
        cards = [card for card in self.cards.values() if card["tenant"] in (None, tenant)]
        cuts = {at for card in cards for at in (card["from_us"], card["to_us"]) if at is not None and begin < at < end}
        month_end = next_month_us(begin)
        while month_end < end:
            cuts.add(month_end)
            month_end = next_month_us(month_end)
        edges = [begin, *sorted(cuts), end]
        for start, stop in zip(edges, edges[1:]):
            share = Fraction(stop - start, end - begin) if end > begin else Fraction(1)
            model = run["gpu_model"] if run else None
            if (price := self._price(cards, model, job["class"], start)) is not None:
                pool = run["pool"] if run else "none"
                self.usage[tenant, month_of(start)][event["job"], pool, *price] += event["quantity"] * share

    def _price(self, cards: list[dict[str, Any]], model: str | None, of_class: str, at: int) -> tuple[str, int] | None:
        best: tuple[Any, ...] | None = None
        for card in cards:
            if not card["from_us"] <= at or (card["to_us"] is not None and at >= card["to_us"]):
                continue
            for index, line in enumerate(card["lines"]):
                fits = line["meter"] == "GPU_TIME" and line["gpu_model"] in (None, model) and line["class"] in (None, of_class)
                if not fits or not line["tiers"]:
                    continue
                specific = (card["tenant"] is not None, line["gpu_model"] is not None, line["class"] is not None)
                rank = (specific, card["from_us"], card["rate_card"], -index)
                if best is None or rank > best[0]:
                    assert len(line["tiers"]) == 1, "the recount knows flat prices only"
                    best = (rank, card["currency"], line["tiers"][0]["price_micros"])
        return None if best is None else (best[1], best[2])

    def _rate(self, source: str, target: str, at: int) -> Fraction | None:
        if source == target:
            return Fraction(1)
        for pair, inverse in [((source, target), False), ((target, source), True)]:
            in_force = [rate for rate in sorted(self.rates[pair], key=lambda known: known[0]) if rate[0] <= at]
            if in_force:
                return 1 / in_force[-1][1] if inverse else in_force[-1][1]
        return None

    def invoices(self) -> dict[tuple[str, str], tuple[dict[Line, int], int]]:
        """(tenant, month) → rounded and converted amounts by job and pool, and their sum."""
        counted = {}
        for (tenant, month), lines in self.usage.items():
            year, number = map(int, month.split("-"))
            end = next_month_us(int(datetime(year, number, 1, tzinfo=timezone.utc).timestamp()) * 1_000_000)
            amounts: dict[Line, int] = defaultdict(int)
            for (job, pool, currency, price), quantity in lines.items():
                rounded = half_even(quantity * price / GPU_MILLI_US_PER_GPU_HOUR)
                rate = self._rate(currency, self.currency.get(tenant, currency), end)
                amounts[job, pool] += half_even(rounded * (rate or 0))
            counted[tenant, month] = (dict(amounts), sum(amounts.values()))
        return counted


def check_invoices(epochs: list[Epoch], billing: dict[str, Any], findings: Findings) -> int:
    """Compares the recount with the billing view, line by line. How many lines."""
    expected = Recount(epochs).invoices()
    shown: dict[tuple[str, str], tuple[dict[Line, int], int]] = {}
    for invoice in billing["invoices"]:
        amounts: dict[Line, int] = defaultdict(int)
        for line in invoice["lines"]:
            amounts[line["job"], line["pool"]] += line["amount_micros"] or 0
        shown[invoice["tenant"], invoice["period"]] = (dict(amounts), invoice["total_micros"])
    compared = 0
    for key in sorted(set(expected) | set(shown)):
        words = f"the invoice of {key[0]} for {key[1]}"
        ours, theirs = expected.get(key, ({}, 0)), shown.get(key, ({}, 0))
        findings.expect(ours[1] == theirs[1], findings.diverged, f"{words} comes to {theirs[1]} micros, the recount to {ours[1]}")
        for line in sorted(set(ours[0]) | set(theirs[0])):
            compared += 1
            has, wants = theirs[0].get(line), ours[0].get(line)
            findings.expect(has == wants, findings.diverged, f"{words} has {has} micros for {line[0]} in {line[1]}, the recount {wants}")
    return compared
