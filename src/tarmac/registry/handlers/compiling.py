"""Compiling a package: a job, in which a child process converts the model and compares both forms."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

import msgspec

from tarmac.core.clock import now
from tarmac.core.digest import digest_file
from tarmac.core.errors import Conflict, Invalid, bounded
from tarmac.core.operation import handles
from tarmac.core.settings import Settings
from tarmac.formats import children, package, packing, trust
from tarmac.formats.package import COMPILED_MODEL, REPORT, Compiled, PackedFile, Proof, Sealed, compiled_digest
from tarmac.formats.trust import Trust
from tarmac.registry import operations as ops
from tarmac.registry import references
from tarmac.registry.queries import models as rows
from tarmac.registry.queries import packages as package_rows
from tarmac.registry.records import CompiledForm, Package, Version
from tarmac.store import manifests
from tarmac.store.blobs import keeping
from tarmac.store.job import JobContext
from tarmac.store.records import File
from tarmac.store.sql import Batch, Event, Reader, Tx

MOST_FILES = 100_000
STEPS = 3


@handles(ops.CompileModel)
def compile_model(request: ops.CompileModel, job: JobContext) -> ops.CompileReport:
    version, found, files = _asked(request, job)
    with tempfile.TemporaryDirectory(prefix="tarmac-compile-") as place:
        folder = Path(place) / "package"
        job.progress(0, STEPS, "fetching")
        _fetch(job, files, folder)
        if not package.is_package(folder):
            if not (folder / package.MLMODEL).is_file():
                raise Invalid(
                    f"package {found.id} is not one that tarmac or MLflow made: it does not say how it is loaded",
                    hint="`tarmac models add NAME PATH` packages a model anew",
                )
            packing.adopt(folder, found.name)
        sealed = Sealed(folder, found.digest)
        sealed.verify()
        _ask_trust(request, job, version, found, sealed)
        job.progress(1, STEPS, "converting and comparing")
        report = _converted(request, job, sealed, Path(place))
        job.progress(2, STEPS, "keeping")
        made = _keep(job, found, report, Path(place))
    job.log(f"{version.model}@v{version.number}: {made.why}")
    return ops.CompileReport(ref=f"{version.model}@v{version.number}", equal=made.equal, why=made.why, proof=made.proof)


def _asked(request: ops.CompileModel, job: JobContext) -> tuple[Version, Package, list[File]]:
    with job.store.database.read() as connection:
        read = Reader(connection, job.store.names, job.project, job.project_name, job.actor)
        version = rows.version(read, rows.version_key(read, references.parse(request.ref)))
        if version.package is None:
            raise Conflict(f"{request.ref} only names {bounded(version.location, 300)}: there are no bytes to compile")
        found = package_rows.as_package(package_rows.row(read, version.package))
        if found.manifest is None:
            raise Conflict(f"package {found.id} has no files")
        return version, found, package_rows.sealed_files(read, found.manifest, "", "", MOST_FILES)


def _fetch(job: JobContext, files: list[File], folder: Path) -> None:
    for file in files:
        blob = keeping.find(job.store, file.digest, job.project, job.project_name, job.actor)
        place = folder / file.path
        place.parent.mkdir(parents=True, exist_ok=True)
        with place.open("xb") as out:
            for piece in job.store.blobs.read(blob.digest, blob.place, blob.size, blob.blocks, 0, blob.size):
                out.write(piece)


def _ask_trust(request: ops.CompileModel, job: JobContext, version: Version, found: Package, sealed: Sealed) -> None:
    """To convert a model is to load it."""
    vouched = Trust(
        Trust.digests(request.trust).reasons,
        f"tarmac models compile {version.model}@v{version.number} --trust {{digest}}",
    )
    if trust.is_marked(Settings.from_environment().state, sealed.digest, found.document):
        vouched = vouched.of(sealed.digest, "a run of the same user made it on this machine")
    trust.check(sealed, vouched, sealed.runs_code())


def _converted(request: ops.CompileModel, job: JobContext, sealed: Sealed, place: Path) -> Compiled:
    """What the child found; a converter that crashes, hangs or eats memory does that there, and is told of."""
    out = place / COMPILED_MODEL
    asked = {
        "folder": str(sealed.folder), "digest": sealed.digest, "rows": request.rows, "out": str(out),
        "tolerance": request.tolerance,
    }  # fmt: skip
    outcome = children.run(
        "tarmac.formats.compiling",
        asked,
        seconds=request.seconds,
        alive=lambda: job.progress(1, STEPS, "converting and comparing"),
    )
    if outcome.answer is None:
        why = f"the converter failed: {outcome.why}"
        return Compiled(package=sealed.digest, proof=Proof(equal=False, why=why, tolerance=request.tolerance))
    if "error" in outcome.answer:
        raise Invalid(str(outcome.answer["error"]), hint=outcome.answer["hint"])
    report = msgspec.convert(outcome.answer, Compiled)
    if report.proof.equal:
        size = out.stat().st_size
        report = msgspec.structs.replace(report, model=PackedFile(COMPILED_MODEL, digest_file(out), size))
    return report


def _keep(job: JobContext, found: Package, report: Compiled, place: Path) -> CompiledForm:
    paths = {REPORT: place / REPORT}
    data = package.encode(report)
    paths[REPORT].write_bytes(data)
    if report.model is not None:
        paths[COMPILED_MODEL] = place / COMPILED_MODEL
    files = []
    for name, path in paths.items():
        with path.open("rb") as stream:
            stored = job.store.blobs.put(stream)
        keeping.keep(job.store, stored, job.project, job.project_name, job.actor)
        files.append(File(path=name, digest=stored.digest, size=stored.size))
    form = CompiledForm(
        equal=report.proof.equal,
        why=report.proof.why,
        digest=compiled_digest(report, data),
        manifest="",
        proof=msgspec.to_builtins(report.proof),
        actor=job.actor.signature,
        at=now(),
    )
    kept: CompiledForm = job.store.writer.call(partial(_record, job, found, files, form))
    return kept


def _record(job: JobContext, found: Package, files: list[File], form: CompiledForm, batch: Batch) -> CompiledForm:
    tx = Tx(batch, job.project, job.project_name, job.actor)
    key, *_ = row = package_rows.row(tx, found.id)
    if package_rows.as_package(row).digest != found.digest:
        raise Conflict(f"package {found.id} was changed while it was compiled", hint="compile it again")
    manifest = manifests.commit(tx, "compiled", files)
    if isinstance(manifest, list):
        raise Conflict(f"{len(manifest)} files were taken away while they were kept", hint="try again")
    form = msgspec.structs.replace(form, manifest=manifest.id)
    package_rows.put_compiled(tx, key, form)
    payload = msgspec.json.encode({"package": found.id, "equal": form.equal, "why": form.why, "digest": form.digest})
    batch.events.append(
        Event(job.project_name, batch.now, job.actor.signature, "models.compile", f"packages/{found.id}", payload)
    )
    return form
