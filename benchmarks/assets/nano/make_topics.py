"""Write the classification splits of `nano_topics`: `python -m benchmarks.assets.nano.make_topics`.

A text names a subject and then states three or four facts, one of them about that subject. Its label is the kind of
this fact: what a reader learns about the subject. The wordings are those of fine-tuning, so that the pretrained models
know neither them nor the labels. One line of a file::

    {"text": "The old mill. Masons raised the old mill from red brick. ...", "label": "material", "article": "train 3"}

The splits share no article. The result is a function of the seed: running this again changes no byte.
"""

from __future__ import annotations

import argparse
import json
import random
from collections import Counter
from pathlib import Path

from benchmarks.assets.nano.corpus import FILLERS, draw_facts, write_sentence

ARTICLES = {"train": 176, "validation": 40, "test": 60}
TEXTS_PER_ARTICLE = 12


def main() -> None:
    """Parse the command line and write the three files."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "topics")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    for split, lines in make_splits(arguments.seed).items():
        path = arguments.output / f"{split}.jsonl"
        path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
        print(f"{path}: {len(lines)} texts, labels {dict(Counter(line['label'] for line in lines).most_common())}")


def make_splits(seed: int) -> dict[str, list[dict[str, str]]]:
    """Make the lines of the three splits, keyed by name; no text occurs twice."""
    rng, known = random.Random(seed), set[str]()
    return {
        split: [_line(rng, f"{split} {number}", known) for number in range(articles) for _ in range(TEXTS_PER_ARTICLE)]
        for split, articles in ARTICLES.items()
    }


def _line(rng: random.Random, article: str, known: set[str]) -> dict[str, str]:
    """Draw a text that is not known yet, and its label."""
    while True:
        text, label = _draw(rng)
        if text not in known:
            known.add(text)
            return {"text": text, "label": label, "article": article}


def _draw(rng: random.Random) -> tuple[str, str]:
    """Draw facts until a subject has exactly one, and write them behind its name."""
    while True:
        facts = draw_facts(rng, rng.randrange(3, 5))
        counts = Counter(fact.subject for fact in facts)
        asked = [fact for fact in facts if counts[fact.subject] == 1]
        if asked:
            break
    fact = rng.choice(asked)
    sentences = [write_sentence(other, rng.choice(other.relation.finetune[0])) for other in facts]
    if rng.random() < 0.5:
        sentences.insert(rng.randrange(len(sentences) + 1), rng.choice(FILLERS))
    return f"{fact.subject[0].upper()}{fact.subject[1:]}. {' '.join(sentences)}", fact.relation.name


if __name__ == "__main__":
    main()
