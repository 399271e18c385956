"""Random runs, random filters and orders over them, and what they must come to, computed in plain Python.

A filter is made together with the predicate it stands for, so nothing here depends on how tarmac reads filters.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from tarmac.core.clock import now
from tarmac.store.sql import Batch, Tx
from tarmac.track import operations as ops
from tarmac.track import points
from tarmac.track.handlers import runs as handlers
from tarmac.workspace import LocalWorkspace

HOUR = 3_600_000
METRICS = ["acc", "Acc", "val/loss", 'quo"te', "0", "val.1.f1", "Wälder hören", "`tick`"]
PARAMS = ["depth", "Depth", "lr", "it's", "duration", "1.5", "net.width", "long"]
TAGS = ["stage", "started", "日本 語", 'a"b`c', "x.y"]
EXPERIMENTS = ["baseline", "Baseline", "tiefe Wälder", "it's 100%_"]
NUMBERS = [0.0, -0.0, 1.0, 0.5, 0.25, 0.1, -1.0, 1e-12, 1e12, 0.1 + 0.2, 0.3]
SHORT = [
    "6", "8", "6.0", " 7", "1e3", "-2.5", "nan", "inf", "1_000", "adam", "Adam", "ADAM", "ädam", "Ädam", "it's",
    'a"b', "100%", "a_b", "a*b", "a?b", "[ab]", "[a-z]", "a]b", "^a", "a\\b", "\\", "%", "_", "back`tick", "日本", "é",
    "x" * 99, "x" * 100, "x" * 101,
]  # fmt: skip
LONG = ["x" * 120 + "a", "x" * 120 + "b", "y" * 6500 + "1", "y" * 6500 + "2", "Y" * 6500 + "1"]
TEXTS = [*SHORT, *LONG, "", "line\nbreak", "tab\there"]
STATUS = ["running", "finished", "failed", "killed"]


@dataclass
class Known:
    """What the oracle knows of one run."""

    place: int
    id: str
    name: str
    experiment: str
    status: str
    started: int
    ended: int | None
    note: str
    actor: str
    parent: str | None
    deleted: bool
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, tuple[float, float | None, float | None]] = field(default_factory=dict)
    inputs: list[tuple[str, str]] = field(default_factory=list)

    def attribute(self, name: str) -> Any:
        if name == "duration":
            return None if self.ended is None else self.ended - self.started
        return getattr(self, name)


# ----------------------------------------------------------------------------------------------------------------- runs


def fill(workspace: LocalWorkspace, count: int, seed: int = 1) -> list[Known]:
    """So many random runs, written through the handlers in large transactions."""
    chance = random.Random(seed)
    store, project = workspace.door.store, workspace.door.store.project_key("default")
    known: list[Known] = []

    def some(batch: Batch) -> None:
        for _ in range(min(500, count - len(known))):
            known.append(_one(Tx(batch, project, "default", workspace.actor), chance, known))

    while len(known) < count:
        store.writer.call(some)
    return known


def _one(tx: Tx, chance: random.Random, before: Sequence[Known]) -> Known:
    moment = now()
    # half an hour off every full hour ago, so that no relative time falls on the edge while a test runs
    tx.now = moment - moment % HOUR - chance.randrange(300) * HOUR - HOUR // 2
    if chance.random() < 0.3 and before:
        tx.now = chance.choice(before).started
    parent = chance.choice(before) if before and chance.random() < 0.15 else None
    run = handlers.create_run(
        ops.CreateRun(
            experiment=chance.choice(EXPERIMENTS),
            name=chance.choice([text for text in SHORT if text]) if chance.random() < 0.7 else None,
            parent=None if parent is None or parent.deleted else parent.id,  # nothing starts below the trash
            params={key: chance.choice(TEXTS) for key in PARAMS if chance.random() < 0.6},
            tags={key: chance.choice(TEXTS) for key in TAGS if chance.random() < 0.5},
            note=chance.choice(TEXTS) if chance.random() < 0.4 else "",
        ),
        tx,
    )
    found = Known(
        len(before), run.id, run.name, run.experiment, "running", run.started_at, None, run.note, run.actor, run.parent,
        False, dict(run.params), dict(run.tags),
    )  # fmt: skip
    batch: list[tuple[str, float, int, int]] = []
    for key in METRICS:
        if chance.random() < 0.35:
            continue
        values = [_value(chance) for _ in range(chance.choice([1, 1, 1, 2, 3]))]
        batch += [(key, value, step, 1) for step, value in enumerate(values)]
        real = [value for value in values if value == value]
        found.metrics[key] = (values[-1], min(real, default=None), max(real, default=None))
    handlers.log_run(ops.LogRun(id=run.id), tx, points.group(batch, 1))
    for name in chance.sample(["train.csv", "Train.csv", "it's", "100%"], chance.choice([0, 0, 0, 1, 2])):
        version = chance.choice(["", "1", "2", "v\\1"])
        handlers.use_input(ops.UseInput(id=run.id, name=name, version=version), tx)
        found.inputs.append((name, version))
    _state(tx, chance, found)
    return found


def _value(chance: random.Random) -> float:
    how = chance.random()
    if how < 0.06:
        return math.nan
    if how < 0.1:
        return chance.choice([math.inf, -math.inf])
    return chance.choice(NUMBERS) if how < 0.6 else round(chance.uniform(-2, 2), chance.choice([1, 2, 15]))


def _state(tx: Tx, chance: random.Random, run: Known) -> None:
    stored = run.status = chance.choice(STATUS)
    beat = None
    if stored == "running":
        beat = chance.choice([None, 1000, now() + HOUR])
        run.status = "killed" if beat == 1000 else "running"
    else:
        run.ended = run.started + chance.choice([0, 0, 5, 1000, 60_000, HOUR])
    run.deleted = chance.random() < 0.06
    tx.run(
        "UPDATE runs SET status = :status, ended_at = :ended, heartbeat_at = :beat, deleted_at = :deleted "
        "WHERE id = :id",
        status=stored,
        ended=run.ended,
        beat=beat,
        deleted=5 if run.deleted else None,
        id=run.id,
    )


# -------------------------------------------------------------------------------------------------------------- filters

Predicate = Callable[[Known], bool]
Made = tuple[str, Predicate]
SIGNS: dict[str, Callable[[Any, Any], bool]] = {
    "=": lambda a, b: a == b, "==": lambda a, b: a == b, "!=": lambda a, b: a != b, "<>": lambda a, b: a != b,
    "<": lambda a, b: a < b, "<=": lambda a, b: a <= b, ">": lambda a, b: a > b, ">=": lambda a, b: a >= b,
}  # fmt: skip


def as_number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) and len(text) <= 40 else None


@lru_cache(maxsize=100_000)
def like(text: str, pattern: str, *, minds_case: bool) -> bool:
    parts = {"%": ".*", "_": "."}
    flags = re.DOTALL | re.ASCII | (0 if minds_case else re.IGNORECASE)
    return re.fullmatch("".join(parts.get(c) or re.escape(c) for c in pattern), text, flags) is not None


class Filters:
    """Makes filters at random."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)

    def filter(self, deep: int = 3) -> Made:
        return self._either(deep)

    def _either(self, deep: int) -> Made:
        return self._joined("OR", any, [self._both(deep) for _ in range(self._some())])

    def _both(self, deep: int) -> Made:
        return self._joined("AND", all, [self._single(deep) for _ in range(self._some())])

    def _some(self) -> int:
        return self.chance.choice([1, 1, 1, 2, 3])

    def _joined(self, word: str, fold: Callable[[Iterable[bool]], bool], parts: list[Made]) -> Made:
        tests = [test for _, test in parts]
        return f" {self._word(word)} ".join(text for text, _ in parts), lambda run: fold(test(run) for test in tests)

    def _single(self, deep: int) -> Made:
        how = self.chance.random()
        if deep and how < 0.15:
            text, test = self._single(deep - 1)
            return f"{self._word('NOT')} {text}", lambda run: not test(run)
        if deep and how < 0.3:
            text, test = self._either(deep - 1)
            return f"({text})", test
        return self.leaf()

    def leaf(self) -> Made:
        return self.chance.choice(
            [self.metric, self.metric, self.number, self.text, self.text, self.text, self.dataset, self.time]
        )()

    def _word(self, word: str) -> str:
        return self.chance.choice([word, word.lower(), word.title()])

    def _key(self, key: str) -> str:
        written = ['"' + key.replace('"', '""') + '"']
        if "`" not in key:
            written.append(f"`{key}`")
        if re.fullmatch(r"[\w/.]+", key):
            written.append(key)
        return self.chance.choice(written)

    def _quoted(self, text: str) -> str:
        doubled = text.replace("\\", "\\\\").replace("'", "''")
        escaped = text.replace("\\", "\\\\").replace("'", "\\'")
        return self.chance.choice([f"'{doubled}'", f"'{escaped}'", '"' + text.replace('"', '""') + '"'])

    def metric(self) -> Made:
        key = self.chance.choice([*METRICS, "never logged"])
        place = self.chance.choice([None, 0, 1, 2])
        written = f"{self.chance.choice(['metrics', 'metric', 'METRICS'])}.{self._key(key)}"
        if place is not None:
            written = f"{self._word(['last', 'min', 'max'][place])}({written})"
        absent = self._absence(written, lambda run: key in run.metrics)
        if absent is not None:
            return absent
        sign = self.chance.choice(list(SIGNS))
        given = self.chance.choice([*NUMBERS, _value(self.chance), math.inf, -math.inf, math.nan])
        value = repr(given) if math.isfinite(given) else {"inf": "1e999", "-inf": "-1e999"}.get(str(given), "'nan'")

        def test(run: Known) -> bool:
            held = run.metrics[key][place or 0] if key in run.metrics else None
            return held is not None and held == held and given == given and SIGNS[sign](held, given)

        return f"{written} {sign} {value}", test

    def number(self) -> Made:
        """A param compared with a number; those that are none pass nothing."""
        key, sign = self.chance.choice(PARAMS), self.chance.choice(list(SIGNS))
        given = self.chance.choice([6, 7, 8.0, 1000, -2.5, 0])

        def test(run: Known) -> bool:
            held = as_number(run.params[key]) if key in run.params else None
            return held is not None and SIGNS[sign](held, given)

        return f"params.{self._key(key)} {sign} {given}", test

    def text(self) -> Made:
        kind = self.chance.choice(["params", "tags", "attributes"])
        if kind == "params":
            key = self.chance.choice([*PARAMS, "never"])
            return self._text(f"{self.chance.choice(['params', 'parameter', 'Param'])}.{self._key(key)}", lambda run: (
                [run.params[key]] if key in run.params else []), TEXTS)  # fmt: skip
        if kind == "tags":
            key = self.chance.choice([*TAGS, "never"])
            return self._text(f"tags.{self._key(key)}", lambda run: [run.tags[key]] if key in run.tags else [], TEXTS)
        name = self.chance.choice(["name", "status", "experiment", "note", "parent", "actor", "id"])
        pool = {"status": [*STATUS, "FINISHED", "RUNNING"], "experiment": EXPERIMENTS}.get(name, TEXTS)
        given = {"FINISHED": "finished", "RUNNING": "running"} if name == "status" else {}
        written = self.chance.choice([name, f"attributes.{name}", f"run.{name}"])

        def held(run: Known) -> list[str]:
            value = run.attribute(name)
            return [] if value is None else [value]

        return self._text(written, held, pool, given)

    def dataset(self) -> Made:
        place = self.chance.choice([0, 1])
        return self._text(
            f"{self.chance.choice(['datasets', 'dataset'])}.{['name', 'version'][place]}",
            lambda run: [given[place] for given in run.inputs],
            ["train.csv", "Train.csv", "it's", "100%", "", "1", "2", "v\\1"],
        )

    def _text(
        self, written: str, held: Callable[[Known], list[str]], pool: list[str], stands: dict[str, str] | None = None
    ) -> Made:
        """A comparison with text: true if it is true of something the run has."""
        absent = self._absence(written, lambda run: bool(held(run)))
        if absent is not None:
            return absent
        how = self.chance.choice(["sign", "sign", "in", "like"])
        negative = self.chance.random() < 0.3
        turned = f"{self._word('NOT')} " if negative else ""
        if how == "in":
            some = self.chance.sample(pool, self.chance.randint(1, min(4, len(pool))))
            meant = [(stands or {}).get(text, text) for text in some]
            listed = ", ".join(map(self._quoted, some))
            return f"{written} {turned}{self._word('IN')} ({listed})", lambda run: any(
                (value in meant) != negative for value in held(run)
            )
        if how == "like":
            minds_case = self.chance.random() < 0.5
            pattern = self._pattern(pool)
            while pattern in (stands or {}):
                pattern = self._pattern(pool)
            word = self._word("LIKE" if minds_case else "ILIKE")
            return f"{written} {turned}{word} {self._quoted(pattern)}", lambda run: any(
                like(value, pattern, minds_case=minds_case) != negative for value in held(run)
            )
        sign, given = self.chance.choice(list(SIGNS)), self.chance.choice(pool)
        meant_one = (stands or {}).get(given, given)
        return f"{written} {sign} {self._quoted(given)}", lambda run: any(
            SIGNS[sign](value, meant_one) for value in held(run)
        )

    def _pattern(self, pool: list[str]) -> str:
        text = list(self.chance.choice(pool)[:200])
        for _ in range(self.chance.randint(0, 3)):
            at = self.chance.randint(0, len(text))
            text[at : at + self.chance.randint(0, 3)] = self.chance.choice(["%", "_", "%", "[", "*", "?", "\\", "A"])
        if self.chance.random() < 0.3:
            text = list("".join(text).swapcase())
        return "".join(text) + self.chance.choice(["", "%"])

    def _absence(self, written: str, has: Predicate) -> Made | None:
        how = self.chance.random()
        if how < 0.07:
            return f"{written} {self._word('IS')} {self._word('NULL')}", lambda run: not has(run)
        if how < 0.12:
            return f"{written} {self._word('IS')} {self._word('NOT')} {self._word('NULL')}", has
        return None

    def time(self) -> Made:
        name = self.chance.choice(["started", "ended", "duration"])
        absent = self._absence(name, lambda run: run.attribute(name) is not None)
        if absent is not None:
            return absent
        sign = self.chance.choice(["<", "<=", ">", ">="])
        if name == "duration":
            given: float = self.chance.choice([0, 5, 999.5, 60_000])
            written = str(given)
        else:
            hours = self.chance.randrange(320)
            moment = now()
            given = moment - hours * HOUR
            if name == "started" and self.chance.random() < 0.5:
                written = f"-{hours}h"
                given -= given % HOUR  # no run started between the full hour and now
                if moment % HOUR > HOUR // 2:
                    given += HOUR // 2 + 1
            else:
                given -= given % HOUR
                written = str(given)

        def test(run: Known) -> bool:
            held = run.attribute(name)
            return held is not None and SIGNS[sign](held, given)

        return f"{name} {sign} {written}", test

    # --- orders ---

    def orders(self) -> list[tuple[str, str, str, bool]]:
        """Up to three fields: how each is written, its kind, its name, and whether the largest comes first."""
        found = []
        for _ in range(self.chance.choice([0, 1, 1, 1, 2, 3])):
            kind = self.chance.choice(["last", "min", "max", "params", "tags", "attribute", "attribute"])
            if kind in ("last", "min", "max"):
                name = self.chance.choice([*METRICS, "never logged"])
                written = f"metrics.{self._key(name)}"
                written = written if kind == "last" else f"{kind}({written})"
            elif kind == "attribute":
                name = written = self.chance.choice(
                    ["started", "started", "ended", "duration", "name", "status", "experiment", "note", "parent", "id"]
                )
            else:
                name = self.chance.choice(PARAMS if kind == "params" else TAGS)
                written = f"{kind}.{self._key(name)}"
            descending = self.chance.random() < 0.5
            way = self._word("DESC") if descending else self.chance.choice(["", "ASC", "asc"])
            found.append((f"{written} {way}".strip(), kind, name, descending))
        return found


