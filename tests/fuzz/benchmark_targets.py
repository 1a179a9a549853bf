"""Promises for a benchmark and the files that it names.

Accepted input must be usable: draws lie in the space and are hyperparameters, questions become tokens.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from benchmarks import spec
from benchmarks.identity import digest
from benchmarks.spec import Benchmark
from benchmarks.tasks import question_answering as squad
from benchmarks.tasks.task import token_statistics
from benchmarks.training.model.models import load_tokenizer
from hpo.search import registry
from hpo.search.plan import Plan
from hpo.search.space import to_tune
from tests.fuzz.cases import BOMBS, FAULTY_YAML, LONG_NUMBER, PATHS, examples, require_no_store, titled, with_values
from tests.fuzz.documents import json_files, json_lines_files, yaml_files
from tests.fuzz.hostile_values import HUGE
from tests.fuzz.samples import DEEPSPEED, FINETUNE, GRID, LINES, MANY_DOMAINS, MODEL, SQUAD, SYNTHETIC, WIDE
from tests.fuzz.workspace import Answer, call
from tests.grids import points_of


@examples(
    method=["random"],
    content=[
        *FAULTY_YAML,
        *BOMBS,
        with_values(SYNTHETIC, description=LONG_NUMBER),
        with_values(SYNTHETIC, description='"\\ud800"'),
        with_values(SYNTHETIC, diverged_above=".inf"),
        with_values(SYNTHETIC, diverged_above=LONG_NUMBER),
        with_values(SYNTHETIC, grid__batch_size_per_device=f"[{HUGE}]"),
        with_values(WIDE, space__batch_size_per_device__high=str(HUGE)),
        with_values(WIDE, grid__batch_size_per_device=f"[{HUGE}]"),
        with_values(WIDE, space__warmup_ratio__high=str(HUGE)),
        with_values(WIDE, resource__max_units=str(HUGE)),
        with_values(SYNTHETIC, space__learning_rate__low="5e-324"),
        b"\xef\xbb\xbf" + with_values(SYNTHETIC),
    ],
)
@example(method="hyperband", content=with_values(SYNTHETIC, resource__max_units="1000000000001"))
@example(method="pbt", content=with_values(WIDE, space__batch_size_per_device__high=str(2**62)))
@given(method=st.sampled_from(registry.names()), content=yaml_files(SYNTHETIC, WIDE))
def synthetic_benchmark(method: str, content: bytes) -> None:
    """A benchmark without a model: every method can plan a study of an accepted one."""
    _require_usable(_study("own.yaml", content, "run", method, "--benchmark", "own.yaml"), method)


@examples(
    content=[
        *(with_values(FINETUNE, finetune__model=json.dumps(name)) for name in PATHS),
        *(with_values(FINETUNE, finetune__data__train__file=json.dumps(name)) for name in PATHS),
        *(with_values(FINETUNE, finetune__deepspeed=json.dumps(name)) for name in PATHS),
        *(
            with_values(FINETUNE, finetune__deepspeed=raw)
            for raw in ('{"bf16": 1}', '{"a": &a {b: *a}}', '{"a": {1: 2, b: 3}}')
        ),
    ]
)
@given(content=yaml_files(FINETUNE))
def finetune_benchmark(content: bytes) -> None:
    """A benchmark that trains a model."""
    _write_data()
    _require_usable(_study("own.yaml", content, "run", "random", "--benchmark", "own.yaml"), "random")


@example(method="random", content=b"? [a]\n: b\n")
@example(method="random", content=b"[" * 5000)
@given(method=st.sampled_from(registry.names()), content=yaml_files({"space": MANY_DOMAINS, "grid": GRID}))
def space_file(method: str, content: bytes) -> None:
    """A search space of one's own."""
    answer = _study("space.yaml", content, "run", method, "--benchmark", "synthetic", "--space", "space.yaml")
    _require_usable(answer, method)


@examples(
    content=[
        b'{"bf16": 1}',
        b'{"fp16": []}',
        b'{"wall_clock_breakdown": Infinity}',
        b"[" * 100_000,
        b'{"a": ' * 900 + b"1" + b"}" * 900,
        b"NaN",
        b"1" * 5000,
    ]
)
@given(content=json_files(DEEPSPEED))
def deepspeed_file(content: bytes) -> None:
    """A DeepSpeed configuration that a benchmark names."""
    _write_data()
    Path("own.yaml").write_text(_yaml_of_a_benchmark("zero.json"))
    _require_usable(_study("zero.json", content, "run", "random", "--benchmark", "own.yaml"), "random")


