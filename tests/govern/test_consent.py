"""Approvals and signatures: whose, of what, and what happens when somebody cheats."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tarmac.core.actor import Role
from tarmac.core.errors import Conflict, Forbidden, Invalid, NotFound, Refused
from tarmac.formats import signing
from tarmac.govern.operations import SetGate, VerifyLedger
from tarmac.people.operations import AddPerson, CreateToken
from tarmac.registry import consent
from tarmac.registry.operations import (
    ApproveVersion,
    AttachSignature,
    GetVersion,
    ListApprovals,
    ListSignatures,
    PromoteVersion,
    RollbackAlias,
)
from tarmac.registry.records import Version
from tarmac.store.folder import WorkspaceFolder
from tarmac.workspace import Workspace, connect
from tests.conftest import Ran, Server
from tests.formats.test_signing import new_key, private_pem
from tests.govern.churn import Rule, made
from tests.govern.gated import gate, live, trained
from tests.govern.test_checks import checked
from tests.registry.making import versions


@dataclass
class Team:
    """A server with people, each at their own connection."""

    admin: Workspace
    ada: Workspace
    bob: Workspace
    vic: Workspace


@pytest.fixture
def team(folder: WorkspaceFolder, serve: Callable[..., Server], monkeypatch: pytest.MonkeyPatch) -> Iterator[Team]:
    with connect(folder.path.parent) as own:
        tokens = {}
        roles: dict[str, Role] = {"root": "admin", "ada": "approver", "bob": "approver", "vic": "contributor"}
        for name, role in roles.items():
            own(AddPerson(name=name, role=role))
            tokens[name] = own(CreateToken(person=name)).token
    server = serve(folder)
    opened = {}
    for name, token in tokens.items():
        monkeypatch.setenv("TARMAC_TOKEN", token)
        opened[name] = connect(server.url)
    yield Team(opened["root"], opened["ada"], opened["bob"], opened["vic"])
    for workspace in opened.values():
        workspace.close()


def approve(workspace: Workspace, ref: str, **more: object) -> None:
    workspace(ApproveVersion(ref=ref, **more))  # type: ignore[arg-type]


def promote(workspace: Workspace, ref: str) -> None:
    workspace(PromoteVersion(ref=ref, to="production"))


def test_somebody_else_has_to_consent(team: Team) -> None:
    team.admin(SetGate(model="churn", alias="production", approvals=1))
    trained(team.ada, 0.9)
    with pytest.raises(Refused, match="0 of 1, by others than ada: `tarmac approve churn@v1`"):
        promote(team.ada, "churn@v1")
    with pytest.raises(Refused, match="ada had a part in making churn@v1"):
        approve(team.ada, "churn@v1")
    with pytest.raises(Forbidden, match="needs `approve`"):
        approve(team.vic, "churn@v1")
    approve(team.bob, "churn@v1", to="canary")
    with pytest.raises(Refused, match="was given for `canary`"):
        promote(team.ada, "churn@v1")
    approve(team.bob, "churn@v1", note="looked at the errors")
    approve(team.bob, "churn@v1")  # said again, it is said once
    assert len(team.vic(ListApprovals(ref="churn@v1")).approvals) == 2
    promote(team.ada, "churn@v1")
    # other bytes, another consent
    trained(team.ada, 0.9)
    with pytest.raises(Refused, match="0 of 1"):
        promote(team.ada, "churn@v2")
    approve(team.bob, "churn@v2")
    approve(team.bob, "churn@v2", withdraw=True)
    with pytest.raises(Refused, match="was withdrawn"):
        promote(team.ada, "churn@v2")
    with pytest.raises(NotFound, match="you have not approved"):
        approve(team.admin, "churn@v2", withdraw=True)
    # rules are overridden by an admin only, and a way back is open to who may write
    with pytest.raises(Forbidden, match="may not override"):
        team.ada(PromoteVersion(ref="churn@v2", to="production", override=True, reason="please"))
    team.admin(PromoteVersion(ref="churn@v2", to="production", override=True, reason="the house burns"))
    assert team.vic(RollbackAlias(ref="churn@production")).after == 1
    # nobody sets rules who may not
    with pytest.raises(Forbidden):
        team.ada(SetGate(model="churn", alias="production", require=["not pickle"]))
    approval = next(one for one in team.vic(ListApprovals(ref="churn@v1")).approvals if not one.alias)
    assert approval.actor == "bob"


def test_in_a_folder_nobody_is_known_but_a_key_is(here: Workspace, tmp_path: Path, tarmac: Callable[..., Ran]) -> None:
    key, other = new_key(), new_key()
    for name, which in (("lead", key), ("other", other)):
        (tmp_path / f"{name}.pem").write_bytes(private_pem(which))
        (tmp_path / f"{name}.pub").write_text(signing.pem_of(which))
    (tmp_path / "tarmac.toml").write_text(
        '[models.churn.gates.production]\napprovals = { count = 1, signed_by = ["lead.pub"] }\n'
    )
    version = trained(here, 0.9)
    trained(here, 0.9)
    refused = tarmac("approve", "churn@v1")
    assert (refused.code, "only a user of this machine" in refused.err) == (1, True)
    assert "--key KEY.pem" in refused.err
    wrong = tarmac("approve", "churn@v1", "--key", "other.pem")
    assert "not signed with a key that the gates of `churn` list" in wrong.err
    given = tarmac("approve", "churn@v1", "--key", "lead.pem", "--note", "fine")
    assert given.out.endswith(f"approves churn@v1: digest {(version.digest or '')[:16]}\n")
    assert tarmac("promote", "churn@v1", "--to", "production").code == 0
    # a statement is of one digest; it does not fit another version, nor another statement's envelope
    signed = here(ListApprovals(ref="churn@v1")).approvals[0].statement
    with pytest.raises(Refused, match="was signed for churn, digest"):
        approve(here, "churn@v2", signed=signed)
    with pytest.raises(Refused, match="not signed with a key"):
        approve(here, "churn@v2", signed=signed.replace('"sig":"ME', '"sig":"MF'))
    with pytest.raises(Invalid, match="a signed approval is JSON"):
        approve(here, "churn@v2", signed="yes")
    # a key that the gate no longer lists no longer counts
    promote_again = consent.Statement(model="churn", version=2, digest=here(GetVersion(ref="churn@v2")).digest or "")
    approve(here, "churn@v2", signed=consent.signed(promote_again, key))
    text = (tmp_path / "tarmac.toml").read_text()
    (tmp_path / "tarmac.toml").write_text(text.replace("lead", "other"))
    with pytest.raises(Refused, match="is not one of the gate's approvers"):
        promote(here, "churn@v2")
    versions(here, "outside", 1)
    with pytest.raises(Conflict, match="no bytes here"):
        approve(here, "outside@v1")


def edit(folder: Path, statement: str) -> None:
    with sqlite3.connect(folder / ".tarmac" / "store.db") as database:
        assert database.execute(statement).rowcount == 1
    database.close()


def swap(folder: Path, table: str, where: str, before: str, after: str) -> None:
    edit(folder, f"UPDATE {table} SET document = replace(document, '{before}', '{after}') WHERE {where}")


def faults(workspace: Workspace) -> list[str]:
    return workspace.wait(workspace(VerifyLedger())).faults


def test_what_was_edited_past_the_ledger_is_named(here: Workspace, tmp_path: Path) -> None:
    key = new_key()
    gate(here, "metrics['acc'] >= 0.1", "not pickle", approvals=1, approvers=[signing.pem_of(key)])
    for acc in (0.9, 0.95):
        version = trained(here, acc)
        statement = consent.Statement(model="churn", version=version.number, digest=version.digest or "")
        approve(here, f"churn@v{version.number}", signed=consent.signed(statement, key))
        checked(here)
    promote(here, "churn@v1")
    checked(here)
    assert faults(here) == []
    # an approval that says something else than was said
    of_second = f"package_digest = '{here(GetVersion(ref='churn@v2')).digest}'"
    swap(tmp_path, "approvals", of_second, '"note":""', '"note":"x"')
    with pytest.raises(Refused, match=r"approval \w+ was changed after it was given"):
        promote(here, "churn@v2")
    assert any("approval" in fault and "was edited" in fault for fault in faults(here))
    swap(tmp_path, "approvals", of_second, '"note":"x"', '"note":""')
    # a measurement that says something else than was found
    newest = "key = (SELECT max(key) FROM gate_checks)"
    swap(tmp_path, "gate_checks", newest, '"pickle":false', '"pickle":0')
    with pytest.raises(Refused, match=r"measurement \w+ was changed after it was made"):
        promote(here, "churn@v2")
    swap(tmp_path, "gate_checks", newest, '"pickle":0', '"pickle":false')
    promote(here, "churn@v2")
    assert faults(here) == []
    # the history: who was it?
    edit(tmp_path, "UPDATE alias_moves SET actor = 'mallory' WHERE to_number = 1")
    assert any("churn@production: move" in fault and "was edited" in fault for fault in faults(here))
    edit(
        tmp_path,
        "UPDATE alias_moves SET actor = (SELECT actor FROM alias_moves WHERE to_number = 2) WHERE to_number = 1",
    )
    edit(tmp_path, "UPDATE aliases SET version = (SELECT key FROM versions WHERE number = 1)")
    assert "churn@production points to v1, and no move of its history led there" in faults(here)
    edit(tmp_path, "UPDATE aliases SET version = (SELECT key FROM versions WHERE number = 2)")
    assert faults(here) == []
    edit(tmp_path, "DELETE FROM alias_moves WHERE to_number = 1")
    assert any("was removed from the history" in fault for fault in faults(here))
    # and the rules themselves
    edit(tmp_path, "UPDATE gates SET document = replace(document, '0.1', '0.0')")
    assert "the gate of churn@production was edited: the ledger saw other rules" in faults(here)
    edit(tmp_path, "DELETE FROM gates")
    assert "gates/churn@production was removed, and the ledger does not know of it" in faults(here)
    assert live(here) == 2


# --- signatures ---


@pytest.fixture
def signed(here: Workspace, tmp_path: Path, tarmac: Callable[..., Ran]) -> Version:
    """A version of a model, and keys to sign it with."""
    (tmp_path / "key.pem").write_bytes(private_pem(key := new_key()))
    (tmp_path / "key.pub").write_text(signing.pem_of(key))
    (tmp_path / "other.pub").write_text(signing.pem_of(new_key()))
    version = made(here, tmp_path, Rule())
    done = tarmac("models", "sign", "churn@v1", "--key", "key.pem", "--to", "churn.sig")
    assert done.out == f"churn@v1 is signed with key {signing.fingerprint(key)}\n", done.err
    return version


def test_a_signed_model_is_proven_on_its_bytes(
    here: Workspace, tmp_path: Path, tarmac: Callable[..., Ran], signed: Version
) -> None:
    assert tarmac("models", "verify", "churn@v1", "--key", "key.pub").code == 0
    other = tarmac("models", "verify", "churn@v1", "--key", "other.pub")
    assert (other.code, "is not signed by a key that was given" in other.err) == (1, True)
    assert tarmac("models", "get", "churn@v1", "mine").code == 0
    words = ("models", "verify", "mine", "--key", "key.pub", "--signature", "churn.sig")
    assert tarmac(*words).code == 0
    # bytes that fit their own list, but not the signature: another package in the same place
    made(here, tmp_path, Rule(good=False))
    assert tarmac("models", "get", "churn@v2", "theirs").code == 0
    changed = tarmac("models", "verify", "theirs", "--key", "key.pub", "--signature", "churn.sig")
    assert (changed.code, "is of other bytes" in changed.err) == (1, True)
    again = tarmac("models", "sign", "churn@v1", "--key", "key.pem", "--to", "churn.sig")
    assert (again.code, "exists already" in again.err) == (1, True)
    assert len(here(ListSignatures(ref="churn@v1")).signatures) == 1


def test_a_gate_wants_the_signature_of_its_key(here: Workspace, tmp_path: Path, signed: Version) -> None:
    gate(here, "signed", signed_by=[(tmp_path / "other.pub").read_text()])
    check = checked(here, "churn@v1")
    assert "not one of those that are trusted" in check.unknown["signed"]
    gate(here, "signed", signed_by=[(tmp_path / "other.pub").read_text(), (tmp_path / "key.pub").read_text()])
    assert checked(here, "churn@v1").facts == {"signed": True}
    promote(here, "churn@v1")
    made(here, tmp_path, Rule(good=False))
    assert "is not signed" in checked(here, "churn@v2").unknown["signed"]
    bundle = (tmp_path / "churn.sig").read_text()
    here(AttachSignature(ref="churn@v2", bundle=bundle))  # somebody else's
    assert "was changed" in checked(here, "churn@v2").unknown["signed"]
    with pytest.raises(Refused, match="`signed`"):
        promote(here, "churn@v2")
    with pytest.raises(Invalid, match="no OpenSSF model signature"):
        here(AttachSignature(ref="churn@v2", bundle="{}"))
    versions(here, "outside", 1)
    with pytest.raises(Conflict, match="no sealed package"):
        here(AttachSignature(ref="outside@v1", bundle=bundle))


def test_what_a_trusted_key_signed_may_run(
    here: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signed: Version, serve: Callable[..., Server]
) -> None:
    """On another machine nobody knows who made it: the code runs because of the signature, or not at all."""
    import tarmac as public
    from tests.govern.churn import FEATURES, people

    server = serve(WorkspaceFolder(tmp_path / ".tarmac"))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    (elsewhere / "tarmac.toml").write_text("")
    monkeypatch.setenv("TARMAC_STATE", str(tmp_path / "state of another"))
    rows = people(3)[FEATURES]
    with pytest.raises(Refused, match="brings code"):
        public.load_model("churn@v1", workspace=server.url)
    (elsewhere / "tarmac.toml").write_text('[trust]\nkeys = ["../other.pub"]\n')
    with pytest.raises(Refused, match="brings code"):
        public.load_model("churn@v1", workspace=server.url)
    (elsewhere / "tarmac.toml").write_text('[trust]\nkeys = ["../key.pub"]\n')
    assert len(public.load_model("churn@v1", workspace=server.url).predict(rows)) == 3
    (elsewhere / "tarmac.toml").write_text('[trust]\nkeys = ["../no.pub"]\n')
    with pytest.raises(Invalid, match="a key cannot be read"):
        public.load_model("churn@v1", workspace=server.url)
