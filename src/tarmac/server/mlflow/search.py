"""Runs that pass a filter: tarmac's language contains MLflow's, so the text goes through as it is."""

from __future__ import annotations

from tarmac.core.errors import NotFound
from tarmac.server.mlflow import checks
from tarmac.server.mlflow.errors import is_absent
from tarmac.server.mlflow.experiments import MOST_RESULTS, view
from tarmac.server.mlflow.messages import Answer, Long, Request
from tarmac.server.mlflow.routes import Call, method
from tarmac.server.mlflow.runs import ShownRun, shown, with_models
from tarmac.track import operations as ops

PAGE = 1000
STARTED = ("started", "start_time", "created")


class Search(Request):
    experiment_ids: list[str] | None = None
    filter: str | None = None
    run_view_type: str | int | None = None
    max_results: Long | None = None
    order_by: list[str] | None = None
    page_token: str | None = None


class Page(Answer):
    runs: list[ShownRun] = []
    next_page_token: str | None = None


@method("POST", "runs/search")
async def search(call: Call, request: Search) -> Page:
    limit = checks.most(request.max_results, PAGE, MOST_RESULTS)
    experiments = [id for id in request.experiment_ids or [] if id.isascii() and id.isdecimal()]
    deleted = view(request.run_view_type, "run_view_type")
    order = _order(request.order_by or [])
    found: list[ShownRun] = []
    cursor = request.page_token or ""
    while experiments:
        try:
            page = await call(
                ops.ReadRuns(
                    filter=request.filter or "",
                    order=order,
                    experiment=experiments,
                    deleted=deleted,  # type: ignore[arg-type]
                    limit=min(PAGE, limit - len(found)),
                    cursor=cursor,
                )
            )
        except NotFound as error:
            if not is_absent(error, "experiment") or error.detail["name"] not in experiments:
                raise
            experiments.remove(error.detail["name"])  # MLflow finds nothing in what is not there
            continue
        found += await with_models(call, list(map(shown, page.runs)))
        cursor = page.next or ""
        if not cursor or len(found) >= limit:
            break
    return Page(runs=found, next_page_token=cursor or None)


def _order(given: list[str]) -> list[str]:
    """As asked for; among equals the newest first, and those of one moment by their ids, as MLflow promises."""
    sorted_by_time = any(name in one.lower() for one in given for name in STARTED)
    return [*given, *([] if sorted_by_time else ["started DESC"]), "id ASC"]
