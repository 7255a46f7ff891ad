"""The whole that faults are made in: three brokers, forwarders, two engines, an executor, two instances of views, two producers."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from contract import ROOT
from parts import Part, Proxy

HERE = Path(__file__).resolve().parent
# Who is reached through a forwarder of its own; `others` are the executor, the first producer and the first instance of views.
THROUGH = ["engine-a", "engine-b", "others"]
ENGINES = ["engine-a", "engine-b"]
COMMAND_MAX_S = 120


class EnvironmentFailed(Exception):
    """The machine, not the product."""


class World:
    """Everything that runs, in one directory."""

    def __init__(self, run: Path, binary: str, seed: int, rate: float, registry: bool) -> None:
        self.run, self.binary, self.seed, self.rate, self.registry = run, binary, seed, rate, registry
        self.cluster = run / "kafka"
        self.parts: dict[str, Part] = {}
        self.proxies: dict[str, Proxy] = {}
        self.began = time.monotonic()
        self.broker_kills = 0
        self.clock_ahead = self._built_clock()
        self.brokers = threading.RLock()
        self.words = threading.Lock()

    def _built_clock(self) -> Path | None:
        """The library that lets a process's clock run ahead; None without a C compiler."""
        library = self.run / "clock_ahead.so"
        argv = ["cc", "-shared", "-fPIC", "-O1", "-o", str(library), str(HERE / "clock_ahead.c"), "-ldl"]
        try:
            subprocess.run(argv, capture_output=True, check=True, timeout=COMMAND_MAX_S)
        except (OSError, subprocess.SubprocessError):
            return None
        return library

    def say(self, words: str) -> None:
        """A line of progress, with the time since the start."""
        with self.words:
            print(f"{time.strftime('%H:%M:%S')} +{time.monotonic() - self.began:5.1f}s {words}", file=sys.stderr, flush=True)

    def kafka(self, *words: str) -> None:
        """A command of ops/kafka on this cluster."""
        self._command([str(ROOT / "ops" / "kafka"), *words, "--dir", str(self.cluster)])

    def solyx(self, *words: str, seconds: float = COMMAND_MAX_S) -> dict[str, Any]:
        """What a command of solyx says as JSON."""
        done = subprocess.run([self.binary, *words, "--json"], capture_output=True, text=True, timeout=seconds, check=False)
        try:
            said = json.loads(done.stdout.strip().splitlines()[-1])
        except (ValueError, IndexError):
            said = {"failed": done.stderr.strip()[-300:]}
        return said if isinstance(said, dict) else {"failed": str(said)}

    def _command(self, argv: list[str]) -> None:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=COMMAND_MAX_S, check=False)
        with (self.run / "commands.log").open("a") as log:
            log.write(f"--- {' '.join(argv)}\n{done.stdout}{done.stderr}")
        if done.returncode != 0:
            raise EnvironmentFailed(f"{' '.join(argv[:2])} failed: {done.stderr.strip()[-400:]}")

    def _again(self, argv: list[str], tries: int = 3) -> None:
        for left in reversed(range(tries)):
            try:
                return self._command(argv)
            except EnvironmentFailed:
                if left == 0:
                    raise
                time.sleep(1)

    def up(self) -> None:
        """Brokers, topics, the fleet, and then every part."""
        self.say("starting three brokers")
        self.kafka("up", "--brokers", "3", "--through", ",".join(THROUGH))
        settings = self.cluster / "kafka.toml"
        # The registry writes itself into the cluster's file; schema ids are those of the lock file here.
        shutil.copy(settings, self.run / "kafka.toml")
        for name in THROUGH:
            ports = self.cluster / "through" / f"{name}.ports"
            self.proxies[name] = Proxy(sys.executable, HERE / "proxy.py", ports, self.run / f"proxy-{name}.log")
        for name in [*ENGINES, "executor", "project-a", "project-b", "desk"]:
            (self.run / name).mkdir()
            through = name if name in ENGINES else "others" if name in ("executor", "project-a") else None
            source = self.cluster / "through" / f"{through}.toml" if through else settings
            shutil.copy(source, self.run / name / "kafka.toml")
        desk = str(self.run / "desk")
        self.say("creating topics and publishing the fleet")
        # A broker may show the settings of a new topic later than the topic; what differs then does not any more at the next look.
        self._again([self.binary, "topics", "apply", "--kafka", str(settings), "--log", desk])
        self._command([self.binary, "publish", str(HERE / "fleet.toml"), "--log", desk])
        for name in ENGINES:
            self._part(name, "run", "--instance", name)
        self._part("executor", "execute")
        for name in ["project-a", "project-b"]:
            self._part(name, "project")
        for name, through in [("producer-1", self.cluster / "through" / "others.toml"), ("producer-2", settings)]:
            self._producer(name, through)
        if self.registry:
            threading.Thread(target=self._start_registry, daemon=True).start()

    def _part(self, name: str, command: str, *words: str) -> None:
        argv = [self.binary, command, "--log", str(self.run / name), *words]
        part = Part(name, argv, self.run / f"{name}.log", {"SOLYX_LOG": "info"})
        self.parts[name] = part
        part.start()

    def _producer(self, name: str, settings: Path) -> None:
        text = settings.read_text()
        bootstrap, prefix = (re.search(rf'^{key} = "(.*)"', text, re.MULTILINE).group(1) for key in ("bootstrap", "prefix"))
        journal = self.run / "producers" / f"{name}.jsonl"
        argv = [sys.executable, str(HERE / "producer.py"), str(journal), bootstrap, prefix, name, str(self.rate / 2), str(self.seed)]
        self.parts[name] = Part(name, argv, self.run / f"{name}.log")
        self.parts[name].start()

    def _start_registry(self) -> None:
        try:
            self._command([str(ROOT / "ops" / "registry"), "up", "--kafka", str(self.cluster)])
            self.say("the registry is up (nobody uses it yet)")
        except (EnvironmentFailed, subprocess.TimeoutExpired) as error:
            self.say(f"the registry did not come up, and is left out: {str(error)[:160]}")

    def registry_down_and_up(self) -> None:
        """Stops the registry and starts it again."""
        self._command([str(ROOT / "ops" / "registry"), "down", "--kafka", str(self.cluster)])
        self._start_registry()

    def supervise(self) -> None:
        """Starts what ended by itself again, and says so."""
        for part in list(self.parts.values()):
            if (words := part.revive()) is not None:
                self.say(f"!! {part.name} {words}")

    def instances(self) -> dict[str, bool]:
        """The engines that were heard of in the last seconds, and whether each leads, as the election's topic has it."""
        try:
            said = self.solyx("leader", "show", "--log", str(self.run / "desk"), seconds=15)
        except subprocess.TimeoutExpired:
            return {}
        recent = (time.time() - 2) * 1_000
        return {one["instance"]: one["leads"] for one in said.get("instances", []) if one["seen_ms"] > recent}

    def leader(self) -> str | None:
        """The engine that leads."""
        return next((name for name, leads in self.instances().items() if leads), None)

    def kills(self) -> int:
        """How many processes were killed with SIGKILL."""
        return self.broker_kills + sum(part.kills for part in self.parts.values())

    def ended(self) -> list[str]:
        """What ended by itself."""
        return [f"{part.name} {words}" for part in self.parts.values() for words in part.ended]

    def down(self) -> None:
        """Stops everything that was started."""
        for part in self.parts.values():
            part.end()
        for proxy in self.proxies.values():
            proxy.stop()
        if self.cluster.exists():
            self.kafka("down")
