"""`tarmac.autolog()`: runs that log themselves, for the libraries that are in use.

Whose fit is logged and by whom is decided in `fits.py`; what is logged goes through `record.py`; what a library is made
to do differently is in `patches.py`, which also takes it back. Each library has a file: its callback, which can be used
without autolog, and how autolog brings it in.
"""

from __future__ import annotations

import threading
from importlib import import_module
from types import ModuleType

from tarmac.core.errors import Invalid, nearest
from tarmac.logging.auto import imports, switch
from tarmac.logging.auto.switch import Options

LIBRARIES = {
    "keras": ("keras",),
    "lightgbm": ("lightgbm",),
    "lightning": ("lightning.pytorch.trainer.trainer", "pytorch_lightning.trainer.trainer"),
    "sklearn": ("sklearn.base",),
    "transformers": ("transformers.trainer",),
    "xgboost": ("xgboost",),
}
"""What can be turned on, and the module whose import is the moment to do so."""

_lock = threading.Lock()


def autolog(*libraries: str | bool, models: bool = True, datasets: bool = True) -> None:
    """Log each `fit` by itself: params, metrics, data set and model. `autolog(False)` ends it and leaves no trace.

    Without names, all libraries that are installed; with names ("sklearn", "xgboost") those. One that is not imported
    yet is not imported by this: it is joined when somebody imports it. `models=False` saves no models, `datasets=False`
    does not look at data.
    """
    if libraries == (False,):
        return _off()
    names = LIBRARIES if libraries in ((), (True,)) else libraries
    for name in names:
        if not isinstance(name, str) or name not in LIBRARIES:
            raise _unknown(name)
    with _lock:
        for name in names:
            assert isinstance(name, str)
            switch.turn_on(name, Options(models, datasets))
            for module in LIBRARIES[name]:
                imports.when_imported(module, import_module(f"{__name__}.{name}").install)
    return None


def _off() -> None:
    from tarmac.logging.auto import patches

    with _lock:
        switch.turn_off()
        imports.forget()
        patches.undo()


def _unknown(name: object) -> Invalid:
    if name == "torch":
        return Invalid("plain PyTorch has no fit that could log itself", hint="use `with tarmac.loop(model) as loop:`")
    near = nearest(str(name), LIBRARIES)
    hint = f"did you mean `{near}`?" if near else f"there are {', '.join(LIBRARIES)}"
    return Invalid(f"autolog knows no library `{name}`", hint=hint)


def __getattr__(name: str) -> ModuleType:
    # tarmac.logging.auto.xgboost.callback() without a second import
    if name in (*LIBRARIES, "torch"):
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
