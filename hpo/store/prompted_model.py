"""Answers to bare records of a task, from a model that MLflow serves.

MLflow copies this file beside the logged weights and loads it where the suite is not installed, so it imports nothing
of the suite. It puts a record into the prompt that the model was trained with, cuts its last field where an evaluation
cuts it, and decodes greedily whatever the model's own generation settings are.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Formatter
from typing import Any

BATCH_SIZE = 16


def fields(prompt: str) -> list[str]:
    """Return the names of a prompt's fields, in their order."""
    return [name for _, name, _, _ in Formatter().parse(prompt) if name]


class Answerer:
    """A model behind its prompt.

    Args:
        model: a causal language model.
        tokenizer: its fast tokenizer.
        settings: `prompt`, a text with {field} for each field; `max_length` and `max_new_tokens`, in tokens.
    """

    def __init__(self, model: Any, tokenizer: Any, settings: Mapping[str, Any]) -> None:
        from transformers import GenerationConfig

        self._model, self._tokenizer, self._settings = model, tokenizer, settings
        end = tokenizer.eos_token_id
        pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else end
        self._greedy = GenerationConfig(
            max_new_tokens=int(settings["max_new_tokens"]), do_sample=False, eos_token_id=end, pad_token_id=pad
        )
        model.generation_config = copy.deepcopy(self._greedy)  # transformers fills gaps from the model's own

    def predict(self, records: Any, params: Any = None) -> list[str]:
        """Answer the records of a data frame with a column per field of the prompt, one text per row."""
        names = fields(str(self._settings["prompt"]))
        rows = [dict(zip(names, row, strict=True)) for row in zip(*(records[name] for name in names), strict=True)]
        batches = (rows[first : first + BATCH_SIZE] for first in range(0, len(rows), BATCH_SIZE))
        return [answer for batch in batches for answer in self._answers(batch)]

    def prompt_ids(self, record: Mapping[str, str]) -> list[int]:
        """Tokenise the prompt, its last field cut at the end so that prompt and answer fit `max_length`."""
        before, last_field, after = _parts(str(self._settings["prompt"]), record)
        encoded = self._tokenizer(before + last_field + after, return_offsets_mapping=True)
        ids, offsets = list(encoded["input_ids"]), list(encoded["offset_mapping"])
        if ids[-1] == self._tokenizer.eos_token_id and offsets[-1][1] <= offsets[-1][0]:  # the answer follows
            ids, offsets = ids[:-1], offsets[:-1]
        room = int(self._settings["max_length"]) - int(self._settings["max_new_tokens"])
        first, last = len(before), len(before) + len(last_field)
        inside = [place for place, (begin, end) in enumerate(offsets) if begin < last and end > first]
        surplus = min(max(0, len(ids) - room), len(inside))
        cut = set(inside[len(inside) - surplus :])
        return [token for place, token in enumerate(ids) if place not in cut]

    def _answers(self, batch: Sequence[Mapping[str, str]]) -> list[str]:
        import torch

        prompts = [self.prompt_ids(record) for record in batch]
        longest, pad = max(map(len, prompts)), self._greedy.pad_token_id
        ids = [[pad] * (longest - len(prompt)) + prompt for prompt in prompts]
        mask = [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts]
        device = self._model.device
        with torch.no_grad():
            output = self._model.generate(
                input_ids=torch.tensor(ids, device=device),
                attention_mask=torch.tensor(mask, device=device),
                generation_config=self._greedy,
            )
        texts = self._tokenizer.batch_decode(output[:, longest:], skip_special_tokens=True)
        return [text.strip() for text in texts]


def _parts(prompt: str, record: Mapping[str, str]) -> tuple[str, str, str]:
    """Fill in the prompt; return the text before the last field, that field, and the text behind it."""
    texts: list[str] = []
    after = ""
    for literal, name, _, _ in Formatter().parse(prompt):
        after += literal
        if name:
            texts += [after, record[name]]
            after = ""
    return "".join(texts[:-1]), texts[-1], after


def _load_pyfunc(path: str, settings: Mapping[str, Any]) -> Answerer:
    """Load the model for MLflow, from the folder that holds both flavours."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = AutoModelForCausalLM.from_pretrained(Path(path, "model"), use_safetensors=True, trust_remote_code=False)
    tokenizer = AutoTokenizer.from_pretrained(Path(path, "components", "tokenizer"), trust_remote_code=False)
    return Answerer(model.to(device).eval(), tokenizer, settings)
