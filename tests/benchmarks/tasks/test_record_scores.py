"""Scores of records as text: small, exact to 11 bits, and harmless to read."""

from __future__ import annotations

import math
import zlib
from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.files import BenchmarkError
from benchmarks.tasks.record_scores import LARGEST, pack, unpack


@given(st.lists(st.floats(-60000.0, 60000.0)))
def test_a_value_reads_back_to_eleven_bits(values: list[float]) -> None:
    found = unpack(pack(values))
    assert len(found) == len(values)
    assert all(abs(a - b) <= abs(b) / 2048 + 1e-7 for a, b in zip(found, values, strict=True))


@given(st.lists(st.floats(width=16)))
def test_a_packed_text_reads_back_as_itself(values: list[float]) -> None:
    text = pack(values)
    assert pack(unpack(text)) == text


def test_large_losses_and_lost_ones_keep_their_meaning() -> None:
    high, infinite, lost = unpack(pack([1e9, math.inf, math.nan]))
    assert (high, infinite) == (LARGEST, math.inf)
    assert math.isnan(lost)


def test_f1_of_480_questions_takes_a_few_hundred_bytes() -> None:
    assert len(pack([(i % 7) / 7 for i in range(480)])) < 400


BOMB = b64encode(zlib.compress(b"\0" * 2**25, 9)).decode()


@pytest.mark.parametrize("text", ["", "%", "AAAA", pack([1.0, 2.0])[:-8], BOMB], ids=["none", "%", "A", "cut", "bomb"])
def test_another_text_is_refused_in_a_sentence(text: str) -> None:
    with pytest.raises(BenchmarkError, match="is not packed as 16-bit floats"):
        unpack(text)
