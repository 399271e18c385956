"""Names with text that belong to something: tags of models, versions and packages, params of packages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from tarmac.store.sql import Reader, Tx

Table = Literal["package_params", "package_tags", "model_tags", "version_tags"]
MANY = 500


def owner(table: Table) -> str:
    return table.partition("_")[0]


def of(read: Reader, table: Table, keys: Sequence[int]) -> dict[int, dict[str, str]]:
    found: dict[int, dict[str, str]] = {key: {} for key in keys}
    for start in range(0, len(keys), MANY):
        part = ", ".join(map(str, keys[start : start + MANY]))
        rows = read.all(
            f"SELECT {owner(table)}, name, value FROM {table} WHERE {owner(table)} IN ({part}) ORDER BY name"
        )
        for key, name, value in rows:
            found[key][name] = value
    return found


def put(tx: Tx, table: Table, key: int, texts: dict[str, str]) -> None:
    tx.insert(
        table,
        (owner(table), "name", "value"),
        [(key, name, value) for name, value in sorted(texts.items())],
        otherwise=f"ON CONFLICT ({owner(table)}, name) DO UPDATE SET value = excluded.value",
    )


def drop(tx: Tx, table: Table, key: int, names: Iterable[str]) -> int:
    """How many there were."""
    gone = 0
    for name in sorted(set(names)):
        gone += tx.run(f"DELETE FROM {table} WHERE {owner(table)} = :key AND name = :name", key=key, name=name)
    return gone
