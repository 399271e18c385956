"""All that this process serves: changed as a whole, by one assignment, when everything new is loaded and warm."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Mapping

from tarmac.core.errors import Internal, TarmacError, bounded
from tarmac.formats.engines.predictor import Predictor
from tarmac.serve.endpoints import Endpoint
from tarmac.serve.journal import Journal
from tarmac.serve.lanes import Cost
from tarmac.serve.metrics import Tallies
from tarmac.serve.routes import Routes, Served
from tarmac.serve.versions import Version, load

log = logging.getLogger("tarmac.serve")


class Fleet:
    def __init__(self, journal: Journal | None) -> None:
        self.journal = journal
        self._loaded: dict[tuple[str, str | None], tuple[Predictor, Cost]] = {}
        self.endpoints: dict[str, Endpoint] = {}
        self.tallies = Tallies()
        self.generation = -1
        self.faults: dict[str, str] = {}
        """Why endpoints of the newest document are not as it says, by name."""

    async def change(self, routes: Routes, unloaded: frozenset[str] = frozenset()) -> None:
        """Serve what `routes` says. An endpoint whose packages cannot be loaded stays as it was."""
        faults: dict[str, str] = {}
        endpoints: dict[str, Endpoint] = {}
        for route in routes.endpoints:
            if route.name in unloaded:
                continue
            try:
                before = self.endpoints.get(route.name)
                if before is not None and before.route == route:
                    endpoints[route.name] = before
                    continue
                versions: dict[str, Version] = {}
                for served in route.versions:
                    predictor, cost = await self._ready(routes, served)
                    tally = self.tallies.of(route.name, served.version)
                    versions[served.version] = Version(route, served, predictor, cost, tally)
                endpoints[route.name] = Endpoint(route, versions, self.journal)
            except TarmacError as error:
                log.warning("endpoint %s stays as it was: %s", route.name, error)
                faults[route.name] = f"{error.message}{f' ({error.hint})' if error.hint else ''}"
                if route.name in self.endpoints:
                    endpoints[route.name] = self.endpoints[route.name]
        before_all, self.endpoints = self.endpoints, endpoints
        self.generation, self.faults = routes.generation, faults
        self._let_go(before_all, endpoints)

    async def _ready(self, routes: Routes, served: Served) -> tuple[Predictor, Cost]:
        place = (served.folder, served.digest)
        if place not in self._loaded:
            try:
                self._loaded[place] = await asyncio.to_thread(load, served, routes.trust)
            except TarmacError:
                raise
            except Exception as error:
                log.exception("%s cannot be loaded", served.folder)
                raise Internal(f"{served.folder} cannot be loaded: {bounded(error, 300)}") from error
            gc.collect()
            gc.freeze()  # what a model is made of need not be looked at again and again
        return self._loaded[place]

    def _let_go(self, before: Mapping[str, Endpoint], now: Mapping[str, Endpoint]) -> None:
        """Requests that a version has taken are answered by it; then its memory goes."""
        for name, endpoint in before.items():
            if now.get(name) is not endpoint:
                for version in endpoint.versions.values():
                    version.stop()
        needed = {(served.folder, served.digest) for endpoint in now.values() for served in endpoint.route.versions}
        for place in [place for place in self._loaded if place not in needed]:
            del self._loaded[place]

    def versions(self) -> list[Version]:
        return [version for endpoint in self.endpoints.values() for version in endpoint.versions.values()]
