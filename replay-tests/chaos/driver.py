"""A chaos run from beginning to end: start, make faults, let it settle, stop, check. ops/chaos starts it and says what it is for."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
from pathlib import Path

from confluent_kafka import KafkaException

from check import check
from faults import LANES
from settle import all_taken, caught_up, quiet
from world import ENGINES, EnvironmentFailed, World

FIRST_EPOCH_MAX_S = 90.0
# Jobs that wait for a node that nobody brought back go on waiting; nothing depends on them.
RUNS_MAX_S = 20.0
# What the slowest may take once all is healed: producers, runs, the engine, views.
SETTLE_MAX_S = 60.0


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="ops/chaos")
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rate", type=float, default=20.0)
    parser.add_argument("--faults", choices=sorted(LANES), default="all")
    parser.add_argument("--registry", action=argparse.BooleanOptionalAction, default=None)
    parser.add_argument("--json-only", action="store_true")
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--dir", type=Path)
    return parser.parse_args()


def with_registry(options: argparse.Namespace) -> bool:
    """Whether the registry is a part: as asked for, otherwise where its start does not take half of the machine for a minute."""
    return (os.cpu_count() or 1) >= 4 if options.registry is None else options.registry


def make_faults(world: World, options: argparse.Namespace) -> None:
    """Runs the lanes side by side for the time that was asked for, and looks after what ended by itself."""
    stop = threading.Event()
    lanes = [lane(world, options.seed, stop) for lane in LANES[options.faults]]
    threads = [threading.Thread(target=lane.run, name=lane.name, daemon=True) for lane in lanes]
    for thread in threads:
        thread.start()
    end = time.monotonic() + options.minutes * 60
    while time.monotonic() < end:
        world.supervise()
        time.sleep(0.25)
    stop.set()
    world.say("no more faults; those under way are healed")
    while any(thread.is_alive() for thread in threads):
        world.supervise()
        time.sleep(0.25)


def until(world: World, what: str, holds, seconds: float) -> bool:
    """Waits until something holds, with a deadline that is told when it passes."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if holds():
            return True
        world.supervise()
        time.sleep(0.5)
    world.say(f"!! after {seconds:.0f} s {what} is still waited for; going on")
    return False


def settle(world: World) -> None:
    """In the order of an event's way: producers end, then runs, then engines have taken all, then views have come as far."""
    settings = tomllib.loads((world.run / "kafka.toml").read_text())
    for name in ["producer-1", "producer-2"]:
        world.parts[name].stop()
    world.say("producers have ended; waiting for runs, engines and views")
    until(world, "that runs end and the log is quiet", quiet(settings), RUNS_MAX_S)
    world.parts["executor"].stop()
    until(world, "that every input is in an epoch", all_taken(settings), SETTLE_MAX_S)
    for name in ENGINES:
        world.parts[name].stop()
    until(world, "that views have caught up", caught_up(world, settings), SETTLE_MAX_S)
    for name in ["project-a", "project-b"]:
        world.parts[name].stop()


def play(world: World, options: argparse.Namespace) -> int:
    """The run; its exit code."""
    world.up()
    settings = tomllib.loads((world.run / "kafka.toml").read_text())
    if not until(world, "the first epoch", lambda: all_taken(settings).epochs() > 0, FIRST_EPOCH_MAX_S):
        raise EnvironmentFailed("no epoch came, before any fault was made; the engines' logs say why")
    world.say(f"all parts work; faults for {options.minutes:g} minutes, seed {options.seed}")
    make_faults(world, options)
    settle(world)
    world.say("checking")
    findings, numbers = check(world.run, world.binary, ["project-a", "project-b"])
    numbers = {"events": numbers.pop("events"), "decisions": numbers.pop("decisions"), "kills": world.kills(), **numbers}
    for words in world.ended():
        world.say(f"!! {words}")
    numbers["ended"] = len(world.ended())
    for words in findings.words():
        world.say(words)
    (world.run / "result.json").write_text(json.dumps({**numbers, "findings": findings.words(), "ended_words": world.ended()}, indent=1))
    print(json.dumps(numbers), flush=True)
    return 0 if findings.is_clean() else 1


def main() -> None:
    options = parsed()
    run = options.dir or Path(tempfile.mkdtemp(prefix="solyx-chaos."))
    run.mkdir(parents=True, exist_ok=True)
    if any(run.iterdir()):
        print(f"error: {run} is not empty\n  detail: a run begins in a directory of its own\n  hint: name another with --dir", file=sys.stderr)
        sys.exit(2)
    run = run.resolve()
    # A terminal or a test that gives up must not leave brokers behind.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda got, _: sys.exit(128 + got))
    if options.json_only:
        sys.stderr = (run / "said.log").open("w", buffering=1)
    # A copy: a build meanwhile must not change what is tested.
    binary = run / "solyx"
    shutil.copy(os.environ["SOLYX_BIN"], binary)
    world = World(run, str(binary), options.seed, options.rate, with_registry(options))
    code = 3
    try:
        code = play(world, options)
    except (EnvironmentFailed, KafkaException, KeyError, subprocess.TimeoutExpired, TimeoutError, OSError) as error:
        world.say(f"error: the run could not be made: {type(error).__name__}: {error}")
    finally:
        try:
            world.down()
        except (EnvironmentFailed, subprocess.TimeoutExpired, OSError) as error:
            world.say(f"!! the brokers may still run: {error}")
        binary.unlink()
    if code == 0 and not options.keep and options.dir is None:
        shutil.rmtree(run, ignore_errors=True)
    else:
        world.say(f"what it left is in {run}")
    if code != 0:
        world.say(f"again with: ops/chaos --minutes {options.minutes:g} --seed {options.seed} --rate {options.rate:g} --faults {options.faults}")
        if options.json_only:
            print((run / "said.log").read_text(), file=sys.__stderr__, end="")
    sys.exit(code)


if __name__ == "__main__":
    main()
