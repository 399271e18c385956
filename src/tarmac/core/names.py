"""What a name may be, said once and carried into every request type, schema and error."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

# `$` alone would let one newline at the end through
NO_CONTROL = r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]*$(?!\n)"

Name = Annotated[
    str,
    Meta(min_length=1, max_length=250, pattern=NO_CONTROL, description="1 to 250 characters, no control characters"),
]
ProjectName = Annotated[
    str,
    Meta(
        max_length=63,
        pattern=r"^[a-z0-9]([a-z0-9._-]*[a-z0-9])?$(?!\n)",
        description="1 to 63 of a-z, 0-9, dot, dash and underscore, with a letter or digit at both ends",
    ),
]
Note = Annotated[
    str, Meta(max_length=20_000, pattern=r"^[^\x00\ud800-\udfff]*$", description="at most 20,000 characters")
]
Value = Annotated[
    str, Meta(max_length=1_000_000, pattern=r"^[^\x00\ud800-\udfff]*$", description="at most 1,000,000 characters")
]
Id = Annotated[str, Meta(max_length=64, pattern=r"^[0-9a-f]+$(?!\n)", description="an id: hex digits")]
Digest = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$(?!\n)", description="a BLAKE3 digest: 64 hex digits")]
RelativePath = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=4096,
        # no leading or trailing slash, no empty, `.` or `..` part, no backslash, no drive letter
        pattern=r"^(?!.*(?:^|/)\.{1,2}(?:/|$))(?![A-Za-z]:)[^\x00-\x1f\x7f\\/\ud800-\udfff]+(/[^\x00-\x1f\x7f\\/\ud800-\udfff]+)*$(?!\n)",
        description="a relative path with `/` between its parts, without `.`, `..`, backslashes or control characters",
    ),
]
Folder = Annotated[
    str,
    Meta(
        max_length=4096,
        pattern=r"^$(?!\n)|^(?!.*(?:^|/)\.{1,2}(?:/|$))(?![A-Za-z]:)[^\x00-\x1f\x7f\\/\ud800-\udfff]+(/[^\x00-\x1f\x7f\\/\ud800-\udfff]+)*$(?!\n)",
        description="a relative path as of a file; nothing means the top",
    ),
]
Limit = Annotated[int, Meta(ge=1, le=1000, description="1 to 1000")]
