"""Every role × every operation: who may passes the door, whatever lies behind it; who may not gets 401 or 403."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from tarmac.core.digest import digest
from tarmac.core.errors import Forbidden, Invalid
from tarmac.core.operation import Spec
from tarmac.door import catalog
from tarmac.door.jobs import Spawner
from tarmac.govern.operations import ListEvents
from tarmac.people import tokens
from tarmac.people.operations import (
    AddPerson,
    CreateToken,
    DisablePerson,
    EnablePerson,
    GrantRole,
    ListPeople,
    ListTokens,
    RevokeRole,
    RevokeToken,
)
from tarmac.store.folder import WorkspaceFolder
from tarmac.store.operations import CreateProject
from tarmac.workspace import Workspace, connect
from tests.conftest import Server
from tests.server.calls import Headers, Inside, Line
from tests.server.samples import smallest

# written down here once more, so that a change of what a role may is seen twice
MAY = {
    "viewer": {"read"},
    "contributor": {"read", "write"},
    "approver": {"read", "write", "approve"},
    "admin": {"read", "write", "approve", "admin"},
}
ALL = MAY["admin"]
PROJECT = "here"
BLOB = b"some bytes"


@dataclass
class Caller:
    """Somebody at the door: what they show, and what they should be allowed where."""

    headers: Headers
    may: dict[str, set[str]] = field(default_factory=dict)
    known: bool = True

    def expected(self, needs: str, scope: str) -> int | None:
        allowed = self.may.get("*", set()) | (self.may.get(PROJECT, set()) if scope == "project" else set())
        if not self.known:
            return 401
        return None if needs in allowed else 403


def bearer(token: str) -> Headers:
    return {"authorization": f"Bearer {token}"}


def basic(token: str, user: str = "anybody") -> Headers:
    return {"authorization": f"Basic {b64encode(f'{user}:{token}'.encode()).decode()}"}


def callers_of(workspace: Workspace) -> dict[str, Caller]:
    """People with every kind of role and token. The first is an admin, or nobody could be added."""

    def person(name: str, role: str, where: str = "*") -> None:
        workspace(AddPerson(name=name, role=role, in_project=where))  # type: ignore[arg-type]

    def token(name: str, where: str = "*", permissions: tuple[str, ...] = tuple(ALL)) -> str:
        made = workspace(CreateToken(person=name, in_project=where, permissions=permissions))  # type: ignore[arg-type]
        return made.token

    for project in ("here", "elsewhere"):
        workspace(CreateProject(name=project))
    for role in ("admin", "viewer", "contributor", "approver"):
        person(role, role)
        person(f"{role} here", role, "here")
        person(f"{role} elsewhere", role, "elsewhere")
    person("both", "viewer")
    workspace(GrantRole(name="both", role="contributor", in_project="here"))
    person("bare", "viewer", "here")
    workspace(RevokeRole(name="bare", in_project="here"))
    person("gone", "admin")
    shut_out = token("gone")
    workspace(DisablePerson(name="gone"))
    revoked = token("admin")
    newest = max(workspace(ListTokens(person="admin")).tokens, key=lambda each: (each.created_at, each.id))
    workspace(RevokeToken(id=newest.id))
    expired = token("admin")
    lasting = token("admin")

    callers = {role: Caller(bearer(token(role)), {"*": may}) for role, may in MAY.items()}
    callers |= {f"{role} here": Caller(bearer(token(f"{role} here")), {"here": may}) for role, may in MAY.items()}
    callers |= {
        f"{role} elsewhere": Caller(bearer(token(f"{role} elsewhere")), {"elsewhere": may}) for role, may in MAY.items()
    }
    callers |= {
        "viewer, contributor here": Caller(bearer(token("both")), {"*": {"read"}, "here": {"read", "write"}}),
        "role taken away": Caller(bearer(token("bare"))),
        "admin with a token to read": Caller(bearer(token("admin", permissions=("read",))), {"*": {"read"}}),
        "admin with a token to approve only": Caller(
            bearer(token("admin", permissions=("approve",))), {"*": {"approve"}}
        ),
        "viewer with a token for all": Caller(bearer(token("viewer", permissions=tuple(ALL))), {"*": {"read"}}),
        "admin with a token for here": Caller(bearer(token("admin", "here")), {"here": ALL}),
        "admin with a token for elsewhere": Caller(bearer(token("admin", "elsewhere")), {"elsewhere": ALL}),
        "admin here with a token for elsewhere": Caller(bearer(token("admin here", "elsewhere"))),
        "admin with a token to read here": Caller(bearer(token("admin", "here", ("read",))), {"here": {"read"}}),
        "admin by basic auth": Caller(basic(lasting), {"*": ALL}),
        "viewer by basic auth in admin's name": Caller(basic(token("viewer"), "admin"), {"*": {"read"}}),
        "scheme in capitals": Caller({"authorization": f"BEARER {lasting}"}, {"*": ALL}),
        "anonymous": Caller({}, known=False),
        "expired": Caller(bearer(expired), known=False),
        "revoked": Caller(bearer(revoked), known=False),
        "disabled": Caller(bearer(shut_out), known=False),
        "garbage": Caller(bearer("tarmac_" + "x" * 43), known=False),
        "almost right": Caller(bearer(lasting[:-1]), known=False),
        "the digest instead of the token": Caller(bearer(tokens.secret_digest(lasting)), known=False),
        "empty": Caller(bearer(""), known=False),
        "far too long": Caller(bearer("x" * 50_000), known=False),
        "not ASCII": Caller(bearer("t\xf6ken\x7f"), known=False),
        "token as the user of basic auth": Caller(
            {"authorization": f"Basic {b64encode(f'{lasting}:'.encode()).decode()}"}, known=False
        ),
        "basic auth that is not base64": Caller({"authorization": "Basic !!!"}, known=False),
        "basic auth that is not text": Caller({"authorization": "Basic //79/A=="}, known=False),
        "another scheme": Caller({"authorization": f"Token {lasting}"}, known=False),
        "scheme only": Caller({"authorization": "Bearer"}, known=False),
        "a made-up session": Caller({"cookie": "tarmac_session=made-up"}, known=False),
        "token as a cookie": Caller({"cookie": f"tarmac_session={lasting}; token={lasting}"}, known=False),
    }
    secret = tokens.secret_digest(expired)
    workspace.door.store.writer.call(  # type: ignore[attr-defined]
        lambda batch: batch.connection.run("UPDATE tokens SET expires_at = 1 WHERE secret_digest = :d", d=secret)
    )
    return callers


@pytest.fixture
def callers(folder: WorkspaceFolder) -> dict[str, Caller]:
    with connect(folder.path.parent) as workspace:
        return callers_of(workspace)


@pytest.fixture
def inside(folder: WorkspaceFolder, callers: dict[str, Caller], monkeypatch: pytest.MonkeyPatch) -> Iterator[Inside]:
    # who may start a job is asked here; what the job does is not
    monkeypatch.setattr(Spawner, "start", lambda *_: None)
    made = Inside(folder)
    yield made
    made.close()


def judge(caller: Caller, needs: str, scope: str, status: int) -> bool:
    expected = caller.expected(needs, scope)
    return status not in (401, 403) if expected is None else status == expected


def test_every_role_meets_every_operation(inside: Inside, callers: dict[str, Caller]) -> None:
    wrong = []
    for name, caller in callers.items():
        for spec in catalog.operations().values():
            answer = inside.do(spec, smallest(spec), PROJECT, caller.headers)
            if not judge(caller, spec.needs, spec.scope, answer.status):
                wrong.append(f"{name}: {spec.name} answered {answer.status} {answer.body[:200]!r}")
            if answer.status >= 400:
                answer.error()
            assert answer.status < 500, (spec.name, answer)
    assert wrong == []


def test_streams_obey_the_same_permissions(inside: Inside, callers: dict[str, Caller]) -> None:
    blob = f"/api/v1/p/{PROJECT}/blobs/{digest(BLOB)}"
    assert inside.ask("PUT", blob, body=BLOB, headers=callers["admin"].headers).status == 200
    wrong = []
    for name, caller in callers.items():
        for method, path, needs, body in (
            ("PUT", blob, "write", BLOB),
            ("GET", blob, "read", b""),
            ("HEAD", blob, "read", b""),
            ("GET", f"{blob}/parked", "write", b""),
            ("GET", f"/api/v1/p/{PROJECT}/runs/{'0' * 32}/files/a/b.txt", "read", b""),
            ("HEAD", f"/api/v1/p/{PROJECT}/runs/{'0' * 32}/files/a", "read", b""),
            ("GET", f"/api/v1/p/{PROJECT}/events", "read", b""),
        ):
            answer = inside.ask(method, path, "after=0" if "events" in path else "", body, caller.headers)
            if not judge(caller, needs, "project", answer.status):
                wrong.append(f"{name}: {method} {path[:25]} answered {answer.status}")
    assert wrong == []


def test_another_project_holds_none_of_this_ones_blobs(inside: Inside, callers: dict[str, Caller]) -> None:
    inside.ask("PUT", f"/api/v1/p/here/blobs/{digest(BLOB)}", body=BLOB, headers=callers["admin"].headers)
    answer = inside.ask("GET", f"/api/v1/p/elsewhere/blobs/{digest(BLOB)}", headers=callers["admin"].headers)
    assert answer.error()["code"] == "not_found"


def test_projects_are_listed_for_whom_may_read_them(inside: Inside, callers: dict[str, Caller]) -> None:
    spec = catalog.find("projects.ls")

    def seen(name: str) -> set[str]:
        found = inside.do(spec, {}, PROJECT, callers[name].headers).json()["projects"]
        return {project["name"] for project in found}

    assert seen("viewer here") == {"here"}
    assert seen("viewer") >= {"default", "here", "elsewhere"}


def test_the_owner_is_no_longer_known_by_machine_once_people_are(inside: Inside) -> None:
    """With people present nobody is let in for being on this machine; the owner's token file still works."""
    path = "/api/v1/p/default/people.me"
    assert inside.ask("GET", path, same_user=True).error()["code"] == "unauthenticated"
    me = inside.ask("GET", path, headers=bearer(inside.app.auth.local_token)).json()
    assert (me["verified"], me["permissions"]) == (False, ["read", "write", "approve", "admin"])


