"""The tables of models, their versions, aliases and the moves of these."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from tarmac.core.digest import digest
from tarmac.core.errors import Invalid, NotFound, bounded
from tarmac.core.ids import time_ordered
from tarmac.registry.queries import texts
from tarmac.registry.records import Model, Move, Version
from tarmac.registry.references import Reference
from tarmac.store.blobs import rows as blobs
from tarmac.store.sql import Reader, Row, Tx

NEAREST_AMONG = 1000
MODEL = "key, id, name, note, actor, created_at, updated_at, deleted_at"
VERSION = (
    "v.key, v.id, m.name, v.number, v.stage, p.state, p.id, p.digest, v.source, v.location, v.run, v.link, v.note, "
    "v.actor, v.created_at, v.updated_at"
)
VERSIONS = "versions v JOIN models m ON m.key = v.model LEFT JOIN packages p ON p.key = v.package"
MOVE = "id, at, alias, how, from_number, to_number, actor, reason, evidence"

# --- models ---


def find(read: Reader, name: str) -> int | None:
    """The key of the model called so; a writer holds it, so that only one at a time gives numbers and moves aliases."""
    lock = blobs.FOR_UPDATE[read.kind] if isinstance(read, Tx) else ""
    key: int | None = read.value(
        f"SELECT key FROM models WHERE project = :project AND name = :name AND deleted_at IS NULL {lock}",
        project=read.project,
        name=name,
    )
    return key


def key_of(read: Reader, name: str) -> int:
    key = find(read, name)
    if key is None:
        raise unknown(read, name)
    return key


def even_deleted(read: Reader, name: str) -> int:
    """The model called so, or the last one that was: history outlives its model."""
    key = find(read, name)
    if key is None:
        key = read.value(
            "SELECT max(key) FROM models WHERE project = :project AND name = :name", project=read.project, name=name
        )
    if key is None:
        raise unknown(read, name)
    return key


def unknown(read: Reader, name: str) -> NotFound:
    rows = read.all(
        "SELECT name FROM models WHERE project = :project AND deleted_at IS NULL LIMIT :n",
        project=read.project,
        n=NEAREST_AMONG,
    )
    return NotFound.named("model", name, [row[0] for row in rows], hint="`tarmac models ls` lists them")


def name_of(read: Reader, key: int) -> str:
    name: str = read.value("SELECT name FROM models WHERE key = :key", key=key)
    return name


def add(tx: Tx, name: str, note: str) -> int | None:
    """The new model's key, or None if the name is taken. After a deleted model of that name its numbers go on, so that
    NAME@v3 never means two things."""
    highest = tx.value(
        "SELECT coalesce(max(highest), 0) FROM models "
        "WHERE project = :project AND name = :name AND deleted_at IS NOT NULL",
        project=tx.project,
        name=name,
    )
    key: int | None = tx.value(
        "INSERT INTO models (project, id, name, note, highest, actor, created_at, updated_at) "
        "VALUES (:project, :id, :name, :note, :highest, :actor, :now, :now) ON CONFLICT DO NOTHING RETURNING key",
        project=tx.project,
        id=time_ordered(),
        name=name,
        note=note,
        highest=highest,
        actor=tx.actor.signature,
        now=tx.now,
    )
    return key


def touch(tx: Tx, key: int) -> None:
    tx.run("UPDATE models SET updated_at = :now WHERE key = :key", now=tx.now, key=key)


def by_keys(read: Reader, keys: Sequence[int]) -> list[Model]:
    """Models in the order of their keys, with their tags and aliases."""
    if not keys:
        return []
    chosen = ", ".join(map(str, keys))
    place = {row[0]: row for row in read.all(f"SELECT {MODEL} FROM models WHERE key IN ({chosen})")}
    latest: dict[int, int] = dict(
        read.all(
            "SELECT m.key, (SELECT v.number FROM versions v WHERE v.model = m.key AND v.deleted_at IS NULL "
            f"ORDER BY v.number DESC LIMIT 1) FROM models m WHERE m.key IN ({chosen})"
        )
    )
    aliases: dict[int, dict[str, int]] = {key: {} for key in keys}
    for model, name, number in read.all(
        "SELECT a.model, a.name, v.number FROM aliases a JOIN versions v ON v.key = a.version "
        f"WHERE a.model IN ({chosen}) ORDER BY a.model, a.name"
    ):
        aliases[model][name] = number
    tags = texts.of(read, "model_tags", keys)
    found = []
    for key in keys:
        _, id, name, note, actor, created_at, updated_at, deleted_at = place[key]
        found.append(
            Model(
                id=id,
                name=name,
                note=note,
                latest=latest.get(key),
                aliases=aliases[key],
                actor=actor,
                created_at=created_at,
                updated_at=updated_at,
                deleted_at=deleted_at,
                tags=tags[key],
            )
        )
    return found


def forms(read: Reader, key: int, numbers: Sequence[int]) -> dict[str, str]:
    """What came of compiling these versions of a model, in a sentence each."""
    if not numbers:
        return {}
    rows = read.all(
        "SELECT v.number, c.equal, c.why FROM versions v JOIN compiled c ON c.package = v.package "
        f"WHERE v.model = :key AND v.number IN ({', '.join(map(str, sorted(set(numbers))))}) ORDER BY v.number",
        key=key,
    )
    return {f"v{number}": f"{'compiled' if equal else 'native'}: {why}" for number, equal, why in rows}


def rename(tx: Tx, key: int, name: str) -> bool:
    """False: the name is taken. Its numbers go on after those that were given under that name before."""
    if find(tx, name) is not None:
        return False
    highest = tx.value(
        "SELECT coalesce(max(highest), 0) FROM models WHERE project = :project AND name = :name",
        project=tx.project,
        name=name,
    )
    tx.run(
        "UPDATE models SET name = :name, updated_at = :now, "
        "highest = CASE WHEN highest < :least THEN :least ELSE highest END WHERE key = :key",
        name=name,
        now=tx.now,
        least=highest,
        key=key,
    )
    return True


def rename_edges(tx: Tx, before: str, after: str) -> None:
    """Lineage names versions as people do, and follows a model to its new name."""
    low, high = f"models/{before}@v", f"models/{before}@w"
    for side in ("source", "target"):
        tx.run(
            f"UPDATE lineage SET {side} = :after || substr({side}, :start) "
            f"WHERE project = :project AND {side} > :low AND {side} < :high",
            after=f"models/{after}@v",
            start=len(low) + 1,
            project=tx.project,
            low=low,
            high=high,
        )


def delete(tx: Tx, key: int, name: str) -> None:
    """The rows stay, so that no number is given again and history can be asked; what they needed is free."""
    tx.run(
        "UPDATE versions SET deleted_at = :now, updated_at = :now, package = NULL "
        "WHERE model = :key AND deleted_at IS NULL",
        now=tx.now,
        key=key,
    )
    for side in ("source", "target"):  # what is gone keeps nothing from being purged
        tx.run(
            f"DELETE FROM lineage WHERE project = :project AND {side} > :low AND {side} < :high",
            project=tx.project,
            low=f"models/{name}@v",
            high=f"models/{name}@w",
        )
    tx.run("UPDATE models SET deleted_at = :now, updated_at = :now WHERE key = :key", now=tx.now, key=key)


# --- versions ---


def version_key(read: Reader, reference: Reference) -> int:
    """The version that is meant, held by a writer together with its model."""
    model = key_of(read, reference.model)
    if reference.alias is not None:
        key = read.value(
            "SELECT version FROM aliases WHERE model = :model AND name = :name", model=model, name=reference.alias
        )
        if key is None:
            raise unknown_alias(read, model, reference)
    elif reference.number is not None:
        key = read.value(
            "SELECT key FROM versions WHERE model = :model AND number = :number AND deleted_at IS NULL",
            model=model,
            number=reference.number,
        )
        if key is None:
            raise unknown_version(read, model, reference)
    else:
        key = read.value(
            "SELECT key FROM versions WHERE model = :model AND deleted_at IS NULL ORDER BY number DESC LIMIT 1",
            model=model,
        )
        if key is None:
            raise NotFound(f"model `{bounded(reference.model)}` has no version", hint="`tarmac models add` adds one")
    return int(key)


def unknown_alias(read: Reader, model: int, reference: Reference) -> NotFound:
    rows = read.all("SELECT name FROM aliases WHERE model = :model LIMIT :n", model=model, n=NEAREST_AMONG)
    known = [f"{reference.model}@{row[0]}" for row in rows]
    return NotFound.named(
        "alias",
        str(reference),
        known,
        hint=f"its aliases: {bounded(', '.join(known), 300)}"
        if known
        else f"it has none: `tarmac models promote {bounded(reference.model)}@vN --to ALIAS`",
    )


def unknown_version(read: Reader, model: int, reference: Reference) -> NotFound:
    highest = read.value("SELECT highest FROM models WHERE key = :model", model=model)
    was_there = read.value(
        "SELECT 1 FROM versions WHERE model = :model AND number = :number", model=model, number=reference.number
    )
    if was_there:
        hint = "it was deleted; its number is never given again"
    else:
        hint = f"the highest number is v{highest}" if highest else "it has no version yet"
    return NotFound.named("version", str(reference), hint=hint)


def add_version(tx: Tx, model: int, fields: dict[str, Any], wanted: int | None = None) -> tuple[int, int] | None:
    """Key and number of a new version; None if the wanted number is not above all others. The model is held, so that no
    other is given the same number."""
    number: int | None = tx.value(
        "UPDATE models SET highest = CASE WHEN :wanted = 0 THEN highest + 1 ELSE :wanted END, updated_at = :now "
        "WHERE key = :key AND (:wanted = 0 OR highest < :wanted) RETURNING highest",
        now=tx.now,
        key=model,
        wanted=wanted or 0,
    )
    if number is None:
        return None
    names = ("package", "source", "location", "run", "link", "note")
    key: int = tx.value(
        "INSERT INTO versions (project, id, model, number, stage, package, source, location, run, link, note, actor, "
        "created_at, updated_at) VALUES (:project, :id, :model, :number, 'None', :package, :source, :location, :run, "
        ":link, :note, :actor, :now, :now) RETURNING key",
        project=tx.project,
        id=time_ordered(),
        model=model,
        number=number,
        actor=tx.actor.signature,
        now=tx.now,
        **{name: fields[name] for name in names},
    )
    return key, number


def versions_by_key(read: Reader, keys: Sequence[int]) -> list[Version]:
    """Versions in the order of their keys, with their tags and the aliases that point to them."""
    if not keys:
        return []
    chosen = ", ".join(map(str, keys))
    place = {row[0]: row for row in read.all(f"SELECT {VERSION} FROM {VERSIONS} WHERE v.key IN ({chosen})")}
    aliases: dict[int, list[str]] = {key: [] for key in keys}
    for version, name in read.all(f"SELECT version, name FROM aliases WHERE version IN ({chosen}) ORDER BY name"):
        aliases[version].append(name)
    tags = texts.of(read, "version_tags", keys)
    return [_version(place[key], aliases[key], tags[key]) for key in keys]


def _version(row: Row, aliases: list[str], tags: dict[str, str]) -> Version:
    (
        _, id, model, number, stage, state, package, digest, source, location, run, link, note, actor, created_at,
        updated_at,
    ) = row  # fmt: skip
    return Version(
        id=id, model=model, number=number, aliases=aliases, stage=stage, state=state or "ready", package=package,
        digest=digest, source=source, location=location, run=run, link=link, note=note, actor=actor,
        created_at=created_at, updated_at=updated_at, tags=tags,
    )  # fmt: skip


def version(read: Reader, key: int) -> Version:
    return versions_by_key(read, [key])[0]


def touch_version(tx: Tx, key: int) -> None:
    tx.run("UPDATE versions SET updated_at = :now WHERE key = :key", now=tx.now, key=key)


def delete_version(tx: Tx, key: int, thing: str) -> None:
    """The row stays, so that its number is never given again; what it needed is free."""
    tx.run(
        "UPDATE versions SET deleted_at = :now, updated_at = :now, package = NULL WHERE key = :key", now=tx.now, key=key
    )
    for side in ("source", "target"):
        tx.run(f"DELETE FROM lineage WHERE project = :project AND {side} = :thing", project=tx.project, thing=thing)


def latest(read: Reader, models: Sequence[int], stages: Sequence[str]) -> list[int]:
    """Keys of the newest version of each model in each stage."""
    if not models:
        return []
    chosen = ", ".join(map(str, models))
    found = []
    for stage in stages:  # each is one look at the end of an index, however many versions there are
        found += read.all(
            "SELECT m.key, (SELECT v.key FROM versions v WHERE v.model = m.key AND v.stage = :stage "
            "AND v.deleted_at IS NULL ORDER BY v.number DESC LIMIT 1) "
            f"FROM models m WHERE m.key IN ({chosen})",
            stage=stage,
        )
    place = {model: index for index, model in enumerate(models)}
    there = [(place[model], key) for model, key in found if key is not None]
    return [key for _, key in sorted(there)]


# --- aliases and their history ---


def alias(read: Reader, model: int, name: str) -> tuple[int, int] | None:
    """The version an alias points to, and the move that brought it there."""
    row = read.one("SELECT version, move FROM aliases WHERE model = :model AND name = :name", model=model, name=name)
    return (row[0], row[1]) if row else None


def aliases_in(read: Reader, model: int) -> list[str]:
    return [name for (name,) in read.all("SELECT name FROM aliases WHERE model = :m ORDER BY name", m=model)]


def stages_in(read: Reader, model: int) -> list[str]:
    """The stages that versions of a model are in."""
    rows = read.all(
        "SELECT DISTINCT stage FROM versions WHERE model = :m AND deleted_at IS NULL AND stage <> 'None'", m=model
    )
    return sorted(stage for (stage,) in rows)


def newest_in_stage(read: Reader, model: int, stage: str, other_than: str) -> int | None:
    key: int | None = read.value(
        "SELECT key FROM versions WHERE model = :model AND stage = :stage AND deleted_at IS NULL AND id <> :id "
        "ORDER BY number DESC LIMIT 1",
        model=model,
        stage=stage,
        id=other_than,
    )
    return key


def last_move(read: Reader, model: int, name: str) -> int | None:
    key: int | None = read.value(
        "SELECT max(key) FROM alias_moves WHERE model = :model AND alias = :name", model=model, name=name
    )
    return key


def living(read: Reader, model: int, number: int) -> int | None:
    """The key of a version that was not deleted."""
    key: int | None = read.value(
        "SELECT key FROM versions WHERE model = :model AND number = :number AND deleted_at IS NULL",
        model=model,
        number=number,
    )
    return key


def number_of(read: Reader, version: int) -> int:
    number: int = read.value("SELECT number FROM versions WHERE key = :key", key=version)
    return number


def step(read: Reader, move: int) -> tuple[int | None, int | None]:
    """To which number a move led, and the move below it."""
    row = read.one("SELECT to_number, below FROM alias_moves WHERE key = :key", key=move)
    return (row[0], row[1]) if row else (None, None)


def add_move(
    tx: Tx, model: int, name: str, how: str, numbers: tuple[int | None, int | None], below: int | None, reason: str,
    evidence: dict[str, Any],
) -> int:  # fmt: skip
    """The key of a new line of the history, never before the one above it, whatever the clock says."""
    last = tx.value("SELECT max(at) FROM alias_moves WHERE model = :model", model=model) or 0
    key: int = tx.value(
        "INSERT INTO alias_moves (project, id, model, alias, how, from_number, to_number, below, at, actor, reason, "
        "evidence) VALUES (:project, :id, :model, :alias, :how, :before, :after, :below, :at, :actor, :reason, "
        ":evidence) RETURNING key",
        project=tx.project,
        id=time_ordered(),
        model=model,
        alias=name,
        how=how,
        before=numbers[0],
        after=numbers[1],
        below=below,
        at=max(tx.now, last),
        actor=tx.actor.signature,
        reason=reason,
        evidence=msgspec.json.encode(evidence, order="sorted").decode(),
    )
    return key


def point(tx: Tx, model: int, name: str, version: int | None, move: int) -> None:
    if version is None:
        tx.run("DELETE FROM aliases WHERE model = :model AND name = :name", model=model, name=name)
        return
    tx.run(
        "INSERT INTO aliases (model, name, version, move) VALUES (:model, :name, :version, :move) "
        "ON CONFLICT (model, name) DO UPDATE SET version = excluded.version, move = excluded.move",
        model=model,
        name=name,
        version=version,
        move=move,
    )


def move(read: Reader, key: int) -> Move:
    row = read.one(f"SELECT {MOVE} FROM alias_moves WHERE key = :key", key=key)
    assert row is not None
    return as_move(row)


def proof(move: Move) -> str:
    """The digest of a line of the history, which the event of the move carries."""
    return digest(msgspec.json.encode(move, order="deterministic"))


def moves(read: Reader, model: int, alias: str, before: str, limit: int) -> list[Move]:
    """The newest first."""
    start = 2**62
    if before:
        start = read.value("SELECT key FROM alias_moves WHERE model = :model AND id = :id", model=model, id=before)
        if start is None:
            raise Invalid("`before` is not a page's `next`", hint="pass on what the page before said")
    rows = read.all(
        f"SELECT {MOVE} FROM alias_moves WHERE model = :model {_of_alias(alias)} "
        "AND key < :start ORDER BY key DESC LIMIT :n",
        model=model,
        alias=alias,
        start=start,
        n=limit,
    )
    return [as_move(row) for row in rows]


def _of_alias(alias: str) -> str:
    return "AND alias = :alias" if alias else ""


def moves_at(read: Reader, model: int, alias: str, at: int) -> list[Move]:
    """The move that had brought each alias to where it pointed at a time; those that were retired are left out."""
    columns = ", ".join(f"h.{name}" for name in MOVE.split(", "))
    rows = read.all(
        f"SELECT {columns} FROM alias_moves h JOIN (SELECT max(key) AS key FROM alias_moves WHERE model = :model "
        f"AND at <= :at {_of_alias(alias)} GROUP BY alias) newest ON newest.key = h.key "
        "WHERE h.to_number IS NOT NULL ORDER BY h.alias",
        model=model,
        at=at,
        alias=alias,
    )
    return [as_move(row) for row in rows]


def as_move(row: Row) -> Move:
    id, at, alias, how, before, after, actor, reason, evidence = row
    return Move(
        id=id, at=at, alias=alias, how=how, before=before, after=after, actor=actor, reason=reason,
        evidence=msgspec.json.decode(evidence),
    )  # fmt: skip
