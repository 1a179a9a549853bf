"""Batches of a trial: the order of training samples, and examples as a model's padded inputs.

Sequences are padded on the left, so that answers end together and logits are needed for the last few positions only:
with BLOOM's vocabulary of 250,880 the others would be most of the memory. A batch is padded to its longest sequence,
and padding costs as much as tokens: a benchmark's `length_grouped` puts sequences of similar length together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmarks import tasks
from benchmarks.spec import SPLITS, FineTune
from benchmarks.tasks.task import IGNORED_LABEL, Example, TokenStatistics, token_statistics

if TYPE_CHECKING:
    import torch

WINDOW, BLOCK = 1024, 64
"""Samples sorted together, and samples kept together: a block's batches differ little in length, a window's blocks come
in random order. Neither depends on the batch size, which a population may change in the middle of an epoch."""


class Examples:
    """The three splits, each read and tokenised at its first use and kept.

    Args:
        settings: names the splits' sources and the longest sequence.
        tokenizer: the model's.
    """

    def __init__(self, settings: FineTune, tokenizer: Any) -> None:
        self._settings, self._tokenizer = settings, tokenizer
        self._splits: dict[str, list[Example]] = {}

    def __getitem__(self, name: str) -> list[Example]:
        if name not in self._splits:
            settings = self._settings
            task = tasks.get(settings.task)
            records = task.read(getattr(settings.data, name))
            self._splits[name] = task.tokenize(
                records, self._tokenizer, settings.max_length, settings.max_answer_tokens, name == "train"
            )
        return self._splits[name]

    def token_statistics(self) -> list[TokenStatistics]:
        """Describe the tokens of the three splits; the test split is read for this alone, and never trained on."""
        return [token_statistics(name, self[name], self._settings.max_length) for name in SPLITS]


class SampleOrder:
    """The order in which a trial sees the training samples.

    Epoch e is a permutation seeded with seed + e, as in accelerate's SeedableRandomSampler, which Trainer uses.

    Args:
        lengths: tokens of each training sample.
        seed: the trial's.
        length_grouped: let samples of similar length follow each other.
    """

    def __init__(self, lengths: Sequence[int], seed: int, length_grouped: bool) -> None:
        self._lengths, self._seed, self._length_grouped = lengths, seed, length_grouped
        self._epoch, self._order = -1, list[int]()

    def __getitem__(self, position: int) -> int:
        """Return the index of the `position`-th training sample."""
        epoch, offset = divmod(position, len(self._lengths))
        if epoch != self._epoch:
            self._epoch, self._order = epoch, self._order_of(epoch)
        return self._order[offset]

    def _order_of(self, epoch: int) -> list[int]:
        import torch

        generator = torch.Generator().manual_seed(self._seed + epoch)
        order: list[int] = torch.randperm(len(self._lengths), generator=generator).tolist()
        return group_by_length(order, self._lengths) if self._length_grouped else order


def group_by_length(order: Sequence[int], lengths: Sequence[int]) -> list[int]:
    """Change a random order of examples so that neighbours are of similar length.

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
    """Compute the share of padding, in [0, 1), in batches that are padded to their longest sequence.

    Args:
        lengths: of the sequences in the order of training, in tokens.
        batch_size: sequences of a batch; the last may have fewer.
    """
    batches = [lengths[i : i + batch_size] for i in range(0, len(lengths), batch_size)]
    return 1.0 - sum(lengths) / sum(len(batch) * max(batch) for batch in batches)


