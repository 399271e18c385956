"""How a command ends: what happened, to what, what next, and an exit code a script can trust."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Mapping

import click

DONE, FAILED, WRONG_USAGE, INTERRUPTED = 0, 1, 2, 130


def run(command: click.Command, args: list[str] | None = None) -> int:
    """The command's exit code; no traceback ever reaches a person."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError):
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    arguments = sys.argv[1:] if args is None else args
    try:
        code = command.main(args=arguments, prog_name="tarmac", standalone_mode=False, color=_colour())
        sys.stdout.flush()
        return code if isinstance(code, int) else DONE
    except click.exceptions.Exit as end:
        return int(end.exit_code)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return WRONG_USAGE
    except click.UsageError as error:
        text = error.format_message()
        where = error.ctx.command_path if error.ctx else "tarmac"
        _say("usage", text[:1].lower() + text[1:], f"`{where} --help` shows how", "--json" in arguments)
        return WRONG_USAGE
    except click.ClickException as error:
        _say("error", error.format_message(), None, "--json" in arguments)
        return FAILED
    except (click.Abort, KeyboardInterrupt):
        click.echo("stopped", err=True)
        return INTERRUPTED
    except BrokenPipeError:
        # whoever read us has enough (`| head`); nothing may be said at exit either
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except Exception as error:
        from tarmac.core.errors import TarmacError

        if isinstance(error, TarmacError):
            _say(error.code, error.message, error.hint, "--json" in arguments, error.detail)
            return error.exit_code
        if os.environ.get("TARMAC_TRACEBACK"):
            raise
        if isinstance(error, OSError) and error.filename is not None:
            _say("os_error", f"{str(error.filename)[:300]}: {error.strerror}", None, "--json" in arguments)
            return FAILED
        _say(
            "internal",
            f"tarmac failed: {type(error).__name__}: {str(error)[:300]}",
            "this is a fault of tarmac's; please report it, with the traceback that TARMAC_TRACEBACK=1 shows",
            "--json" in arguments,
        )
        return FAILED


def _say(code: str, message: str, hint: str | None, as_json: bool, detail: Mapping[str, object] | None = None) -> None:
    if as_json:
        import json

        body: dict[str, object] = {"error": {"code": code, "message": message, "hint": hint, "detail": detail or {}}}
        click.echo(json.dumps(body, ensure_ascii=False), err=True)
        return
    from tarmac.core.errors import LONGEST_MESSAGE, bounded

    # one line each, and nothing in them that a terminal would obey: some of it comes from the other side
    click.echo(
        f"{click.style('error:', fg='red', bold=True)} {bounded(message, LONGEST_MESSAGE)}", err=True, color=_colour()
    )
    if hint:
        click.echo(f"  {click.style('hint:', fg='cyan')} {bounded(hint, LONGEST_MESSAGE)}", err=True, color=_colour())


def _colour() -> bool | None:
    """Never where people do not want any (no-color.org); else as the terminal has it."""
    return False if os.environ.get("NO_COLOR") else None
