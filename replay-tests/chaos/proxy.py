"""A forwarder between one client and the brokers, as a process: `proxy.py PORTS` with the file of ops/kafka --through.

It reads commands from stdin, one a line: `pass`, `hold` (nothing goes through, connections stay open: packets that get lost), `deaf` (requests
go through, answers do not: outcomes are unknown), `refuse` (connections are reset and none is taken). `reset` cuts what is open and passes.
After `hold` and `deaf`, `pass` lets what was held arrive late, as a network does that comes back.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path


class Forwarder:
    """All connections of one client."""

    def __init__(self) -> None:
        self.to_broker, self.to_client = asyncio.Event(), asyncio.Event()
        self.to_broker.set()
        self.to_client.set()
        self.refuses = False
        self.writers: set[asyncio.StreamWriter] = set()

    def command(self, word: str) -> None:
        """Changes what goes through."""
        for direction, closed_by in [(self.to_broker, {"hold"}), (self.to_client, {"hold", "deaf"})]:
            direction.clear() if word in closed_by else direction.set()
        self.refuses = word == "refuse"
        if word in ("refuse", "reset"):
            for writer in list(self.writers):
                writer.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> None:
        """One connection of the client, to the broker's port."""
        if self.refuses:
            writer.transport.abort()
            return
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            writer.transport.abort()
            return
        pair = {writer, far_writer}
        self.writers |= pair
        try:
            await asyncio.gather(self._pump(reader, far_writer, self.to_broker), self._pump(far_reader, writer, self.to_client))
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self.writers -= pair
            for end in pair:
                end.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, open_now: asyncio.Event) -> None:
        while data := await reader.read(1 << 16):
            await open_now.wait()
            writer.write(data)
            await writer.drain()
        # A connection that one side closes is closed on both.
        raise ConnectionResetError


async def main() -> None:
    forwarder = Forwarder()
    for line in Path(sys.argv[1]).read_text().splitlines():
        advertised, port = map(int, line.split())

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int = port) -> None:
            await forwarder.serve(reader, writer, port)

        await asyncio.start_server(accept, "127.0.0.1", advertised)
    commands = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    # Whoever started it is gone when its end of the pipe is.
    while line := await commands.readline():
        forwarder.command(line.decode().strip())


if __name__ == "__main__":
    asyncio.run(main())
