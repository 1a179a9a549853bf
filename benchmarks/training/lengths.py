"""What lengths of sequences mean for speed: an order that puts similar ones together, and the share of padding.

A batch is padded to its longest sequence, and padding costs what tokens cost. `group_by_length` is what a benchmark's
`length_grouped` turns on.
"""

from __future__ import annotations

from collections.abc import Sequence

WINDOW, BLOCK = 1024, 64
"""Samples sorted together, and samples kept together: a block's batches differ little in length, a window's blocks come
in random order. Neither depends on the batch size, which a population may change in the middle of an epoch."""


def group_by_length(order: Sequence[int], lengths: Sequence[int]) -> list[int]:
    """A random order of examples, changed so that neighbours are of similar length.

    Each window of the order is sorted by length and cut into blocks. The blocks take the order in which their shortest
    examples stood before, which is as random as the order was.

    Args:
        order: indices into `lengths`, each at most once.
        lengths: of all examples, in tokens.
    """
    grouped: list[int] = []
    for begin in range(0, len(order), WINDOW):
        window = order[begin : begin + WINDOW]
        place = {example: position for position, example in enumerate(window)}
        ordered = sorted(window, key=lambda example: lengths[example])
        blocks = [ordered[i : i + BLOCK] for i in range(0, len(ordered), BLOCK)]
        for block in sorted(blocks, key=lambda block: place[block[0]]):
            grouped += block
    return grouped


def padding_share(lengths: Sequence[int], batch_size: int) -> float:
    """Share of padding, in [0, 1), among all tokens of batches that are padded to their longest sequence.

    Args:
        lengths: of the sequences in the order of training, in tokens.
        batch_size: sequences of a batch; the last may have fewer.
    """
    batches = [lengths[i : i + batch_size] for i in range(0, len(lengths), batch_size)]
    return 1.0 - sum(lengths) / sum(len(batch) * max(batch) for batch in batches)
