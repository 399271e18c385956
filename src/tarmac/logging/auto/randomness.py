"""The random state of Python, numpy and torch, kept as it was while we do something that might draw from it."""

from __future__ import annotations

import random
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def kept() -> Iterator[None]:
    """Put back afterwards what was drawn.

    Only where no other thread could have drawn as well, which would then get the same numbers twice. So what is done
    within should be something that does not draw in the first place.
    """
    if threading.active_count() > 1:
        yield
        return
    numpy: Any = sys.modules.get("numpy.random")
    torch: Any = sys.modules.get("torch.random")
    cuda: Any = sys.modules.get("torch.cuda")
    python_state = random.getstate()
    numpy_state = numpy.get_state(legacy=False) if numpy is not None else None
    torch_state = torch.get_rng_state() if torch is not None else None
    cuda_states = cuda.get_rng_state_all() if cuda is not None and cuda.is_initialized() else None
    try:
        yield
    finally:
        random.setstate(python_state)
        if numpy_state is not None:
            numpy.set_state(numpy_state)
        if torch_state is not None:
            torch.set_rng_state(torch_state)
        if cuda_states is not None:
            cuda.set_rng_state_all(cuda_states)
