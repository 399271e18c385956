"""A secret is never seen by accident."""

from __future__ import annotations

import copy
import json
import logging
import pickle
import traceback
from pathlib import Path

import msgspec
import pytest

from tarmac.core.errors import Invalid, NotFound
from tarmac.core.secrets import MASK, Secret, mask_url, resolve

WORD = "hunter2-swordfish"


def test_a_secret_shows_itself_only_when_asked_by_name(caplog: pytest.LogCaptureFixture) -> None:
    secret = Secret(WORD)
    logging.getLogger("tarmac").warning("connecting with %s and %r", secret, [secret])
    with pytest.raises(TypeError):
        json.dumps(secret)
    with pytest.raises(TypeError):
        msgspec.json.encode(secret)
    try:
        raise ValueError(secret)
    except ValueError:
        told = traceback.format_exc()
    shown = [
        repr(secret), str(secret), f"{secret}", f"{secret!r:>40}", f"{secret:>40}", "%s" % secret,  # noqa: UP031
        repr({"a": [secret]}), json.dumps({"a": secret}, default=str), pickle.dumps(secret).decode("latin-1"),
        copy.deepcopy(secret).reveal(), pickle.loads(pickle.dumps(secret)).reveal(), caplog.text, told,
    ]  # fmt: skip
    assert [text for text in shown if WORD in text] == []
    assert not hasattr(secret, "__dict__")
    assert secret.reveal() == WORD
    assert secret == Secret(WORD)
    assert secret != Secret(MASK)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (f"postgresql://me:{WORD}@host:5432/db", "postgresql://me:***@host:5432/db"),
        (f"postgresql://:{WORD}@host/db", "postgresql://:***@host/db"),
        (f"postgresql://me:{WORD}@{WORD}@host/db", "postgresql://me:***@host/db"),
        (f"postgresql://me:{WORD}/{WORD}@host/db", "postgresql://me:***@host/db"),
        (f"postgresql://host/db?user=me&password={WORD}&x=1", "postgresql://host/db?user=me&password=***&x=1"),
        (f"postgresql:///db?PASSWORD={WORD}", "postgresql:///db?PASSWORD=***"),
        (f"postgresql:///db?sslpassword={WORD}&a=b", "postgresql:///db?sslpassword=***&a=b"),
        ("postgresql://me@host/db", "postgresql://me@host/db"),
        ("postgresql:///db?host=/tmp/x", "postgresql:///db?host=/tmp/x"),
        ("sqlite", "sqlite"),
    ],
)
def test_an_address_is_shown_without_its_password(url: str, shown: str) -> None:
    assert mask_url(url) == shown


def test_a_secret_can_stand_in_the_environment_or_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_DATABASE", WORD)
    (tmp_path / "secret").write_text(f"{WORD}\n", encoding="utf-8")
    assert resolve("env:MY_DATABASE").reveal() == WORD
    assert resolve(f"file:{tmp_path / 'secret'}").reveal() == WORD
    assert resolve(f"postgresql://{WORD}").reveal() == f"postgresql://{WORD}"
    with pytest.raises(NotFound, match="NOT_THERE"):
        resolve("env:NOT_THERE")
    with pytest.raises(NotFound, match="secret file"):
        resolve(f"file:{tmp_path / 'nothing'}")
    with pytest.raises((Invalid, NotFound)):
        resolve("keyring:tarmac/nobody")