@dataclass(frozen=True)
class Inputs:
    """Maker of a model's inputs from examples.

    Attributes:
        pad_token_id: fills the gaps.
        device: where the tensors lie.
        options: names of the parameters of the model's `forward`.
        width: tokens that each sequence is padded to at least.
    """

    pad_token_id: int
    device: torch.device
    options: frozenset[str]
    width: int = 0

    def training(self, examples: Sequence[Example]) -> tuple[dict[str, Any], torch.Tensor]:
        """Make keyword arguments of a forward pass, and the labels `(batch, kept)` of its last `kept` positions."""
        batch = self._with_positions(pad([e.prompt + e.target for e in examples], self.pad_token_id, self.width))
        kept = max(len(e.target) for e in examples)
        batch["labels"] = pad([e.target for e in examples], IGNORED_LABEL)["input_ids"]
        moved = move(batch, self.device)
        labels = moved.pop("labels")
        uncached = {"use_cache": False} if "use_cache" in self.options else {}
        return {**moved, **uncached, **self.logits_to_keep(kept + 1)}, labels

    def prompts(self, examples: Sequence[Example]) -> dict[str, torch.Tensor]:
        """Make `input_ids` and `attention_mask` of the prompts, as `generate` takes them."""
        return move(pad([e.prompt for e in examples], self.pad_token_id, self.width), self.device)

    def prefill(self, prompts: dict[str, torch.Tensor]) -> dict[str, Any]:
        """Make keyword arguments of a forward pass over prompts that needs the logits of their last token alone."""
        return {**self._with_positions(prompts), **self.logits_to_keep(1)}

    def answers(
        self, examples: Sequence[Example], prompts: dict[str, torch.Tensor], cached: int
    ) -> dict[str, torch.Tensor]:
        """Make keyword arguments of a forward pass over the reference answers that follow cached prompts.

        Args:
            examples: of which the prompts are.
            prompts: as `prompts` made them.
            cached: positions of the prompts that the cache holds; those beyond come before the answers.
        """
        import torch

        targets = move(pad([e.target for e in examples], self.pad_token_id, left=False), self.device)
        whole = {name: torch.cat([prompts[name], targets[name]], dim=1) for name in ("input_ids", "attention_mask")}
        inputs = self._with_positions(whole)
        return {name: row if name == "attention_mask" else row[:, cached:] for name, row in inputs.items()}

    def answer_labels(self, examples: Sequence[Example]) -> torch.Tensor:
        """Make the labels `(batch, seq_len)` of `answers`."""
        labels = pad([e.target for e in examples], IGNORED_LABEL, left=False)["input_ids"]
        return move({"labels": labels}, self.device)["labels"]

    def logits_to_keep(self, number: int) -> dict[str, int]:
        """Ask for the logits of the last positions alone, where a model can give them."""
        return {"logits_to_keep": number} if "logits_to_keep" in self.options else {}

    def _with_positions(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Count positions from the first real token where a model takes them (BLOOM derives them itself)."""
        if "position_ids" not in self.options:
            return batch
        return {**batch, "position_ids": (batch["attention_mask"].cumsum(-1) - 1).clamp(min=0)}


def rank_batches(
    examples: Sequence[Example], size: int, rank: int, world_size: int
) -> Iterator[tuple[list[Example], bool]]:
    """Yield a rank's batches for evaluation, of similar lengths to save padding, and whether each counts.

    ZeRO-3 gathers weights in every forward pass, so all ranks need equally many batches: a rank that has run
    out repeats the last one, uncounted.
    """
    ordered = sorted(examples, key=lambda e: len(e.prompt))
    batches = [ordered[i : i + size] for i in range(0, len(ordered), size)]
    for i in range(0, len(batches), world_size):
        own = i + rank
        yield (batches[own], True) if own < len(batches) else (batches[-1], False)


def pad(rows: Sequence[list[int]], value: int, length: int = 0, left: bool = True) -> dict[str, torch.Tensor]:
    """Make `input_ids` and `attention_mask`, both `(batch, seq_len)`, padded to the longest row or to `length`.

    They lie on the host; `move` brings them to the device.
    """
    import torch

    width = max(length, *(len(row) for row in rows))
    gaps = [width - len(row) for row in rows]
    ids = [[value] * gap + row if left else row + [value] * gap for row, gap in zip(rows, gaps, strict=True)]
    ones = [[0] * gap + [1] * (width - gap) for gap in gaps]
    mask = ones if left else [row[::-1] for row in ones]
    return {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask)}


def move(batch: dict[str, torch.Tensor], device: torch.device) -> dict[str, torch.Tensor]:
    """Move whole numbers from the host to a device by one copy, which nothing waits for.

    Args:
        batch: tensors of 64-bit whole numbers on the host, of any shapes.
        device: the CPU, which needs no copy, or any other device.
    """
    import torch

    if device.type == "cpu":
        return batch
    flat = torch.cat([tensor.flatten() for tensor in batch.values()])
    flat = flat.pin_memory() if device.type == "cuda" else flat
    parts = torch.split(flat.to(device, non_blocking=True), [tensor.numel() for tensor in batch.values()])
    return {name: part.view(tensor.shape) for (name, tensor), part in zip(batch.items(), parts, strict=True)}


def cross_entropy_sum(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Sum the cross entropy over labelled positions, `()`.

    Args:
        logits: `(batch, seq_len, vocabulary)`, each predicting the label at its own place.
        labels: `(batch, seq_len)`, -100 where nothing is predicted.
    """
    import torch

    return torch.nn.functional.cross_entropy(
        logits.float().flatten(0, 1), labels.flatten(), ignore_index=IGNORED_LABEL, reduction="sum"
    )
