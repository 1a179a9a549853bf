"""Evaluation of a trial: loss of the reference answers, greedy answers, and their scores over all ranks."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmarks.spec import FineTune
from benchmarks.tasks import question_answering as squad
from benchmarks.training.batches import Inputs, cross_entropy_sum, rank_batches

if TYPE_CHECKING:
    import torch

NO_SCORES = {"eval_loss": math.nan, "perplexity": math.nan, "exact_match": 0.0, "f1": 0.0}
"""Scores of a training that has diverged."""


@dataclass(frozen=True)
class Evaluation:
    """Scores a DeepSpeed engine's model; every rank takes part.

    Attributes:
        settings: the benchmark's.
        tokenizer: the model's.
        inputs: makes the model's inputs.
        rank: this process's place, from 0.
        world_size: ranks of the trial.
    """

    settings: FineTune
    tokenizer: Any
    inputs: Inputs
    rank: int
    world_size: int

    def scores(self, engine: Any, examples: Sequence[squad.Example]) -> dict[str, float]:
        """Score all examples, over all ranks.

        Returns:
            `eval_loss` (mean cross entropy per answer token), `perplexity` (its exponential), `exact_match`
            and `f1` (means in [0, 1]).
        """
        import torch

        sums = torch.zeros(5, dtype=torch.float64)
        with _at_rest(engine):
            for batch, counts in rank_batches(examples, self.settings.eval_batch_size, self.rank, self.world_size):
                loss, predictions = self._loss_and_answers(engine, batch)
                tokens = sum(len(e.target) for e in batch)
                pairs = [(p, e.references) for p, e in zip(predictions, batch, strict=True)]
                exact, overlap = (sum(score(*pair) for pair in pairs) for score in (squad.exact_match, squad.f1))
                sums += counts * torch.tensor([float(loss), tokens, exact, overlap, len(batch)], dtype=torch.float64)
        torch.distributed.all_reduce(on_device := sums.to(self.inputs.device))
        loss_sum, tokens, exact, overlap, number = on_device.tolist()
        eval_loss = loss_sum / tokens
        return {
            "eval_loss": eval_loss,
            "perplexity": math.exp(min(eval_loss, 700.0)),
            "exact_match": exact / number,
            "f1": overlap / number,
        }

    def answers(self, engine: Any, examples: Sequence[squad.Example]) -> list[str]:
        """Generate greedy answers, one per example: batched, with KV cache, each ending at the end token."""
        with _at_rest(engine):
            return self._generate(engine, self.inputs.prompts(examples), cache=None)

    def _loss_and_answers(self, engine: Any, examples: Sequence[squad.Example]) -> tuple[float, list[str]]:
        """Sum the cross entropy of the reference answers, and generate the greedy answers.

        Both need the prompt's keys and values, which are most of the work: they are computed once, the reference
        answers are scored on top of them, and generation goes on from the same cache.
        """
        import torch

        prompts, model = self.inputs.prompts(examples), engine.module
        output = model(**self.inputs.prefill(prompts), use_cache=True)
        cache, following = output.past_key_values, self.inputs.answers(examples, prompts)
        scored = model(**following, past_key_values=cache, use_cache=True).logits
        logits = torch.cat([output.logits[:, -1:], scored[:, :-1]], dim=1)
        loss = cross_entropy_sum(logits, self.inputs.answer_labels(examples))
        cache.crop(-following["input_ids"].shape[1] - 1)  # generation itself feeds the prompt's last token
        return float(loss), self._generate(engine, prompts, cache)

    def _generate(self, engine: Any, prompts: dict[str, torch.Tensor], cache: Any) -> list[str]:
        output = engine.module.generate(
            **prompts,
            past_key_values=cache,
            max_new_tokens=self.settings.max_answer_tokens,
            do_sample=False,
            use_cache=True,
            pad_token_id=self.tokenizer.pad_token_id,
            eos_token_id=self.tokenizer.eos_token_id,
            synced_gpus=self.world_size > 1,
        )
        answers = self.tokenizer.batch_decode(output[:, prompts["input_ids"].shape[1] :], skip_special_tokens=True)
        return [answer.strip() for answer in answers]


@contextlib.contextmanager
def _at_rest(engine: Any) -> Iterator[None]:
    """Switch off dropout and gradients meanwhile."""
    import torch

    engine.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        engine.train()
