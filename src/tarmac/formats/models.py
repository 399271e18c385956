"""A loaded package as people use it: `predict`. It can travel inside another model, with all its bytes."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tarmac.core.errors import TooLarge, bounded
from tarmac.formats import arrays, engines
from tarmac.formats.package import ABOUT, COMPILED, COMPILED_MODEL, REPORT, About, Sealed
from tarmac.formats.signature import PREDICTION, PROBABILITIES, Signature
from tarmac.formats.trust import Trust

if TYPE_CHECKING:
    from tarmac.formats.engines.predictor import Predictor

LARGEST_CARRIED = 1 << 30
"""A model inside another one is held in memory as a whole while it is loaded."""


class Model:
    """A model that is ready to predict."""

    def __init__(self, name: str, sealed: Sealed, predictor: Predictor) -> None:
        self.name = name
        self.about: About = sealed.about
        self.digest = sealed.digest
        self.folder = sealed.folder
        self.predictor = predictor

    @property
    def signature(self) -> Signature | None:
        return self.predictor.signature

    @property
    def form(self) -> str:
        """`compiled`, the form that was proved to be equal, or `native`."""
        return self.predictor.form

    def predict(self, data: Any) -> Any:
        """The model's answer to rows: a table, an array, a list; refused with a reason if they do not fit."""
        found = self._ask(data, PREDICTION)
        return found[PREDICTION] if set(found) == {PREDICTION} else found.get(PREDICTION, found)

    def predict_proba(self, data: Any) -> Any:
        """Of a classifier, the probability of each class; None where the model does not tell."""
        return self._ask(data, None).get(PROBABILITIES)

    def _ask(self, data: Any, only: str | None) -> Any:
        signature = self.signature
        if signature is None:
            return arrays.outputs(self.predictor.call(data), PREDICTION)
        return self.predictor.predict(arrays.accept(data, signature), only=only)

    def __reduce__(self) -> tuple[Any, ...]:
        """As the bytes of its package: whoever holds a model is packaged together with it."""
        return unpacked, (self.name, self.digest, self.form, carried(self.name, self.folder, self.digest, self.form))

    def __repr__(self) -> str:
        return f"<model {self.name}: {self.about.kind}, {self.form}, {self.digest[:12]}>"


def carried(name: str, folder: Path, digest: str, form: str) -> dict[str, bytes]:
    """The files of a package, verified, by their paths."""
    sealed = Sealed(folder, digest)
    size = sum(file.size for file in sealed.about.files)
    if size > LARGEST_CARRIED:
        raise TooLarge(
            f"{bounded(name)} has {size:,} bytes; a model inside another one may have {LARGEST_CARRIED:,}",
            hint="serve it by itself, and ask it from outside",
        )
    files = {ABOUT: (folder / ABOUT).read_bytes()}
    files |= {file.path: bytes(sealed.read(file.path)) for file in sealed.about.files}
    if form == "compiled" and sealed.compiled() is not None:
        files |= {f"{COMPILED}/{part}": (folder / COMPILED / part).read_bytes() for part in (REPORT, COMPILED_MODEL)}
    return files


def unpacked(name: str, digest: str, form: engines.Form, files: dict[str, bytes]) -> Model:
    """The other way. Who unpickles this has trusted the package around it, and so what is in it."""
    folder = Path(tempfile.mkdtemp(prefix="tarmac-inside-"))
    try:
        for path, data in files.items():
            place = folder / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data)
        sealed = Sealed(folder, digest)
        trust = Trust().of(digest, "it travels inside a package that is trusted")
        found = Model(name, sealed, engines.load(sealed, trust, form=form))
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    weakref.finalize(found, shutil.rmtree, folder, ignore_errors=True)
    return found
