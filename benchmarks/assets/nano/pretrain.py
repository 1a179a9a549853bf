"""Pretrain the tiny models of `nano`: `python -m benchmarks.assets.nano.pretrain` (2 cores, under 20 minutes each).

A real `BloomForCausalLM`, or with `--architecture llama` a `LlamaForCausalLM` of like size, and a byte-level BPE
tokenizer, as the large BLOOMs have, learn to answer from a context: each sequence is a paragraph in the pretraining
wordings of `corpus.py` followed by a question about every fact or, in half of them, one question, the paragraph, and
the answer. The loss weighs answer tokens 1 and the rest 0.2: plain language modelling spends a small model's capacity
on predicting names that cannot be predicted, and did not learn retrieval in the same time.

Nothing of the fine-tuning splits is read; the tokenizer alone has seen the words of both wordings, so that a
word is one token in both. Prints the share of right answers on unseen paragraphs as it goes.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    get_scheduler,
)

from benchmarks.assets.nano.corpus import FILLERS, draw_facts, write_sentence
from benchmarks.clock import REAL

VOCABULARY_SIZE = 1200
EOS, PAD, UNK = "</s>", "<pad>", "<unk>"
REST_WEIGHT = 0.2
QUESTION_FIRST_SHARE = 0.5
HELD_OUT_SEED = 987_654_321
Piece = tuple[str, bool]  # text, and whether it is an answer


def main() -> None:
    """Train the tokenizer and the model and save both."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--architecture", choices=sorted(MODELS), default="bloom")
    parser.add_argument("--output", type=Path, help="default: the folder of the shipped model of this architecture")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=4500)
    parser.add_argument("--batch-size", type=int, default=48)
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    arguments = parser.parse_args()
    torch.manual_seed(arguments.seed)
    tokenizer = make_tokenizer(arguments.seed)
    folder, make_model = MODELS[arguments.architecture]
    output, model = arguments.output or Path(__file__).parent / folder, make_model(tokenizer)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {len(tokenizer)} tokens")
    train(model, tokenizer, arguments)
    model.generation_config.do_sample = False
    model.save_pretrained(output)
    tokenizer.save_pretrained(output)
    print(f"saved {output}")


def make_tokenizer(seed: int) -> PreTrainedTokenizerFast:
    """Make a byte-level BPE, trained on text in both wordings so that their words are single tokens."""
    core = Tokenizer(models.BPE(unk_token=None))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE,
        special_tokens=[UNK, EOS, PAD],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(_tokenizer_text(seed), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token=EOS, bos_token=EOS, pad_token=PAD, unk_token=UNK, padding_side="left"
    )


def _tokenizer_text(seed: int) -> Iterator[str]:
    rng = random.Random(seed)
    for _ in range(6000):
        for fact in draw_facts(rng, 5):
            for forms in (fact.relation.pretrain, fact.relation.finetune):
                yield " " + write_sentence(fact, rng.choice(forms[0]))
                yield " " + rng.choice(forms[1]).format(s=fact.subject) + " " + fact.value.text
        yield f" {rng.choice(FILLERS)} Question: Context: Answer:"


