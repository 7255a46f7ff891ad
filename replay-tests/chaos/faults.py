"""The faults, in three lanes that go on at the same time, each drawn from a seed: parts, brokers, network.

A seed fixes which faults come in which order and how long they last; when they meet what the machine is doing is not repeatable.
Each lane plays a shuffled deck before it shuffles again, so that every kind comes early.
"""

from __future__ import annotations

import json
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator

from world import ENGINES, World


# How long an engine may take from its start until the others see it.
JOIN_MAX_S = 8.0


class Lane:
    """What faults of a lane share: the world, draws, and when to stop."""

    name = ""
    # Seconds between the end of a fault and the next.
    pause = (2.0, 5.0)

    def __init__(self, world: World, seed: int, stop: threading.Event) -> None:
        self.world, self.stop = world, stop
        self.rng = random.Random(f"{seed}/{self.name}")

    def deck(self) -> list[Callable[[], str]]:
        """Every fault of the lane; each says what it does before it does it."""
        raise NotImplementedError

    def faults(self) -> Iterator[Callable[[], None]]:
        while True:
            deck = self.deck()
            self.rng.shuffle(deck)
            yield from deck

    def run(self) -> None:
        """Makes faults until it is to stop; each is healed before the next."""
        for fault in self.faults():
            if self.stop.wait(self.rng.uniform(*self.pause)):
                return
            try:
                fault()
            except Exception as error:  # a lane that dies would quietly make a run that tests nothing
                self.world.say(f"!! the fault {fault.__name__} could not be made: {str(error)[:300]}")

    def note(self, words: str) -> None:
        """Says it, and writes it down for whoever looks at the logs afterwards."""
        self.world.say(f"{self.name}: {words}")
        with (self.world.run / "faults.jsonl").open("a") as log:
            log.write(json.dumps({"at": time.time(), "lane": self.name, "fault": words}) + "\n")

    def last(self, least: float, most: float) -> float:
        return self.rng.uniform(least, most)

    def wait(self, seconds: float) -> None:
        """Sleeps out a fault; it is not cut short, so that its length is what was drawn."""
        time.sleep(seconds)


class PartsLane(Lane):
    """Processes of ours are killed, paused, told wrong times; the lead is handed over."""

    name = "parts"
    pause = (1.0, 4.0)

    def deck(self) -> list[Callable[[], None]]:
        kills = [self.kill_leader, self.kill_engine, self.kill_executor, self.kill_projection, self.kill_producer]
        others = [self.pause_leader, self.pause_leader, self.pause_engine, self.transfer, self.clock_3_s_ahead, self.clock_10_s_ahead]
        return kills + others

    def _kill(self, name: str) -> None:
        down = self.last(0.1, 2.5)
        self.note(f"kill -9 {name}, again after {down:.1f} s")
        part = self.world.parts[name]
        part.kill()
        self.wait(down)
        part.start()

    def _leader(self) -> str:
        drawn = self.rng.choice(ENGINES)
        return self.world.leader() or drawn

    def kill_leader(self) -> None:
        self._kill(self._leader())

    def kill_engine(self) -> None:
        self._kill(self.rng.choice(ENGINES))

    def kill_executor(self) -> None:
        self._kill("executor")

    def kill_projection(self) -> None:
        self._kill(self.rng.choice(["project-a", "project-b"]))

    def kill_producer(self) -> None:
        self._kill(self.rng.choice(["producer-1", "producer-2"]))

    def _pause(self, name: str) -> None:
        paused = self.last(1, 8)
        self.note(f"SIGSTOP {name} for {paused:.1f} s")
        self.world.parts[name].signal(signal.SIGSTOP)
        self.wait(paused)
        self.world.parts[name].signal(signal.SIGCONT)

    def pause_leader(self) -> None:
        self._pause(self._leader())

    def pause_engine(self) -> None:
        self._pause(self.rng.choice(ENGINES))

    def transfer(self) -> None:
        self.note("solyx leader transfer")
        self.world.solyx("leader", "transfer", "--log", str(self.world.run / "desk"), seconds=30)

    def clock_3_s_ahead(self) -> None:
        self._clock(3)

    def clock_10_s_ahead(self) -> None:
        self._clock(10)

    def _clock(self, ahead_s: int) -> None:
        """The engine that does not lead begins again with a clock ahead, and is given the lead; then it begins again with a good one."""
        leader, lasts = self._leader(), self.last(4, 7)
        name = next(engine for engine in ENGINES if engine != leader)
        if self.world.clock_ahead is None:
            self.note("no C compiler: clocks are left alone")
            return
        self.note(f"the clock of {name} runs {ahead_s} s ahead for {lasts:.1f} s, and it is given the lead")
        part = self.world.parts[name]
        part.kill()
        part.start(LD_PRELOAD=str(self.world.clock_ahead), CLOCK_AHEAD_S=str(ahead_s))
        end = time.monotonic() + JOIN_MAX_S
        while name not in self.world.instances() and time.monotonic() < end:
            self.wait(0.3)
        self.world.solyx("leader", "transfer", "--log", str(self.world.run / "desk"), "--to", name, seconds=30)
        self.wait(lasts)
        part.kill()
        part.start()


