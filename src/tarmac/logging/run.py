"""A run, as the code that runs in it sees it: each call leaves a record in the spool of this process, and no more.

No method raises into training. What is wrong in itself, a name that cannot be one, a file that is not there, is said
by those that are no part of a loop: `save`, `use`, `model`, and the start of the run.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextvars import ContextVar, Token
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from tarmac.core.clock import now
from tarmac.core.errors import Invalid, bounded
from tarmac.core.ids import short
from tarmac.core.names import Name, Value
from tarmac.core.secrets import mask_text, mask_value
from tarmac.formats.spool import AnyRecord, Begin, End, Modelled, Note, Params, Points, SavedFile, Tags, Used
from tarmac.logging import carrier, values
from tarmac.logging.complaints import Complaints, say
from tarmac.logging.place import Place
from tarmac.logging.spool import Spool

if TYPE_CHECKING:  # what training pays for only when it saves
    from tarmac.logging.notebook import Line
    from tarmac.logging.shelf import Paths
    from tarmac.logging.things import Piece

Status = Literal["finished", "failed", "killed"]
PATIENCE_SECONDS = 60.0
LOOK_MILLISECONDS = 10_000
LARGEST_STEP = 2**63 - 1

current: ContextVar[Run | None] = ContextVar("tarmac_run", default=None)


class Run:
    """Made by `tarmac.run(...)`. A quiet one, of a process that leaves writing to another, keeps nothing."""

    def __init__(
        self,
        place: Place,
        begin: Begin,
        *,
        strict: bool = False,
        patience: float = PATIENCE_SECONDS,
        quiet: bool = False,
    ) -> None:
        self.place = place
        self.begun = begin
        self.id = begin.run
        self.name = begin.name or f"run-{begin.run[6:12]}"
        self.experiment = begin.experiment or "default"
        self.ended = False
        self.error_before: object = None
        """The error that stood in `sys.last_value` before the run began: it is not the run's."""
        self.hidden = False
        """Whether threads that inherit no context do not find it: it is of one thread's fit."""
        self.quiet = quiet
        self.patience = patience
        self._spool: Spool | None = None
        self._lock = threading.RLock()  # a signal handler may log while the thread it interrupts ends the run
        self._complain = Complaints(
            self.name, strict=strict, keep=lambda kind, text: self._append(Tags({f"tarmac.warning.{kind}": text}))
        )
        self._look_at = 0
        self._step = -1
        self._params: dict[str, str] = {}
        self._paths: Paths | None = None
        self._line: Line | None = None
        self._tokens: list[Token[Run | None]] = []

    # --- what is said of a run ---

    def log(self, metrics: Mapping[str, Any] | None = None, step: int | None = None, **more: Any) -> None:
        """Add a point to each of some metrics; without a step it is the next one."""
        try:
            at = time.time_ns() // 1_000_000
            if more:
                metrics = {**(metrics or {}), **more}
            if step is None:
                step = self._step + 1
            elif type(step) is not int or not -LARGEST_STEP <= step <= LARGEST_STEP:
                step = self._whole(step)
            self._step = step
            points: dict[str, float] = {}
            for name, value in (metrics or {}).items():
                try:
                    points[values.key(name)] = value if type(value) is float else values.number(value)
                except Exception as error:  # noqa: BLE001 - one bad value must not cost the others
                    self._judge(name, value, error, points)
            spool = self._spool or self._open()
            if points and spool is not None:
                spool.append(Points(step, at, points), len(points))
                if at >= self._look_at:
                    self._look(at)
                if self._line is not None:
                    self._line.add(len(points))
        except Exception as error:  # noqa: BLE001 - whatever it is, training goes on
            self._complain("log", error, "a point was left out")

    def params(self, given: Any = None, /, **more: Any) -> None:
        """Record how this run is set up: a mapping, or an object that holds settings. Nested names are joined by dots.

        A param that is there already keeps its value.
        """
        try:
            fresh = {}
            for key, value in [*(values.pairs(given) if given is not None else ()), *more.items()]:
                text = self._text(key, value)
                before = None if text is None else self._params.setdefault(key, text)
                if before != text:
                    self._complain("param", None, f"param `{bounded(key)}` is `{bounded(before)}` and stays so")
                elif text is not None:
                    fresh[key] = text
        except Exception as error:  # noqa: BLE001 - what people hand in may do anything when it is looked at
            return self._complain("params", error, "params were left out")
        return self._append(Params(fresh)) if fresh else None

    def tag(self, given: Mapping[str, Any] | None = None, /, **more: Any) -> None:
        """Set tags; a tag may change."""
        try:
            texts = {str(key): self._text(key, value) for key, value in {**(given or {}), **more}.items()}
        except Exception as error:  # noqa: BLE001 - as with params
            return self._complain("tags", error, "tags were left out")
        kept = {key: text for key, text in texts.items() if text is not None}
        return self._append(Tags(kept)) if kept else None

    def note(self, text: str) -> None:
        """Write what a person should know of this run, in place of what was written before."""
        try:
            self._append(Note(mask_text(values.text(text))[:20_000]))
        except Exception as error:  # noqa: BLE001 - as with params
            self._complain("note", error, "a note was left out")

    def use(self, name: str, about: str = "") -> None:
        """Record that this run was given a data set or a package: `churn-data@v3`."""
        what, _, version = name.rpartition("@") if "@" in str(name) else (name, "", "")
        try:
            for text, kind in ((what, Name), (version, str if not version else Name), (about, Value)):
                msgspec.convert(text, kind)
        except msgspec.ValidationError:
            raise Invalid(f"`{bounded(name)}` names nothing that could be used", hint="like churn-data@v3") from None
        self._append(Used(what, version, about))

    def save(self, name: str | os.PathLike[str], thing: Any = None) -> None:
        """Keep a file of this run: a thing under a name, or a file or folder that is there.

            run.save("roc.png", figure)             # matplotlib, plotly, PIL, an array as an image
            run.save("predictions.parquet", table)  # pandas, polars, Arrow; also .csv and .json
            run.save("report", {"auc": 0.9})        # becomes report.json
            run.save("weights.npy", array)          # also text, bytes and torch tensors
            run.save("model.bin")                   # an existing file, or folder, under its own name
            run.save("plots", Path("out"))          # or under another

        The name's suffix says the format; where it has none, the usual one of the thing is added. Saving under the same
        name again replaces. When this returns the bytes are copied: the thing may change. In JSON, NaN and infinity
        become null. An array is an image where the name ends like one: height, width, and 1, 3 or 4 values for each
        pixel; floats of 0 to 1 and whole numbers of 0 to 255 are taken as they are, others are stretched from black to
        white.

        Raises for what is wrong with the arguments. A full disk is a warning, and training goes on.
        """
        from tarmac.logging import things

        pieces = list(things.pieces(name, thing, look=not self.quiet))
        self._keep(f"`{bounded(name)}`", pieces)

    def model(
        self, model: Any, name: str | None = None, example: Any = None, *, before: Any = None, after: Any = None,
        register: bool = True,
    ) -> None:  # fmt: skip
        """Keep a model: its files below `models/NAME/`, in the form its library writes, else as a pickle.

            run.model(clf, name="churn", example=X[:5])

        With a name it becomes a package, and the next version of the model of that name, on its way to the workspace:
        sealed, with its signature, its requirements and its lineage. Without, or with `register=False`, it stays a
        file of the run.

        Known are scikit-learn, torch, xgboost, lightgbm, catboost, keras, onnx (also as bytes), whatever can be
        pickled, functions, and `pathlib.Path(…)` of a model's file or folder. An example of the input, some rows of a
        table or an array, says what the model takes; its first rows are kept. `before` and `after` are functions for
        what is done with the input before the model, and with its answer after it; they travel with it.

        Raises for what is wrong with the arguments, like a model that cannot be pickled. A full disk is a warning.
        """
        from tarmac.logging import models

        if name is not None and register:
            models.check_name(name)
        found, last = models.packaged(model, name or "model", example, before=before, after=after, look=not self.quiet)
        saved = self._keep(f"model `{bounded(name or 'model')}`", found, last)
        if saved and name is not None and register:
            self._append(Modelled(name, saved))

    def _keep(
        self, what: str, pieces: list[Piece], last: Callable[[list[SavedFile]], Piece] | None = None
    ) -> list[SavedFile]:
        """Put all pieces on the shelf of this process's spool, then record them: all or none. What was kept."""
        from tarmac.logging.shelf import NoRoom, Paths, Shelf

        if self._paths is None:
            self._paths = Paths()
        self._paths.take(piece.path for piece in pieces)
        spool = self._spool or self._open()
        if spool is None:
            return []
        shelf = Shelf(spool.folder)
        try:
            saved = shelf.put(pieces)
            if last is not None:
                saved += shelf.put([last(saved)])
        except NoRoom as error:
            self._complain("save", error, f"{what} was not saved")
            return []
        for file in saved:
            self._append(file)
        return saved

    def _judge(self, name: Any, value: Any, error: Exception, points: dict[str, float]) -> None:
        """What is no number: metrics one level deeper (`{"train": {"loss": 1}}` is train/loss), or nothing."""
        if not isinstance(value, Mapping):
            return self._complain("value", error, f"metric {_shown(name)} was left out")
        for below, inner in value.items():
            try:
                points[values.key(f"{name}/{below}")] = values.number(inner)
            except Exception as fault:  # noqa: BLE001 - as above
                self._complain("value", fault, f"metric {_shown(name)}/{_shown(below)} was left out")
        return None

    def _whole(self, step: Any) -> int:
        """A step of another kind (a numpy integer, 2.0), or the nearest there can be."""
        try:
            whole = max(-LARGEST_STEP, min(int(step), LARGEST_STEP))
            exact = bool(whole == step)
        except (TypeError, ValueError, OverflowError):
            whole, exact = self._step + 1, False
        if not exact:
            self._complain("step", None, f"`{bounded(step)}` is no step, {whole} was taken")
        return whole

    def _text(self, key: Any, value: Any) -> str | None:
        try:
            return mask_value(values.key(key), values.text(value))
        except Exception as error:  # noqa: BLE001 - a __str__ that raises, a key that is none
            self._complain("text", error, f"{_shown(key)} was left out")
            return None

    # --- where it goes ---

    def open(self) -> None:
        """Begin the spool now, and see to it that it is carried."""
        if self._open() is not None and not carrier.ensure(self.place):
            self._complain("carrier", None, "no process could be started; `tarmac sync` brings this run to its place")

    def _look(self, at: int) -> None:
        """Now and then: if the carrier has died, another takes its place."""
        if self._look_at:
            carrier.ensure(self.place)
        self._look_at = at + LOOK_MILLISECONDS

    def _append(self, record: AnyRecord) -> None:
        try:
            spool = self._spool or self._open()
            if spool is not None:
                spool.append(record)
        except Exception as error:  # noqa: BLE001 - whatever it is, training goes on
            self._complain("record", error, "a record was left out")

    def _open(self) -> Spool | None:
        """This process's own spool, made when the first record needs it."""
        if self.quiet:
            return None
        if self.ended:
            self._complain("ended", None, "nothing is recorded after its end")
            return None
        with self._lock:
            if self._spool is None:
                try:
                    folder = self.place.new_spool(short())
                    begin = msgspec.structs.replace(self.begun, place=str(folder), pid=os.getpid())
                    self._spool = Spool.make(folder, begin)
                except OSError as error:
                    self.quiet = True  # nothing can be kept: said once, and training goes on
                    self._complain("spool", error, f"{self.place.spools} cannot be written; this run is not recorded")
            return self._spool

    def forked(self) -> None:
        """In a child: write to a spool of our own, begin and end nothing."""
        self._lock = threading.RLock()  # a signal handler may log while the thread it interrupts ends the run
        spool, self._spool = self._spool, None
        if spool is not None:
            spool.forget()
        self.begun = as_worker(self.begun)
        self._line = None  # the notebook listens to the parent

    # --- its end ---

    def end(self, status: Status = "finished") -> None:
        """End the run, and wait until it is in the workspace, for as long as that gets on."""
        if status not in ("finished", "failed", "killed"):
            raise Invalid(f"`{bounded(status)}` is no end of a run", hint="finished, failed or killed")
        with self._lock:
            if self.ended:
                return
            for kind, count in self._complain.repeated().items():
                if self._spool is not None:
                    self._spool.append(Tags({f"tarmac.warnings.{kind}": str(count)}))
            self.ended = True
            spool, self._spool = self._spool, None
        if spool is not None:
            spool.close(End(status if self.begun.owner else "", max(now(), self.begun.at)))
            missing = self._wait(spool)
            if self._line is not None:
                self._line.end(f"{status}, not yet sent: {missing}" if missing else status)

    def _wait(self, spool: Spool) -> str:
        """Empty when all is in the workspace, else why it is not."""
        if self.place.offline:
            return "offline"
        carrier.ensure(self.place)
        began = told = time.monotonic()

        def tell(state: carrier.State | None) -> None:
            nonlocal told
            if time.monotonic() - told > 1 and sys.stderr is not None and sys.stderr.isatty():
                told = time.monotonic()
                share = f"{100 * state.carried // max(spool.size, 1)} %" if state else "0 %"
                say(f"\rrun {self.name}: {share} is in the workspace; Ctrl-C leaves the rest to `tarmac sync`", end="")

        try:
            left = carrier.wait(spool.folder, self.patience, tell)
        except KeyboardInterrupt:
            left = carrier.State(0, "interrupted")
        if told != began:
            say("")
        if left is None:
            return ""
        why = left.trouble or "it takes long"
        say(
            f"tarmac: run {self.name} is not whole in {self.place.where} yet: {why}; "
            f"it lies safe in {spool.folder}, and `tarmac sync` sends it"
        )
        return why

    def __enter__(self) -> Run:
        self._tokens.append(current.set(self))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            current.reset(self._tokens.pop())
        except (ValueError, IndexError):  # left in another context than it was entered in: a generator, another task
            pass
        self.end(status_of(error))

    # --- how it is shown, and sent to workers ---

    @property
    def url(self) -> str:
        """Where to look at it."""
        return f"{self.place.page}/runs/{self.id}" if self.place.is_server else f"{self.place.where} run {self.id}"

    def show(self) -> None:
        """Say that it begins: on stderr, or in a notebook as a line that goes on saying how it is."""
        if self.quiet:
            return
        if "IPython" in sys.modules:
            from tarmac.logging import notebook

            self._line = notebook.start(self)
        if self._line is None:
            say(f"run {self.name} ({self.experiment}) → {self.url}")

    def _repr_html_(self) -> str:
        from tarmac.logging import notebook

        if self._line is not None:
            return self._line.html()
        return notebook.html(self, "quiet" if self.quiet else "ended" if self.ended else "running", 0)

    def __repr__(self) -> str:
        state = "quiet" if self.quiet else "ended" if self.ended else "running"
        return f"<run {self.name} {self.id} of {self.experiment}: {state}>"

    def __reduce__(self) -> tuple[Any, ...]:
        from tarmac.logging import start

        return start.attach, (self.place, as_worker(self.begun), self.quiet)


def _shown(thing: Any) -> str:
    """What people hand in may not even be able to say what it is."""
    try:
        return f"`{bounded(thing)}`"
    except Exception:  # noqa: BLE001 - as said
        return f"a {type(thing).__name__}"


def as_worker(begun: Begin) -> Begin:
    """What a process says that writes to a run another one begins and ends."""
    return msgspec.structs.replace(begun, owner=False, adopts=False, capture=False, meter=False, resume=False)


def status_of(error: BaseException | None) -> Status:
    if error is None or (isinstance(error, SystemExit) and error.code in (None, 0)):
        return "finished"
    return "killed" if isinstance(error, KeyboardInterrupt) else "failed"
