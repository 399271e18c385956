"""The tables of experiments and runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from tarmac.core.errors import Conflict, Invalid, NotFound, bounded
from tarmac.store.blobs import rows as blobs
from tarmac.store.sql import Reader, Row, Tx
from tarmac.track import points
from tarmac.track.filter import Field
from tarmac.track.queries.search import BEGINNING, SILENT_AFTER, STATUS
from tarmac.track.records import Experiment, Input, Metric, Run

EXPERIMENT = "SELECT key, id, name, note, created_at, deleted_at, updated_at, location FROM experiments"
DEFAULT, DEFAULT_ID = "default", "0"
_COLUMNS = f"r.key, r.id, r.name, e.name, {STATUS}, p.id, r.actor, r.started_at, r.ended_at, r.deleted_at, r.note"
_TABLES = "FROM runs r JOIN experiments e ON e.key = r.experiment LEFT JOIN runs p ON p.key = r.parent"
_RUN = f"SELECT {_COLUMNS} {_TABLES}"
_RUN_AND_EXPERIMENT = f"SELECT {_COLUMNS}, e.id {_TABLES}"
_RUN_AND_STATUS = f"SELECT {_COLUMNS}, r.status {_TABLES}"
NEAREST_AMONG = 1000
MANY = 500
LEAST_BEGINNING = 6
LONGEST_ID = 32

# --- experiments ---


def add_experiment(tx: Tx, experiment: Experiment) -> int | None:
    """The new row's key, or None if the name is taken."""
    key: int | None = tx.value(
        "INSERT INTO experiments (project, id, name, note, created_at, location) "
        "VALUES (:project, :id, :name, :note, :created_at, :location) ON CONFLICT DO NOTHING RETURNING key",
        project=tx.project,
        id=experiment.id,
        name=experiment.name,
        note=experiment.note,
        created_at=experiment.created_at,
        location=experiment.location,
    )
    if key is not None and experiment.tags:
        put_experiment_tags(tx, key, experiment.tags)
    return key


def put_experiment_tags(tx: Tx, key: int, tags: dict[str, str]) -> None:
    tx.insert(
        "experiment_tags",
        ("experiment", "name", "value"),
        [(key, name, value) for name, value in tags.items()],
        otherwise="ON CONFLICT (experiment, name) DO UPDATE SET value = excluded.value",
    )


def drop_experiment_tags(tx: Tx, key: int, names: Iterable[str]) -> int:
    return sum(
        tx.run("DELETE FROM experiment_tags WHERE experiment = :key AND name = :name", key=key, name=name)
        for name in set(names)
    )


def experiment_key(read: Reader, name: str) -> tuple[int, str, int | None] | None:
    """Key, name and time of deletion of the experiment called so: digits are an id first, other text a name."""
    for column in ("id", "name") if name.isdecimal() else ("name",):
        row = read.one(
            f"SELECT key, name, deleted_at FROM experiments WHERE project = :project AND {column} = :value",
            project=read.project,
            value=name,
        )
        if row:
            return row[0], row[1], row[2]
    return experiment_key(read, DEFAULT_ID) if name == DEFAULT else None  # it was given another name


def refuse_deleted_experiment(name: str, deleted_at: int | None) -> None:
    if deleted_at is not None:
        raise Conflict(
            f"experiment `{bounded(name)}` is in the trash",
            hint=f"`tarmac experiments restore {bounded(name)}`",
            detail={"state": "deleted", "experiment": bounded(name)},
        )


def known_experiment(read: Reader, name: str) -> tuple[int, str, int | None]:
    found = experiment_key(read, name)
    if found is None:
        raise unknown_experiment(read, name)
    return found


def experiment(read: Reader, name: str) -> Experiment:
    row = read.one(f"{EXPERIMENT} WHERE key = :key", key=known_experiment(read, name)[0])
    assert row is not None
    return as_experiments(read, [row])[0]


def unknown_experiment(read: Reader, name: str) -> NotFound:
    rows = read.all(
        "SELECT name FROM experiments WHERE project = :project LIMIT :n", project=read.project, n=NEAREST_AMONG
    )
    return NotFound.named("experiment", name, [row[0] for row in rows], hint="`tarmac experiments ls` lists them")


