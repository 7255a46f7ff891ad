"""The parts of the fleet's control plane as processes: started, killed, paused; and noticed when they end by themselves."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

TERM_MAX_S = 20.0


def clock() -> str:
    """The time of day to the millisecond."""
    now = time.time()
    return f"{time.strftime('%H:%M:%S', time.localtime(now))}.{int(now * 1_000) % 1_000:03}"


@dataclass
class Part:
    """One process that should be up. A part that ends by itself is started again, as an init system would, and noted."""

    name: str
    argv: list[str]
    log: Path
    env: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    wanted: bool = False
    # A fault under way when all is taken down must not start it again.
    over: bool = False
    kills: int = 0
    # What it said last, each time that it ended by itself.
    ended: list[str] = field(default_factory=list)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def start(self, **env: str) -> None:
        """Starts it, with these variables beside the environment."""
        with self.lock:
            if self.over:
                return
            self.log.parent.mkdir(parents=True, exist_ok=True)
            self.process = subprocess.Popen(
                self.argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={**os.environ, **self.env, **env},
                start_new_session=True,
            )
            threading.Thread(target=self._write_log, args=(self.process, f"started {env or ''}"), daemon=True).start()
            self.wanted = True

    def _write_log(self, process: subprocess.Popen[bytes], first: str) -> None:
        """Copies what a process says into the log, with the time, which the processes leave to their init system."""
        with self.log.open("a") as out:
            print(f"{clock()} --- {first}", file=out, flush=True)
            for line in process.stdout or []:
                print(f"{clock()} {line.decode(errors='replace').rstrip()}", file=out, flush=True)

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal, if there is somebody to hear it."""
        with self.lock:
            if self.process is not None and self.process.poll() is None:
                self.process.send_signal(number)

    def kill(self) -> None:
        """kill -9, and waits until it is gone."""
        with self.lock:
            self.wanted = False
            if self.process is not None:
                self.kills += 1
                self.process.kill()
                self.process.wait()

    def end(self) -> None:
        """Ends it without counting a kill: nothing depends on how it ends any more."""
        with self.lock:
            self.wanted, self.over = False, True
            if self.process is not None and self.process.poll() is None:
                self.process.kill()
                self.process.wait()

    def stop(self) -> None:
        """Asks it to end and waits; then kills it, and says so among what it ended by."""
        with self.lock:
            self.wanted = False
            if self.process is None or self.process.poll() is not None:
                return
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            try:
                self.process.wait(TERM_MAX_S)
            except subprocess.TimeoutExpired:
                self.ended.append(f"did not stop within {TERM_MAX_S:.0f} s of SIGTERM: {self.last_words()}")
                self.process.kill()
                self.process.wait()

    def revive(self) -> str | None:
        """Starts it again when it ended by itself; what it said last."""
        with self.lock:
            if not self.wanted or self.process is None or self.process.poll() is None:
                return None
            # What it said last may still be on its way to the log.
            time.sleep(0.1)
            words = f"ended by itself with {self.process.returncode}: {self.last_words()}"
            self.ended.append(words)
            self.start()
            return words

    def last_words(self) -> str:
        """The last lines of its log."""
        with self.log.open("rb") as log:
            log.seek(max(0, self.log.stat().st_size - 4_000))
            lines = [line for line in log.read().decode(errors="replace").splitlines() if "facility=" not in line and "librdkafka" not in line]
        return " / ".join(line.strip() for line in lines[-4:])[-600:]


class Proxy:
    """A forwarder, driven over its stdin."""

    def __init__(self, python: str, script: Path, ports: Path, log: Path) -> None:
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                [python, str(script), str(ports)], stdin=subprocess.PIPE, stdout=out, stderr=out, start_new_session=True,
            )

    def command(self, word: str) -> None:
        """See proxy.py."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{word}\n".encode())
        self.process.stdin.flush()

    def stop(self) -> None:
        """Ends it."""
        self.process.kill()
        self.process.wait()
