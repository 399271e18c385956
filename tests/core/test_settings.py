"""What a person or a machine sets: a typing mistake is an error that names what was meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from tarmac.core import project_file
from tarmac.core.errors import Invalid, UnknownKey
from tarmac.core.settings import SETTINGS, Settings


def test_an_unknown_variable_of_ours_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UnknownKey) as caught:
        Settings.from_environment({"TARMAC_WORKSPASE": "/x"})
    assert "TARMAC_WORKSPASE" in caught.value.message
    assert caught.value.hint == "did you mean `TARMAC_WORKSPACE`?"
    assert caught.value.exit_code == 2
    everything = {setting.name: "v" for setting in SETTINGS}
    assert Settings.from_environment({**everything, "OTHER": "x"}).workspace == "v"


def test_an_empty_variable_is_none() -> None:
    assert Settings.from_environment({"TARMAC_WORKSPACE": "", "TARMAC_TOKEN": ""}) == Settings.from_environment({})
    assert Settings.from_environment({"XDG_STATE_HOME": "/x"}).state == Path("/x/tarmac")


@pytest.mark.parametrize(
    ("text", "says", "hint"),
    [
        ("[projct]\nname = 'a'", "has no key `projct`", "did you mean `project`?"),
        ("[project]\nnmae = 'a'", r"\[project\] has no key `nmae`", "did you mean `name`?"),
        ("[project]\nqqqqqqq = 1", "has no key `qqqqqqq`", None),
        ("[project]\nname = 'A b'", "name", None),
        ("[project]\nname = 7", "name", None),
        ("project = 3", "project", None),
        ("[project]\nowners = 'x'", "owners", None),
        ("[project", "not valid TOML", None),
        ("\udce9", "not valid TOML", None),
    ],
)
def test_a_mistake_in_the_project_file_is_named(tmp_path: Path, text: str, says: str, hint: str | None) -> None:
    file = tmp_path / project_file.FILE_NAME
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(Invalid, match=says) as caught:
        project_file.load(file)
    assert str(file) in caught.value.message
    if hint:
        assert caught.value.hint == hint


def test_the_nearest_project_file_upwards_counts(tmp_path: Path) -> None:
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    (tmp_path / project_file.FILE_NAME).write_text("[project]\nname = 'outer'\n")
    assert project_file.find(deep) == tmp_path / project_file.FILE_NAME
    (tmp_path / "a" / project_file.FILE_NAME).write_text("")
    found = project_file.find(deep)
    assert found == tmp_path / "a" / project_file.FILE_NAME
    assert project_file.load(found).project.name == "default"
