"""`each`: a step done for many items, each with a result of its own that is found again by itself."""

from __future__ import annotations

from typing import Any

from blake3 import blake3

from tarmac.flow.executors import Outcome
from tarmac.flow.fetching import Gone, Results
from tarmac.flow.graph import Node
from tarmac.flow.keeping import Keeper
from tarmac.flow.operations import NewItems
from tarmac.flow.plan import Looked
from tarmac.flow.records import Item, Output

SECONDS_AT_ONCE = 1.0
MOST_AT_ONCE = 5_000


class Many:
    """The items of one step in one run."""

    def __init__(
        self, node: Node, looked: Looked, results: Results, keeper: Keeper, *, whole: bool = False, again: bool = False
    ) -> None:
        """`whole`: all of it is there. `again`: what is kept of it has been found gone."""
        self.node = node
        self.looked = looked
        self.seconds = 0.0
        self.cpu_seconds = 0.0
        self.undeclared: list[str] = []
        self._results = results
        self._again = again
        self._keeper = keeper
        self._known: dict[str, Output] = {} if whole or again else results.items(looked.group)
        self._loaded = not whole
        self.missing: list[int] = []
        if not whole:
            seen: set[str] = set()
            for index, key in enumerate(looked.item_keys):
                if key not in self._known and key not in seen:
                    seen.add(key)
                    self.missing.append(index)
        self._gone = [] if whole else sorted(self._known.keys() - set(looked.item_keys))
        self._chunk: list[int] = []
        self._size = 1

    def next_chunk(self) -> tuple[int, list[Any]]:
        """Some of what is missing: so many that they take about a second."""
        self._chunk = self.missing[: self._size]
        items = self.looked.items
        assert items is not None
        return self._chunk[0], [items[index] for index in self._chunk]

    def take_in(self, outcome: Outcome) -> None:
        keys = self.looked.item_keys
        self.seconds += outcome.seconds
        self.cpu_seconds += outcome.cpu_seconds
        self.undeclared += [what for what in outcome.undeclared if what not in self.undeclared]
        new, blobs = [], {}
        for index, packed in zip(self._chunk, outcome.packed, strict=True):
            self._known[keys[index]] = packed.output
            new.append(Item(key=keys[index], output=packed.output))
            blobs.update(packed.blobs)
        self.missing = self.missing[len(self._chunk) :]
        if not outcome.undeclared:
            self._keeper.items(NewItems(group=self.looked.group, node=self.node.name, new=new), blobs, heal=self._again)
        each = max(outcome.seconds / max(1, len(self._chunk)), 1e-6)
        self._size = int(min(MOST_AT_ONCE, max(1, self._size * 10 if each < 1e-3 else SECONDS_AT_ONCE / each)))

    def output(self) -> Output:
        """What stands for all results together."""
        digests = "".join(self._known[key].digest for key in self.looked.item_keys)
        return Output(digest=blake3(digests.encode()).hexdigest())

    def finish(self) -> None:
        """Results of items that are not among them any more go."""
        for start in range(0, len(self._gone), 100_000):
            gone = self._gone[start : start + 100_000]
            self._keeper.items(NewItems(group=self.looked.group, node=self.node.name, gone=gone), {})
        if not self._gone:
            self._keeper.items(NewItems(group=self.looked.group, node=self.node.name), {})
        self._gone = []

    def values(self) -> list[Any]:
        """All results, in the order of the items."""
        try:
            return [self._results.value(output) for output in self.all_outputs()]
        except Gone as gone:
            gone.node = self.node.name
            raise

    def all_outputs(self) -> list[Output]:
        """What stands for each of them."""
        if not self._loaded:
            self._known, self._loaded = self._results.items(self.looked.group), True
        try:
            return [self._known[key] for key in self.looked.item_keys]
        except KeyError as error:
            gone = Gone("results of some items are not there any more")
            gone.node = self.node.name
            raise gone from error