def experiments(read: Reader, after: str, limit: int, *, deleted: bool) -> list[Experiment]:
    rows = read.all(
        f"{EXPERIMENT} WHERE project = :project AND name > :after "
        f"AND deleted_at IS {'NOT NULL' if deleted else 'NULL'} ORDER BY name LIMIT :n",
        project=read.project,
        after=after,
        n=limit,
    )
    return as_experiments(read, rows)


def set_experiment_deleted(tx: Tx, key: int, before: int | None, after: int | None) -> None:
    """An experiment and its runs go into the trash, and come back, together: they share the moment, and nobody else."""
    tx.run(
        "UPDATE experiments SET deleted_at = :after, updated_at = :now WHERE key = :key",
        after=after,
        now=tx.now,
        key=key,
    )
    same = "IS NULL" if before is None else "= :before"
    tx.run(
        f"UPDATE runs SET deleted_at = :after WHERE experiment = :key AND deleted_at {same}",
        after=after,
        key=key,
        before=before,
    )


def moment_of_its_own(tx: Tx, experiment: int) -> int:
    """When an experiment goes into the trash: not the moment of any run that went there by itself."""
    tx.value(f"SELECT key FROM experiments WHERE key = :key {blobs.FOR_UPDATE[tx.kind]}", key=experiment)
    newest: int | None = tx.value(
        "SELECT max(deleted_at) FROM runs WHERE experiment = :key AND deleted_at >= :now", key=experiment, now=tx.now
    )
    return tx.now if newest is None else newest + 1


def moment_for_runs(tx: Tx, keys: Iterable[int]) -> int:
    """When runs go into the trash by themselves: not the moment in which an experiment of theirs went."""
    taken: set[int | None] = set()
    numbers = sorted(keys)
    for start in range(0, len(numbers), MANY):
        part = ", ".join(map(str, numbers[start : start + MANY]))
        taken.update(
            deleted_at
            for (deleted_at,) in tx.all(
                f"SELECT deleted_at FROM experiments WHERE key IN (SELECT experiment FROM runs WHERE key IN ({part})) "
                f"ORDER BY key {blobs.FOR_UPDATE[tx.kind]}"
            )
        )
    moment = tx.now
    while moment in taken:
        moment += 1
    return moment


# --- runs ---


def add_run(tx: Tx, run: Run, parent: int | None, heartbeat: int | None) -> int | None:
    """The new row's key, or None if no living experiment is called so."""
    key: int | None = tx.value(
        "INSERT INTO runs (project, id, experiment, parent, name, status, actor, started_at, note, heartbeat_at) "
        "SELECT e.project, :id, e.key, :parent, :name, :status, :actor, :started_at, :note, :heartbeat "
        "FROM experiments e WHERE e.project = :project AND e.name = :experiment AND e.deleted_at IS NULL "
        "RETURNING key",
        project=tx.project,
        id=run.id,
        experiment=run.experiment,
        parent=parent,
        name=run.name,
        status=run.status,
        actor=run.actor,
        started_at=run.started_at,
        note=run.note,
        heartbeat=heartbeat,
    )
    return key


def run_row(read: Reader, id: str) -> Row:
    """Key, stored status, times of deletion and start of a run; a writer holds it until its transaction ends."""
    lock = blobs.FOR_UPDATE[read.kind] if isinstance(read, Tx) else ""
    row = read.one(
        f"SELECT key, status, deleted_at, started_at FROM runs WHERE project = :project AND id = :id {lock}",
        project=read.project,
        id=id,
    )
    if row is None:
        return run_row(read, whole_id(read, id))
    return row


def run_key(read: Reader, id: str) -> int | None:
    key: int | None = read.value(
        "SELECT key FROM runs WHERE project = :project AND id = :id", project=read.project, id=id
    )
    return key


def fell_silent(read: Reader, key: int) -> bool:
    """Whether a killed run was ended because its heartbeats stopped: it ended with the last of them."""
    return bool(read.value("SELECT 1 FROM runs WHERE key = :key AND ended_at = heartbeat_at", key=key))


def spool_position(read: Reader, id: str) -> int:
    return int(read.value("SELECT position FROM spools WHERE id = :id", id=id) or 0)


def put_spool_position(tx: Tx, id: str, run: int, position: int) -> None:
    tx.do(
        "INSERT INTO spools (id, run, position) VALUES (:id, :run, :position) "
        "ON CONFLICT (id) DO UPDATE SET position = excluded.position",
        id=id,
        run=run,
        position=position,
    )


