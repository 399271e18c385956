"""What MLflow's file store keeps of one thing: a `meta.yaml`, and folders with a file for each key."""

from __future__ import annotations

from pathlib import Path

from tarmac.core.errors import Invalid, TarmacError
from tarmac.start import flat_yaml
from tarmac.start.flat_yaml import Flat
from tarmac.start.folders import open_file, walk
from tarmac.start.source import Missed

LONGEST_TEXT = 4_000_000


def read_meta(folder: Path, what: str, missed: Missed) -> tuple[Flat, dict[str, Flat]] | None:
    """What its `meta.yaml` says; None if it cannot be read, and why is reported."""
    try:
        with open_file(folder / "meta.yaml") as file:
            data = file.read(flat_yaml.LARGEST + 1)
        if len(data) > flat_yaml.LARGEST:
            raise Invalid("too large")
        return flat_yaml.read(data.decode())
    except (OSError, UnicodeDecodeError) as error:
        missed.add(what, f"meta.yaml cannot be read: {error}")
    except TarmacError as error:
        missed.add(what, f"meta.yaml: {error.message}")
    return None


def read_texts(folder: Path, what: str, missed: Missed, only: str = "") -> dict[str, str]:
    """What each file of a folder says, by its path."""
    found = {}
    for key, path in walk(folder, missed, what):
        if only and key != only:
            continue
        try:
            with open_file(path) as file:
                data = file.read(LONGEST_TEXT + 1)
            if len(data) > LONGEST_TEXT:
                raise Invalid("too long")
            found[key] = data.decode()
        except (OSError, UnicodeDecodeError) as error:
            missed.add(f"{what}: {key}", f"cannot be read: {error}")
        except Invalid as error:
            missed.add(f"{what}: {key}", error.message)
    return found


def number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdecimal() and len(text) < 19 else None
