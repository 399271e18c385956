"""`tarmac.load_model`: a model by its name, from a folder or a server, verified, and run only if that is allowed."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from tarmac.core.errors import Damaged
from tarmac.formats import engines
from tarmac.formats.engines import Form
from tarmac.formats.models import Model
from tarmac.formats.package import Sealed
from tarmac.formats.trust import Trust
from tarmac.workspace import Workspace, connect


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
    from tarmac.workspace import packages  # with all that packaging needs: not for who only imports tarmac

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
    from tarmac.workspace import packages

    version, sealed, compiled = packages.fetch(workspace, ref)
    vouched = packages.trust_here(workspace, version, sealed, digests)
    name = f"{version.model}@v{version.number}"
    try:
        return Model(name, sealed, engines.load(sealed, vouched, form=form, compiled_digest=compiled, threads=threads))
    except Damaged:  # the copy in the cache: once more from where it came
        packages.forget(sealed)
        version, sealed, compiled = packages.fetch(workspace, ref)
        return Model(name, sealed, engines.load(sealed, vouched, form=form, compiled_digest=compiled, threads=threads))