def whole_row(tx: Tx, id: str) -> Row:
    """All of a run's row as it is answered, and behind it the stored status; held until the transaction ends."""
    lock = "FOR UPDATE OF r" if tx.kind == "postgres" else ""
    row = tx.one(
        f"{_RUN_AND_STATUS} WHERE r.project = :project AND r.id = :id {lock}",
        project=tx.project,
        id=id,
        silent=tx.now - SILENT_AFTER,
    )
    return whole_row(tx, whole_id(tx, id)) if row is None else row


def whole_id(read: Reader, beginning: str) -> str:
    """The one run whose id begins so: tables on a narrow screen show no more of it."""
    found: list[Row] = []
    if LEAST_BEGINNING <= len(beginning) < LONGEST_ID:
        found = read.all(
            "SELECT id FROM runs WHERE project = :project AND id > :low AND id < :high ORDER BY id LIMIT 2",
            project=read.project,
            low=beginning,
            high=f"{beginning}g",  # behind every hex digit
        )
    if len(found) > 1:
        raise Invalid(f"more than one run's id begins with `{beginning}`", hint="give more of it")
    if not found:
        raise unknown_run(beginning)
    whole: str = found[0][0]
    return whole


def unknown_run(id: str) -> NotFound:
    return NotFound.named("run", id, hint="`tarmac runs ls` lists them")


def known_run_keys(read: Reader, ids: Sequence[str]) -> dict[str, int]:
    """The keys of those runs that exist."""
    found: dict[str, int] = {}
    for names, values in blobs.placeholders(sorted(set(ids))):
        rows = read.all(
            f"SELECT id, key FROM runs WHERE project = :project AND id IN ({names})", project=read.project, **values
        )
        found.update(rows)
    return found


def run_keys(read: Reader, ids: Sequence[str]) -> dict[str, int]:
    """The keys of runs, each of which must exist."""
    found = known_run_keys(read, ids)
    for id in ids:
        if id not in found:
            found[id] = run_row(read, whole_id(read, id))[0]
    return found


def runs_by_key(read: Reader, keys: Sequence[int], now: int) -> list[Row]:
    """The rows of runs in the order of their keys."""
    if not keys:
        return []
    rows = read.all(f"{_RUN} WHERE {_of('r.key', keys)}", run=keys[0], silent=now - SILENT_AFTER)
    place = {row[0]: row for row in rows}
    return [place[key] for key in keys]


def runs_in_experiments(read: Reader, keys: Sequence[int], silent: int) -> list[Row]:
    """The rows of runs, in no order; behind each the id of its experiment."""
    return read.all(f"{_RUN_AND_EXPERIMENT} WHERE {_of('r.key', keys)}", run=_first(keys), silent=silent)


def update_runs(tx: Tx, keys: Iterable[int], change: str, **values: Any) -> int:
    """Change many runs at once; how many were changed. `change` holds SET and WHERE, `{keys}` stands for the keys."""
    changed = 0
    numbers = sorted(keys)
    for start in range(0, len(numbers), MANY):
        part = ", ".join(map(str, numbers[start : start + MANY]))
        changed += tx.run(f"UPDATE runs {change.format(keys=part)}", **values)
    return changed


def silent(tx: Tx, since: int) -> list[Row]:
    """Keys and last heartbeats of runs that should be beating; one that ends in this moment stays as it ended."""
    return tx.all(
        "SELECT key, heartbeat_at FROM runs WHERE status = 'running' AND heartbeat_at < :since "
        f"ORDER BY key {blobs.FOR_UPDATE[tx.kind]}",
        since=since,
    )


# --- what runs carry ---

Texts = dict[int, dict[str, str]]


def texts(read: Reader, table: str, keys: Sequence[int], names: Sequence[str] | None) -> Texts:
    """Params or tags of runs: all of them, or those called so."""
    found: Texts = {key: {} for key in keys}
    rows = read.all(
        f"SELECT run, key, value || rest FROM {table} WHERE {_carried_by(read, keys, names)}", run=_first(keys)
    )
    called = read.names.names(read, [row[1] for row in rows])
    for run, key, value in rows:
        found[run][called[key]] = value
    return found