def spec_names(kind: str) -> list[str]:
    return [spec.name for spec in catalog.operations().values() if spec.kind == kind]


def test_refusals_leave_nothing_behind(inside: Inside, callers: dict[str, Caller]) -> None:
    """A refused command or job leaves no event, no job, no half-written record."""

    def state() -> tuple[object, object]:
        found = inside.do(catalog.find("status"), {}, PROJECT, callers["admin"].headers).json()
        return found["ledger"]["events"], found["jobs"]

    before = state()
    for caller in ("viewer", "admin elsewhere", "revoked"):
        for name in [*spec_names("command"), *spec_names("job")]:
            spec: Spec = catalog.find(name)
            assert inside.do(spec, smallest(spec), PROJECT, callers[caller].headers).status in (401, 403), name
    assert state() == before


def test_who_may_not_start_a_job_may_not_resume_it(inside: Inside, callers: dict[str, Caller]) -> None:
    """A garbage collection that an admin stopped is not a contributor's to start again."""
    admin, contributor = callers["admin"].headers, callers["contributor here"].headers
    started = inside.do(catalog.find("store.gc"), {"grace_hours": 0}, PROJECT, admin).json()
    inside.door.store.writer.call(lambda batch: batch.connection.run("UPDATE jobs SET state = 'cancelled'"))
    answer = inside.do(catalog.find("jobs.resume"), {"id": started["id"]}, PROJECT, contributor)
    assert answer.error()["code"] == "forbidden"


