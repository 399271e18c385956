"""The measuring itself: from the names in rules to values, or to the reason why there is none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tarmac.core.errors import Cancelled, Refused, TarmacError, bounded
from tarmac.core.expressions import Path as Named
from tarmac.formats import signing
from tarmac.formats.package import COMPILED, REQUIREMENTS
from tarmac.govern.measuring import challenge, contents, fairness, latency, leash, pictures, robustness, scores, table
from tarmac.govern.measuring.subject import Bytes, Found
from tarmac.registry import gates, judging
from tarmac.registry.handlers.gating import Side
from tarmac.registry.records import Gate, Signature
from tarmac.store.job import JobContext
from tarmac.store.records import File

if TYPE_CHECKING:
    from tarmac.govern.measuring.model import Model

T = TypeVar("T")
VERSION, CHAMPION = "version", "champion"
IMPORTANCE_ROWS, MOST_IMPORTANCES = 2000, 30


@dataclass(frozen=True, slots=True)
class Bundle:
    """What the tables know of one side: its package's files and signatures."""

    side: Side
    files: Sequence[File]
    compiled: Sequence[File]
    signatures: Sequence[Signature]


class Measuring:
    """One check: everything it needs is worked out once, its failures included."""

    def __init__(
        self, gate: Gate, bundles: dict[str, Bundle], rows: Sequence[File], job: JobContext, place: Path
    ) -> None:
        self._gate = gate
        self._bundles = bundles
        self._rows = rows
        self._job = job
        self._bytes = Bytes(job, place)
        self._known: dict[tuple[str, ...], Any] = {}

    def run(self) -> Found:
        found = Found()
        paths = [path for path in gates.names(self._gate.require) if gates.has_to_be_measured(path)]
        for done, path in enumerate(paths):
            self._job.progress(done, len(paths), gates.spelled(path))
            if gates.needs_champion(path) and CHAMPION not in self._bundles:
                continue
            try:
                found.facts[path] = judging.as_fact(self._value(path))
            except Cancelled:
                raise
            except Exception as error:  # noqa: BLE001 - a model's own code may raise anything; the rule is refused with it
                found.unknown[path] = why(error)
        if any(path[0] in ("measured", "slices", "fairness", "challenge") for path in paths):
            self._draw(found)
        return found

    def _draw(self, found: Found) -> None:
        try:
            found.pictures.update(pictures.of(self._answers(VERSION)))
            found.pictures["importances"] = self._importances()
            found.pictures["rows"] = {"name": self._gate.data, "label": self._gate.label, "rows": len(self._table())}
        except Cancelled:
            raise
        except Exception as error:  # noqa: BLE001 - no picture is no reason to refuse anything
            found.pictures["why"] = why(error)

    def _once(self, key: tuple[str, ...], make: Callable[[], T]) -> T:
        """What was made before, or the same failure again."""
        if key not in self._known:
            try:
                with leash.at_most(leash.SECONDS, " ".join(key)):
                    self._known[key] = make()
            except Cancelled:
                raise
            except Exception as error:  # noqa: BLE001 - kept, and raised for each rule that asks
                self._known[key] = error
        made = self._known[key]
        if isinstance(made, Exception):
            raise made
        known: T = made
        return known

    def _importances(self) -> dict[str, float]:
        """How much of the score is lost when the values of one input are dealt out anew, on some of the rows."""
        model = self._model(VERSION)
        rows = model.sample(self._table(), IMPORTANCE_ROWS)
        clean = scores.plain_score(model.answers(rows, self._gate, self._job))
        found = {}
        for name in model.inputs(rows, self._gate)[:MOST_IMPORTANCES]:
            deal = partial(robustness.dealt, which=name)
            dealt = model.answers(rows, self._gate, self._job, deal)
            found[name] = robustness.lost(clean, scores.plain_score(dealt), classes=dealt.are_classes)
        return found

    def side_by_side(self) -> dict[str, tuple[object, object]]:
        """Scores, speed and agreement of two versions on the same rows."""
        pair = self._answers(VERSION), self._answers(CHAMPION)
        found: dict[str, tuple[object, object]] = {}
        for name in gates.SCORES:
            values = scores.score(pair[0], name), scores.score(pair[1], name)
            if values != (None, None):
                found[f"rows.{name}" if name != "rows" else "rows"] = values
        if pair[0].are_classes and pair[0].classes == pair[1].classes:
            found["rows.same answer"] = (float((pair[0].said == pair[1].said).mean()),) * 2
        gained = challenge.difference(*pair)
        for name in ("difference", "low", "high"):
            found[f"rows.better.{name}"] = gained[name], -gained[{"low": "high", "high": "low"}.get(name, name)]
        speeds = [self._once((of, "latency"), partial(self._latency, of)) for of in (VERSION, CHAMPION)]
        for part in ("p50_ms", "p99_ms"):
            found[f"latency.{part}"] = speeds[0][part], speeds[1][part]
        return found

    # --- what is measured ---

    def _value(self, path: Named) -> object:
        of = CHAMPION if path[0] == gates.CHAMPION else VERSION
        match path[1:] if of == CHAMPION else path:
            case ("pickle",):
                return bool(self._once((of, "pickle"), lambda: self._pickles(of)))
            case ("runs_code",):
                return bool(self._once((of, "runs_code"), lambda: self._code(of)))
            case ("licences", part):
                return self._licences(of, part)
            case ("signed",):
                return self._once((of, "signed"), lambda: self._signed(of))
            case ("latency", part):
                return self._once((of, "latency"), lambda: self._latency(of))[part]
            case ("measured", part):
                return _there(scores.score(self._answers(of), part), part)
            case ("slices", column, *rest):
                return self._slice(of, column, rest)
            case ("fairness", column, part):
                groups = self._table().groups(column)
                return fairness.gap(self._answers(of), groups.of, groups.names, part)
            case ("robustness", how):
                return self._once((of, "robustness", how), lambda: self._robustness(of, how))
            case ("challenge", part):
                both = self._answers(VERSION), self._answers(CHAMPION)
                return self._once((of, "challenge"), lambda: challenge.difference(*both))[part]
        raise Refused(f"`{bounded(gates.spelled(path))}` is measured nowhere")

    def _slice(self, of: str, column: str, rest: Sequence[str]) -> float:
        groups, answers = self._table().groups(column), self._answers(of)
        part = rest[-1]
        if len(rest) == 2:
            if rest[0] not in groups.names:
                raise Refused(f"no row has `{bounded(rest[0])}` in column `{bounded(column)}`")
            return _there(scores.score(answers.of(groups.of == groups.names.index(rest[0])), part), part)
        said = [
            _there(scores.score(answers.of(groups.of == at), part), f"{part} of group `{bounded(name, 60)}`")
            for at, name in enumerate(groups.names)
        ]
        return max(said) if part in scores.LESS_IS_BETTER else min(said)

    def _robustness(self, of: str, how: str) -> float:
        model = self._model(of)
        rows = model.sample(self._table())
        clean = model.answers(rows, self._gate, self._job)
        disturbed = model.answers(rows, self._gate, self._job, lambda arrays: robustness.disturbed(arrays, how))
        return robustness.lost(scores.plain_score(clean), scores.plain_score(disturbed), classes=clean.are_classes)

    def _latency(self, of: str) -> dict[str, float]:
        predict, rows = self._model(of).single(self._table(), self._gate)
        return latency.percentiles(predict, rows)

    def _pickles(self, of: str) -> list[str]:
        folder = self._folder(of)
        return contents.pickles(folder, [file.path for file in self._bundles[of].files])

    def _code(self, of: str) -> list[str]:
        """What would be carried out when it is loaded to serve: of a form that was proved to be equal only what the
        package brings beside the model."""
        from tarmac.govern.measuring.model import opened

        side = self._bundles[of].side
        sealed = opened(self._folder(of), side)
        form = side.package.compiled if side.package else None
        return sealed.brings() if form is not None and form.equal else sealed.runs_code()

    def _licences(self, of: str, part: str) -> int:
        def look() -> dict[str, list[str]]:
            path = self._folder(of) / REQUIREMENTS
            if not path.is_file():
                raise Refused(f"the package has no {REQUIREMENTS}: what it needs is not known")
            return contents.licences(path.read_text(encoding="utf-8").splitlines(), self._gate.licences)

        found = self._once((of, "licences"), look)
        return sum(map(len, found.values())) if part == "packages" else len(found[part])

    def _signed(self, of: str) -> bool:
        """By one of the gate's keys, over the very bytes that were just read from the store."""
        bundle = self._bundles[of]
        if not bundle.signatures:
            ref = f"{bundle.side.version.model}@v{bundle.side.version.number}"
            raise Refused(f"is not signed: `tarmac models sign {bounded(ref)} --key KEY.pem`")
        self._folder(of)
        keys = [signing.public_key(pem) for pem in self._gate.signed_by]
        faults = []
        for signature in bundle.signatures:
            try:
                signed, _ = signing.signed_files(signature.bundle, keys)
            except TarmacError as error:
                faults.append(error.message)
                continue
            if not (differ := signing.differences(signed, self._bytes.sha256(of))):
                return True
            faults.append(", ".join(differ[:5]))
        raise Refused("; ".join(dict.fromkeys(faults)))

    # --- what it is measured with ---

    def _folder(self, of: str) -> Path:
        files = self._bundles[of].files
        if not files:
            raise Refused("has no bytes here")
        return self._once((of, "bytes"), lambda: self._bytes.folder(of, files))

    def _model(self, of: str) -> Model:
        from tarmac.govern.measuring.model import Model  # the engines' libraries only where something predicts

        def load() -> Model:
            side = self._bundles[of].side
            folder = self._folder(of)
            if compiled := self._bundles[of].compiled:
                self._bytes.folder(f"{of}/{COMPILED}", compiled)
            return Model(folder, side, signed=self._is_signed(of))

        return self._once((of, "model"), load)

    def _is_signed(self, of: str) -> bool:
        if not self._gate.signed_by or not self._bundles[of].signatures:
            return False
        try:
            return self._once((of, "signed"), lambda: self._signed(of))
        except Cancelled:
            raise
        except TarmacError:
            return False

    def _table(self) -> table.Table:
        def read() -> table.Table:
            if not self._rows:
                raise Refused("the gate names no rows, or they are gone")
            folder = self._bytes.folder("rows", self._rows)
            return table.read(folder / self._rows[0].path)

        return self._once(("rows",), read)

    def _answers(self, of: str) -> scores.Answers:
        return self._once((of, "answers"), lambda: self._model(of).answers(self._table(), self._gate, self._job))


def _there(value: float | None, part: str) -> float:
    if value is None:
        raise Refused(f"there is no {part} of these answers")
    return value


def why(error: Exception) -> str:
    if isinstance(error, TarmacError):
        return bounded(f"{error.message}{f' ({error.hint})' if error.hint else ''}", 400)
    return bounded(f"{type(error).__name__}: {error}", 400)
