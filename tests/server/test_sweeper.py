"""What a server does by itself: it ends runs that were killed, and empties the trash of what is old, no more."""

from __future__ import annotations

import time

from tarmac.server.up import Sweeper
from tarmac.track.operations import CountRuns, CreateRun, DeleteRuns, GetRun
from tarmac.workspace import LocalWorkspace, Workspace

DAY = 24 * 3_600_000


def test_only_what_is_old_leaves_the_trash(workspace: Workspace) -> None:
    assert isinstance(workspace, LocalWorkspace)
    alive, fresh, old = (workspace(CreateRun()).id for _ in range(3))
    workspace(DeleteRuns(ids=[fresh, old]))
    workspace.door.store.writer.call(
        lambda batch: batch.connection.run(
            "UPDATE runs SET deleted_at = deleted_at - :ms WHERE id = :id", ms=31 * DAY, id=old
        )
    )
    Sweeper(workspace.door, trash_days=30)._empty_trash()
    until = time.monotonic() + 20
    while workspace(CountRuns(deleted="also")).count != 2:
        assert time.monotonic() < until
        time.sleep(0.1)
    assert workspace(GetRun(id=alive)).deleted_at is None
    assert workspace(GetRun(id=fresh)).deleted_at is not None
