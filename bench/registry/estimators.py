"""Every estimator of scikit-learn that classifies, regresses or transforms: packaged, loaded again, compiled."""

from __future__ import annotations

import signal
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tarmac.formats import compiling, engines, packing
from tarmac.formats.arrays import accept
from tarmac.formats.package import Sealed
from tarmac.formats.trust import Trust
from tarmac.logging import models

ROWS, COLUMNS, EXAMPLE = 120, 5, 10
PATIENCE_SECONDS = 60
TOLERANCE = 1e-4


@dataclass
class Count:
    """What came of all of them. `others` says of those that did not compile why, `lost` of those not packaged."""

    tried: int = 0
    packaged: int = 0
    compiled: int = 0
    left_out: dict[str, str] = field(default_factory=dict)
    lost: dict[str, str] = field(default_factory=dict)
    others: dict[str, str] = field(default_factory=dict)


def count(*, quick: bool) -> Count:
    found = Count()
    chosen = list(fitted(found))
    for name, model, rows in chosen[:: 10 if quick else 1]:
        found.tried += 1
        with tempfile.TemporaryDirectory() as place, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                with patience():
                    sealed = packed(Path(place), model, rows)
                    same(sealed, model, rows)
                found.packaged += 1
            except Exception as error:  # noqa: BLE001 - what is not packaged is what is looked for
                found.lost[name] = said(error)
                continue
            try:
                with patience():
                    report, _ = compiling.compiled(sealed, [], TOLERANCE)
            except Exception as error:  # noqa: BLE001 - as above
                found.others[name] = said(error)
                continue
        if report.proof.equal:
            found.compiled += 1
        else:
            found.others[name] = report.proof.why
    return found


def fitted(found: Count) -> Iterator[tuple[str, Any, np.ndarray[Any, Any]]]:
    """Each estimator, trained on a small table that it takes."""
    from sklearn.utils import all_estimators

    random = np.random.default_rng(7)
    rows = random.normal(size=(ROWS, COLUMNS))
    labels = (rows[:, 0] + rows[:, 1] > 0).astype(int)
    values = rows @ np.arange(1.0, COLUMNS + 1) + 20
    kinds = {}
    for kind in ("classifier", "regressor", "transformer"):
        for name, cls in all_estimators(type_filter=kind):
            kinds.setdefault(name, (kind, cls))
    for name, (kind, cls) in sorted(kinds.items()):
        target = values if kind == "regressor" else labels
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            why = ""
            for data in (rows, np.abs(rows), np.abs(rows[:, :1])):
                wanted = np.column_stack([target, target]) if "Multi" in name or "Chain" in name else target
                try:
                    with patience():
                        model = made(cls, kind).fit(data, wanted)
                        asked(model)(data[:2])
                except Exception as error:  # noqa: BLE001 - it takes another kind of table
                    why = why or said(error)
                    continue
                yield name, model, data
                break
            else:
                found.left_out[name] = why


SMALL = ("CCA", "PLSCanonical", "PLSSVD", "GaussianRandomProjection", "SparseRandomProjection")


def made(cls: Any, kind: str) -> Any:
    """With what it cannot do without."""
    from sklearn.linear_model import LinearRegression, LogisticRegression

    inner = LinearRegression() if kind == "regressor" else LogisticRegression()
    try:
        model = cls()
        if "n_components" in model.get_params() and cls.__name__ in SMALL:
            model.set_params(n_components=1 if "PLS" in cls.__name__ or cls.__name__ == "CCA" else 3)
        return model
    except TypeError as error:
        text = str(error)
        if "'estimators'" in text:
            return cls([("one", inner), ("two", type(inner)())])
        if "'transformers'" in text:
            from sklearn.preprocessing import StandardScaler

            return cls([("scale", StandardScaler(), [0, 1])])
        if "'transformer_list'" in text:
            from sklearn.preprocessing import StandardScaler

            return cls([("scale", StandardScaler())])
        return cls(inner)


def asked(model: Any) -> Any:
    return model.predict if hasattr(model, "predict") else model.transform


def packed(place: Path, model: Any, rows: np.ndarray[Any, Any]) -> Sealed:
    """As `run.model` and the carrier do it, without the prediction in another process."""
    import msgspec

    pieces, last = models.packaged(model, "thing", rows[:EXAMPLE])
    kept: dict[str, Path] = {}
    for piece in pieces:
        target = place / piece.path.rpartition("/")[2]
        assert not isinstance(piece.source, Path)
        piece.source(target)
        kept[target.name] = target
    about = last([])
    assert not isinstance(about.source, Path)
    about.source(place / "about.json")
    folder = place / "package"
    folder.mkdir()
    description = msgspec.json.decode((place / "about.json").read_bytes())
    return packing.seal(folder, packing.of_run(description, kept, folder))


def same(sealed: Sealed, model: Any, rows: np.ndarray[Any, Any]) -> None:
    predictor = engines.load(sealed, Trust().of(sealed.digest, "made by this benchmark"), form="native")
    assert predictor.signature is not None
    found = predictor.predict(accept(rows, predictor.signature), only="prediction")
    expected = asked(model)(rows)
    expected = expected.toarray() if hasattr(expected, "toarray") else np.asarray(expected)
    if len(found) != 1:
        expected = {f"prediction{index or ''}": part for index, part in enumerate(asked(model)(rows))}
        assert all(np.array_equal(found[name], part) for name, part in expected.items()), "it answers otherwise"
        return
    kind = {"equal_nan": True} if expected.dtype.kind == "f" else {}
    assert np.array_equal(found["prediction"], expected, **kind), "it answers otherwise"


@contextmanager
def patience() -> Iterator[None]:
    def stop(number: int, frame: object) -> None:
        raise TimeoutError(f"not done after {PATIENCE_SECONDS} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(PATIENCE_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def said(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"


def shortened(why: str) -> str:
    """The reason without what differs from one estimator to the next, so that equal ones stand together."""
    import re

    if "Unable to find a shape calculator" in why:
        return "skl2onnx has no converter for it"
    if "differs by up to" in why or "labels differ" in why:
        return "its answers differ"
    return re.sub(r"'[^']*'|<[^>]*>", "…", why)[:100]
