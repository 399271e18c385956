"""Figures that decide are the figures that others compute: scikit-learn's and fairlearn's, to the ninth digit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fairlearn import metrics as fair
from sklearn import metrics as theirs

from tarmac.core.errors import Refused
from tarmac.govern.measuring import challenge, contents, fairness, latency, leash, pictures, robustness, scores, table
from tarmac.govern.measuring.model import _answers, _of_classes
from tarmac.govern.measuring.scores import Answers
from tarmac.registry.records import Gate

ROWS = 3000


def two_classes(seed: int) -> tuple[Answers, np.ndarray]:
    random = np.random.default_rng(seed)
    chance = np.round(random.random(ROWS), 3)  # with ties
    truth = (random.random(ROWS) < chance * 0.7 + 0.1).astype(int)
    groups = random.integers(0, 4, ROWS)
    said = (chance + 0.05 * groups > 0.5).astype(int)
    probable = np.column_stack([1 - chance, chance])
    return Answers(truth, said, ("no", "yes"), 1, chance, probable), groups


@pytest.mark.parametrize("seed", range(5))
def test_scores_of_yes_and_no_are_scikit_learns(seed: int) -> None:
    answers, _ = two_classes(seed)
    truth, said, chance = answers.truth, answers.said, answers.chance
    expected = {
        "accuracy": theirs.accuracy_score(truth, said),
        "balanced_accuracy": theirs.balanced_accuracy_score(truth, said),
        "precision": theirs.precision_score(truth, said),
        "recall": theirs.recall_score(truth, said),
        "f1": theirs.f1_score(truth, said),
        "roc_auc": theirs.roc_auc_score(truth, chance),
        "log_loss": theirs.log_loss(truth, answers.probable),
        "brier": theirs.brier_score_loss(truth, chance),
        "rows": ROWS,
    }
    for name, value in expected.items():
        assert scores.score(answers, name) == pytest.approx(value, abs=1e-9), name
    assert scores.score(answers, "rmse") is None


def test_scores_of_many_classes_and_of_numbers_are_scikit_learns() -> None:
    random = np.random.default_rng(1)
    truth, said = random.integers(0, 5, ROWS), random.integers(0, 5, ROWS)
    many = Answers(truth, said, tuple("abcde"), 4)
    for name, of in (("precision", theirs.precision_score), ("recall", theirs.recall_score), ("f1", theirs.f1_score)):
        assert scores.score(many, name) == pytest.approx(of(truth, said, average="macro"), abs=1e-9)
    assert scores.score(many, "balanced_accuracy") == pytest.approx(theirs.balanced_accuracy_score(truth, said))
    assert scores.score(many, "roc_auc") is None
    numbers = Answers(random.normal(size=ROWS), random.normal(size=ROWS))
    for name, of in (
        ("mae", theirs.mean_absolute_error), ("rmse", theirs.root_mean_squared_error), ("r2", theirs.r2_score),
    ):  # fmt: skip
        assert scores.score(numbers, name) == pytest.approx(of(numbers.truth, numbers.said), abs=1e-9)
    assert scores.score(Answers(np.ones(3), np.ones(3)), "r2") is None
    assert scores.score(Answers(np.ones(0), np.ones(0)), "mae") is None


@pytest.mark.parametrize("seed", range(5))
def test_gaps_between_groups_are_fairlearns(seed: int) -> None:
    answers, groups = two_classes(seed)
    given = {"y_true": answers.truth, "y_pred": answers.said, "sensitive_features": groups}
    expected = {
        "selection_rate_gap": fair.demographic_parity_difference(**given),
        "selection_rate_ratio": fair.demographic_parity_ratio(**given),
        "equal_opportunity_gap": fair.equal_opportunity_difference(**given),
        "equalized_odds_gap": fair.equalized_odds_difference(**given),
        "groups": 4,
    }
    for name, value in expected.items():
        assert fairness.gap(answers, groups, ["a", "b", "c", "d"], name) == pytest.approx(value, abs=1e-9), name


def test_calibration_is_told_in_scikit_learns_bins() -> None:
    from sklearn.calibration import calibration_curve

    answers, groups = two_classes(3)
    assert answers.chance is not None
    off = []
    for group in range(4):
        of = groups == group
        truth, chance = answers.truth[of], answers.chance[of]
        came, held = calibration_curve(truth, chance, n_bins=10)
        each = np.bincount(np.searchsorted(np.linspace(0, 1, 11)[1:-1], chance), minlength=10)
        off.append((abs(came - held) * each[each > 0]).sum() / len(truth))
    found = fairness.gap(answers, groups, list("abcd"), "calibration_gap")
    assert found == pytest.approx(max(off) - min(off), abs=1e-9)
    drawn = pictures.of(answers)
    assert drawn["roc"]["auc"] == pytest.approx(theirs.roc_auc_score(answers.truth, answers.chance))
    assert sum(map(sum, drawn["confusion"]["counts"])) == ROWS
    assert sum(drawn["calibration"]["rows"]) == ROWS


def test_a_group_of_nobody_is_no_fair_group() -> None:
    answers = Answers(np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1]), ("no", "yes"), 1)
    groups = np.array([0, 0, 1, 1])
    with pytest.raises(Refused, match="group `a` has no rows whose answer is yes"):
        fairness.gap(answers, groups, ["a", "b"], "equal_opportunity_gap")
    with pytest.raises(Refused, match="how probable"):
        fairness.gap(answers, groups, ["a", "b"], "calibration_gap")
    nobody = Answers(answers.truth, np.zeros(4, int), ("no", "yes"), 1)
    with pytest.raises(Refused, match="nobody is selected"):
        fairness.gap(nobody, groups, ["a", "b"], "selection_rate_ratio")
    with pytest.raises(Refused, match="say yes or no"):
        fairness.gap(Answers(np.ones(4), np.ones(4)), groups, ["a", "b"], "selection_rate_gap")


def test_a_challenge_is_told_with_its_interval() -> None:
    random = np.random.default_rng(0)
    truth = random.integers(0, 2, ROWS)
    better = Answers(truth, np.where(random.random(ROWS) < 0.9, truth, 1 - truth), ("0", "1"), 1)
    worse = Answers(truth, np.where(random.random(ROWS) < 0.8, truth, 1 - truth), ("0", "1"), 1)
    found = challenge.difference(better, worse)
    assert 0 < found["low"] < found["difference"] < found["high"]
    back = challenge.difference(worse, better)
    assert (back["low"], back["high"]) == pytest.approx((-found["high"], -found["low"]))
    # what the interval is worth: of many samples of the same truth 95 % hold it
    held = 0
    for _ in range(300):
        rows = random.integers(0, ROWS, 500)
        of = challenge.difference(better.of(rows), worse.of(rows))
        held += of["low"] <= found["difference"] <= of["high"]
    assert 0.9 < held / 300 < 0.99
    numbers = Answers(np.zeros(10), np.arange(10.0)), Answers(np.zeros(10), np.arange(10.0) + 1)
    assert challenge.difference(*numbers)["difference"] == pytest.approx(1)
    with pytest.raises(Refused, match="two rows"):
        challenge.difference(*(one.of(np.array([0])) for one in numbers))


def test_inputs_are_disturbed_the_same_way_each_time() -> None:
    inputs = {
        "income": np.arange(1000.0), "age": np.arange(1000) % 90, "name": np.array(["x"] * 1000, dtype=object),
        "image": np.ones((1000, 4)),
    }  # fmt: skip
    for how in ("noise", "missing", "shift"):
        one, again = robustness.disturbed(inputs, how), robustness.disturbed(inputs, how)
        assert all((one[name] == again[name]).all() or how == "missing" for name in inputs)
        assert (one["name"] == inputs["name"]).all()
        assert one["age"].dtype == inputs["age"].dtype
        assert not np.array_equal(one["income"], inputs["income"])
    assert np.isnan(robustness.disturbed(inputs, "missing")["income"]).mean() == pytest.approx(0.1, abs=0.03)
    with pytest.raises(Refused, match="no input is a number"):
        robustness.disturbed({"name": inputs["name"]}, "noise")
    assert robustness.lost(0.9, 0.8, classes=True) == pytest.approx(0.1)
    assert robustness.lost(2.0, 3.0, classes=False) == pytest.approx(0.5)


def test_pickles_are_known_by_their_bytes(tmp_path: Path) -> None:
    import gzip
    import pickle
    import zipfile

    (tmp_path / "weights.bin").write_bytes(pickle.dumps([1]))
    (tmp_path / "packed.bin").write_bytes(gzip.compress(pickle.dumps([1])))
    (tmp_path / "text.gz").write_bytes(gzip.compress(b"only text"))
    (tmp_path / "model.onnx").write_bytes(b"\x08\x07")
    (tmp_path / "xylophone.txt").write_text("x is where zlib begins too")
    (tmp_path / "empty").write_bytes(b"")
    with zipfile.ZipFile(tmp_path / "net.zip", "w") as archive:
        archive.writestr("net/data.pkl", b"")
    with zipfile.ZipFile(tmp_path / "arrays.npz", "w") as archive:
        archive.writestr("a.npy", b"")
    found = contents.pickles(tmp_path, sorted(path.name for path in tmp_path.iterdir()))
    assert found == ["net.zip", "packed.bin", "weights.bin"]


def test_licences_are_looked_up_by_name() -> None:
    lines = ["numpy==2.4.6", "msgspec>=0.20", "no-such-package-at-all", "# a comment", "numpy"]
    found = contents.licences(lines, ["BSD*"])
    assert found["unknown"] == ["no-such-package-at-all"]
    assert len(found["allowed"]) + len(found["denied"]) == 2
    assert contents.licences(lines, [])["denied"] == []
    assert contents._is_allowed("MIT OR GPL-3.0", ["mit"])
    assert not contents._is_allowed("MIT AND GPL-3.0", ["MIT"])


def test_columns_are_groups(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("region,age,label\nnorth,1,yes\nsouth,2,no\n,1.0,yes\n")
    rows = table.read(path)
    assert rows.groups("region").names == ("north", "south", "missing")
    assert rows.groups("region").of.tolist() == [0, 1, 2]
    assert rows.groups("age").names == ("1", "2")
    with pytest.raises(Refused, match="no column `regoin`") as fault:
        rows.column("regoin")
    assert fault.value.hint == "did you mean `region`?"
    for name, content in (("a.xlsx", b"x"), ("a.csv", b""), ("a.parquet", b"no parquet"), ("b.csv", b"a,b\n")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(Refused):
            table.read(tmp_path / name)
    (tmp_path / "many.csv").write_text("id\n" + "\n".join(map(str, range(2000))) + "\n")
    with pytest.raises(Refused, match="2,000 groups"):
        table.read(tmp_path / "many.csv").groups("id")


def gate(**given: object) -> Gate:
    fields = {
        "model": "m", "alias": "a", "require": [], "first": "allow", "signed_by": [], "approvals": 0, "approvers": [],
        "hours": 24, "data": "", "manifest": None, "content": "", "label": "label", "positive": "", "licences": [],
        "digest": "", "origin": "hand", "actor": "", "updated_at": 0,
    }  # fmt: skip
    return Gate(**{**fields, **given})  # type: ignore[arg-type]


def test_answers_are_numbered_whatever_they_are_written_as() -> None:
    import polars as pl

    label = pl.Series("label", ["no", "yes", "yes", "no"])
    said = np.array(["no", "yes", "no", "no"], dtype=object)
    chances = np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3], [0.6, 0.4]])
    found = _answers(label, [said], [chances], gate())
    assert (found.classes, found.positive) == (("no", "yes"), 1)
    assert found.truth.tolist() == [0, 1, 1, 0]
    assert found.chance is not None
    assert found.chance.tolist() == [0.1, 0.8, 0.3, 0.4]
    assert _answers(label, [said], [chances], gate(positive="no")).positive == 0
    with pytest.raises(Refused, match="no row is `maybe`"):
        _answers(label, [said], [chances], gate(positive="maybe"))
    with pytest.raises(Refused, match="rows without an answer"):
        _answers(pl.Series("label", ["no", None, "yes", "no"]), [said], [], gate())
    whole = _answers(pl.Series("label", [0, 1, 1, 0]), [np.array([0.0, 1.0, 0.0, 0.0])], [chances], gate())
    assert whole.classes == ("0", "1")
    numbers = _answers(pl.Series("label", [0.5, 1.5]), [np.array([0.4, 1.4])], [], gate())
    assert not numbers.are_classes
    with pytest.raises(Refused, match="no number"):
        _answers(pl.Series("label", [0.5, 1.5]), [np.array([0.4, np.nan])], [], gate())


def test_columns_of_probabilities_are_told_by_the_answers() -> None:
    said = np.array([2, 0, 1, 2, 0])
    swapped = np.eye(3)[np.array([0, 1, 2, 0, 1])]  # column 0 is class 2, 1 is 0, 2 is 1
    assert _of_classes(swapped, said, 3).argmax(axis=1).tolist() == said.tolist()  # type: ignore[union-attr]
    assert _of_classes(np.full((5, 2), 0.5), said, 3) is None


def test_latency_and_the_leash() -> None:
    found = latency.percentiles(lambda at: sum(range(100)), 5)
    assert 0 < found["p50_ms"] <= found["p99_ms"]
    with pytest.raises(Refused, match=r"took longer than 0\.1 s"):
        forever()


def forever() -> None:
    with leash.at_most(0.1, "a loop"):
        while True:
            pass
