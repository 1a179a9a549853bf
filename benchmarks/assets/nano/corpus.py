"""The little world behind `nano`: an invented encyclopaedia whose facts must be read, not remembered.

A *fact* is (subject, relation, value): ("the old mill", designer, "Mara Velt"). Subjects and values are
drawn anew for every paragraph, so the only way to answer a question is to find the right sentence of the
context and copy its value. Each relation has two disjoint sets of wordings:

* `PRETRAIN` wordings, on which `pretrain.py` teaches a tiny BLOOM to retrieve from a context;
* `FINETUNE` wordings, in which `make_data.py` writes the SQuAD-format splits.

Fine-tuning therefore has something to learn (new sentence forms, question forms, words and prompt order),
and something to build on, as in fine-tuning a real pretrained model.

Example paragraph in fine-tuning wording, with one of its questions::

    The old mill was the work of the architect Mara Velt. Work on the tall tower cost 340 crowns. ...
    Question: Which architect is the old mill the work of?     Answer: Mara Velt
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

FIRST_NAMES = """Mara Tobin Elsa Jorik Nadia Pell Orla Bram Ines Kester Lida Rufus Selma Anton Vera Hugo
Petra Magnus Tilda Oswin Greta Felix Dara Conrad Alma Edgar Runa Silas Thea Viktor""".split()
LAST_NAMES = """Velt Harrow Quill Sandor Brisk Marlow Denholm Farrow Galt Hobb Ivers Jessop Kerrow Lund
Morrow Nash Orban Pryce Rask Stroud Thorne Ulver Voss Wick Yarrow Zeller Crane Dunmore Ester Frost""".split()
ADJECTIVES = "old tall green northern narrow round stone hidden royal broken upper quiet".split()
THINGS = """mill tower bridge library harbour theatre palace lighthouse museum chapel market garden
fountain station school castle""".split()
TOWNS = """Belmar Orrin Castell Dunwick Elvaston Fenmoor Garrow Halden Istria Jarlow Kelby Lorne Mirfield
Norwen Ostrava Penrith""".split()
PROFESSIONS = """baker surgeon painter sailor lawyer teacher weaver chemist farmer printer singer
gardener""".split()
COLOURS = "red grey white black yellow brown".split()
MATERIALS = "brick marble timber granite copper slate".split()
TRADES = "Bakers Weavers Masons Fishers Printers Smiths Tailors Brewers".split()
MONTHS = """January February March April May June July August September October November
December""".split()
COLLECTED = "coins stamps maps clocks shells books".split()


@dataclass(frozen=True)
class Value:
    """A fact's value as the context states it, and the shorter forms a human might answer with."""

    text: str
    shorter: tuple[str, ...] = ()


@dataclass(frozen=True)
class Relation:
    """One kind of fact and its wordings; `{s}` is the subject, `{v}` the value.

    Attributes:
        about: "landmark" or "person", the kind of subject.
        draw: makes a value.
        pretrain: (sentence forms, question forms) for pretraining.
        finetune: (sentence forms, question forms) for the SQuAD-format splits.
    """

    name: str
    about: str
    draw: Callable[[random.Random], Value]
    pretrain: tuple[tuple[str, ...], tuple[str, ...]]
    finetune: tuple[tuple[str, ...], tuple[str, ...]]


@dataclass(frozen=True)
class Fact:
    """One statement of a paragraph: its subject, its relation and its value."""

    subject: str
    relation: Relation
    value: Value


def person(rng: random.Random) -> str:
    """Draw a full name, e.g. "Mara Velt"."""
    return f"{rng.choice(FIRST_NAMES)} {rng.choice(LAST_NAMES)}"


def landmark(rng: random.Random) -> str:
    """Draw a landmark with its article, e.g. "the old mill"."""
    return f"the {rng.choice(ADJECTIVES)} {rng.choice(THINGS)}"


def _person_value(rng: random.Random) -> Value:
    name = person(rng)
    return Value(name, (name.split()[1],))


def _year(rng: random.Random) -> Value:
    return Value(str(rng.randrange(1600, 1990)))


def _feet(rng: random.Random) -> Value:
    number = str(rng.randrange(3, 99) * 10)
    return Value(f"{number} feet", (number,))


def _material(rng: random.Random) -> Value:
    material = rng.choice(MATERIALS)
    return Value(f"{rng.choice(COLOURS)} {material}", (material,))


def _guild(rng: random.Random) -> Value:
    trade = rng.choice(TRADES)
    return Value(f"the Guild of {trade}", (trade,))


def _profession(rng: random.Random) -> Value:
    return Value(rng.choice(PROFESSIONS))


def _town(rng: random.Random) -> Value:
    return Value(rng.choice(TOWNS))


def _date(rng: random.Random) -> Value:
    day, month = str(rng.randrange(1, 29)), rng.choice(MONTHS)
    return Value(f"{day} {month} {rng.randrange(1600, 1990)}", (f"{day} {month}",))


def _collection(rng: random.Random) -> Value:
    thing = rng.choice(COLLECTED)
    return Value(f"{rng.choice(COLOURS)} {thing}", (thing,))


