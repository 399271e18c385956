"""Signatures as OpenSSF's own tool writes them: read, written, and every way of cheating found."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from tarmac.core.errors import Invalid, Refused
from tarmac.formats import signing

MADE = Path(__file__).parent / "signatures"
TOOL = shutil.which("model_signing")


def new_key(curve: Any = None) -> Any:
    return ec.generate_private_key(curve or ec.SECP256R1())


def private_pem(key: Any, password: bytes | None = None) -> bytes:
    encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    pem: bytes = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    return pem


@pytest.mark.parametrize("curve", ["prime256v1", "secp384r1"])
def test_what_the_tool_signed_is_read(curve: str) -> None:
    """Made with model-signing 1.1.1: `model_signing sign key model --private_key … --signature …`."""
    key = signing.public_key((MADE / f"{curve}.pub").read_text())
    bundle = (MADE / f"{curve}.sig").read_text()
    signed, by = signing.signed_files(bundle, [signing.public_key(signing.pem_of(new_key())), key])
    assert by == signing.fingerprint(key)
    assert signing.differences(signed, signing.sha256_of_folder(MADE / "model")) == []
    with pytest.raises(Refused, match="not one of those that are trusted"):
        signing.signed_files(bundle, [new_key()])


@pytest.mark.skipif(TOOL is None, reason="not run: the tool `model_signing` is not installed")
@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()], ids=lambda curve: curve.name)
def test_what_we_sign_the_tool_reads(curve: Any, tmp_path: Path) -> None:
    key = new_key(curve)
    (tmp_path / "key.pub").write_text(signing.pem_of(key))
    folder = tmp_path / "model"
    shutil.copytree(MADE / "model", folder)
    (tmp_path / "sig").write_text(signing.sign("model", signing.sha256_of_folder(folder), key))
    words = [str(TOOL), "verify", "key", str(folder), "--public_key", str(tmp_path / "key.pub"), "--signature"]
    verified = subprocess.run([*words, str(tmp_path / "sig")], capture_output=True, text=True, env=os.environ)
    assert verified.returncode == 0, verified.stderr + verified.stdout
    (folder / "MLmodel").write_text("other")
    assert subprocess.run([*words, str(tmp_path / "sig")], capture_output=True).returncode != 0


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()], ids=lambda curve: curve.name)
def test_what_we_sign_we_read(curve: Any, tmp_path: Path) -> None:
    key = new_key(curve)
    found = signing.sha256_of_folder(MADE / "model")
    bundle = signing.sign("churn@v1", found, key)
    assert signing.signed_files(bundle, [key.public_key()]) == (found, signing.fingerprint(key))
    changed = {**found, "MLmodel": "0" * 64, "more": "1" * 64}
    del changed["data/model.bin"]
    assert signing.differences(found, changed) == [
        "`MLmodel` was changed", "`more` is not signed", "`data/model.bin` is missing"
    ]  # fmt: skip


def tampered(change: Callable[[dict[str, Any], dict[str, Any]], None]) -> tuple[str, Any]:
    key = new_key()
    bundle = json.loads(signing.sign("m", {"a": "0" * 64, "b": "1" * 64}, key))
    payload = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
    change(bundle, payload)
    bundle["dsseEnvelope"]["payload"] = base64.b64encode(json.dumps(payload).encode()).decode()
    return json.dumps(bundle), key.public_key()


def test_a_changed_signature_proves_nothing() -> None:
    def other_file(bundle: dict[str, Any], payload: dict[str, Any]) -> None:
        payload["predicate"]["resources"][0]["digest"] = "f" * 64

    def other_type(bundle: dict[str, Any], payload: dict[str, Any]) -> None:
        bundle["dsseEnvelope"]["payloadType"] = "text/plain"

    def no_signature(bundle: dict[str, Any], payload: dict[str, Any]) -> None:
        bundle["dsseEnvelope"]["signatures"] = []

    def not_base64(bundle: dict[str, Any], payload: dict[str, Any]) -> None:
        bundle["dsseEnvelope"]["signatures"][0]["sig"] = "%%%"

    for change in (other_file, other_type, no_signature, not_base64):
        bundle, key = tampered(change)
        with pytest.raises(Refused):
            signing.signed_files(bundle, [key])


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("subject", 0, "digest", "sha256"), "0" * 64),
        (("predicateType",), "https://example.org/other"),
        (("predicate", "serialization", "method"), "shards"),
        (("predicate", "resources", 1, "algorithm"), "md5"),
        (("predicate", "resources", 1, "name"), "a"),
        (("predicate", "resources"), None),
        (("subject",), []),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_signed_list_that_says_something_else_is_refused(path: tuple[Any, ...], value: object) -> None:
    key = new_key()
    bundle = json.loads(signing.sign("m", {"a": "0" * 64, "b": "1" * 64}, key))
    payload = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
    inside = payload
    for step in path[:-1]:
        inside = inside[step]
    inside[path[-1]] = value
    bundle["dsseEnvelope"] = signing.envelope(key, signing.IN_TOTO, json.dumps(payload).encode())
    with pytest.raises(Refused):
        signing.signed_files(json.dumps(bundle), [key.public_key()])


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"verificationMaterial": {"publicKey": 1}}', "[" * 10_000])
def test_what_is_no_signature_is_said_to_be_none(text: str) -> None:
    with pytest.raises(Invalid, match="no OpenSSF model signature"):
        signing.hint(text)


def test_keys_are_elliptic_curves() -> None:
    other = ed25519.Ed25519PrivateKey.generate()
    with pytest.raises(Invalid, match="P-256"):
        signing.public_key(signing.pem_of(other))
    with pytest.raises(Invalid, match="P-256"):
        signing.private_key(private_pem(other))
    with pytest.raises(Invalid, match="P-256"):
        signing.private_key(private_pem(new_key(ec.SECP256K1())))
    with pytest.raises(Invalid, match="no public key"):
        signing.public_key("-----BEGIN NOTHING-----")
    with pytest.raises(Invalid, match="no private key"):
        signing.private_key(b"nothing")
    locked = private_pem(new_key(), b"secret")
    assert signing.private_key(locked, b"secret")
    with pytest.raises(Invalid, match="password"):
        signing.private_key(locked)
    with pytest.raises(Invalid, match="password"):
        signing.private_key(locked, b"wrong")


def test_links_cannot_be_signed(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc/hostname")
    with pytest.raises(Refused, match="is a link"):
        signing.sha256_of_folder(tmp_path)
