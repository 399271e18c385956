"""Packages of small real models, made as `run.model` and the carrier make them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tarmac.core.ids import short
from tarmac.formats import engines, packing
from tarmac.formats.engines.predictor import Predictor
from tarmac.formats.package import Sealed
from tarmac.formats.probe import probe
from tarmac.formats.spool import SavedFile
from tarmac.formats.trust import Trust
from tarmac.logging import models


def kept(tmp_path: Path, model: Any, example: Any = None, **more: Any) -> tuple[dict[str, Any], dict[str, Path]]:
    """What `run.model` leaves: its description and its files."""
    folder = tmp_path / f"kept-{short()}"
    pieces, last = models.packaged(model, "thing", example, **more)
    files, saved = {}, []
    for piece in pieces:
        path = piece.path.removeprefix("models/thing/")
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(piece.source, Path):
            place.write_bytes(piece.source.read_bytes())
        else:
            piece.source(place)
        if place.exists():
            files[path] = place
            saved.append(SavedFile(piece.path, place.name, place.stat().st_size))
    described = last(saved)
    assert not isinstance(described.source, Path)
    described.source(folder / "about.json")
    return json.loads((folder / "about.json").read_bytes()), files


def pack(tmp_path: Path, model: Any, example: Any = None, *, traced: bool = False, **more: Any) -> Sealed:
    described, files = kept(tmp_path, model, example, **more)
    folder = tmp_path / f"package-{short()}"
    folder.mkdir()
    draft = packing.of_run(described, files, folder)
    return probe(folder, draft) if traced else packing.seal(folder, draft)


def trusted(sealed: Sealed) -> Trust:
    return Trust().of(sealed.digest, "made by this test")


def load(sealed: Sealed, **more: Any) -> Predictor:
    return engines.load(sealed, trusted(sealed), **more)
