"""Sequences of tokens: a whole text is tokenised once, and character offsets part it.

A tokenizer that puts a mark before every text it is given, as sentencepiece does, thus puts one before the whole.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate, pairwise, takewhile
from typing import Any

Offsets = Sequence[tuple[int, int]]
"""First character of each token, and the one behind its last."""


def special_prefix(tokenizer: Any, beginning: str) -> list[int]:
    """Return the special tokens that a tokenizer puts in front of a text, such as Llama's <s> or OPT's </s>.

    Args:
        tokenizer: a fast Hugging Face tokenizer.
        beginning: what the task's prompts begin with.
    """
    encoded = tokenizer(beginning, return_special_tokens_mask=True)
    marked = zip(encoded["input_ids"], encoded["special_tokens_mask"], strict=True)
    return [token for token, _ in takewhile(lambda pair: pair[1], marked)]


def pieces(offsets: Offsets, ends: Sequence[int]) -> list[slice]:
    """Part the tokens of a text at characters.

    A token belongs where its last character does: the space before a word goes with the word.

    Args:
        offsets: of all tokens.
        ends: the character behind the last one of each piece but the last piece, which takes the rest.
    """
    last_characters = list(accumulate((end - 1 for _, end in offsets), max))
    return [
        slice(begin, end)
        for begin, end in pairwise([0, *(bisect_left(last_characters, e) for e in ends), len(offsets)])
    ]