RELATIONS = (
    Relation(
        "designer",
        "landmark",
        _person_value,
        pretrain=(
            ("{s} was designed by {v}.", "{v} designed {s}.", "The designer of {s} is {v}."),
            ("Who designed {s}?", "Who is the designer of {s}?"),
        ),
        finetune=(
            ("{s} was the work of the architect {v}.", "It was {v} who drew the plans for {s}."),
            ("Which architect is {s} the work of?", "Whose plans led to {s}?", "By whom was {s} planned?"),
        ),
    ),
    Relation(
        "year",
        "landmark",
        _year,
        pretrain=(
            ("{s} was built in {v}.", "In {v} people built {s}.", "{s} dates from {v}."),
            ("When was {s} built?", "What year does {s} date from?"),
        ),
        finetune=(
            ("The doors of {s} first opened in {v}.", "{s} has been standing since {v}."),
            ("In which year did {s} open?", "Since when has {s} been standing?"),
        ),
    ),
    Relation(
        "height",
        "landmark",
        _feet,
        pretrain=(
            ("{s} is {v} high.", "The height of {s} is {v}.", "{s} rises {v}."),
            ("How high is {s}?", "What is the height of {s}?"),
        ),
        finetune=(
            ("From ground to roof {s} measures {v}.", "At {v}, {s} can be seen from afar."),
            ("How tall does {s} stand?", "What does {s} measure from ground to roof?"),
        ),
    ),
    Relation(
        "material",
        "landmark",
        _material,
        pretrain=(
            ("{s} is made of {v}.", "{v} was used for {s}.", "The walls of {s} are {v}."),
            ("What is {s} made of?", "What was used for {s}?"),
        ),
        finetune=(
            ("Masons raised {s} from {v}.", "Visitors to {s} admire its {v}."),
            ("From which material did masons raise {s}?", "Which material do visitors to {s} admire?"),
        ),
    ),
    Relation(
        "owner",
        "landmark",
        _guild,
        pretrain=(
            ("{s} is owned by {v}.", "{v} owns {s}.", "The owner of {s} is {v}."),
            ("Who owns {s}?", "Who is the owner of {s}?"),
        ),
        finetune=(
            ("{s} now belongs to {v}.", "Repairs to {s} are paid for by {v}."),
            ("To which body does {s} belong?", "Which body pays for repairs to {s}?"),
        ),
    ),
    Relation(
        "profession",
        "person",
        _profession,
        pretrain=(
            ("{s} was a {v}.", "{s} worked as a {v}.", "The job of {s} was {v}."),
            ("What did {s} work as?", "What was the job of {s}?"),
        ),
        finetune=(
            ("{s} earned a living as a {v}.", "Neighbours knew {s} as the local {v}."),
            ("How did {s} earn a living?", "In what trade was {s} known to neighbours?"),
        ),
    ),
    Relation(
        "birthplace",
        "person",
        _town,
        pretrain=(
            ("{s} was born in {v}.", "{s} came from {v}.", "{v} is the home of {s}."),
            ("Where was {s} born?", "Where did {s} come from?"),
        ),
        finetune=(
            ("{s} grew up in the town of {v}.", "{s} spent a childhood near {v}."),
            ("In which town did {s} grow up?", "Near which place did {s} spend a childhood?"),
        ),
    ),
    Relation(
        "arrival",
        "person",
        _date,
        pretrain=(
            ("{s} arrived on {v}.", "On {v} came {s}.", "The arrival of {s} was on {v}."),
            ("When did {s} arrive?", "What was the date of the arrival of {s}?"),
        ),
        finetune=(
            ("{s} first set foot here on {v}.", "A letter dates the coming of {s} to {v}."),
            ("On what day did {s} first set foot here?", "To what day does a letter date the coming of {s}?"),
        ),
    ),
    Relation(
        "collection",
        "person",
        _collection,
        pretrain=(
            ("{s} collected {v}.", "{v} were collected by {s}.", "The collection of {s} was {v}."),
            ("What did {s} collect?", "What was the collection of {s}?"),
        ),
        finetune=(
            ("{s} left behind a room full of {v}.", "Boxes of {v} were found in the house of {s}."),
            ("Of what did {s} leave behind a room full?", "What was found in the house of {s}?"),
        ),
    ),
)

FILLERS = (
    "Little else is recorded.",
    "The winters are mild.",
    "A ferry runs twice a week.",
    "Many visitors come in summer.",
    "The roads were paved later.",
    "Some of the records were lost.",
)


def draw_facts(rng: random.Random, count: int) -> list[Fact]:
    """Draw `count` facts in random order, with distractors.

    Subjects are distinct, but relations are drawn from a pool smaller than `count` and a subject may have
    two facts: a reader that matches only the subject or only the relation gets some questions wrong.

    Args:
        rng: source of randomness.
        count: number of facts, at least 2.
    """
    subjects: dict[str, list[str]] = {"landmark": [], "person": []}
    for kind, draw in (("landmark", landmark), ("person", person)):
        while len(subjects[kind]) < max(2, (count + 1) // 2):
            subject = draw(rng)
            if subject not in subjects[kind]:
                subjects[kind].append(subject)
    pool = rng.sample(RELATIONS, k=min(len(RELATIONS), max(2, count - 1)))
    facts: list[Fact] = []
    taken: set[tuple[str, str]] = set()
    while len(facts) < count:
        relation = rng.choice(pool)
        subject = rng.choice(subjects[relation.about])
        value = relation.draw(rng)
        clashes = (subject, relation.name) in taken or any(value.text == f.value.text for f in facts)
        if not clashes:
            taken.add((subject, relation.name))
            facts.append(Fact(subject, relation, value))
    return facts


def write_sentence(fact: Fact, form: str) -> str:
    """Write the fact in words, its first letter a capital."""
    sentence = form.format(s=fact.subject, v=fact.value.text)
    return sentence[0].upper() + sentence[1:]
