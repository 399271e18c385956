"""How what was made elsewhere is brought in, and what is here brought elsewhere."""

from __future__ import annotations

import tarmac.registry.handlers
import tarmac.track.handlers  # noqa: F401 - the commands that an import carries out
from tarmac.core.operation import handles
from tarmac.start import operations as ops
from tarmac.start import sources
from tarmac.start.carrying import Carrier
from tarmac.start.export_folder import ExportFolder, refuse_nowhere
from tarmac.start.exporting import Exporter
from tarmac.start.mlflow_file import MlflowFile
from tarmac.store.job import JobContext


@handles(ops.ImportMlflow)
def import_mlflow(request: ops.ImportMlflow, job: JobContext) -> ops.Imported:
    source = sources.find(request.source, request.artifacts)
    try:
        return Carrier(job, source).carry()
    finally:
        source.close()


@handles(ops.ExportMlflow)
def export_mlflow(request: ops.ExportMlflow, job: JobContext) -> ops.Exported:
    refuse_nowhere(request.target)
    folder = ExportFolder(request.target, job.project_name, request.release, job.id)
    try:
        file = MlflowFile(folder.database, request.release)
        try:
            answer = Exporter(job, folder, file).export()
        finally:
            file.close()
        folder.finish()
    finally:
        folder.close()
    return answer