# -------------------------------------------------------------------------------------------- how people change


def test_the_first_person_must_be_an_admin_everywhere(anywhere: Workspace) -> None:
    for role, where in (("viewer", "*"), ("contributor", "*"), ("approver", "*"), ("admin", "default")):
        with pytest.raises(Invalid, match="the first person must be an admin everywhere"):
            anywhere(AddPerson(name="eve", role=role, in_project=where))  # type: ignore[arg-type]
    assert anywhere(ListPeople()).people == []


def test_the_last_admin_stays(workspace: Workspace) -> None:
    workspace(AddPerson(name="ada", role="admin"))
    workspace(CreateProject(name="side"))
    workspace(AddPerson(name="sid", role="admin", in_project="side"))  # of one project: does not count
    attempts = (
        DisablePerson(name="ada"),
        RevokeRole(name="ada"),
        GrantRole(name="ada", role="viewer"),
    )
    for attempt in attempts:
        with pytest.raises(Forbidden, match="without an admin"):
            workspace(attempt)
    workspace(AddPerson(name="bob", role="admin"))
    workspace(DisablePerson(name="bob"))
    for attempt in attempts:  # a disabled admin does not count either
        with pytest.raises(Forbidden, match="without an admin"):
            workspace(attempt)
    workspace(EnablePerson(name="bob"))
    workspace(RevokeRole(name="ada"))
    with pytest.raises(Forbidden, match="without an admin"):
        workspace(DisablePerson(name="bob"))
    people = {person.name: person for person in workspace(ListPeople()).people}
    assert people["ada"].roles == {}
    assert people["bob"].roles == {"*": "admin"}
    assert people["bob"].disabled_at is None


