"""The tables of pipelines: results of steps, the items of `each`, code, and what each run did."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from tarmac.flow.records import CodePart, Item, MadeOf, Output, StepResult, StepRun
from tarmac.store import manifests
from tarmac.store.blobs import rows as blobs
from tarmac.store.records import File
from tarmac.store.sql import Reader, Row, Tx

RESULT = (
    "SELECT id, pipeline, node, step, run, actor, outputs, made_of, seconds, created_at, used_at, not_kept, held "
    "FROM step_results"
)
_encode = msgspec.json.Encoder().encode
_pack = msgspec.msgpack.Encoder().encode
_outputs = msgspec.json.Decoder(list[Output]).decode
_made_of = msgspec.json.Decoder(MadeOf).decode
_output = msgspec.msgpack.Decoder(Output).decode

blobs.REFERENCES.append(
    "SELECT g.project AS project, b.digest AS digest, count(*) AS n "
    "FROM step_item_blobs b JOIN step_groups g ON g.key = b.step_group GROUP BY g.project, b.digest"
)


def _needs(tx: Tx, manifest: str) -> str | None:
    node = tx.value(
        "SELECT node FROM step_results WHERE project = :project AND manifest = :manifest",
        project=tx.project,
        manifest=manifest,
    )
    return None if node is None else f"a result of step `{node}`"


manifests.HOLDERS.append(_needs)

# --- results ---


def newest(read: Reader, pipeline: str, after: str, limit: int) -> list[StepResult]:
    """For each node of a pipeline the result that was used last."""
    rows = read.all(
        f"{RESULT} WHERE key IN (SELECT max(r.key) FROM step_results r JOIN (SELECT node, max(used_at) AS used "
        "FROM step_results WHERE project = :project AND pipeline = :pipeline AND node > :after GROUP BY node "
        "ORDER BY node LIMIT :n) AS last ON last.node = r.node AND last.used = r.used_at "
        "WHERE r.project = :project AND r.pipeline = :pipeline GROUP BY r.node) ORDER BY node",
        project=read.project,
        pipeline=pipeline,
        after=after,
        n=limit,
    )
    return [_result(row) for row in rows]


def find(read: Reader, keys: Sequence[str]) -> list[StepResult]:
    found = []
    for names, values in blobs.placeholders(sorted(set(keys))):
        rows = read.all(f"{RESULT} WHERE project = :project AND id IN ({names})", project=read.project, **values)
        found += [_result(row) for row in rows]
    return found


def page(read: Reader, pipeline: str | None, before: int, limit: int) -> list[StepResult]:
    where = "AND pipeline = :pipeline" if pipeline else ""
    rows = read.all(
        f"{RESULT} WHERE project = :project AND used_at < :before {where} ORDER BY used_at DESC, key DESC LIMIT :n",
        project=read.project,
        before=before,
        n=limit,
        **({"pipeline": pipeline} if pipeline else {}),
    )
    return [_result(row) for row in rows]


def keep(tx: Tx, result: StepResult, files: Sequence[File]) -> list[str]:
    """Keep a result; the blobs that have to be uploaded first, if any are missing. One that is there is replaced:
    whoever makes it again found that its bytes were gone."""
    manifest = None
    if files:
        made = manifests.commit(tx, "result", files)
        if isinstance(made, list):
            return made
        manifest = made.id
    drop(tx, "id = :id", id=result.key)
    tx.insert(
        "step_results",
        ("project", "id", "pipeline", "node", "step", "run", "actor", "outputs", "made_of", "manifest", "seconds",
         "created_at", "used_at", "not_kept", "held"),
        [(tx.project, result.key, result.pipeline, result.node, result.step, result.run, tx.actor.signature,
          _encode(result.outputs).decode(), _encode(result.made_of).decode(), manifest, result.seconds, tx.now, tx.now,
          result.not_kept[:2000], result.held)],
    )  # fmt: skip
    return []


def touch(tx: Tx, keys: Sequence[str]) -> None:
    """They were used, so they stay."""
    for names, values in blobs.placeholders(sorted(set(keys))):
        tx.run(
            f"UPDATE step_results SET used_at = :now WHERE project = :project AND id IN ({names})",
            now=tx.now,
            project=tx.project,
            **values,
        )


def drop(tx: Tx, where: str, **values: Any) -> int:
    """Forget results, and the lists of files they hold."""
    rows = tx.all(
        f"SELECT key, manifest FROM step_results WHERE project = :project AND {where} LIMIT 1000",
        project=tx.project,
        **values,
    )
    if not rows:
        return 0
    tx.run(f"DELETE FROM step_results WHERE key IN ({', '.join(str(row[0]) for row in rows)})")
    for _, manifest in rows:
        if manifest is not None:
            manifests.delete(tx, manifest)
    return len(rows)


def _result(row: Row) -> StepResult:
    return StepResult(
        key=row[0],
        pipeline=row[1],
        node=row[2],
        step=row[3],
        run=row[4],
        actor=row[5],
        outputs=_outputs(row[6]),
        made_of=_made_of(row[7]),
        seconds=row[8],
        created_at=row[9],
        used_at=row[10],
        not_kept=row[11],
        held=row[12],
    )


# --- items ---


def items(read: Reader, group: str, after: bytes, limit: int) -> list[Item]:
    rows = read.all(
        "SELECT i.id, i.output FROM step_items i JOIN step_groups g ON g.key = i.step_group "
        "WHERE g.project = :project AND g.id = :group AND i.id > :after ORDER BY i.id LIMIT :n",
        project=read.project,
        group=group,
        after=after,
        n=limit,
    )
    return [Item(key=bytes(id).hex(), output=_output(bytes(output))) for id, output in rows]


def group_key(tx: Tx, id: str, pipeline: str, node: str) -> int:
    key: int = tx.value(
        "INSERT INTO step_groups (project, id, pipeline, node, used_at) VALUES (:project, :id, :pipeline, :node, :now) "
        "ON CONFLICT (project, id) DO UPDATE SET used_at = excluded.used_at RETURNING key",
        project=tx.project,
        id=id,
        pipeline=pipeline,
        node=node,
        now=tx.now,
    )
    return key


def keep_items(tx: Tx, group: int, new: Sequence[Item], files: dict[str, list[File]]) -> None:
    drop_items(tx, group, [item.key for item in new])
    tx.insert(
        "step_items",
        ("step_group", "id", "output"),
        [(group, bytes.fromhex(item.key), _pack(item.output)) for item in new],
    )
    wanted = sorted({(item.key, file.digest) for item in new for file in files.get(item.key, ())})
    if wanted:
        tx.insert(
            "step_item_blobs",
            ("step_group", "id", "digest"),
            [(group, bytes.fromhex(key), digest) for key, digest in wanted],
        )
        blobs.add_refs(tx, [digest for _, digest in wanted], +1)


def drop_items(tx: Tx, group: int, keys: Iterable[str]) -> None:
    """Forget the results of items that are not among the items any more."""
    for names, values in blobs.placeholders(list(keys)):
        raw = {name: bytes.fromhex(value) for name, value in values.items()}
        gone = tx.all(
            f"SELECT digest FROM step_item_blobs WHERE step_group = :group AND id IN ({names})", group=group, **raw
        )
        if gone:
            blobs.add_refs(tx, [row[0] for row in gone], -1)
            tx.run(f"DELETE FROM step_item_blobs WHERE step_group = :group AND id IN ({names})", group=group, **raw)
        tx.run(f"DELETE FROM step_items WHERE step_group = :group AND id IN ({names})", group=group, **raw)


def drop_groups(tx: Tx, before: int) -> int:
    rows = tx.all(
        "SELECT key FROM step_groups WHERE project = :project AND used_at < :before LIMIT 10",
        project=tx.project,
        before=before,
    )
    for (key,) in rows:
        gone = tx.all("SELECT digest FROM step_item_blobs WHERE step_group = :key", key=key)
        if gone:
            blobs.add_refs(tx, [row[0] for row in gone], -1)
        for table, column in (("step_item_blobs", "step_group"), ("step_items", "step_group"), ("step_groups", "key")):
            tx.run(f"DELETE FROM {table} WHERE {column} = :key", key=key)
    return len(rows)


# --- code ---


def keep_code(tx: Tx, parts: Sequence[CodePart]) -> None:
    tx.insert(
        "step_code",
        ("project", "digest", "label", "file", "line", "text", "used_at"),
        [(tx.project, part.digest, part.label, part.file, part.line, part.text, tx.now) for part in parts],
        otherwise="ON CONFLICT (project, digest) DO UPDATE SET used_at = excluded.used_at",
    )


def code(read: Reader, digests: Sequence[str]) -> list[CodePart]:
    found = []
    for names, values in blobs.placeholders(sorted(set(digests))):
        rows = read.all(
            f"SELECT digest, label, file, line, text FROM step_code WHERE project = :project AND digest IN ({names})",
            project=read.project,
            **values,
        )
        found += [CodePart(digest=row[0], label=row[1], file=row[2], line=row[3], text=row[4]) for row in rows]
    return found


# --- what runs did ---


def put_steps(tx: Tx, run: int, first: int, steps: Sequence[StepRun]) -> None:
    tx.insert(
        "pipeline_steps",
        ("run", "number", "node", "step", "done", "why", "step_run", "result", "seconds"),
        [
            (run, first + index, one.node, one.step, one.done, one.why, one.run, one.key, one.seconds)
            for index, one in enumerate(steps)
        ],
        otherwise="ON CONFLICT (run, node) DO UPDATE SET done = excluded.done, why = excluded.why, "
        "step_run = excluded.step_run, result = excluded.result, seconds = excluded.seconds",
    )


def steps(read: Reader, run: int) -> list[StepRun]:
    rows = read.all(
        "SELECT node, step, done, why, step_run, result, seconds FROM pipeline_steps WHERE run = :run ORDER BY number",
        run=run,
    )
    return [
        StepRun(node=row[0], step=row[1], done=row[2], why=row[3], run=row[4], key=row[5], seconds=row[6])
        for row in rows
    ]