class BrokersLane(Lane):
    """Brokers go away one at a time, and for moments two of them; disks become slow."""

    name = "brokers"
    pause = (3.0, 8.0)

    def deck(self) -> list[Callable[[], None]]:
        faults = [self.kill_one, self.kill_one, self.pause_one, self.pause_two, self.restart_all, self.slow_disk]
        return faults + ([self.kill_registry] if self.world.registry else [])

    def _node(self) -> str:
        return str(self.rng.randrange(1, 4))

    def kill_one(self) -> None:
        node, down = self._node(), self.last(0.5, 4)
        self.note(f"kill -9 broker {node}, again after {down:.1f} s")
        self.world.kafka("kill-broker", node)
        self.world.broker_kills += 1
        self.wait(down)
        self.world.kafka("start-broker", node)

    def _pause(self, nodes: list[str], seconds: float) -> None:
        for node in nodes:
            self.world.kafka("pause-broker", node)
        self.wait(seconds)
        for node in nodes:
            self.world.kafka("resume-broker", node)

    def pause_one(self) -> None:
        node, paused = self._node(), self.last(2, 8)
        self.note(f"SIGSTOP broker {node} for {paused:.1f} s")
        self._pause([node], paused)

    def pause_two(self) -> None:
        """Fewer than the two replicas that a write needs: nothing can be written for moments."""
        left, paused = self._node(), self.last(1, 4)
        nodes = [node for node in "123" if node != left]
        self.note(f"SIGSTOP brokers {' and '.join(nodes)} for {paused:.1f} s")
        self._pause(nodes, paused)

    def restart_all(self) -> None:
        self.note("a rolling restart of the brokers")
        for node in "123":
            if self.stop.is_set():
                return
            self.world.kafka("stop-broker", node)
            self.world.kafka("start-broker", node)

    def slow_disk(self) -> None:
        """A broker that stands still again and again, as one does whose disk does not keep up. Writes to this cache need no disk, and so a
        limit on the device would change nothing."""
        node, lasts = self._node(), self.last(3, 8)
        self.note(f"broker {node} stands still for most of {lasts:.1f} s (pulses of SIGSTOP)")
        end = time.monotonic() + lasts
        while time.monotonic() < end:
            self._pause([node], self.rng.uniform(0.1, 0.5))

    def kill_registry(self) -> None:
        pid = self.world.cluster / "registry" / "pid"
        if not pid.exists():
            return
        self.note("the registry stops, and starts again")
        self.world.registry_down_and_up()


class NetworkLane(Lane):
    """One client is cut off from the brokers, in one direction or both."""

    name = "network"
    pause = (4.0, 9.0)

    def deck(self) -> list[Callable[[], None]]:
        return [self.hold, self.deaf, self.refuse, self.hold_leader, self.deaf_leader]

    def _cut(self, name: str, how: str, words: str) -> None:
        lasts, heals = self.last(1, 8), self.rng.choice(["pass", "reset"])
        self.note(f"{name}: {words} for {lasts:.1f} s, then {heals}")
        self.world.proxies[name].command(how)
        self.wait(lasts)
        self.world.proxies[name].command(heals)

    def _name(self) -> str:
        return self.rng.choice([*ENGINES, "others"])

    def _leader(self) -> str:
        drawn = self.rng.choice(ENGINES)
        return self.world.leader() or drawn

    def hold(self) -> None:
        self._cut(self._name(), "hold", "nothing goes through")

    def deaf(self) -> None:
        self._cut(self._name(), "deaf", "answers are lost")

    def refuse(self) -> None:
        self._cut(self._name(), "refuse", "connections are refused")

    def hold_leader(self) -> None:
        self._cut(self._leader(), "hold", "nothing goes through")

    def deaf_leader(self) -> None:
        self._cut(self._leader(), "deaf", "answers are lost")


class KillsLane(PartsLane):
    """kill -9 only: the least that has to hold."""

    def deck(self) -> list[Callable[[], None]]:
        return [self.kill_leader, self.kill_engine, self.kill_executor, self.kill_projection, self.kill_producer]


LANES: dict[str, list[type[Lane]]] = {"all": [PartsLane, BrokersLane, NetworkLane], "kills": [KillsLane]}
