"""How endpoints are stopped and go on."""

from __future__ import annotations

from tarmac.core.errors import Invalid, NotFound
from tarmac.core.operation import handles
from tarmac.ship import operations as ops
from tarmac.ship import queries
from tarmac.ship.records import Cut
from tarmac.store.sql import Reader, Tx


@handles(ops.CutEndpoint)
def cut_endpoint(request: ops.CutEndpoint, tx: Tx) -> Cut:
    if bool(request.outputs) != (request.fallback == "constant"):
        raise Invalid(
            "a constant needs its outputs, and no other fallback has any",
            hint="""like --fallback constant --outputs '{"prediction": [0]}'""",
        )
    made = Cut(
        endpoint=request.endpoint,
        fallback=request.fallback,
        outputs=request.outputs,
        reason=request.reason,
        actor=tx.actor.signature,
        at=tx.now,
    )
    queries.put_cut(tx, made)
    return made


@handles(ops.UncutEndpoint)
def uncut_endpoint(request: ops.UncutEndpoint, tx: Tx) -> Cut:
    found = queries.cut(tx, request.endpoint)
    if found is None:
        raise NotFound.named(
            "cut endpoint", request.endpoint, [cut.endpoint for cut in queries.cuts(tx)], hint="`tarmac cuts ls`"
        )
    queries.delete_cut(tx, request.endpoint)
    return found


@handles(ops.ListCuts)
def list_cuts(request: ops.ListCuts, read: Reader) -> ops.CutList:
    return ops.CutList(cuts=queries.cuts(read))
