"""All that this process serves: changed as a whole, by one assignment, when everything new is loaded and warm.

With a limit of memory, endpoints that do not fit rest: who asks for one is told to come again, and meanwhile it is
loaded in the place of the one that nobody has asked for the longest time.
"""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Callable, Mapping
from typing import NamedTuple

from tarmac.core.errors import Busy, Full, Internal, TarmacError, bounded
from tarmac.formats.engines.predictor import Predictor
from tarmac.serve.endpoints import Endpoint
from tarmac.serve.journal import Journal
from tarmac.serve.lanes import Cost
from tarmac.serve.memory import give_back
from tarmac.serve.metrics import Tallies
from tarmac.serve.routes import Endpoint as Route
from tarmac.serve.routes import Routes, Served
from tarmac.serve.versions import Version, load, size_of

log = logging.getLogger("tarmac.serve")

Place = tuple[str, str | None]


class Loaded(NamedTuple):
    predictor: Predictor
    cost: Cost


class Fleet:
    def __init__(self, journal: Journal | None, most_bytes: int = 0) -> None:
        self.journal = journal
        self.most_bytes = most_bytes
        """What models may take; without a limit zero."""
        self._loaded: dict[Place, Loaded] = {}
        self._sizes: dict[Place, int] = {}
        self._routes = Routes()
        self._turn = asyncio.Lock()
        self._waking: set[asyncio.Task[None]] = set()
        self.endpoints: dict[str, Endpoint] = {}
        self.resting: dict[str, Route] = {}
        self.tallies = Tallies()
        self.generation = -1
        self.faults: dict[str, str] = {}
        """Why endpoints of the newest document are not as it says, by name."""

    async def change(self, routes: Routes, unloaded: frozenset[str] = frozenset()) -> None:
        """Serve what `routes` says. An endpoint whose packages cannot be loaded stays as it was."""
        async with self._turn:
            faults: dict[str, str] = {}
            endpoints: dict[str, Endpoint] = {}
            resting: dict[str, Route] = {}
            self._routes = routes
            for route in routes.endpoints:
                if route.name in unloaded:
                    continue
                before = self.endpoints.get(route.name)
                if before is not None and before.route == route:
                    endpoints[route.name] = before
                    continue
                try:
                    # what is asked for now has its place already; what is new may have to rest
                    if self._without_room(route, endpoints) and before is None:
                        resting[route.name] = route
                    else:
                        endpoints[route.name] = await self._made(route)
                except TarmacError as error:
                    log.warning("endpoint %s stays as it was: %s", route.name, error)
                    faults[route.name] = f"{error.message}{f' ({error.hint})' if error.hint else ''}"
                    if before is not None:
                        endpoints[route.name] = before
            self.generation, self.faults, self.resting = routes.generation, faults, resting
            self._now(endpoints)

    def _now(self, endpoints: dict[str, Endpoint]) -> None:
        before, self.endpoints = self.endpoints, endpoints
        self._let_go(before, endpoints)

    async def _made(self, route: Route) -> Endpoint:
        versions: dict[str, Version] = {}
        for served in route.versions:
            predictor, cost = await self._ready(served)
            tally = self.tallies.of(route.name, served.version)
            versions[served.version] = Version(route, served, predictor, cost, tally)
        return Endpoint(route, versions, self.journal)

    async def _ready(self, served: Served) -> Loaded:
        place = (served.folder, served.digest)
        if place not in self._loaded:
            try:
                found, self._sizes[place] = await asyncio.to_thread(load, served, self._routes.trust)
            except TarmacError:
                raise
            except Exception as error:
                log.exception("%s cannot be loaded", served.folder)
                raise Internal(f"{served.folder} cannot be loaded: {bounded(error, 300)}") from error
            self._loaded[place] = Loaded(*found)
            gc.collect()
            gc.freeze()  # what a model is made of need not be looked at again and again
        return self._loaded[place]

    # --- memory ---

    def _size(self, routes: list[Route]) -> int:
        """What these take together, as it was found when they were loaded, or by their files."""
        places = {(served.folder, served.digest): served for route in routes for served in route.versions}
        return sum(self._sizes.get(place) or size_of(served) for place, served in places.items())

    def _without_room(self, route: Route, endpoints: Mapping[str, Endpoint]) -> bool:
        if not self.most_bytes:
            return False
        if (alone := self._size([route])) > self.most_bytes:
            raise Full(
                f"`{bounded(route.name)}` takes {alone:,} bytes; models may take {self.most_bytes:,} in one process",
                hint="give more: `--memory`, which all workers share",
            )
        return self._size([route, *(one.route for one in endpoints.values())]) > self.most_bytes

    def wake(self, name: str, then: Callable[[], None]) -> Busy:
        """Load what rests, and say that it takes a moment."""
        if name in self.faults:
            return Busy(f"`{bounded(name)}` cannot be loaded: {self.faults[name]}", hint="its package has to be mended")
        if not self._waking:  # one at a time: who comes again is next
            task = asyncio.get_running_loop().create_task(self._woken(name, then))
            self._waking.add(task)
            task.add_done_callback(self._waking.discard)
        return Busy(f"`{bounded(name)}` was put aside and is being loaded", hint="try again in a second")

    async def _woken(self, name: str, then: Callable[[], None]) -> None:
        async with self._turn:
            route = self.resting.get(name)
            if route is None:
                return
            endpoints = dict(self.endpoints)
            try:
                while endpoints and self._without_room(route, endpoints):
                    oldest = min(endpoints.values(), key=lambda one: one.used)
                    log.info("%s is put aside for %s", oldest.name, name)
                    self.resting[oldest.name] = endpoints.pop(oldest.name).route
                self._now(dict(endpoints))
                then()
                endpoints[name] = await self._made(route)
            except TarmacError as error:
                log.warning("endpoint %s cannot be loaded: %s", name, error)
                self.faults[name] = error.message
            else:
                del self.resting[name]
            self._now(endpoints)
            then()

    def _let_go(self, before: Mapping[str, Endpoint], now: Mapping[str, Endpoint]) -> None:
        """Requests that a version has taken are answered by it; then its memory goes."""
        for name, endpoint in before.items():
            if now.get(name) is not endpoint:
                for version in endpoint.versions.values():
                    version.stop()
        needed = {(served.folder, served.digest) for endpoint in now.values() for served in endpoint.route.versions}
        for place in [place for place in self._loaded if place not in needed]:
            del self._loaded[place]
        if self.most_bytes:
            give_back()

    def versions(self) -> list[Version]:
        return [version for endpoint in self.endpoints.values() for version in endpoint.versions.values()]
