"""Runs benchmarks: `python bench/run.py [PART…] [--quick] [--write] [--peers]`."""

from __future__ import annotations

import argparse
import sys
import time
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from bench import machine, table  # noqa: E402

PARTS = ("store", "tracking", "training", "mlflow", "registry", "serving", "data", "pipelines")
PAGE = ROOT / "docs" / "benchmarks.md"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", default=PARTS)
    parser.add_argument("--quick", action="store_true", help="small sizes: does it still run?")
    parser.add_argument("--write", action="store_true", help="write the tables into docs/benchmarks.md")
    parser.add_argument(
        "--peers", action="store_true", help="install and measure peers as well (hundreds of megabytes)"
    )
    options = parser.parse_args()
    print(machine.describe())
    missed = 0
    for part in options.parts or PARTS:
        figures = import_module(f"bench.{part}.measure").measure(quick=options.quick, peers=options.peers)
        text = table.markdown(figures)
        print(f"\n## {part}\n\n{text}")
        missed += sum(figure.met is False for figure in figures)
        if options.write:
            write(part, text)
    print(f"\n{missed} targets missed")


def write(part: str, text: str) -> None:
    """Put the table between its marks on the page; what stands around it is written by hand."""
    begin, end = f"<!-- {part}: measured by bench/run.py -->", f"<!-- {part}: end -->"
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(begin)
    _, _, after = rest.partition(end)
    when = time.strftime("%Y-%m-%d", time.gmtime())
    PAGE.write_text(f"{before}{begin}\n\n{when}, {machine.describe()}\n\n{text}\n\n{end}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
