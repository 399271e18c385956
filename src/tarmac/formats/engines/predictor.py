"""What every engine is: arrays by name in, arrays by name out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from tarmac.core.errors import Refused
from tarmac.formats import arrays as holding
from tarmac.formats.package import Sealed
from tarmac.formats.signature import PREDICTION, PROBABILITIES, Field, Signature

if TYPE_CHECKING:
    from tarmac.formats.arrays import Array, Arrays


class Predictor(ABC):
    """A model that is ready. It may be called from several threads if its library allows that."""

    form: Literal["native", "compiled"] = "native"
    matrix: str | None = None
    """The numpy type of the matrix that `predict_matrix` takes; None where there is no such short way."""

    def __init__(self, sealed: Sealed) -> None:
        self.about = sealed.about
        self.digest = sealed.digest
        self.signature: Signature | None = sealed.about.signature
        self._before, self._after = _travelling(sealed)

    @property
    def has_before(self) -> bool:
        return self._before is not None

    @property
    def has_after(self) -> bool:
        return self._after is not None

    @abstractmethod
    def predict(self, inputs: Mapping[str, Array], *, only: str | None = None) -> Arrays:
        """Answers by name: `prediction`, for classifiers that can also `probabilities`. With `only` no other has to be
        computed."""

    def predict_matrix(self, rows: Array) -> Arrays:
        """The same, of a matrix with one column for each input, of the type `matrix`."""
        raise NotImplementedError

    def call(self, data: Any) -> Any:
        """What the model answers to something in the form it was made for."""
        raise NotImplementedError

    def given(self, data: Any) -> Any:
        """Data as the model takes it: checked where there is a signature."""
        if self.signature is None:
            return data
        return holding.as_given(holding.accept(data, self.signature), self.signature)


class Native(Predictor):
    """A model in the form its library has for it; it never gets to see the caller's own memory."""

    def predict(self, inputs: Mapping[str, Array], *, only: str | None = None) -> Arrays:
        count = len(next(iter(inputs.values()))) if inputs else 0
        given = self.prepared(inputs)
        found: Arrays = {}
        if only in (None, PREDICTION):
            answer = self.call(given)
            found = holding.outputs(answer if self._after is None else self._after(answer), PREDICTION)
        if only != PREDICTION and self._after is None and (probable := self.probabilities(given)) is not None:
            found[PROBABILITIES] = probable
        _check_rows(found, self.signature.outputs if self.signature else [], count)
        return found

    def prepared(self, inputs: Mapping[str, Array]) -> Any:
        """What the model itself is given."""
        data = {name: array.copy() for name, array in inputs.items()}
        given: Any = data if self.signature is None else holding.as_given(data, self.signature)
        if self.signature is None and len(data) == 1:
            given = next(iter(data.values()))
        return given if self._before is None else self._before(given)

    def probabilities(self, data: Any) -> Array | None:
        """Of each class, where the model tells."""
        return None


def _check_rows(found: Arrays, outputs: list[Field], count: int) -> None:
    """A model that has answered a row with a row goes on doing so: who asked for three rows gets three."""
    rowwise = {field.name for field in outputs if field.shape[:1] == [-1]}
    for name, array in found.items():
        if name in rowwise and len(array) != count:
            raise Refused(
                f"the model answered {count} rows with {len(array)} values of `{name}`",
                hint="a model answers each row with one row; what it does otherwise belongs into `after`",
            )


def _travelling(sealed: Sealed) -> tuple[Callable[[Any], Any] | None, Callable[[Any], Any] | None]:
    """The functions before and after the model. Trust was asked for before."""
    entry = sealed.about.entry
    if not entry.before and not entry.after:
        return None, None
    from tarmac.formats.engines.pickled import unpickle

    before = unpickle(sealed, entry.before) if entry.before else None
    after = unpickle(sealed, entry.after) if entry.after else None
    return before, after
