"""`tarmac load-test`: what callers of a runtime see."""

from __future__ import annotations

import json
import sys
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import click
import msgspec

from tarmac.core.errors import Invalid, Unreachable, bounded
from tarmac.ship.loading import Report, run

WIDEST = 50
FILLERS = {"BOOL": True, "BYTES": "a"}


@click.command("load-test")
@click.argument("url")
@click.option("--callers", default=8, show_default=True, type=click.IntRange(1, 10_000), help="Who ask at once.")
@click.option("--seconds", default=10.0, show_default=True, type=click.FloatRange(0.1), help="For how long.")
@click.option("--rate", type=click.FloatRange(0.1), help="Requests a second.  [default: as fast as it answers]")
@click.option(
    "--body", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="What is sent; lines are sent in turn."
)
@click.option("--header", "headers", multiple=True, metavar="NAME:VALUE", help="A header that is sent along.")
@click.option("--p99", "limit", type=float, metavar="MS", help="End with exit code 1 if p99 is above.")
@click.option("--json", "as_json", is_flag=True, help="Answer as JSON.")
def command(
    url: str, callers: int, seconds: float, rate: float | None, body: Path | None, headers: tuple[str, ...],
    limit: float | None, as_json: bool,
) -> int:  # fmt: skip
    """Ask URL again and again, and show how long callers waited.

    URL is that of a prediction, like http://host:8080/v2/models/churn/infer, for which rows are made from the model's
    signature; for any other path give a --body. With --rate the time a request should have been sent counts.
    """
    sent = [_header(text) for text in headers]
    bodies = body.read_bytes().splitlines() if body is not None else [_made(url, sent)]
    if not any(bodies):
        raise Invalid("there is nothing to send", hint="--body FILE with a request in each line")
    report = run(url, [line for line in bodies if line], callers=callers, seconds=seconds, rate=rate, headers=sent)
    click.echo(msgspec.json.encode(report).decode() if as_json else shown(report))
    if report.failed:
        click.echo(f"{report.failed:,} requests failed", err=True)
    return 1 if report.failed or (limit is not None and report.p99_ms > limit) else 0


def _header(text: str) -> tuple[str, str]:
    name, mark, value = text.partition(":")
    if not mark:
        raise Invalid(f"`{bounded(text)}` is not NAME:VALUE")
    return name.strip(), value.strip()


def _made(url: str, headers: list[tuple[str, str]]) -> bytes:
    """A row that fits the signature of the model that is asked."""
    parts = urlsplit(url)
    words = parts.path.strip("/").split("/")
    if words[:2] == ["v2", "models"] and len(words) > 2:
        name = words[2]
    elif words[0] == "predict" and len(words) == 2:
        raise Invalid(
            "for this path say what is sent: --body FILE", hint=f"or ask {parts.netloc}/v2/models/{words[1]}/infer"
        )
    else:
        raise Invalid(
            f"nothing says what to send to {bounded(url, 300)}", hint="--body FILE with a request in each line"
        )
    address = f"{parts.scheme}://{parts.netloc}/v2/models/{quote(name)}"
    try:
        with urllib.request.urlopen(urllib.request.Request(address, headers=dict(headers)), timeout=10) as answer:  # noqa: S310
            inputs = json.loads(answer.read())["inputs"]
    except (OSError, ValueError, KeyError) as error:
        raise Unreachable(f"{bounded(address, 300)} does not say what it takes: {error}", hint="--body FILE") from None
    if not inputs:
        raise Invalid(f"`{bounded(name)}` has no signature", hint="--body FILE with a request in each line")
    return msgspec.json.encode({"inputs": [_tensor(one) for one in inputs]})


def _tensor(spec: dict[str, Any]) -> dict[str, Any]:
    shape = [1, *(max(1, size) for size in spec["shape"][1:])]
    count = 1
    for size in shape:
        count *= size
    filler = FILLERS.get(spec["datatype"])
    floats = spec["datatype"].startswith("FP")
    data = [filler if filler is not None else (n % 7) / 7 if floats else n % 7 for n in range(count)]
    return {"name": spec["name"], "datatype": spec["datatype"], "shape": shape, "data": data}


def shown(report: Report) -> str:
    most = max((bucket.answers for bucket in report.histogram), default=1)
    bar = "█" if (sys.stdout.encoding or "").lower().startswith("utf") else "#"
    lines = [
        f"{report.answers:,} answers in {report.seconds:.1f} s: {report.rate:,.0f}/s by {report.callers} callers",
    ]
    times = (("p50", report.p50_ms), ("p90", report.p90_ms), ("p99", report.p99_ms), ("p99.9", report.p999_ms))
    lines.append("   ".join(f"{name} {time:.2f} ms" for name, time in (*times, ("longest", report.max_ms))))
    for bucket in report.histogram:
        width = round(bucket.answers / most * WIDEST) or (1 if bucket.answers else 0)
        lines.append(f"≤ {bucket.up_to_ms:9.2f} ms  {bar * width} {bucket.answers:,}")
    lines += [f"{why}: {count:,}" for why, count in report.failures.items()]
    return "\n".join(lines)
