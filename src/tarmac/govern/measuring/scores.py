"""How good predictions are: scores as scikit-learn defines them, by numpy alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

LEAST = 1e-15


@dataclass(frozen=True, slots=True)
class Answers:
    """What was right and what was said, row by row. For classes both are numbers of `classes`.

    `chance` is how probable the model held the positive class, where it tells; `probable` of each class.
    """

    truth: Array
    said: Array
    classes: tuple[str, ...] = ()
    positive: int = -1
    chance: Array | None = None
    probable: Array | None = None

    @property
    def are_classes(self) -> bool:
        return bool(self.classes)

    def of(self, rows: Array) -> Answers:
        return Answers(
            self.truth[rows], self.said[rows], self.classes, self.positive,
            None if self.chance is None else self.chance[rows],
            None if self.probable is None else self.probable[rows],
        )  # fmt: skip


def score(answers: Answers, name: str) -> float | None:
    """One score by its name; None where there is no such score of these answers."""
    if name == "rows":
        return float(len(answers.truth))
    if not len(answers.truth):
        return None
    table = _OF_CLASSES if answers.are_classes else _OF_NUMBERS
    return table[name](answers) if name in table else None


def plain_score(answers: Answers) -> float | None:
    """The score that robustness is told in: accuracy, or how far numbers are off."""
    return score(answers, "accuracy" if answers.are_classes else "rmse")


def _accuracy(answers: Answers) -> float:
    return float((answers.truth == answers.said).mean())


def counts(answers: Answers) -> Array:
    """The confusion matrix: a row for each true class, a column for each predicted one."""
    import numpy as np

    n = len(answers.classes)
    return np.bincount(answers.truth * n + answers.said, minlength=n * n).reshape(n, n)


def _per_class(answers: Answers) -> tuple[Array, Array, Array]:
    """Precision, recall and F1 of each class that occurs; one that is never said, or never right, has 0."""
    import numpy as np

    matrix = counts(answers).astype(float)
    hits, said, truth = matrix.diagonal(), matrix.sum(axis=0), matrix.sum(axis=1)
    there = (said + truth) > 0
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = np.where(said > 0, hits / said, 0.0)
        recall = np.where(truth > 0, hits / truth, 0.0)
        f1 = np.where(there, 2 * hits / (said + truth), 0.0)
    return precision[there], recall[there], f1[there]


def _of_class(answers: Answers, which: int) -> float:
    """Of the positive class where there are two, else the mean over all classes."""
    import numpy as np

    if len(answers.classes) > 2:
        return float(_per_class(answers)[which].mean())
    positive = answers.positive
    hits = float(((answers.truth == positive) & (answers.said == positive)).sum())
    said, truth = float((answers.said == positive).sum()), float((answers.truth == positive).sum())
    below = (said, truth, (said + truth) / 2)[which]
    return float(np.divide(hits, below)) if below else 0.0


def _balanced(answers: Answers) -> float:
    import numpy as np

    matrix = counts(answers).astype(float)
    truth = matrix.sum(axis=1)
    there = truth > 0
    return float(np.mean(matrix.diagonal()[there] / truth[there]))


def _roc_auc(answers: Answers) -> float | None:
    """The share of pairs of a positive and a negative row in which the positive one is held more probable."""
    import numpy as np

    if answers.chance is None or len(answers.classes) > 2:
        return None
    positive = answers.truth == answers.positive
    many, few = int(positive.sum()), int((~positive).sum())
    if not many or not few:
        return None
    _, place, each = np.unique(answers.chance, return_inverse=True, return_counts=True)
    last = np.cumsum(each)
    rank = (last - (each - 1) / 2)[place]  # the mean of the places that equal values share
    return float((rank[positive].sum() - many * (many + 1) / 2) / (many * few))


def _log_loss(answers: Answers) -> float | None:
    import numpy as np

    if answers.probable is not None:
        held = answers.probable[np.arange(len(answers.truth)), answers.truth]
    elif answers.chance is not None:
        held = np.where(answers.truth == answers.positive, answers.chance, 1 - answers.chance)
    else:
        return None
    least = np.finfo(held.dtype).eps
    return float(-np.log(np.clip(held, least, 1 - least)).mean())


def _brier(answers: Answers) -> float | None:
    if answers.chance is None or len(answers.classes) > 2:
        return None
    return float((((answers.truth == answers.positive) - answers.chance) ** 2).mean())


def _rmse(answers: Answers) -> float:
    return float(((answers.truth - answers.said) ** 2).mean() ** 0.5)


def _mae(answers: Answers) -> float:
    return float(abs(answers.truth - answers.said).mean())


def _r2(answers: Answers) -> float | None:
    spread = float(((answers.truth - answers.truth.mean()) ** 2).sum())
    return 1 - float(((answers.truth - answers.said) ** 2).sum()) / spread if spread else None


_OF_CLASSES: dict[str, Any] = {
    "accuracy": _accuracy,
    "balanced_accuracy": _balanced,
    "precision": lambda answers: _of_class(answers, 0),
    "recall": lambda answers: _of_class(answers, 1),
    "f1": lambda answers: _of_class(answers, 2),
    "roc_auc": _roc_auc,
    "log_loss": _log_loss,
    "brier": _brier,
}
_OF_NUMBERS: dict[str, Any] = {"mae": _mae, "rmse": _rmse, "r2": _r2}
LESS_IS_BETTER = frozenset({"log_loss", "brier", "mae", "rmse"})
