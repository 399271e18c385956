"""`@tarmac.service`: a function of rows and of other models, which is itself a model."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from tarmac.core.errors import Invalid, bounded
from tarmac.formats.models import Model
from tarmac.formats.services import Service
from tarmac.workspace.models import load_model

Ref = str | os.PathLike[str] | Model


def service(**models: Ref) -> Callable[[Callable[..., Any]], Service]:
    """Make a model of a function and the models it needs, by reference.

    @tarmac.service(detector="masks@v3")
    def mask(pictures, detector):
        return [LABELS[index] for index in detector.predict(pictures / 255).argmax(axis=1)]

    run.model(mask, name="mask-service", example=pictures)

    The models travel inside its package, in the version they have now. When it is called it is given them by name.
    """

    def made(function: Callable[..., Any]) -> Service:
        _check(function, models)
        return Service(function, partial(_loaded, models))

    return made


def _check(function: Callable[..., Any], models: Mapping[str, Ref]) -> None:
    """That it can be called with rows and with these models; found now, and not by the first caller."""
    if not callable(function):
        raise Invalid(
            f"a service is made of a function, not of {bounded(repr(function))}",
            hint='@tarmac.service(model="NAME@ALIAS"), with its brackets',
        )
    try:
        inspect.signature(function).bind(None, **dict.fromkeys(models))
    except TypeError as error:
        raise Invalid(
            f"{bounded(getattr(function, '__name__', function))} does not take rows and "
            f"{bounded(', '.join(models), 300) or 'no model'}: {error}",
            hint=f"def service(rows, {', '.join(models)})",
        ) from None


def _loaded(models: Mapping[str, Ref]) -> dict[str, Model]:
    return {name: ref if isinstance(ref, Model) else load_model(ref) for name, ref in models.items()}
