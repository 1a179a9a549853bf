"""Write the SQuAD-format splits of `nano`: `python -m benchmarks.assets.nano.make_data`.

The files are in the format of SQuAD v1.1 (https://rajpurkar.github.io/SQuAD-explorer/): articles,
paragraphs, questions, answers with `answer_start`. As there, training questions carry one answer and
validation and test questions every answer a human would accept. The splits share no article. The result is
a function of the seed: running this again changes no byte.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path
from typing import Any

from benchmarks.assets.nano.corpus import FILLERS, Fact, draw_facts, write_sentence

ARTICLES = {"train": 176, "validation": 28, "test": 40}
PARAGRAPHS_PER_ARTICLE = 4
QUESTIONS_PER_PARAGRAPH = 3
SYLLABLES = "Ar Bel Cor Dun El Fal Gor Hal Is Kel Lor Mir Nor Os Pel Quin Ros Sel Tor Ul Ver Wen".split()
ENDINGS = "burg dale field ford gate ham holm mouth stead ton wick worth".split()


def main() -> None:
    """Parse the command line and write the three files."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "data")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    for split, dataset in make_splits(arguments.seed).items():
        path = arguments.output / f"{split}.json"
        path.write_text(json.dumps(dataset, indent=None, separators=(",", ":")) + "\n")
        count = sum(len(p["qas"]) for a in dataset["data"] for p in a["paragraphs"])
        print(f"{path}: {len(dataset['data'])} articles, {count} questions")


def make_splits(seed: int) -> dict[str, dict[str, Any]]:
    """Make the three splits as SQuAD v1.1 objects, keyed by name."""
    rng = random.Random(seed)
    titles = [f"{first}{second.lower()}{end}" for first in SYLLABLES for second in SYLLABLES for end in ENDINGS]
    rng.shuffle(titles)
    splits = {}
    for split, count in ARTICLES.items():
        articles = [_article(rng, titles.pop(), all_answers=split != "train") for _ in range(count)]
        splits[split] = {"version": "1.1", "data": articles}
    return splits


def _article(rng: random.Random, title: str, all_answers: bool) -> dict[str, Any]:
    paragraphs = [_paragraph(rng, f"{title}-{i}", all_answers) for i in range(PARAGRAPHS_PER_ARTICLE)]
    return {"title": title, "paragraphs": paragraphs}


def _paragraph(rng: random.Random, name: str, all_answers: bool) -> dict[str, Any]:
    """Make one context of 3 or 4 facts and perhaps a filler sentence, and its questions."""
    facts = draw_facts(rng, rng.randrange(3, 5))
    sentences = [(write_sentence(fact, rng.choice(fact.relation.finetune[0])), fact) for fact in facts]
    context, value_starts = "", {}
    filler_at = rng.randrange(len(facts) * 2)  # half of the paragraphs get one
    for i, (sentence, fact) in enumerate(sentences):
        if i == filler_at:
            context += rng.choice(FILLERS) + " "
        value_starts[fact] = len(context) + _value_offset(sentence, fact)
        context += sentence + " "
    asked = rng.sample(facts, k=QUESTIONS_PER_PARAGRAPH)
    qas = [
        {
            "id": f"{name}-{i}",
            "question": rng.choice(fact.relation.finetune[1]).format(s=fact.subject),
            "answers": _answers(fact, value_starts[fact], all_answers),
        }
        for i, fact in enumerate(asked)
    ]
    return {"context": context.rstrip(), "qas": qas}


def _value_offset(sentence: str, fact: Fact) -> int:
    """Find the value's start: beyond the subject, which may contain it (a landmark named after a material)."""
    subject_at = sentence.lower().find(fact.subject.lower())
    after = sentence.find(fact.value.text, subject_at + len(fact.subject))
    return after if after >= 0 else sentence.index(fact.value.text)


def _answers(fact: Fact, start: int, all_answers: bool) -> list[dict[str, Any]]:
    texts = (fact.value.text, *(fact.value.shorter if all_answers else ()))
    return [{"text": text, "answer_start": start + fact.value.text.index(text)} for text in texts]


if __name__ == "__main__":
    main()
