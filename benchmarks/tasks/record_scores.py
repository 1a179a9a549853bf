"""Scores of each record of a split, in the order of the split's file, and their compact text.

They tell how sure a score on the split is: another sample of records would give another one. A figure of each record
is packed as 16-bit floats, deflated, as base64: 480 F1 values take 300 bytes or so. A 16-bit float has 11 significant
bits, an error of at most 1 in 2,048.
"""

from __future__ import annotations

import binascii
import math
import struct
import zlib
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence

from benchmarks.files import BenchmarkError

RecordScores = Mapping[str, Sequence[float]]
"""Figures of each record by name: `eval_loss`, the mean cross entropy per answer token of the record, `ANSWER_TOKENS`,
and the figures of `Task.score`. The loss of a split is the mean of `eval_loss` weighted by `ANSWER_TOKENS`."""
ANSWER_TOKENS = "answer_tokens"
"""Number of tokens of a record's reference answer, the end token included."""
LARGEST = 65504.0
"""The largest finite 16-bit float; greater values are packed as this one."""
MAX_BYTES = 2**24
"""Size of the longest figure that is unpacked, so that a text of a few bytes cannot fill the memory."""


def pack(values: Sequence[float]) -> str:
    """Write one figure of each record as text; numbers that are not finite stay what they are."""
    kept = [max(-LARGEST, min(LARGEST, value)) if math.isfinite(value) else value for value in values]
    return b64encode(zlib.compress(struct.pack(f"<{len(kept)}e", *kept), 9)).decode()


def unpack(text: str) -> tuple[float, ...]:
    """Read a text of `pack`.

    Raises:
        BenchmarkError: it is no such text.
    """
    try:
        inflater = zlib.decompressobj()
        content = inflater.decompress(b64decode(text, validate=True), MAX_BYTES)
        if not inflater.eof or len(content) % 2:
            raise ValueError("it is cut off, or longer than any split")
    except (binascii.Error, zlib.error, ValueError) as error:
        raise BenchmarkError(f"scores of records: {text[:40]!r} is not packed as 16-bit floats ({error})") from None
    return struct.unpack(f"<{len(content) // 2}e", content)
