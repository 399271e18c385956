"""How arrays and tensors are written, as numbers and as images."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

from tarmac.core.errors import Invalid
from tarmac.logging.documents import Ways

ROWS_AT_ONCE = 64
COLOURS = {1: 0, 3: 2, 4: 6}
"""PNG's number for grey, RGB and RGBA, by how many values a pixel has."""


def _npy(array: Any, path: Path) -> None:
    import numpy as np

    with path.open("wb") as file:
        np.save(file, np.asarray(array), allow_pickle=False)


def _tensor_npy(tensor: Any, path: Path) -> None:
    tensor = tensor.detach().cpu()
    if str(tensor.dtype) == "torch.bfloat16":  # numpy has none
        tensor = tensor.float()
    _npy(tensor.numpy(), path)


def _torch(thing: Any, path: Path) -> None:
    import torch

    # a view would bring all of its storage along
    torch.save(thing.detach().cpu().clone() if isinstance(thing, torch.Tensor) else thing, path)


def pixels(array: Any) -> Any:
    """An array as an image of 8 or 16 bits: height, width, 1 or 3 or 4 values.

    Floats of 0 to 1 and whole numbers of 0 to 255 are taken as they are. Where others occur, what lies between the
    lowest and the highest is stretched from black to white.
    """
    import numpy as np

    found = np.asarray(array)
    if found.ndim == 2:
        found = found[:, :, None]
    if found.dtype in (np.uint8, np.uint16):
        return found
    if found.dtype == bool:
        return found.astype(np.uint8) * 255
    if found.dtype.kind not in "iuf":
        raise Invalid(f"values of type {found.dtype} make no image", hint="whole numbers, floats or booleans do")
    whole = found.dtype.kind in "iu"
    found = np.where(np.isfinite(found), found, 0).astype(np.float64)
    low, high, most = float(found.min()), float(found.max()), 255.0 if whole else 1.0
    if low < 0 or high > most:
        found, most = found - low, (high - low) or 1.0
    return np.rint(found * (255 / most)).astype(np.uint8)


def _png(array: Any, path: Path) -> None:
    image = pixels(array)
    height, width, values = image.shape
    bits = 8 * image.dtype.itemsize
    packer = zlib.compressobj(6)
    with path.open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        file.write(_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, COLOURS[values], 0, 0, 0)))
        for top in range(0, height, ROWS_AT_ONCE):
            rows = image[top : top + ROWS_AT_ONCE].astype(image.dtype.newbyteorder(">"))
            # each line begins with the number of its filter: none
            data = packer.compress(b"".join(b"\0" + row.tobytes() for row in rows))
            if data:
                file.write(_chunk(b"IDAT", data))
        file.write(_chunk(b"IDAT", packer.flush()))
        file.write(_chunk(b"IEND", b""))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))


def _through_pillow(array: Any, path: Path) -> None:
    from PIL import Image

    from tarmac.logging.pictures import write_image

    image = pixels(array)
    if image.dtype.itemsize > 1:  # what only PNG and TIFF could keep
        image = (image >> 8).astype("uint8")
    write_image(Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image), path)


NUMBERS: Ways = {".npy": _npy}
IMAGE: Ways = {
    ".png": _png,
    **dict.fromkeys((".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff"), _through_pillow),
}
TORCH: Ways = {".pt": _torch, ".pth": _torch}
TENSOR: Ways = {**TORCH, ".npy": _tensor_npy}
