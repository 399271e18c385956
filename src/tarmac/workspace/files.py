"""Files and folders between this machine and a run: streamed, each blob once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from difflib import unified_diff
from pathlib import Path

from tarmac.core.digest import digest_file
from tarmac.core.errors import Conflict, NotFound, bounded
from tarmac.core.files import below
from tarmac.core.ids import short
from tarmac.store.operations import CommitManifest, FindMissing, ListFiles
from tarmac.store.records import File, Manifest
from tarmac.track.operations import AttachFiles, GetDetails, ListArtifacts
from tarmac.track.records import Artifact
from tarmac.workspace import Workspace

AT_ONCE = 500


def upload(workspace: Workspace, run: str, source: Path, to: str = "") -> int:
    """Give a run a file, or a folder with all below it; how many files."""
    found = list(below(source, to))
    files = _store(workspace, found)
    for start in range(0, len(files), AT_ONCE):
        part = files[start : start + AT_ONCE]
        answer = workspace(AttachFiles(id=run, files=part))
        if answer.missing:  # gc has taken them since: send them again
            _store(workspace, found)
            answer = workspace(AttachFiles(id=run, files=part))
        if answer.missing:
            raise Conflict(f"{len(answer.missing)} blobs of {source} could not be kept")
    return len(files)


def download(workspace: Workspace, run: str, path: str, target: Path) -> int:
    """Fetch a run's file to `target`, or a folder into it; how many files. Nothing is overwritten."""
    chosen = [file for file in artifacts(workspace, run) if file.path == path or _is_below(file.path, path)]
    if not chosen:
        raise NotFound.named(
            "file",
            path,
            [file.path for file in artifacts(workspace, run)],
            hint="`tarmac runs files ID --all` lists them",
        )
    for file in chosen:
        inside = file.path[len(path) :].lstrip("/") if path else file.path
        place = target / inside if inside else (target / Path(path).name if target.is_dir() else target)
        _fetch(workspace, file, place)
    return len(chosen)


def artifacts(workspace: Workspace, run: str) -> Iterator[Artifact]:
    """Every file of a run, by path."""
    after = ""
    while True:
        page = workspace(ListArtifacts(id=run, all=True, after=after, limit=1000))
        yield from page.artifacts
        if page.next is None:
            return
        after = page.next


def commit(workspace: Workspace, kind: str, root: Path, files: Iterable[Path]) -> Manifest | None:
    """An immutable list of local files, by their paths below `root`; None for no files."""
    listed = _store(workspace, [(path.relative_to(root).as_posix(), path) for path in files])
    if not listed:
        return None
    answer = workspace(CommitManifest(kind=kind, files=listed))
    if answer.manifest is None:
        raise Conflict(f"{len(answer.missing)} blobs below {root} could not be kept")
    return answer.manifest


def source_diff(workspace: Workspace, one: str, other: str) -> Iterator[str]:
    """The lines in which the source trees of two runs differ, as a unified diff."""
    before, after = _source(workspace, one), _source(workspace, other)
    for path in sorted(before.keys() | after.keys()):
        if before.get(path) == after.get(path):
            continue
        old, new = (_text(workspace, tree.get(path)) for tree in (before, after))
        if old is None or new is None:
            yield f"{path}: differs, and is no text"
        else:
            names = f"{one[:12]}/{path}", f"{other[:12]}/{path}"
            yield from unified_diff(old.splitlines(), new.splitlines(), *names, lineterm="")


def _source(workspace: Workspace, run: str) -> dict[str, str]:
    """The digests of a run's source files, by path."""
    manifest = workspace(GetDetails(id=run)).source
    if manifest is None:
        raise Conflict(f"of run {bounded(run)} no source was kept", hint="`tarmac run SCRIPT` keeps it")
    found, after = {}, ""
    while True:
        page = workspace(ListFiles(id=manifest, after=after, limit=1000))
        found.update({file.path: file.digest for file in page.files})
        if page.next is None:
            return found
        after = page.next


def _text(workspace: Workspace, digest: str | None) -> str | None:
    """A blob as text; nothing for a file that is not there, None for one that is no text."""
    if digest is None:
        return ""
    try:
        return b"".join(workspace.read(digest)).decode("utf-8")
    except UnicodeDecodeError:
        return None


def _store(workspace: Workspace, files: list[tuple[str, Path]]) -> list[File]:
    """Upload what is not there yet."""
    listed = []
    for start in range(0, len(files), AT_ONCE):
        part = [(name, path, digest_file(path)) for name, path in files[start : start + AT_ONCE]]
        absent = set(workspace(FindMissing(digests=[digest for _, _, digest in part])).missing)
        for name, path, digest in part:
            if digest in absent:
                absent.discard(digest)
                digest = workspace.put(path)  # noqa: PLW2901 - a file that has changed since is what it is now
            listed.append(File(path=name, digest=digest, size=path.stat().st_size))
    return listed


def _is_below(path: str, folder: str) -> bool:
    return not folder or path.startswith(f"{folder}/")


def _fetch(workspace: Workspace, file: Artifact, place: Path) -> None:
    assert file.digest is not None
    place.parent.mkdir(parents=True, exist_ok=True)
    partial = place.with_name(f".{place.name}.{short()}.partial")
    try:
        with partial.open("xb") as out:
            for piece in workspace.read(file.digest):
                out.write(piece)
        if place.exists():
            raise Conflict(
                f"{place} exists already", hint="nothing is overwritten; move it away or choose another place"
            )
        partial.rename(place)
    finally:
        partial.unlink(missing_ok=True)
