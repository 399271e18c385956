"""A real prediction on a package's example, in a process of its own: what it answers, imports and does.

`python -m tarmac.formats.probe REQUEST ANSWER`, started by `children.run`, and only for code that is trusted.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec

from tarmac.core.errors import TarmacError, bounded
from tarmac.formats import arrays as holding
from tarmac.formats import children, engines, packing
from tarmac.formats.engines.predictor import Predictor
from tarmac.formats.package import OUTPUT_EXAMPLE, About, Sealed
from tarmac.formats.packing import Draft
from tarmac.formats.signature import Field, Signature
from tarmac.formats.trust import Trust

OURS = frozenset({"tarmac", "msgspec", "blake3", "pip", "setuptools"})
MOST_OUTPUT = 1 << 20


def probe(
    folder: Path,
    draft: Draft,
    *,
    python: str = sys.executable,
    seconds: float = children.SECONDS,
    alive: Callable[[], None] = lambda: None,
) -> Sealed:
    """Seal a draft whose code may run, with what a prediction on its example shows."""
    sealed = packing.seal(folder, draft)
    asked = {"folder": str(folder), "digest": sealed.digest}
    outcome = children.run("tarmac.formats.probe", asked, seconds=seconds, python=python, alive=alive)
    return packing.seal(folder, told(folder, draft, outcome))


def told(folder: Path, draft: Draft, outcome: children.Outcome) -> Draft:
    """A draft with what a probe found out, or the reason why it did not."""
    about, found = draft.about, outcome.answer
    if found is None or "error" in (found or {}):
        why = outcome.why or str((found or {}).get("error"))
        note = f"no prediction could be made when it was packaged: {bounded(why, 500)}"
        draft.about = msgspec.structs.replace(about, notes=[*about.notes, note])
        return draft
    signature = msgspec.convert(found["signature"], Signature) if found["signature"] else about.signature
    if (output := found.pop("output")) is not None:
        (folder / OUTPUT_EXAMPLE).write_bytes(msgspec.json.encode(output))
    draft.about = msgspec.structs.replace(
        about,
        signature=signature,
        requirements=about.requirements if draft.foreign and about.requirements else found["requirements"],
        traced=True,
        probe=found["facts"],
        notes=[*about.notes, *found["notes"]],
    )
    return draft


# --- the child ---


def work(request: dict[str, Any]) -> dict[str, Any]:
    before = set(sys.modules)
    sealed = Sealed(Path(request["folder"]), request["digest"])
    calls: set[str] = set()
    sys.addaudithook(lambda event, words: calls.add(_address(words)) if event == "socket.connect" else None)
    try:
        return _predict(sealed, before, calls)
    except TarmacError as error:
        return {"error": error.message}
    except Exception as error:  # noqa: BLE001 - whatever a model does is what is to be found out
        return {"error": f"{type(error).__name__}: {bounded(error, 300)}"}


def _predict(sealed: Sealed, before: set[str], calls: set[str]) -> dict[str, Any]:
    trust = Trust().of(sealed.digest, "the child of who asked")
    started = time.perf_counter()
    predictor = engines.load(sealed, trust, form="native")
    facts: dict[str, Any] = {"load_seconds": round(time.perf_counter() - started, 4)}
    signature = predictor.signature
    notes: list[str] = []
    output = None
    example = packing.example_input(sealed)
    if example is not None and signature is not None:
        packing.check_example(example, signature)
        inputs = holding.accept(example, signature)
        started = time.perf_counter()
        answers = predictor.predict(inputs)
        facts["predict_seconds"] = round(time.perf_counter() - started, 6)
        facts["rows"] = len(next(iter(inputs.values())))
        signature = _with_outputs(predictor, signature, inputs, answers, notes)
        _look_at_input(predictor, inputs, notes)
        output = _bounded({name: array.tolist() for name, array in answers.items()})
    else:
        notes.append("there is no example: what prediction imports beyond loading is not known")
    if calls:
        notes.append(f"its prediction opens connections: {bounded(', '.join(sorted(calls)), 300)}")
    return {
        "signature": signature,
        "requirements": requirements(set(sys.modules) - before, about=sealed.about),
        "facts": facts,
        "notes": notes,
        "output": output,
    }


def _with_outputs(predictor: Predictor, signature: Signature, inputs: Any, answers: Any, notes: list[str]) -> Signature:
    """What is answered, as a part of the signature; said where each time is different."""
    again = predictor.predict(inputs)
    count = len(next(iter(inputs.values())))
    one = predictor.predict({name: array[:1] for name, array in inputs.items()}) if count > 1 else answers
    fields = []
    for field in holding.fields_of(answers):
        name = field.name
        shapes = [found[name].shape for found in (answers, again) if name in found]
        rowwise = len(answers[name]) == count and (count == 1 or len(one.get(name, ())) == 1)
        if len(set(shapes)) > 1 or len(shapes) < 2:
            notes.append(f"`{bounded(name)}` had another shape the second time, for the same rows")
            rowwise = False
        elif not _same(answers[name], again[name]):
            notes.append(f"`{bounded(name)}` was another the second time, for the same rows")
        if not rowwise:
            notes.append(f"`{bounded(name)}` has not one value for each row")
            field = Field(name=name, type=field.type, shape=[])  # noqa: PLW2901 - nothing is promised of its shape
        fields.append(field)
    return msgspec.structs.replace(signature, outputs=fields)


def _same(one: Any, other: Any) -> bool:
    import numpy as np

    return bool(np.array_equal(one, other, equal_nan=one.dtype.kind == "f"))


def _look_at_input(predictor: Predictor, inputs: Any, notes: list[str]) -> None:
    """Whether the model writes into what it is given."""
    import copy

    signature = predictor.signature
    assert signature is not None
    given = holding.as_given({name: array.copy() for name, array in inputs.items()}, signature)
    before = copy.deepcopy(given)
    try:
        predictor.call(given)
    except Exception:  # noqa: BLE001 - with `before` the model itself takes something else
        return
    if _picture(given) != _picture(before):
        notes.append("its predict changes its input; it is given a copy each time")


def _picture(data: Any) -> str:
    if hasattr(data, "to_dict"):
        data = data.to_dict(orient="list") if hasattr(data, "iloc") else data.to_dict(as_series=False)
    elif hasattr(data, "to_pylist"):
        data = data.to_pylist()
    elif isinstance(data, dict):
        data = {name: getattr(array, "tolist", lambda array=array: array)() for name, array in data.items()}
    return repr(data.tolist() if hasattr(data, "tolist") else data)


def _bounded(output: dict[str, Any]) -> dict[str, Any] | None:
    data = msgspec.json.encode(output, enc_hook=children.plain)
    return output if len(data) <= MOST_OUTPUT else None


def _address(words: Any) -> str:
    try:
        where = words[1]
        return f"{where[0]}:{where[1]}" if isinstance(where, tuple) else str(where)
    except (IndexError, TypeError):
        return "somewhere"


def requirements(modules: set[str], *, about: About) -> list[str]:
    """The distributions that these modules came with, pinned as they are installed. What tarmac itself brings is not
    the model's need."""
    tops = {name.partition(".")[0] for name in modules}
    found: dict[str, str] = {}
    known = metadata.packages_distributions()
    for top in tops - set(sys.stdlib_module_names):
        for distribution in known.get(top, ()):
            name = distribution.lower().replace("_", "-")
            if name not in OURS:
                found[name] = metadata.version(distribution)
    if about.library and about.version and about.library in known:
        for distribution in known[about.library]:
            found.setdefault(distribution.lower().replace("_", "-"), about.version)
    return [f"{name}=={version}" for name, version in sorted(found.items())]


if __name__ == "__main__":
    sys.exit(children.serve(work))
