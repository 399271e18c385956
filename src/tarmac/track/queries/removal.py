"""Deleting runs for good: which ones, what needs them, how much they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tarmac.store import manifests
from tarmac.store.blobs import rows as blobs
from tarmac.store.sql import Connection, Row, Tx

AT_ONCE = 200
# what belongs to a run and to nothing else
OWN_TABLES = (
    "params", "tags", "metrics", "metric_tails", "metric_segments", "metric_sheets", "metric_outlines", "artifacts",
    "run_inputs", "run_logs", "run_facts", "spools", "pipeline_steps",
)  # fmt: skip


def candidates(connection: Connection, project: int, before: int, after: int) -> list[Row]:
    return connection.all(
        "SELECT key, id FROM runs WHERE project = :project AND deleted_at <= :before AND key > :after "
        "ORDER BY key LIMIT :n",
        project=project,
        before=before,
        after=after,
        n=AT_ONCE,
    )


def needed(connection: Connection, rows: Sequence[Row], project: int) -> dict[int, str]:
    """Runs that something living refers to, and what it is."""
    found: dict[int, str] = {}
    by_name = {f"runs/{id}": key for key, id in rows}
    for names, values in blobs.placeholders(list(by_name)):
        made = connection.all(
            f"SELECT source, min(target) FROM lineage WHERE project = :project AND source IN ({names}) "
            "AND target NOT LIKE 'runs/%' GROUP BY source",
            project=project,
            **values,
        )
        found.update({by_name[source]: f"{target} was made from it" for source, target in made})
    keys = ", ".join(str(key) for key, _ in rows)
    children = connection.all(
        f"SELECT parent, min(id) FROM runs WHERE parent IN ({keys}) AND deleted_at IS NULL GROUP BY parent"
    )
    found.update({parent: f"run {child} was started by it" for parent, child in children})
    return found


def weigh(connection: Connection, keys: Sequence[int]) -> tuple[int, int, int]:
    if not keys:
        return 0, 0, 0
    chosen = ", ".join(map(str, keys))
    points = connection.value(f"SELECT coalesce(sum(n), 0) FROM metrics WHERE run IN ({chosen})")
    files = connection.one(f"SELECT count(*), coalesce(sum(size), 0) FROM artifacts WHERE run IN ({chosen})")
    assert files is not None
    return int(points), int(files[0]), int(files[1])


class Gone(NamedTuple):
    """What a transaction has deleted, and what it has not, and why."""

    ids: list[str]
    points: int
    files: int
    bytes: int
    kept: list[str]


def delete(tx: Tx, keys: Sequence[int]) -> Gone:
    """Delete those that are still in the trash and that nothing needs, with all they have."""
    chosen = ", ".join(map(str, keys))
    still = tx.all(
        f"SELECT key, id FROM runs WHERE key IN ({chosen}) AND deleted_at IS NOT NULL "
        f"ORDER BY key {blobs.FOR_UPDATE[tx.kind]}"  # nobody restores one while it goes, or starts something from it
    )
    why = needed(tx.connection, still, tx.project) if still else {}
    kept = [f"{id}: {why[key]}" for key, id in still if key in why]
    still = [(key, id) for key, id in still if key not in why]
    if not still:
        return Gone([], 0, 0, 0, kept)
    weight = weigh(tx.connection, [key for key, _ in still])
    gone = ", ".join(str(key) for key, _ in still)
    blobs.add_refs(tx, [digest for (digest,) in tx.all(f"SELECT digest FROM artifacts WHERE run IN ({gone})")], -1)
    sources = [source for (source,) in tx.all(f"SELECT DISTINCT source FROM run_facts WHERE run IN ({gone})") if source]
    for table in OWN_TABLES:
        tx.run(f"DELETE FROM {table} WHERE run IN ({gone})")
    tx.run(f"UPDATE runs SET parent = NULL WHERE parent IN ({gone})")
    for names, values in blobs.placeholders([f"runs/{id}" for _, id in still]):
        for side in ("source", "target"):
            tx.run(
                f"DELETE FROM lineage WHERE project = :project AND {side} IN ({names})", project=tx.project, **values
            )
    tx.run(f"DELETE FROM runs WHERE key IN ({gone})")
    for source in sources:  # each run has a source tree of its own; another may have been told of it all the same
        if not tx.value("SELECT 1 FROM run_facts WHERE source = :source LIMIT 1", source=source):
            manifests.delete(tx, source)
    return Gone([id for _, id in still], *weight, kept)


def delete_empty_experiments(tx: Tx, before: int) -> None:
    """An experiment that was deleted and has no run left goes too, and frees its name."""
    which = (
        "project = :project AND deleted_at <= :before "
        "AND NOT EXISTS (SELECT 1 FROM runs r WHERE r.experiment = experiments.key)"
    )
    tx.run(
        f"DELETE FROM experiment_tags WHERE experiment IN (SELECT key FROM experiments WHERE {which})",
        project=tx.project,
        before=before,
    )
    tx.run(f"DELETE FROM experiments WHERE {which}", project=tx.project, before=before)
