"""Which of many processes that train together this one is."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from tarmac.core.errors import Invalid

# rank and size, as torchrun and accelerate, Slurm, Open MPI and PMI say them
_WORDS = (
    ("RANK", "WORLD_SIZE"),
    ("SLURM_PROCID", "SLURM_NTASKS"),
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("PMI_RANK", "PMI_SIZE"),
)


def find(environment: Mapping[str, str] | None = None) -> tuple[int, int]:
    """This process's rank and how many there are; (0, 1) for one that is alone."""
    values = os.environ if environment is None else environment
    for rank_word, size_word in _WORDS:
        try:
            rank, size = int(values[rank_word]), int(values[size_word])
        except (KeyError, ValueError):
            continue
        if size > 1 and 0 <= rank < size:
            return rank, size
    return 0, 1


def shared_run() -> str:
    """The id of the run that all ranks of one launch write to, which each of them finds out by itself."""
    values = os.environ
    if "SLURM_JOB_ID" in values and "SLURM_PROCID" in values:
        launch = [values["SLURM_JOB_ID"], values.get("SLURM_STEP_ID", ""), values.get("SLURM_RESTART_COUNT", "")]
        launch.append(values.get("SLURM_CLUSTER_NAME", ""))
    elif values.get("LOCAL_WORLD_SIZE", values.get("WORLD_SIZE")) == values.get("WORLD_SIZE"):
        parent = os.getppid()
        launch = [os.uname().nodename if hasattr(os, "uname") else "", str(parent), _started(parent)]
        launch.append(values.get("TORCHELASTIC_RESTART_COUNT", ""))
    else:
        raise Invalid(
            "the processes of this launch run on several machines and cannot agree on a run by themselves",
            hint="set TARMAC_RUN to the same 32 hex digits for all of them, or log from rank 0 only",
        )
    return hashlib.blake2b("|".join(launch).encode(), digest_size=16).hexdigest()


def _started(pid: int) -> str:
    """When a process was started, which tells it from an earlier one of the same number."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""