@examples(
    content=[
        b"[" * 100_000,
        *(with_values(SQUAD, data=titled(raw)) for raw in ('"\\ud800"', '"\\u0000"', '"\\u001b[2J"')),
    ]
)
@given(content=json_files(SQUAD))
def squad_file(content: bytes) -> None:
    """Questions in SQuAD's format."""
    _require_tokens("squad.json", content)


@given(content=json_lines_files(LINES) | json_files(*LINES))
def squad_lines(content: bytes) -> None:
    """Questions, one per line."""
    _require_tokens("lines.jsonl", content)


def _study(file: str, content: bytes, *words: str) -> Answer:
    """Run a study on a file, and return its answer."""
    Path(file).write_bytes(content)
    answer = call(*words, "--budget", "4")
    require_no_store()
    assert (answer.study is None) == (answer.status == 2)
    return answer


def _write_data() -> None:
    Path("squad.json").write_text(json.dumps(SQUAD))
    Path("lines.jsonl").write_text("\n".join(map(json.dumps, LINES)))


@cache
def _yaml_of_a_benchmark(deepspeed: str | None = None) -> str:
    """Write a benchmark with as little to parse as possible, for every case reads it."""
    space = {"learning_rate": MANY_DOMAINS["learning_rate"]}
    finetune = {**FINETUNE["finetune"], "deepspeed": deepspeed or {}}
    return yaml.safe_dump({**FINETUNE, "space": space, "grid": {}, "finetune": finetune})


def _require_usable(answer: Answer, method: str) -> None:
    if answer.study is None:
        return
    benchmark = answer.study.benchmark
    assert benchmark.hyperparameters({}) == benchmark.default
    assert Benchmark.model_validate(benchmark.model_dump(mode="json")) == benchmark, "as an unfinished study keeps it"
    assert Benchmark.model_validate_json(benchmark.model_dump_json()) == benchmark, "as MLflow keeps it"
    assert digest(benchmark)
    _require_draws(benchmark)
    for point in itertools.islice(points_of(benchmark), 50):
        _require_inside(benchmark, point)
    _require_proposals(benchmark, registry.get(method).make_plan(answer.study))


def _require_draws(benchmark: Benchmark) -> None:
    np.random.seed(0)
    for _ in range(3):
        _require_inside(benchmark, {name: domain.sample() for name, domain in to_tune(benchmark.space).items()})


def _require_inside(benchmark: Benchmark, config: Mapping[str, Any]) -> None:
    for name, value in config.items():
        assert benchmark.space[name].contains(value), (name, value)
    benchmark.hyperparameters(config)


def _require_proposals(benchmark: Benchmark, plan: Plan) -> None:
    """Require the first proposals of searchers that draw by themselves to lie in the space."""
    if plan.space:
        return
    for number in range(2):
        proposal = plan.searcher.suggest(f"trial {number}")  # type: ignore[union-attr]
        assert isinstance(proposal, dict)
        _require_inside(benchmark, proposal)


def _require_tokens(file: str, content: bytes) -> None:
    _write_data()
    Path("own.yaml").write_text(_yaml_of_a_benchmark())
    answer = _study(file, content, "run", "random", "--benchmark", "own.yaml")
    if answer.study is None:
        return
    finetune = answer.study.benchmark.training_settings()
    for split in (finetune.data.train, finetune.data.validation):
        found = squad.read_split(split)
        assert all(r.context[a.start :].startswith(a.text) for r in found for a in r.answers)
        for training in (True, False):
            _require_examples(found, finetune, training)


def _require_examples(found: list[squad.Record], finetune: spec.FineTune, training: bool) -> None:
    try:
        examples = squad.tokenize(found, _tokenizer(), finetune.max_length, finetune.max_answer_tokens, training)
    except spec.BenchmarkError:  # a question that leaves no room
        return
    assert len(examples) == len(found)
    assert all(0 < example.length <= finetune.max_length for example in examples)
    assert token_statistics("train", examples, finetune.max_length).longest > 0
    assert all(squad.exact_match(text, [text]) == 1 for example in examples for text in example.references)


@cache
def _tokenizer() -> Any:
    return load_tokenizer(str(MODEL))
