"""What the rules of a gate may name, and which of that has to be measured first."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from tarmac.core.errors import Invalid, bounded, nearest
from tarmac.core.expressions import Expression, Path, parse

SCORES = (
    "accuracy", "balanced_accuracy", "precision", "recall", "f1", "roc_auc", "log_loss", "brier", "mae", "rmse", "r2",
    "rows",
)  # fmt: skip
GAPS = (
    "selection_rate_gap", "selection_rate_ratio", "equal_opportunity_gap", "equalized_odds_gap", "calibration_gap",
    "groups",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Family:
    """Facts under one name. `keys` is how many names of the user's stand between it and one of `parts`."""

    meaning: str
    parts: tuple[str, ...] = ()
    keys: tuple[int, ...] = (0,)
    measured: bool = False
    of_champion: bool = True


FAMILIES: dict[str, Family] = {
    "metrics": Family("metrics['val/accuracy']: the newest value, of the package or its run", keys=(1,)),
    "params": Family("params['depth']: a param of the package or its run, as text or number", keys=(1,)),
    "tags": Family("tags['reviewed']: a tag of the version", keys=(1,)),
    "package": Family("package.size_mb, .files, .kind", ("size_mb", "files", "kind")),
    "compiled": Family(
        "compiled.equal, .difference, .agreement: what the proof found", ("equal", "difference", "agreement")
    ),
    "contract": Family(
        "contract.passed, .failures: what the contracts of its run's data said when it was logged",
        ("passed", "failures"),
    ),
    "data": Family("data.age_days: how old the oldest version of data is that its run was given", ("age_days",)),
    "reproducible": Family("reproducible: its run was done again from nothing and came out the same", keys=(0,)),
    "measured": Family("measured.accuracy: scores on the gate's rows", SCORES, measured=True),
    "slices": Family(
        "slices['region'].accuracy: the worst group's score; slices['region']['north'].accuracy: that group's",
        SCORES, keys=(1, 2), measured=True,
    ),
    "fairness": Family("fairness['sex'].selection_rate_gap: between groups", GAPS, keys=(1,), measured=True),
    "robustness": Family(
        "robustness.noise: how much of the score is lost when inputs are disturbed",
        ("noise", "missing", "shift"), measured=True,
    ),
    "challenge": Family(
        "challenge.low: lower end of the 95 % interval of how much better than the champion, on the same rows",
        ("difference", "low", "high", "rows"), measured=True, of_champion=False,
    ),
    "latency": Family("latency.p99_ms: one row at a time, on this machine", ("p50_ms", "p99_ms"), measured=True),
    "licences": Family("licences.denied, .unknown: how many", ("denied", "unknown", "packages"), measured=True),
    "pickle": Family("pickle: whether any of its files is one", measured=True),
    "runs_code": Family("runs_code: whether loading it to serve carries out code that it brings", measured=True),
    "signed": Family("signed: by one of the gate's keys, checked on the bytes", measured=True, of_champion=False),
}  # fmt: skip
CHAMPION = "champion"
ROOTS = (*FAMILIES, CHAMPION)


def spelled(path: Path) -> str:
    """A path as it is written, whole: what evidence keeps a value under."""
    return path[0] + "".join(f".{part}" if part.isidentifier() else f"[{part!r}]" for part in path[1:])


@lru_cache(maxsize=4096)
def rule(text: str) -> Expression:
    """A rule that names only what there is."""
    where = f"rule `{bounded(text, 80)}`"
    found = parse(text, where=where, roots=ROOTS)
    for name in found.names:
        _check(where, name.path)
    return found


def _check(where: str, path: Path) -> None:
    written, prefix = path, ""
    if path[0] == CHAMPION:
        path, prefix = path[1:], "champion."
        if not path or path[0] not in FAMILIES or not FAMILIES[path[0]].of_champion:
            known = [name for name, family in FAMILIES.items() if family.of_champion]
            near = nearest(path[0], known) if path else None
            raise Invalid(
                f"{where}: there is no `{bounded(spelled(written))}`",
                hint=f"did you mean `champion.{near}`?" if near else f"known of a champion: {', '.join(known)}",
            )
    family = FAMILIES[path[0]]
    rest = path[1:]
    keys, part = (rest[:-1], rest[-1:]) if family.parts else (rest, ())
    if len(keys) in family.keys and (not family.parts or (part and part[0] in family.parts)):
        return
    near = nearest(rest[-1], family.parts) if rest and family.parts else None
    hint = f"did you mean `{prefix}{spelled((path[0], *rest[:-1], near))}`?" if near else f"there is {family.meaning}"
    raise Invalid(f"{where}: there is no `{bounded(spelled(written))}`", hint=hint)


def names(require: Iterable[str]) -> list[Path]:
    """Everything that rules name, once, in their order."""
    return list(dict.fromkeys(name.path for text in require for name in rule(text).names))


def has_to_be_measured(path: Path) -> bool:
    return FAMILIES[path[1] if path[0] == CHAMPION else path[0]].measured


def needs_champion(path: Path) -> bool:
    return path[0] in (CHAMPION, "challenge")
