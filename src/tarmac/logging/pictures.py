"""How figures and images are written; each file's suffix says which format it has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tarmac.logging.documents import Ways


def _figure(figure: Any, path: Path) -> None:
    with path.open("wb") as file:
        figure.savefig(file, format=path.suffix[1:])


def _plotly_html(figure: Any, path: Path) -> None:
    # with the library inside, so that it can be looked at without a network, and in ten years
    path.write_text(figure.to_html(include_plotlyjs=True), encoding="utf-8")


def _plotly_json(figure: Any, path: Path) -> None:
    path.write_text(figure.to_json(), encoding="utf-8")


def _plotly_image(figure: Any, path: Path) -> None:
    path.write_bytes(figure.to_image(format=path.suffix[1:]))


def write_image(image: Any, path: Path) -> None:
    if path.suffix in (".jpg", ".jpeg") and image.mode not in ("L", "RGB", "CMYK"):
        image = image.convert("RGB")  # JPEG knows no transparency
    with path.open("wb") as file:
        image.save(file, format=FORMATS.get(path.suffix, path.suffix[1:]))


FORMATS = {".jpg": "jpeg", ".tif": "tiff"}
FIGURE: Ways = dict.fromkeys((".png", ".svg", ".pdf", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".eps"), _figure)
PLOTLY: Ways = {
    ".html": _plotly_html,
    ".json": _plotly_json,
    **dict.fromkeys((".png", ".svg", ".pdf", ".jpg", ".jpeg", ".webp"), _plotly_image),
}
IMAGE: Ways = dict.fromkeys((".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff"), write_image)