def make_bloom(tokenizer: PreTrainedTokenizerFast) -> BloomForCausalLM:
    """Make three layers of width 96 with ALiBi attention, random weights."""
    return BloomForCausalLM(
        BloomConfig(
            vocab_size=len(tokenizer),
            hidden_size=96,
            n_layer=3,
            n_head=4,
            eos_token_id=tokenizer.eos_token_id,
            bos_token_id=tokenizer.bos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def make_llama(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """Make three layers of width 96 with rotary positions and gated feed-forward layers, random weights."""
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=96,
            intermediate_size=256,  # three matrices of it are as many weights as BLOOM's two of 4 x 96
            num_hidden_layers=3,
            num_attention_heads=4,
            max_position_embeddings=512,
            tie_word_embeddings=True,
            eos_token_id=tokenizer.eos_token_id,
            bos_token_id=tokenizer.bos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


MODELS = {"bloom": ("model", make_bloom), "llama": ("model_llama", make_llama)}
"""Folder of each shipped model and the function that makes it, by architecture."""


def train(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, arguments: argparse.Namespace) -> None:
    """Train with AdamW and a cosine schedule; every batch is new text."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=arguments.learning_rate, weight_decay=0.01, fused=True)
    scheduler = get_scheduler("cosine", optimizer, num_warmup_steps=100, num_training_steps=arguments.steps)
    rng, started = random.Random(arguments.seed), REAL.now()
    for step in range(1, arguments.steps + 1):
        ids, weights = encode([sequence(rng) for _ in range(arguments.batch_size)], tokenizer)
        loss = weighted_loss(model(ids).logits, ids, weights)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad(set_to_none=True)
        if step % 250 == 0 or step == arguments.steps:
            right = answered_right(model, tokenizer)
            seconds = REAL.now() - started
            print(
                json.dumps({"step": step, "loss": round(loss.item(), 4), "right": right, "s": round(seconds)}),
                flush=True,
            )


def sequence(rng: random.Random) -> list[Piece]:
    """Make a paragraph of 2 to 5 facts with a question about each, or with one before it, as pieces of text."""
    facts = draw_facts(rng, rng.randrange(2, 6))
    sentences = [write_sentence(fact, rng.choice(fact.relation.pretrain[0])) for fact in facts]
    if rng.random() < 0.5:
        sentences.insert(rng.randrange(len(sentences) + 1), rng.choice(FILLERS))
    paragraph = " " + " ".join(sentences)
    asked = [
        (" " + rng.choice(fact.relation.pretrain[1]).format(s=fact.subject), f" {fact.value.text}{EOS}")
        for fact in rng.sample(facts, k=len(facts))
    ]
    if rng.random() < QUESTION_FIRST_SHARE:
        question, answer = asked[0]
        return [(f"{question}\n{paragraph}\n", False), (answer, True)]
    pieces: list[Piece] = [(paragraph, False)]
    for question, answer in asked:
        pieces += [(f"\n{question}", False), (answer, True)]
    return pieces


def encode(batch: list[list[Piece]], tokenizer: PreTrainedTokenizerFast) -> tuple[torch.Tensor, torch.Tensor]:
    """Return token ids and loss weights, both `(batch, seq_len)`, right-padded with weight 0."""
    rows, row_weights = [], []
    for pieces in batch:
        ids: list[int] = []
        weights: list[float] = []
        for text, is_answer in pieces:
            piece_ids = tokenizer(text)["input_ids"]
            ids += piece_ids
            weights += [1.0 if is_answer else REST_WEIGHT] * len(piece_ids)
        rows.append(torch.tensor(ids))
        row_weights.append(torch.tensor(weights))
    pad = torch.nn.utils.rnn.pad_sequence
    return pad(rows, True, tokenizer.pad_token_id), pad(row_weights, True, 0.0)


def weighted_loss(logits: torch.Tensor, ids: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Compute the mean next-token cross entropy, each target token with its weight."""
    losses = torch.nn.functional.cross_entropy(logits[:, :-1].transpose(1, 2), ids[:, 1:], reduction="none")
    return (losses * weights[:, 1:]).sum() / weights[:, 1:].sum()


@torch.no_grad()
def answered_right(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> float:
    """Compute the share of questions on unseen paragraphs whose answer tokens are all the most likely ones."""
    rng = random.Random(HELD_OUT_SEED)
    ids, weights = encode([sequence(rng) for _ in range(128)], tokenizer)
    hits = (model(ids).logits[:, :-1].argmax(-1) == ids[:, 1:]) | (weights[:, 1:] < 1.0)
    right = total = 0
    for hit, weight in zip(hits.tolist(), weights[:, 1:].tolist(), strict=True):
        answer_ends = [
            i for i, (w, after) in enumerate(zip(weight, [*weight[1:], 0.0], strict=True)) if w == 1.0 != after
        ]
        for end in answer_ends:
            start = end
            while start > 0 and weight[start - 1] == 1.0:
                start -= 1
            right += all(hit[start : end + 1])
            total += 1
    return round(right / total, 4)


if __name__ == "__main__":
    main()
