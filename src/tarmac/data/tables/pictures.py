"""A folder of pictures as a table: a row for each, with what can be measured of it.

Contracts and profiles of pictures are those of this table: `width.min`, how bright they are, which folders there are.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from tarmac.core.errors import Invalid, bounded
from tarmac.data.tables.sources import File, chosen_of

if TYPE_CHECKING:
    import pyarrow as pa

AT_ONCE = 512
MOST_PIXELS = 200_000_000
SMALL = 64
"""Brightness and contrast are those of the picture made this small."""


class PictureSource:
    def __init__(self, files: Sequence[File]) -> None:
        import pyarrow as pa

        try:
            import PIL  # noqa: F401
        except ImportError:
            raise Invalid(
                "looking into pictures needs Pillow, which is not installed", hint="pip install pillow"
            ) from None
        self._files = files
        self.schema: pa.Schema = pa.schema(
            [
                ("path", pa.string()),
                ("folder", pa.string()),
                ("format", pa.string()),
                ("mode", pa.string()),
                ("width", pa.int32()),
                ("height", pa.int32()),
                ("bytes", pa.int64()),
                ("brightness", pa.float64()),
                ("contrast", pa.float64()),
            ]
        )

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa

        schema = chosen_of(self.schema, columns)
        rows: list[dict[str, Any]] = []
        for row in self._rows():
            rows.append(row)
            if len(rows) == AT_ONCE:
                yield pa.RecordBatch.from_pylist(rows, schema=schema)
                rows = []
        if rows:
            yield pa.RecordBatch.from_pylist(rows, schema=schema)

    def _rows(self) -> Iterator[dict[str, Any]]:
        """Facts in the order of the files, a few pictures opened ahead."""
        with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as threads:
            waiting: deque[Future[dict[str, Any]]] = deque()
            for file in self._files:
                waiting.append(threads.submit(facts, file))
                if len(waiting) > 64:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()


def facts(file: File) -> dict[str, Any]:
    """What one picture is like. Brightness and contrast go from 0 to 1."""
    from PIL import Image, ImageStat

    try:
        with file.open() as opened, Image.open(opened) as picture:
            width, height, mode, kind = picture.width, picture.height, picture.mode, picture.format
            if width * height > MOST_PIXELS:
                raise Invalid(f"{bounded(file.path)} has {width:,} × {height:,} pixels; {MOST_PIXELS:,} are looked at")
            picture.draft("L", (SMALL, SMALL))
            statistics = ImageStat.Stat(picture.convert("L").resize((SMALL, SMALL), Image.Resampling.BOX))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, EOFError) as error:
        raise Invalid(
            f"{bounded(file.path, 300)} cannot be read as a picture: {bounded(error, 200)}",
            hint="mend or remove it; `--plain` logs the files without looking into them",
        ) from None
    return {
        "path": file.path,
        "folder": file.path.rpartition("/")[0].rpartition("/")[2],
        "format": (kind or "").lower(),
        "mode": mode,
        "width": width,
        "height": height,
        "bytes": file.size,
        "brightness": statistics.mean[0] / 255,
        "contrast": statistics.stddev[0] / 255,
    }