def last_values(read: Reader, keys: Sequence[int], names: Sequence[str] | None) -> dict[int, dict[str, float | str]]:
    """The newest value of each metric of runs."""
    found: dict[int, dict[str, float | str]] = {key: {} for key in keys}
    rows = read.all(f"SELECT run, key, last FROM metrics WHERE {_carried_by(read, keys, names)}", run=_first(keys))
    called = read.names.names(read, [row[1] for row in rows])
    for run, key, last in rows:
        # nearly every value is an ordinary number, and lists are long
        found[run][called[key]] = last if last is not None and last - last == 0.0 else points.text(last)
    return found


class Carried(NamedTuple):
    """What one run carries. Of a metric: newest value, its step and time, and how many points there are."""

    params: dict[str, str]
    tags: dict[str, str]
    metrics: dict[str, tuple[float | str, int, int, int]]
    files: list[tuple[str, str, int]]


def carried(read: Reader, run: int) -> Carried:
    """All that a run carries, in one statement."""
    rows = read.all(
        "SELECT 1, key, last, last_step, last_at, n, NULL, NULL FROM metrics WHERE run = :run "
        "UNION ALL SELECT 2, key, NULL, NULL, NULL, NULL, value || rest, NULL FROM params WHERE run = :run "
        "UNION ALL SELECT 3, key, NULL, NULL, NULL, NULL, value || rest, NULL FROM tags WHERE run = :run "
        "UNION ALL SELECT 4, NULL, NULL, size, NULL, NULL, path, digest FROM artifacts WHERE run = :run",
        run=run,
    )
    called = read.names.names(read, [row[1] for row in rows if row[0] != _FILE])
    found = Carried({}, {}, {}, [])
    for kind, key, last, step, at, n, text, file_digest in rows:
        if kind == _METRIC:
            found.metrics[called[key]] = (points.text(last), step, at, n)
        elif kind == _FILE:
            found.files.append((text, file_digest, step))
        else:
            (found.params if kind == _PARAMETER else found.tags)[called[key]] = text
    found.files.sort()
    return found


_METRIC, _PARAMETER, _FILE = 1, 2, 4


def _of(column: str, keys: Sequence[int]) -> str:
    """One run is a parameter, so that its statement is prepared once for all runs; many are a list."""
    return f"{column} = :run" if len(keys) == 1 else f"{column} IN ({', '.join(map(str, keys)) or 'NULL'})"


def _first(keys: Sequence[int]) -> int | None:
    return keys[0] if keys else None


def _carried_by(read: Reader, keys: Sequence[int], names: Sequence[str] | None) -> str:
    where = _of("run", keys)
    if names is not None:
        numbers = [number for name in names if (number := read.names.number(read, name)) is not None]
        where += f" AND key IN ({', '.join(map(str, numbers)) or 'NULL'})"
    return where


_PARAM = ("run", "key", "value", "rest", "number")


def add_params(tx: Tx, run: int, params: dict[str, str]) -> None:
    """The params of a run that has none."""
    numbers = tx.names.numbers(tx, params)
    tx.insert("params", _PARAM, _param_rows(run, params, numbers))


def _param_rows(run: int, params: dict[str, str], numbers: dict[str, int]) -> list[Row]:
    return [
        (run, numbers[name], value[:BEGINNING], value[BEGINNING:], _as_number(value)) for name, value in params.items()
    ]


def put_params(tx: Tx, run: int, params: dict[str, str]) -> dict[str, tuple[str, str]]:
    """Add params; those that have another value already come back, as (old, new)."""
    numbers = tx.names.numbers(tx, params)
    rows = _param_rows(run, params, numbers)
    before: dict[int, str] = dict(
        tx.all(
            f"SELECT key, value || rest FROM params WHERE run = :run AND key IN ({_list(numbers.values())})", run=run
        )
    )
    changed = {
        name: (before[numbers[name]], value)
        for name, value in params.items()
        if before.get(numbers[name], value) != value
    }
    fresh = [row for row in rows if row[1] not in before]
    if fresh and not changed:
        tx.insert("params", _PARAM, fresh, otherwise="ON CONFLICT DO NOTHING")
    return changed


def _as_number(text: str) -> float | None:
    """What a text is as a number, so that params can be compared and sorted as numbers too."""
    if len(text) > 40:
        return None
    try:
        number = float(text)
    except ValueError:
        return None
    return number if number - number == 0.0 else None


def put_tags(tx: Tx, run: int, tags: dict[str, str]) -> None:
    numbers = tx.names.numbers(tx, tags)
    tx.insert(
        "tags",
        ("run", "key", "value", "rest"),
        [(run, numbers[name], value[:BEGINNING], value[BEGINNING:]) for name, value in tags.items()],
        otherwise="ON CONFLICT (run, key) DO UPDATE SET value = excluded.value, rest = excluded.rest",
    )