def value_of(run: Known, kind: str, name: str) -> Any:
    """What a run is sorted by; None where it has nothing."""
    if kind in ("last", "min", "max"):
        held = run.metrics[name][["last", "min", "max"].index(kind)] if name in run.metrics else None
        return None if held is None or held != held else held
    if kind == "attribute":
        return run.attribute(name)
    return (run.params if kind == "params" else run.tags).get(name)


def sorted_by(runs: Iterable[Known], orders: Sequence[tuple[str, str, str, bool]]) -> list[Known]:
    newest_first = next(
        (way for _, kind, name, way in reversed(orders) if (kind, name) == ("attribute", "started")), True
    )
    found = sorted(runs, key=lambda run: (run.started, run.place), reverse=newest_first)
    for _, kind, name, descending in reversed(orders):
        there = [run for run in found if value_of(run, kind, name) is not None]
        if kind == "params":  # numbers as numbers and first; what is equal as a number, by its text
            numbers = [run for run in there if as_number(run.params[name]) is not None]
            there = [run for run in there if as_number(run.params[name]) is None]
            numbers.sort(key=lambda run: (as_number(run.params[name]), run.params[name]), reverse=descending)
        else:
            numbers = []
        absent = [run for run in found if value_of(run, kind, name) is None]
        there.sort(key=lambda run: value_of(run, kind, name), reverse=descending)
        found = numbers + there + absent
    return found
