"""Whether everything has settled, seen from the log and the views."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from contract import Contract
from logbook import epochs_of, read_log
from world import World

QUIET_S = 2.0


class Taken:
    """Holds when every input record is in an epoch."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings, self.contract = settings, Contract()

    def _look(self) -> tuple[int, int, int, int]:
        log = read_log(self.settings["bootstrap"], self.settings["prefix"], self.contract)
        epochs, _ = epochs_of(log)
        taken = sum(part["next_ordinal"] - part["from_ordinal"] for epoch in epochs for part in epoch.body["inputs"])
        newest = max((records[-1].append_ms for records in [*log.inputs.values(), *log.outputs.values()] if records), default=0)
        return sum(map(len, log.inputs.values())), taken, len(epochs), newest

    def __call__(self) -> bool:
        inputs, taken, _, _ = self._look()
        return inputs == taken

    def epochs(self) -> int:
        """How many epochs there are."""
        return self._look()[2]

    def is_quiet(self) -> bool:
        """Whether nothing was written for a while, and nothing is left."""
        inputs, taken, _, newest = self._look()
        return inputs == taken and time.time() - newest / 1_000 > QUIET_S


def all_taken(settings: dict[str, Any]) -> Taken:
    return Taken(settings)


def quiet(settings: dict[str, Any]) -> Callable[[], bool]:
    return Taken(settings).is_quiet


def caught_up(world: World, settings: dict[str, Any]) -> Callable[[], bool]:
    """Holds when every kept view has folded the last epoch."""
    epochs = Taken(settings).epochs()
    # What a view calls the number of epochs that it holds, or its last one.
    told = {"billing": ("epochs", 0), "dcim": ("epoch", 1), "jobs": ("epoch", 1), "failover": ("epoch", 1)}

    def holds() -> bool:
        for name in ["project-a", "project-b"]:
            for view, (field, more) in told.items():
                said = world.solyx("view", view, "--kept", "--log", str(world.run / name))
                if said.get(field, -1) + more < epochs:
                    return False
        return True

    return holds