def drop_tags(tx: Tx, run: int, names: Iterable[str]) -> None:
    numbers = [number for name in names if (number := tx.names.number(tx, name)) is not None]
    tx.run(f"DELETE FROM tags WHERE run = :run AND key IN ({_list(numbers)})", run=run)


def metrics(read: Reader, run: int) -> list[Metric]:
    rows = read.all("SELECT key, last, last_step, last_at, min, max, n FROM metrics WHERE run = :run", run=run)
    called = read.names.names(read, [row[0] for row in rows])
    found = [
        Metric(
            key=called[key],
            last=points.text(last),  # type: ignore[arg-type]
            step=step,
            at=at,
            min=points.text(low),  # type: ignore[arg-type]
            max=points.text(high),  # type: ignore[arg-type]
            points=n,
        )
        for key, last, step, at, low, high, n in rows
    ]
    return sorted(found, key=lambda metric: metric.key)


def lengths(read: Reader, run: int, keys: Iterable[int | None]) -> dict[int, int]:
    """How many points the metrics of a run have: all of them, or those of these keys."""
    wanted = list(keys)
    where = f"AND key IN ({_list(key for key in wanted if key is not None)})" if wanted else ""
    return dict(read.all(f"SELECT key, n FROM metrics WHERE run = :run {where}", run=run))


def inputs(read: Reader, run: int) -> list[Input]:
    return inputs_of(read, [run]).get(run, [])


def inputs_of(read: Reader, keys: Sequence[int]) -> dict[int, list[Input]]:
    """The data sets and packages that runs were given."""
    found: dict[int, list[Input]] = {}
    for run, name, version, about, context in read.all(
        f"SELECT run, name, version, document, context FROM run_inputs WHERE {_of('run', keys)} ORDER BY name, version",
        run=_first(keys),
    ):
        found.setdefault(run, []).append(Input(name=name, version=version, about=about, context=context))
    return found


def summaries(read: Reader, keys: Sequence[int]) -> list[Row]:
    """Run, key, newest value, its step and its time, of every metric of runs."""
    return read.all(
        f"SELECT run, key, last, last_step, last_at FROM metrics WHERE {_of('run', keys)}", run=_first(keys)
    )


def facts(read: Reader, run: int) -> Row | None:
    """How a run was started, as JSON, and the manifest of its source."""
    return read.one("SELECT document, source FROM run_facts WHERE run = :run", run=run)


def log_pieces(read: Reader, run: int, start: int) -> list[Row]:
    """What a run has printed, from a character on, in the pieces it came in."""
    return read.all(
        "SELECT start, text FROM run_logs WHERE run = :run AND start + length(text) > :start ORDER BY start LIMIT 200",
        run=run,
        start=start,
    )


# --- records ---


def field_names(fields: Iterable[Field], kind: str) -> list[str]:
    return [field.name for field in fields if field.kind == kind]


def _list(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, numbers)) or "NULL"


def as_experiments(read: Reader, rows: Sequence[Row]) -> list[Experiment]:
    tags: dict[int, dict[str, str]] = {row[0]: {} for row in rows}
    for key, name, value in read.all(
        f"SELECT experiment, name, value FROM experiment_tags WHERE {_of('experiment', list(tags))} ORDER BY name",
        run=_first(list(tags)),
    ):
        tags[key][name] = value
    return [
        Experiment(
            id=id,
            name=name,
            note=note,
            created_at=created_at,
            deleted_at=deleted_at,
            updated_at=updated_at,
            location=location,
            tags=tags[key],
        )
        for key, id, name, note, created_at, deleted_at, updated_at, location in rows
    ]


def as_run(
    row: Row, metrics: dict[str, float | str] | None = None, params: dict[str, str] | None = None,
    tags: dict[str, str] | None = None,
) -> Run:  # fmt: skip
    _, id, name, experiment, status, parent, actor, started_at, ended_at, deleted_at, note = row
    return Run(
        id=id,
        name=name,
        experiment=experiment,
        status=status,
        parent=parent,
        actor=actor,
        started_at=started_at,
        ended_at=ended_at,
        deleted_at=deleted_at,
        note=note,
        metrics=metrics or {},  # type: ignore[arg-type]
        params=params or {},
        tags=tags or {},
    )
