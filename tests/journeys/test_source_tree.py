"""What is taken for the source of a run where no git says what belongs to it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tarmac.logging import capture


def names(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in capture.source_tree(folder).files]


def test_without_git_only_what_looks_like_source_is_kept(tmp_path: Path) -> None:
    for name in ("train.py", "lib/model.py", "conf.yaml", "photo.jpg", "data.parquet", "notes", ".cache/x.py", ".env"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    assert names(tmp_path) == ["conf.yaml", "train.py", "lib/model.py"]
    assert capture.source_tree(tmp_path).left_out == {".env": "may hold a secret"}


@pytest.mark.parametrize("kind", ["py", "jpg"])
def test_a_folder_full_of_other_things_is_no_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(capture, "MOST_UNTRACKED", 20)
    monkeypatch.setattr(capture, "MOST_FILES", 25)
    (tmp_path / "train.py").write_text("x")
    for number in range(30):
        (tmp_path / f"other{number % 3}").mkdir(exist_ok=True)
        (tmp_path / f"other{number % 3}" / f"{number}.{kind}").write_text("x")
    assert names(tmp_path) == ["train.py"]