def test_tokens_are_shown_once_and_stored_as_digests(folder: WorkspaceFolder, workspace: Workspace) -> None:
    workspace(AddPerson(name="ada", role="admin"))
    made = workspace(CreateToken(person="ada", note="laptop"))
    assert made.token.startswith("tarmac_")
    assert workspace(ListTokens()).tokens == [made.facts]
    assert made.token not in repr(workspace(ListTokens()))
    assert made.token not in repr(workspace(ListEvents()))
    for file in folder.path.rglob("*"):
        if file.is_file():
            assert made.token.encode() not in file.read_bytes(), file
    with pytest.raises(Invalid, match="permissions"):
        workspace(CreateToken(person="ada", permissions=()))


@pytest.mark.parametrize("name", ["os:root", "a:b", " lead", "tab\there", "new\nline", "end\n", "\x7f", "", "x" * 251])
def test_a_person_cannot_be_named_like_somebody_else(workspace: Workspace, name: str) -> None:
    """`os:` stands before names that nobody verified; a person may not look like one."""
    with pytest.raises(Invalid):
        workspace(AddPerson(name=name, role="admin"))


# ------------------------------------------------------------------------------------------------- over the wire


def test_a_token_stops_working_at_once(folder: WorkspaceFolder, server: Server) -> None:
    """Revoked or disabled over the server, a token is refused by the very next request, streams included."""
    with connect(server.url) as workspace:  # by the owner's token file from the first person on
        workspace(AddPerson(name="ada", role="admin"))
        workspace(AddPerson(name="vic", role="viewer"))
        tokens_made = [workspace(CreateToken(person="vic")) for _ in range(2)]
        lines = [Line(server.url, made.token) for made in tokens_made]
        streams = [line.plug(line.head("GET", "/api/v1/p/default/events?after=0")) for line in lines]
        for line, stream in zip(lines, streams, strict=True):
            assert line.get("people.me").json()["name"] == "vic"
            assert stream.recv(100).startswith(b"HTTP/1.1 200")
        workspace(RevokeToken(id=tokens_made[0].facts.id))
        assert lines[0].get("people.me").error()["code"] == "unauthenticated"
        assert lines[1].get("people.me").status == 200
        workspace(DisablePerson(name="vic"))
        assert lines[1].get("people.me").error()["code"] == "unauthenticated"
        workspace(AddPerson(name="after", role="viewer"))
        for line, stream in zip(lines, streams, strict=True):
            stream.settimeout(5)  # it ends by itself: whoever is shut out hears no more
            rest = bytearray()
            while piece := stream.recv(65536):
                rest += piece
                if rest.endswith(b"0\r\n\r\n"):
                    break
            assert b'"name":"after"' not in rest
            stream.close()
            line.close()
