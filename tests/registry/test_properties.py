"""Whatever is done to aliases, in whatever order: a model of it in memory says the same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tarmac.core.errors import Conflict, NotFound
from tarmac.core.ids import short
from tarmac.registry.operations import (
    AddVersion,
    CreateModel,
    DeleteVersion,
    GetModel,
    PromoteVersion,
    RetireAlias,
    RollbackAlias,
    ShowHistory,
)
from tarmac.workspace import Workspace, connect

ALIASES = ("production", "shadow")
_ON_ALIAS = st.sampled_from(("production", "production", "production", "shadow"))
# what matters is long roads and ways back on them: most steps are of these two kinds
STEPS = st.lists(
    st.sampled_from(("promote",) * 5 + ("rollback",) * 5 + ("retire", "delete", "add")).flatmap(
        lambda step: st.tuples(st.just(step), _ON_ALIAS, st.integers(1, 4))
    ),
    min_size=6,
    max_size=25,
)


class Known:
    """What should be: of each alias the road that led to where it is, as a stack."""

    def __init__(self) -> None:
        self.alive: set[int] = set()
        self.highest = 0
        self.roads: dict[str, list[int | None]] = {name: [] for name in ALIASES}
        self.moves: list[tuple[str, int | None]] = []

    def points_to(self, alias: str) -> int | None:
        return self.roads[alias][-1] if self.roads[alias] else None

    def add(self) -> None:
        self.highest += 1
        self.alive.add(self.highest)

    def move(self, alias: str, number: int | None) -> None:
        self.roads[alias].append(number)
        self.moves.append((alias, number))

    def rollback(self, alias: str) -> bool:
        road = self.roads[alias]
        for place in range(len(road) - 2, -1, -1):
            if road[place] in self.alive and road[place] != self.points_to(alias):
                del road[place + 1 :]
                self.moves.append((alias, road[place]))
                return True
        return False

    def delete(self, number: int) -> None:
        self.alive.discard(number)
        for alias in ALIASES:
            if self.points_to(alias) == number:
                self.move(alias, None)


@pytest.fixture(scope="module")
def one_place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    with connect(Path(tmp_path_factory.mktemp("aliases")), create=True) as opened:
        yield opened


@given(steps=STEPS)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_aliases_are_where_they_should_be(one_place: Workspace, steps: list[tuple[str, str, int]]) -> None:
    name, known = f"m{short()}", Known()
    one_place(CreateModel(name=name))
    for _ in range(4):
        one_place(AddVersion(name=name, source="x"))
        known.add()
    for step, alias, version in steps:
        if step == "add":
            assert one_place(AddVersion(name=name, source="x")).number == known.highest + 1
            known.add()
        elif step == "promote" and version in known.alive:
            one_place(PromoteVersion(ref=f"{name}@v{version}", to=alias))
            if known.points_to(alias) != version:
                known.move(alias, version)
        elif step == "promote":
            with pytest.raises(NotFound):
                one_place(PromoteVersion(ref=f"{name}@v{version}", to=alias))
        elif step == "delete" and version in known.alive:
            one_place(DeleteVersion(ref=f"{name}@v{version}", with_aliases=True))
            known.delete(version)
        elif step == "retire" and known.points_to(alias) is not None:
            one_place(RetireAlias(ref=f"{name}@{alias}"))
            known.move(alias, None)
        elif step == "rollback":
            if known.rollback(alias):
                assert one_place(RollbackAlias(ref=f"{name}@{alias}")).after == known.points_to(alias)
            else:
                with pytest.raises((Conflict, NotFound)):
                    one_place(RollbackAlias(ref=f"{name}@{alias}"))
        now = {name: points for name in ALIASES if (points := known.points_to(name)) is not None}
        assert one_place(GetModel(name=name)).aliases == now
    moves = one_place(ShowHistory(name=name, limit=1000)).moves[::-1]
    assert [(move.alias, move.after) for move in moves] == known.moves
    assert [move.at for move in moves] == sorted(move.at for move in moves)
