"""How models come to be, are named, and go."""

from __future__ import annotations

import msgspec

from tarmac.core.errors import Conflict
from tarmac.core.operation import handles
from tarmac.registry import operations as ops
from tarmac.registry import rules
from tarmac.registry.handlers import moves
from tarmac.registry.queries import gates, search, texts
from tarmac.registry.queries import models as rows
from tarmac.registry.records import Model
from tarmac.store.sql import Reader, Tx
from tarmac.track.filter import parse


@handles(ops.CreateModel)
def create_model(request: ops.CreateModel, tx: Tx) -> Model:
    key = rows.add(tx, request.name, request.note)
    if key is None:
        raise Conflict.exists("model", request.name)
    texts.put(tx, "model_tags", key, request.tags)
    return _model(tx, key)


def made(tx: Tx, name: str, *, create: bool) -> int:
    """The model called so, held until the transaction ends; made if it may be."""
    key = rows.find(tx, name)
    if key is None and create:
        key = rows.add(tx, name, "") or rows.find(tx, name)  # on Postgres another may have made it in this moment
    if key is None:
        raise rows.unknown(tx, name)
    return key


@handles(ops.GetModel)
def get_model(request: ops.GetModel, read: Reader) -> Model:
    key = rows.key_of(read, request.name)
    found = _model(read, key)
    numbers = [*found.aliases.values(), *([found.latest] if found.latest else [])]
    return msgspec.structs.replace(found, forms=rows.forms(read, key, numbers))


@handles(ops.ListModels)
def list_models(request: ops.ListModels, read: Reader) -> ops.ModelPage:
    found = search.page(
        read,
        search.MODELS,
        parse(request.filter, search.MODELS.words),
        ["x.deleted_at IS NULL"],
        {},
        search.orders_of(search.MODELS, request.order),
        request.limit,
        request.cursor,
    )
    return ops.ModelPage(models=rows.by_keys(read, found.keys), next=found.next)


@handles(ops.EditModel)
def edit_model(request: ops.EditModel, tx: Tx) -> Model:
    key = rows.key_of(tx, request.name)
    tx.run("UPDATE models SET note = :note, updated_at = :now WHERE key = :key", note=request.note, now=tx.now, key=key)
    return _model(tx, key)


@handles(ops.RenameModel)
def rename_model(request: ops.RenameModel, tx: Tx) -> Model:
    key = rows.key_of(tx, request.name)
    if request.name == request.to:
        tx.unchanged()
        return _model(tx, key)
    pairs = {
        alias: (gates.gate(tx, request.name, alias), gates.gate(tx, request.to, alias))
        for alias in (*rows.aliases_in(tx, key), *rows.stages_in(tx, key))
    }
    rules.check_rename(request.name, request.to, pairs)
    if not rows.rename(tx, key, request.to):
        raise Conflict.exists("model", request.to)
    rows.rename_edges(tx, request.name, request.to)
    return _model(tx, key)


@handles(ops.TagModel)
def tag_model(request: ops.TagModel, tx: Tx) -> Model:
    key = rows.key_of(tx, request.name)
    texts.put(tx, "model_tags", key, request.set)
    gone = texts.drop(tx, "model_tags", key, request.unset)
    if gone or request.set:
        rows.touch(tx, key)
    else:
        tx.unchanged()
    return _model(tx, key)


@handles(ops.DeleteModel)
def delete_model(request: ops.DeleteModel, tx: Tx) -> Model:
    key = rows.key_of(tx, request.name)
    aliases = rows.aliases_in(tx, key)
    gated = moves.gated(tx, key, aliases, rows.stages_in(tx, key))
    rules.check_removal(f"model `{request.name}`", aliases, gated, with_aliases=request.with_aliases)
    for alias in aliases:
        moves.move(tx, key, alias, "retire", None, "the model was deleted")
    before = _model(tx, key)
    rows.delete(tx, key, request.name)
    moved = (tx.evidence or {}).get("moves", {})
    tx.evidence = {"model": before.id, "latest": before.latest, "aliases": aliases, "moves": moved}
    return _model(tx, key)


def _model(read: Reader, key: int) -> Model:
    return rows.by_keys(read, [key])[0]
