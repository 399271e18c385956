"""Every setting that tarmac reads from the environment, in one place; nothing else looks there."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tarmac.core.errors import UnknownKey

PREFIX = "TARMAC_"


@dataclass(frozen=True, slots=True)
class Setting:
    name: str
    meaning: str


SETTINGS = (
    Setting(
        "TARMAC_WORKSPACE",
        "The workspace: a folder that holds `.tarmac/`, or a server's URL. Default: the nearest `.tarmac/` upwards.",
    ),
    Setting("TARMAC_PROJECT", "The project. Default: `[project].name` of the nearest `tarmac.toml`, else `default`."),
    Setting("TARMAC_TOKEN", "The token that is sent to a server. A local server's own token file needs no setting."),
    Setting(
        "TARMAC_LEDGER_KEY",
        "The key that signs the ledger, 64 hex digits, where it must not lie in the workspace folder.",
    ),
    Setting("TARMAC_RUN", "The run that a script belongs to; `tarmac run` sets it for the script it starts."),
    Setting("TARMAC_STATE", "Where tokens of local servers are kept. Default: the user's state folder."),
    Setting("TARMAC_SPOOL", "Where runs lie until they are in the workspace. Default: inside it, or the state folder."),
    Setting("TARMAC_OFFLINE", "`1` keeps runs on this machine until `tarmac sync` sends them."),
    Setting("TARMAC_TRACEBACK", "`1` shows the traceback of a fault of tarmac's own."),
    Setting("TARMAC_PROVE", "`1` runs tests at their full size (`make prove` sets it)."),
)


@dataclass(frozen=True, slots=True)
class Settings:
    workspace: str | None = None
    project: str | None = None
    token: str | None = None
    ledger_key: str | None = None
    state: Path = Path("~/.local/state/tarmac")
    spool: Path | None = None
    run: str | None = None
    offline: bool = False

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Settings:
        values = os.environ if environment is None else environment
        known = [setting.name for setting in SETTINGS]
        for name in values:
            if name.startswith(PREFIX) and name not in known:
                raise UnknownKey.at("the environment", name, known)
        state = values.get("TARMAC_STATE") or (
            str(Path(values["LOCALAPPDATA"]) / "tarmac")
            if "LOCALAPPDATA" in values
            else str(Path(values.get("XDG_STATE_HOME") or "~/.local/state") / "tarmac")
        )
        return cls(
            workspace=values.get("TARMAC_WORKSPACE") or None,
            project=values.get("TARMAC_PROJECT") or None,
            token=values.get("TARMAC_TOKEN") or None,
            ledger_key=values.get("TARMAC_LEDGER_KEY") or None,
            state=Path(state).expanduser().absolute(),
            spool=Path(values["TARMAC_SPOOL"]).expanduser().absolute() if values.get("TARMAC_SPOOL") else None,
            run=values.get("TARMAC_RUN") or None,
            offline=values.get("TARMAC_OFFLINE", "") not in ("", "0"),
        )
