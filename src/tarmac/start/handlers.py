"""How what was made elsewhere is brought in."""

from __future__ import annotations

import tarmac.track.handlers  # noqa: F401 - the commands that an import carries out
from tarmac.core.operation import handles
from tarmac.start import operations as ops
from tarmac.start import sources
from tarmac.start.carrying import Carrier
from tarmac.store.job import JobContext


@handles(ops.ImportMlflow)
def import_mlflow(request: ops.ImportMlflow, job: JobContext) -> ops.Imported:
    source = sources.find(request.source, request.artifacts)
    try:
        return Carrier(job, source).carry()
    finally:
        source.close()
