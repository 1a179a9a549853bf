"""Evaluation of a trial: loss of the reference answers, greedy answers, and their scores over all ranks."""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from benchmarks import tasks
from benchmarks.out_of_memory import IN_EVALUATION, sign_of
from benchmarks.spec import BenchmarkError, FineTune
from benchmarks.tasks.record_scores import ANSWER_TOKENS
from benchmarks.tasks.task import IGNORED_LABEL, LOSS, PERPLEXITY, Example, perplexity
from benchmarks.training.batches import Inputs, cross_entropy_sum, rank_batches
from benchmarks.training.model.resting import OTHER_RANK, BatchSize, at_rest, attempt, fits_all

if TYPE_CHECKING:
    import torch

Caching = Literal["crop", "copy", "none"]
MAX_ROUNDING = 1e-3
"""Share of the largest logit by which two ways to the same logits may differ; in fp32 they differ by far less."""


@dataclass(frozen=True)
class Evaluation:
    """Scorer of a DeepSpeed engine's model; every rank takes part.

    Attributes:
        settings: the benchmark's.
        tokenizer: the model's.
        inputs: makes the model's inputs.
        caching: see `choose_caching`.
        rank: this process's place, from 0.
        world_size: ranks of the trial.
        size: sequences per forward pass, found at the first evaluation.
    """

    settings: FineTune
    tokenizer: Any
    inputs: Inputs
    caching: Caching
    rank: int
    world_size: int
    size: BatchSize = field(default_factory=BatchSize)

    def scores(
        self, engine: Any, examples: Sequence[Example], each: dict[str, list[float]] | None = None
    ) -> dict[str, float]:
        """Score all examples, over all ranks.

        Args:
            engine: holds the model.
            examples: of a split.
            each: gets the figures of each example, see `benchmarks.tasks.record_scores`, if it is given; on all ranks.

        Returns:
            `eval_loss` (mean cross entropy per answer token), `perplexity` (its exponential), and the task's metrics.

        Raises:
            MemoryError: it ran out of memory, which no smaller batch in training would cure.
        """
        task = tasks.get(self.settings.task)
        rows: list[tuple[int, list[float]]] | None = None if each is None else []
        with _naming_batch_size(self.settings.eval_batch_size):
            loss_sum, tokens, *figures, number = self._sums_that_fit(engine, examples, rows)
        if each is not None and rows is not None:
            names = (LOSS.name, ANSWER_TOKENS, *task.figures)
            columns = zip(*self._of_all(rows), strict=True)
            each |= {name: list(column) for name, column in zip(names, columns, strict=True)}
        eval_loss = loss_sum / tokens
        return {LOSS.name: eval_loss, PERPLEXITY: perplexity(eval_loss), **task.summarise(figures, int(number))}

    def _sums_that_fit(
        self, engine: Any, examples: Sequence[Example], rows: list[tuple[int, list[float]]] | None
    ) -> list[float]:
        """Add up the sums of all ranks, in smaller batches if those that fitted an earlier trial do not fit this one.

        Ranks begin again together, where each has evaluated its part alone: with a batch size that was found.

        Returns:
            Loss, answer tokens, the task's figures, and examples.
        """
        import torch

        while True:
            sums, failure = attempt(self._own_sums, engine, examples, rows)
            if failure and not self.size.found:  # the others may be waiting for this rank's share of weights
                raise failure
            if not self.size.found or fits_all(failure is None, self.inputs.device):
                assert sums is not None
                torch.distributed.all_reduce(on_device := sums.to(self.inputs.device))
                return list(map(float, on_device.tolist()))
            if not self.size.halve():
                raise failure or MemoryError(OTHER_RANK)
            if rows is not None:
                rows.clear()

    def _own_sums(
        self, engine: Any, examples: Sequence[Example], rows: list[tuple[int, list[float]]] | None
    ) -> torch.Tensor:
        """Return sums over this rank's examples: loss, answer tokens, the task's figures, examples.

        Args:
            engine: holds the model.
            examples: of a split.
            rows: gets, if it is given, the place of each example of this rank, and its figures.
        """
        import torch

        place = {id(example): number for number, example in enumerate(examples)}
        task, sums = tasks.get(self.settings.task), torch.zeros((), dtype=torch.float64)
        with at_rest(engine, self.inputs.device) as is_whole:
            size = self._batch_size(engine, examples, is_whole)
            for batch, counts in rank_batches(examples, size, self.rank, self.world_size):
                loss, predictions, losses = self._loss_and_answers(engine, batch, is_whole, rows is not None)
                tokens = sum(len(e.target) for e in batch)
                scored = [task.score(p, e.references) for p, e in zip(predictions, batch, strict=True)]
                figures = [sum(column) for column in zip(*scored, strict=True)]
                added = torch.tensor([float(loss), tokens, *figures, len(batch)], dtype=torch.float64)
                sums = sums + counts * added
                if counts and rows is not None:
                    found = zip(batch, losses, scored, strict=True)
                    rows += [(place[id(e)], [loss / len(e.target), len(e.target), *own]) for e, loss, own in found]
        return sums

    def _of_all(self, rows: list[tuple[int, list[float]]]) -> list[list[float]]:
        """Gather the rows of all ranks, in the order of their numbers."""
        import torch

        gathered: list[Any] = [rows]
        if self.world_size > 1:
            gathered = [None] * self.world_size
            torch.distributed.all_gather_object(gathered, rows)
        return [row for _, row in sorted(numbered for of_rank in gathered for numbered in of_rank)]

    def no_scores(self) -> dict[str, float]:
        """Return the scores of a training that has diverged: no loss, and the worst value of each other metric."""
        worst = {metric.name: metric.worst for metric in tasks.get(self.settings.task).metrics}
        return {LOSS.name: math.nan, PERPLEXITY: math.nan, **worst}

    def answers(self, engine: Any, examples: Sequence[Example]) -> list[str]:
        """Generate greedy answers, one per example: batched, with KV cache, each ending at the end token."""
        with at_rest(engine, self.inputs.device) as is_whole:
            return self.generate(engine.module, self.inputs.prompts(examples), None, is_whole)

    def _batch_size(self, engine: Any, examples: Sequence[Example], is_whole: bool) -> int:
        """Return the sequences per forward pass; "auto" is settled once, by the longest examples.

        A rank that ran out of memory in the middle of ZeRO 3's communication would leave the others waiting, so that
        nothing is tried unless each rank holds whole weights.
        """
        if self.settings.eval_batch_size != "auto":
            return self.settings.eval_batch_size
        longest = sorted(examples, key=lambda e: len(e.prompt))
        return self.size.find(
            self.inputs.device, is_whole, lambda size: self._loss_and_answers(engine, longest[-size:], True)
        )

    def _loss_and_answers(
        self, engine: Any, examples: Sequence[Example], is_whole: bool, each: bool = False
    ) -> tuple[float, list[str], list[float]]:
        """Sum the cross entropy of the reference answers, and generate the greedy answers.

        Args:
            engine: holds the model.
            examples: a batch.
            is_whole: see `generate`.
            each: sum it for each example too.

        Returns:
            The sum, the answers, and the sum of each example if `each` asks for it: one after the other, since all of
            them at once would take the memory of the logits again.
        """
        import torch

        prompts = self.inputs.prompts(examples)
        logits, labels, cache = self.reference_logits(engine.module, examples, prompts)
        rows = range(len(examples)) if each else ()
        losses = [cross_entropy_sum(logits[row : row + 1], labels[row : row + 1]) for row in rows]
        of_each = torch.stack(losses).tolist() if losses else []
        answers = self.generate(engine.module, prompts, cache, is_whole)
        return float(cross_entropy_sum(logits, labels)), answers, of_each

    def reference_logits(
        self, model: Any, examples: Sequence[Example], prompts: dict[str, torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor, Any]:
        """Compute the logits of the reference answers, on top of the prompts' cache where the model has one.

        Both the loss and generation need the prompt's keys and values, which are most of the work: they are computed
        once, the reference answers are scored on top of them, and generation goes on from the same cache.

        Returns:
            logits `(batch, seq_len, vocabulary)`, labels `(batch, seq_len)`, and a cache of the prompts up to their
            last token, which generation itself feeds; None without one.
        """
        if self.caching == "crop":
            return self._on_cropped_cache(model, examples, prompts)
        if self.caching == "copy":
            return self._on_copied_cache(model, examples, prompts)
        inputs, labels = self.inputs.training(examples)
        return model(**inputs).logits[:, -labels.shape[1] - 1 : -1], labels, None

    def _on_cropped_cache(
        self, model: Any, examples: Sequence[Example], prompts: dict[str, torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor, Any]:
        import torch

        output, width = model(**self.inputs.prefill(prompts), use_cache=True), prompts["input_ids"].shape[1]
        cache, following = output.past_key_values, self.inputs.answers(examples, prompts, width)
        scored = model(**following, past_key_values=cache, use_cache=True).logits
        logits = torch.cat([output.logits[:, -1:], scored[:, :-1]], dim=1)
        cache.crop(-following["input_ids"].shape[1] - 1)
        return logits, self.inputs.answer_labels(examples), cache

    def _on_copied_cache(
        self, model: Any, examples: Sequence[Example], prompts: dict[str, torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor, Any]:
        """Compute the logits on a copy, since a full sliding window forgets the tokens that a crop would need."""
        begun = {name: row[:, :-1] for name, row in prompts.items()}
        cache = model(**self.inputs.prefill(begun), use_cache=True).past_key_values
        following = self.inputs.answers(examples, prompts, cached=begun["input_ids"].shape[1])
        scored = model(**following, past_key_values=copy.deepcopy(cache), use_cache=True).logits
        return scored[:, :-1], self.inputs.answer_labels(examples), cache

    def generate(self, model: Any, prompts: dict[str, torch.Tensor], cache: Any, is_whole: bool = True) -> list[str]:
        """Generate greedy answers to padded prompts.

        Args:
            model: the engine's.
            prompts: padded on the left.
            cache: of all but their last token, if there is one.
            is_whole: this rank holds all weights. Otherwise each step gathers them, so that all ranks take as many.
        """
        from transformers import GenerationConfig

        output = model.generate(
            **prompts,
            past_key_values=cache,
            generation_config=GenerationConfig(
                max_new_tokens=self.settings.max_answer_tokens,
                do_sample=False,
                use_cache=True,
                pad_token_id=self.tokenizer.pad_token_id,
                eos_token_id=self.tokenizer.eos_token_id,
            ),
            synced_gpus=self.world_size > 1 and not is_whole,
        )
        answers = self.tokenizer.batch_decode(output[:, prompts["input_ids"].shape[1] :], skip_special_tokens=True)
        return [answer.strip() for answer in answers]


@contextmanager
def _naming_batch_size(size: int | str) -> Iterator[None]:
    """Raise a MemoryError that names the evaluation's batch size instead of an error that tells of memory."""
    try:
        yield
    except Exception as error:
        if not (sign := sign_of(error)):
            raise
        raise MemoryError(f"{IN_EVALUATION}, with eval_batch_size {size}, lower it: {sign}") from None


def make_evaluation(model: Any, tokenizer: Any, settings: FineTune, device: torch.device) -> Evaluation:
    """Make the evaluation of a model in this rank, once padding and cache are found to change nothing.

    Args:
        model: on the CPU.
        tokenizer: the model's.
        settings: the benchmark's.
        device: where the model will be scored.

    Raises:
        BenchmarkError: padding or cache changes the model's results.
    """
    import torch

    rank, world_size = torch.distributed.get_rank(), torch.distributed.get_world_size()
    evaluation = evaluation_of(model, tokenizer, settings, device, rank, world_size)
    with torch.no_grad():
        require_same_when_padded(model, evaluation)
    return evaluation


def evaluation_of(
    model: Any, tokenizer: Any, settings: FineTune, device: torch.device, rank: int, world_size: int
) -> Evaluation:
    """Make the evaluation of a model by one rank of several; see `Evaluation`."""
    options = frozenset(inspect.signature(model.forward).parameters)
    inputs = Inputs(tokenizer.pad_token_id, device, options, settings.max_length if settings.pad_to_max else 0)
    return Evaluation(settings, tokenizer, inputs, choose_caching(model, settings), rank, world_size)


def choose_caching(model: Any, settings: FineTune) -> Caching:
    """Choose how reference answers and generation share the work on the prompts, by the layers of the model's cache.

    Returns:
        "crop" where a cache can forget its last tokens, "copy" where sliding windows fill up, and "none" for layers
        that keep a state of all tokens, such as linear attention, and for models with caches of their own.
    """
    from transformers import cache_utils

    if "past_key_values" not in inspect.signature(model.forward).parameters:
        return "none"
    longest = settings.max_length + settings.max_answer_tokens
    caching: Caching = "crop"
    for layer in cache_utils.DynamicCache(config=model.config).layers:
        if type(layer) is cache_utils.DynamicSlidingWindowLayer:
            caching = caching if layer.sliding_window > longest else "copy"
        elif type(layer) not in (cache_utils.DynamicLayer, cache_utils.DummyLayer):
            return "none"
    return caching


def require_same_when_padded(model: Any, evaluation: Evaluation) -> None:
    """Require that padding on the left, the cache and later tokens change no logits, on sequences of a few tokens.

    Decoders that count the positions of padding, such as BART's, or that begin at another position, such as RoBERTa's,
    would train and score on other positions than they were pretrained with, and say nothing. A model that reads the
    tokens it is to predict, such as XLNet, would train to a loss that its answers never have.

    Args:
        model: on the CPU.
        evaluation: how it will be scored.

    Raises:
        BenchmarkError: logits differ.
    """
    inputs = replace(evaluation.inputs, device=next(model.parameters()).device, width=0)
    evaluation, examples = replace(evaluation, inputs=inputs), _short_examples(model, inputs.pad_token_id)
    _require_causal(model, evaluation, examples[-1])
    _require_same(model, evaluation, examples, _training_logits(model, inputs, examples), "padded on the left")
    logits, labels, _ = evaluation.reference_logits(model, examples, inputs.prompts(examples))
    _require_same(model, evaluation, examples, (logits, labels), "cached")


def _require_causal(model: Any, evaluation: Evaluation, example: Example) -> None:
    """Require that the logits of a token do not change with the token after it."""
    import torch

    ids = torch.tensor([example.prompt + example.target], device=evaluation.inputs.device)
    whole, cut = model(input_ids=ids).logits[:, :-1], model(input_ids=ids[:, :-1]).logits
    if float((whole - cut).abs().max()) > MAX_ROUNDING * float(cut.abs().max()):
        raise BenchmarkError(
            f"model {evaluation.settings.model}: {type(model).__name__} reads tokens that come later, so it would be "
            "trained to predict words that it sees; take a causal language model, such as GPT-2, OPT, BLOOM or Llama"
        )


def _training_logits(model: Any, inputs: Inputs, examples: Sequence[Example]) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute the logits and labels `(batch, kept)` that a training step compares."""
    batch, labels = inputs.training(examples)
    return model(**batch).logits[:, -labels.shape[1] - 1 : -1], labels


def _require_same(
    model: Any,
    evaluation: Evaluation,
    examples: Sequence[Example],
    found: tuple[torch.Tensor, torch.Tensor],
    cause: str,
) -> None:
    """Require the logits of each example alone."""
    import torch

    for example, logits, labels in zip(examples, *found, strict=True):
        ids = torch.tensor([example.prompt + example.target], device=logits.device)
        alone = model(input_ids=ids).logits[0, len(example.prompt) - 1 : -1]
        difference = float((alone - logits[labels != IGNORED_LABEL]).abs().max())
        if difference > MAX_ROUNDING * float(alone.abs().max()):
            raise BenchmarkError(
                f"model {evaluation.settings.model}: {type(model).__name__} gives other results for a sequence that is "
                f"{cause} than for the same one alone, so it would train on wrong positions; take a model that counts "
                "positions from 0 at the first real token, as GPT-2, OPT, BLOOM and Llama do"
            )


def _short_examples(model: Any, pad_token_id: int) -> list[Example]:
    """Make two examples of different lengths from a few tokens that are not special."""
    config = model.config.get_text_config()
    special = {pad_token_id, getattr(config, "pad_token_id", None), getattr(config, "bos_token_id", None)}
    ids = [i for i in range(min(32, config.vocab_size)) if i not in special][-9:]
    return [Example(prompt, ids[6:end], (), False, False) for prompt, end in ((ids[3:6], 8), (ids[:6], 9))]
