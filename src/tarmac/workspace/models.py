"""`tarmac.load_model`: a model by its name, from a folder or a server, verified, and run only if that is allowed."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tarmac.core.errors import Damaged
from tarmac.formats import arrays, engines
from tarmac.formats.engines import Form
from tarmac.formats.package import About, Sealed
from tarmac.formats.signature import PREDICTION, PROBABILITIES, Signature
from tarmac.formats.trust import Trust
from tarmac.workspace import Workspace, connect, packages

if TYPE_CHECKING:
    from tarmac.formats.engines.predictor import Predictor


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

    def __repr__(self) -> str:
        return f"<model {self.name}: {self.about.kind}, {self.form}, {self.digest[:12]}>"


def load_model(
    ref: str | os.PathLike[str],
    *,
    trust: str | Iterable[str] = (),
    form: Form = "best",
    workspace: Workspace | str | Path | None = None,
    project: str | None = None,
    threads: int = 1,
) -> Model:
    """A model to predict with: `churn@production`, `churn@v7`, `churn@latest`, or the Path of a package folder.

    Its bytes are verified as they are loaded. One that brings code of its own (a pickle, a Python class) runs only if a
    run of yours made it in this folder, or if `trust` or the project file names its digest.
    """
    digests = [trust] if isinstance(trust, str) else list(trust)
    if isinstance(ref, os.PathLike):
        folder = Path(ref)
        sealed = Sealed(folder)
        command = f"tarmac.load_model({str(folder)!r}, trust={{digest!r}})"
        vouched = Trust(Trust.digests([*digests, *packages.listed()]).reasons, command)
        return Model(folder.name, sealed, engines.load(sealed, vouched, form=form, threads=threads))
    if isinstance(workspace, Workspace):
        return _from(workspace, ref, digests, form, threads)
    with connect(workspace, project) as opened:
        return _from(opened, ref, digests, form, threads)


def _from(workspace: Workspace, ref: str, digests: list[str], form: Form, threads: int) -> Model:
    version, sealed, compiled = packages.fetch(workspace, ref)
    vouched = packages.trust_here(workspace, version, sealed, digests)
    name = f"{version.model}@v{version.number}"
    try:
        return Model(name, sealed, engines.load(sealed, vouched, form=form, compiled_digest=compiled, threads=threads))
    except Damaged:  # the copy in the cache: once more from where it came
        packages.forget(sealed)
        version, sealed, compiled = packages.fetch(workspace, ref)
        return Model(name, sealed, engines.load(sealed, vouched, form=form, compiled_digest=compiled, threads=threads))
