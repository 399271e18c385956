"""`tarmac serve`: models that answer, from names in a workspace, package folders or ONNX files."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tarmac.cli.common import add_options, opened, take_options
from tarmac.core.digest import digest
from tarmac.core.errors import Invalid, NotFound, TarmacError, bounded
from tarmac.serve.routes import Batching, Logging
from tarmac.ship.agent import Agent, Target, Wish, Workspace, nothing_cut
from tarmac.ship.canary import Counts

if TYPE_CHECKING:
    from tarmac.serve.supervisor import Supervisor

MIB = 1024 * 1024
START_SECONDS = 120.0
COLLECT_SECONDS = 60.0
LOOPBACK = ("127.0.0.1", "::1", "localhost")


@click.command("serve")
@click.argument("things", nargs=-1, required=True)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen at.")
@click.option("--port", default=8080, show_default=True, help="The port; 0 finds a free one.")
@click.option("--grpc-port", type=int, help="A second port, for gRPC; 0 finds a free one.  [default: none]")
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1, 64), help="Processes that answer.")
@click.option("--as", "name", metavar="NAME", help="What the endpoint is called.  [default: the model's name]")
@click.option("--share", "shares", multiple=True, metavar="REF=SHARE", help="The share of a version, like m@v8=0.05.")
@click.option("--sticky", metavar="KEY", help="The parameter or header whose value keeps a caller on one version.")
@click.option("--shadow", metavar="REF", help="A version that sees every request and answers nobody.")
@click.option("--canary", metavar="REF", help="A version that gets more and more callers, or none, by how it does.")
@click.option("--steps", default="5%,25%,50%,100%", show_default=True, help="The shares that a canary goes through.")
@click.option(
    "--margin", default=0.01, show_default=True, help="How much worse a canary may be, as a share of answers."
)
@click.option(
    "--memory",
    type=click.IntRange(1),
    metavar="MB",
    help="What models may take; the least asked rest.  [default: all]",
)
@click.option("--rows", default=64, show_default=True, type=click.IntRange(1, 100_000), help="Rows in one batch.")
@click.option("--timeout", default=30.0, show_default=True, help="Seconds after which a caller is sent away.")
@click.option(
    "--token", "tokens", multiple=True, metavar="TOKEN", help="A token that callers have to show; - reads it."
)
@click.option("--no-log", is_flag=True, help="Keep no log of predictions.")
@click.option("--log-dir", type=click.Path(path_type=Path), help="Where the log goes.  [default: inside the runtime]")
@click.option("--sample", default=1.0, show_default=True, type=click.FloatRange(0, 1), help="Share that is logged.")
@click.option("--redact", multiple=True, metavar="INPUT", help="An input that is not logged.")
@click.option("--trust", multiple=True, metavar="DIGEST", help="A package whose own code may run here.")
def command(things: tuple[str, ...], **values: Any) -> int:
    """Answer with THINGS: `churn@production`, `churn@v7`, a package folder, or a file model.onnx.

    Things of one model are one endpoint: `tarmac serve churn@v7 churn@v8 --share churn@v8=0.05`. An alias is followed:
    when it is moved, the version it points to answers from the next moment on, and no request is lost.
    """
    place, project, as_json = take_options(values)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tarmac-serve-")))
        asked = [*things, *(values[extra] for extra in ("shadow", "canary") if values[extra])]
        named = not all(_is_path(thing) for thing in asked)
        door = stack.enter_context(opened(place, project)) if named else None
        source = _Source(door, folder, list(values["trust"]))
        wishes = _wishes(things, source, values)
        agent = Agent(source.asked(), wishes, folder / "routes.json", [_token(token) for token in values["tokens"]])
        agent.look(now=True)
        collector = _Collector(door, agent, values) if door is not None and not values["no_log"] else None
        return _run(agent, folder, values, collector, as_json=as_json)


def _is_path(thing: str) -> bool:
    return thing.endswith(".onnx") or os.sep in thing or Path(thing).is_dir()


def _token(given: str) -> str:
    token = sys.stdin.readline().strip() if given == "-" else given
    if len(token) < 8:
        raise Invalid("a token has at least 8 characters", hint="make one: `openssl rand -hex 24`")
    return digest(token.encode())


def _wishes(things: tuple[str, ...], source: _Source, values: dict[str, Any]) -> list[Wish]:
    shares = dict(_share(text) for text in values["shares"])
    for ref in shares:
        if ref not in things:
            raise NotFound.named("thing to serve", ref, things)
    by_name: dict[str, list[str]] = {}
    for thing in things:
        by_name.setdefault(source.name_of(thing), []).append(thing)
    if values["name"] is not None:
        if len(by_name) > 1:
            raise Invalid(f"--as names one endpoint, and these are {len(by_name)}: {', '.join(by_name)}")
        by_name = {values["name"]: list(things)}
    if len(by_name) > 1 and (values["shadow"] or values["canary"]):
        raise Invalid("--shadow and --canary are for one endpoint, and these are several")
    return [
        Wish(
            name=name,
            refs=_shared(refs, shares),
            shadow=values["shadow"],
            canary=values["canary"],
            steps=tuple(_number(step) for step in values["steps"].split(",")),
            margin=values["margin"],
            sticky=values["sticky"],
            batching=Batching(rows=values["rows"]),
            logging=Logging(sample=values["sample"], redact=list(values["redact"])),
            timeout_ms=max(1, int(values["timeout"] * 1000)),
        )
        for name, refs in by_name.items()
    ]


def _share(text: str) -> tuple[str, float]:
    ref, mark, number = text.rpartition("=")
    if not mark:
        raise Invalid(f"`{bounded(text)}` is not REF=SHARE", hint="like --share churn@v8=0.05 or churn@v8=5%")
    return ref, _number(number)


def _number(text: str) -> float:
    try:
        share = float(text.strip().removesuffix("%")) / (100 if text.strip().endswith("%") else 1)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise Invalid(f"`{bounded(text)}` is no share", hint="like 0.05 or 5%")
    return share


def _shared(refs: list[str], shares: dict[str, float]) -> list[tuple[str, float]]:
    """What nobody spoke of shares the rest. Small shares stand first: a canary that grows takes, and never gives."""
    given = sum(shares.get(ref, 0.0) for ref in refs)
    others = [ref for ref in refs if ref not in shares]
    if given > 1 + 1e-9 or (not others and given < 1 - 1e-9):
        raise Invalid(f"the shares of {', '.join(refs)} are {given:g} together, not 1")
    rest = max(0.0, 1 - given) / len(others) if others else 0.0
    return sorted(((ref, shares.get(ref, rest)) for ref in refs), key=lambda pair: pair[1])


class _Source:
    """Where things come from: a workspace for names, this machine for folders and files."""

    def __init__(self, door: Any, folder: Path, trust: list[str]) -> None:
        self._door = door
        self._folder = folder
        self._trust = trust

    def name_of(self, thing: str) -> str:
        return Path(thing).stem if _is_path(thing) else thing.partition("@")[0]

    def asked(self) -> Workspace:
        if self._door is None:
            return Workspace(lambda ref: ref, self._fetch, lambda ref: None, nothing_cut, self._counts)
        from tarmac.ship.operations import ListCuts

        door = self._door
        return Workspace(self._points_to, self._fetch, self._before, lambda: door(ListCuts()).cuts, self._counts)

    def _counts(self, endpoint: str, version: str) -> Counts:
        """What the workers counted: a bad answer is one that failed."""
        from tarmac.serve.metrics import merged
        from tarmac.serve.worker import states

        for fact in merged(state["tallies"] for state in states(self._folder / "runtime")):
            if (fact["endpoint"], fact["version"]) == (endpoint, version):
                return Counts(fact["requests"] + fact["errors"], fact["errors"])
        return Counts(0, 0)

    def _points_to(self, ref: str) -> str:
        if _is_path(ref):
            return ref
        from tarmac.registry.operations import GetVersion

        version = self._door(GetVersion(ref=ref))
        return f"{version.id} {version.digest}"

    def _fetch(self, ref: str) -> Target:
        if _is_path(ref):
            return self._local(Path(ref))
        from tarmac.workspace import packages

        version, sealed, compiled = packages.fetch(self._door, ref)
        vouched = packages.trust_here(self._door, version, sealed, self._trust)
        return Target(
            str(version.number), version.model, sealed.folder, sealed.digest, compiled, sealed.digest in vouched.reasons
        )

    def _local(self, path: Path) -> Target:
        from tarmac.formats import packing
        from tarmac.formats.package import Sealed, is_package

        if not path.exists():
            raise NotFound(f"there is no {bounded(path, 300)}", hint="a package folder, or a file that ends in .onnx")
        folder = path.absolute()
        if not is_package(folder):
            folder = self._folder / "packages" / path.stem
            folder.mkdir(parents=True)
            sealed = packing.seal(folder, packing.of_path(path, folder, name=path.stem))
        else:
            sealed = Sealed(folder)
        return Target("1", path.stem, folder, sealed.digest, None, sealed.digest in self._trust)

    def _before(self, ref: str) -> str | None:
        from tarmac.registry.operations import ShowHistory

        model, _, alias = ref.partition("@")
        moves = [move for move in self._door(ShowHistory(name=model)).moves if move.alias == alias]
        number = moves[0].before if moves else None
        return f"{model}@v{number}" if number is not None else None


class _Collector:
    """Brings what was answered into the workspace, every now and then and at the end."""

    def __init__(self, door: Any, agent: Agent, values: dict[str, Any]) -> None:
        self._door = door
        self._agent = agent
        self._own = values["log_dir"] is not None
        self._again_at = time.monotonic() + COLLECT_SECONDS

    def look(self, folder: Path) -> None:
        if time.monotonic() > self._again_at:
            self._collect(folder, ended=False)
            self._again_at = time.monotonic() + COLLECT_SECONDS

    def end(self, folder: Path) -> None:
        self._collect(folder, ended=True)

    def _collect(self, folder: Path, *, ended: bool) -> None:
        if self._own or not folder.is_dir():  # whoever named a folder wants the segments themselves
            return
        try:
            from tarmac.workspace import predictions

            kept = predictions.collect(self._door, folder, self._signature, ended=ended)
        except ImportError as error:
            click.echo(f"warning: the log of predictions needs {error.name}: pip install 'tarmac[data]'", err=True)
            return
        except TarmacError as error:
            click.echo(f"warning: the log of predictions was not kept yet: {error}", err=True)
            return
        if kept and ended:
            click.echo(f"{kept:,} predictions are kept: `tarmac data ls`", err=True)

    def _signature(self, endpoint: str, version: str) -> Any:
        from tarmac.formats.package import Sealed

        folder = self._agent.folder_of(endpoint, version)
        return Sealed(folder).about.signature if folder is not None else None


def _run(agent: Agent, folder: Path, values: dict[str, Any], collector: _Collector | None, *, as_json: bool) -> int:
    from tarmac.serve import logs
    from tarmac.serve.supervisor import Supervisor
    from tarmac.serve.worker import Config

    if values["host"] not in LOOPBACK and not values["tokens"]:
        raise Invalid(
            f"listening at {values['host']} without a token would let anybody ask",
            hint="give one: `--token -` reads it, so that it stands in no list of processes",
        )
    if values["grpc_port"] is not None:
        _need_grpc()
    log = values["log_dir"].absolute() if values["log_dir"] else None
    config = Config(
        routes=str(agent.routes),
        log=not values["no_log"],
        segments=str(log) if log else "",
        memory_bytes=(values["memory"] or 0) * MIB // values["workers"],
        json_logs=as_json,
    )
    logs.begin(as_json=as_json)
    supervisor = Supervisor(
        folder / "runtime", config, values["host"], values["port"], values["workers"], values["grpc_port"]
    )
    with _told_to_stop(supervisor.stop_watching):
        supervisor.start()
        try:
            _until_ready(supervisor, agent)
            _announce(supervisor, agent, as_json=as_json)
            segments = folder / "runtime" / "segments"
            supervisor.watch(lambda: _look(agent, collector, segments))
        finally:
            supervisor.stop()
            if collector is not None:
                collector.end(folder / "runtime" / "segments")
    return 0


def _look(agent: Agent, collector: _Collector | None, segments: Path) -> None:
    agent.look()
    if collector is not None:
        collector.look(segments)


def _need_grpc() -> None:
    from importlib.util import find_spec

    for module, package in (("grpc", "grpcio"), ("google.protobuf", "protobuf")):
        try:
            found = find_spec(module)
        except ModuleNotFoundError:
            found = None
        if found is None:
            raise Invalid(f"--grpc-port needs {package}, which is not installed", hint="pip install 'tarmac[grpc]'")


@contextlib.contextmanager
def _told_to_stop(stop: Callable[[], None]) -> Iterator[None]:
    before = {name: signal.signal(name, lambda *_: stop()) for name in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)


def _until_ready(supervisor: Any, agent: Agent) -> None:
    until = time.monotonic() + START_SECONDS
    while not supervisor.ready() and not supervisor.stopping:
        faults = supervisor.faults()
        if faults:
            raise Invalid("; ".join(f"{name}: {fault}" for name, fault in faults.items()))
        if time.monotonic() > until or supervisor.restarts > 3:
            raise TarmacError(f"the workers did not become ready within {START_SECONDS:.0f} s", hint="see above why")
        supervisor.look()
        time.sleep(0.02)


def _announce(supervisor: Supervisor, agent: Agent, *, as_json: bool) -> None:
    from tarmac.serve import routes

    url, grpc = supervisor.url, supervisor.grpc_port
    document = routes.read(agent.routes)
    if as_json:
        import msgspec

        facts = {
            "url": url,
            "grpc": grpc,
            "endpoints": {one.name: [served.version for served in one.versions] for one in document.endpoints},
        }
        click.echo(msgspec.json.encode(facts).decode())
        return
    for endpoint in document.endpoints:
        shown = ", ".join(
            f"v{one.version}" + (f" {one.share:.0%}" if len(endpoint.versions) > 1 else "") for one in endpoint.versions
        )
        click.echo(f"{endpoint.name} ({shown}) answers at {url}/predict/{endpoint.name}")
    if grpc is not None:
        click.echo(f"gRPC: {supervisor.host}:{grpc}")
    click.echo(f"try it: {url}/   Ctrl-C stops it", err=True)


add_options(command)
