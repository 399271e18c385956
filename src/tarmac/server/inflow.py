"""What comes in slowly or in quantity: how long a sender is waited for, and large bodies straight from their socket.

A connection lends its socket and does not read from it until it gets it back. A thread then reads, past the event
loop, which would copy each byte five times. The thread is held only while bytes keep coming.
"""

from __future__ import annotations

import asyncio
import os
import select
import sys
import time
from collections.abc import Callable
from typing import Protocol

from tarmac.core.errors import TooSlow
from tarmac.server.wire import Gone

PIECE = 1024 * 1024
WORTH_IT = 4 * PIECE
DRY_MILLISECONDS = 20
PATIENCE_SECONDS = 30.0
"""Within this time a head has to be whole; of a body that takes longer so much has to come in each such stretch:"""
LEAST_BYTES = 32 * 1024


class Lender(Protocol):
    """A connection that can be read from by somebody else for a while."""

    def lend(self) -> tuple[bytes, int] | None: ...
    def take_back(self, *, whole: bool) -> None: ...


class Inflow:
    """The rest of one body."""

    def __init__(self, lender: Lender, descriptor: int, remaining: int) -> None:
        self._lender = lender
        self._descriptor = descriptor
        self._remaining = remaining
        self._buffer = memoryview(bytearray(PIECE))
        self._loop = asyncio.get_running_loop()
        self._stretch, self._received = time.monotonic(), 0
        self._given_up = False

    async def all_into(self, write: Callable[[memoryview], None]) -> None:
        """Give all of it to `write`, in a thread. Raises Gone when the sender has gone."""
        while True:
            burst = self._loop.run_in_executor(None, self._burst, write)
            try:
                if await asyncio.shield(burst):
                    return
            except asyncio.CancelledError:
                self._given_up = True
                await asyncio.wait([burst])  # nobody may read from a descriptor that is closed
                raise
            await self._more()

    async def _more(self) -> None:
        """Until there is something to read."""
        now = time.monotonic()
        if now - self._stretch > PATIENCE_SECONDS:
            if self._received < LEAST_BYTES:
                raise TooSlow.body(PATIENCE_SECONDS, LEAST_BYTES)
            self._stretch, self._received = now, 0
        readable = asyncio.Event()
        self._loop.add_reader(self._descriptor, readable.set)
        try:
            await asyncio.wait_for(readable.wait(), PATIENCE_SECONDS)
        except TimeoutError:
            raise TooSlow.body(PATIENCE_SECONDS, LEAST_BYTES) from None
        finally:
            self._loop.remove_reader(self._descriptor)

    def _burst(self, write: Callable[[memoryview], None]) -> bool:
        """Read while bytes come without a pause; whether that was all."""
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        buffer, filled = self._buffer, 0
        try:
            while self._remaining and not self._given_up:
                try:
                    got = os.readv(self._descriptor, [buffer[filled : filled + self._remaining]])
                except BlockingIOError:
                    if not poll.poll(DRY_MILLISECONDS):
                        return False
                    continue
                except OSError:
                    raise Gone from None
                if not got:
                    raise Gone
                filled += got
                self._remaining -= got
                self._received += got
                if filled == len(buffer):
                    filled = 0  # before it is written: what fails is not written twice
                    write(buffer)
            return True
        finally:
            if filled:
                write(buffer[:filled])

    def close(self) -> None:
        os.close(self._descriptor)
        self._lender.take_back(whole=not self._remaining)


def borrow(lender: Lender | None, remaining: int) -> tuple[bytes, Inflow] | None:
    """What is here already of a body's `remaining` bytes, and the rest; None if it is not worth it or cannot be."""
    if lender is None or remaining < WORTH_IT or sys.platform == "win32":
        return None
    lent = lender.lend()
    if lent is None:
        return None
    here, descriptor = lent
    return here, Inflow(lender, descriptor, remaining - len(here))
