"""Promises for bad input, one function for each kind of input; hypothesis makes the cases.

Each gives its input to the real command line. Accepted input must be usable: a benchmark whose draws lie in its space
and are hyperparameters, an import that reads back as a finished study.
"""

from __future__ import annotations

import copy
import itertools
import json
import sqlite3
import uuid
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
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
from benchmarks.training.models import load_tokenizer
from hpo.analysis import records
from hpo.search import registry
from hpo.search.plan import Plan
from hpo.search.space import to_tune
from tests.fuzz.documents import HUGE, RAW_YAML, TEXTS, csv_files, json_files, json_lines_files, yaml_files
from tests.fuzz.workspace import Answer, call, store
from tests.grids import points_of

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
MODEL = BENCHMARKS / "assets/nano/model"
SYNTHETIC: dict[str, Any] = yaml.safe_load((BENCHMARKS / "synthetic.yaml").read_text())
MANY_DOMAINS: dict[str, Any] = {
    "learning_rate": {"type": "loguniform", "low": 0.001, "high": 0.5},
    "batch_size_per_device": {"type": "int", "low": 1, "high": 64},
    "warmup_ratio": {"type": "uniform", "low": 0.0, "high": 0.5},
    "lr_scheduler": {"type": "choice", "values": ["linear", "cosine"]},
    "max_grad_norm": {"type": "choice", "values": [0, 0.5, 1.0]},
}
GRID: dict[str, Any] = {"learning_rate": [0.01, 0.1], "batch_size_per_device": [8, 16], "lr_scheduler": ["cosine"]}
WIDE: dict[str, Any] = {**SYNTHETIC, "space": MANY_DOMAINS, "grid": GRID}
CONTEXT = "Delft lies between Rotterdam and The Hague; its university was founded in 1842."
QUESTIONS: list[dict[str, Any]] = [
    {"id": "q1", "question": "Where is Delft?", "answers": [{"text": "between Rotterdam", "answer_start": 11}]},
    {"id": "q2", "question": "Since when?", "answers": [{"text": "1842", "answer_start": 74}]},
]
SQUAD: dict[str, Any] = {
    "version": "1.1",
    "data": [{"title": "Delft", "paragraphs": [{"context": CONTEXT, "qas": QUESTIONS}]}],
}
LINES: list[dict[str, Any]] = [
    {"id": "a", "title": "Delft", "context": CONTEXT, **QUESTIONS[0]},
    {"context": CONTEXT, "question": "Since when?", "answers": ["1842"]},
    {"context": CONTEXT, "question": "When?", "answers": {"text": ["1842"], "answer_start": [74]}},
]
DEEPSPEED: dict[str, Any] = {
    "train_micro_batch_size_per_gpu": "auto",
    "gradient_accumulation_steps": "auto",
    "gradient_clipping": "auto",
    "bf16": {"enabled": "auto"},
    "zero_optimization": {"stage": 1, "reduce_bucket_size": "auto", "overlap_comm": True},
    "steps_per_print": 100,
}
FINETUNE: dict[str, Any] = {
    **{key: value for key, value in WIDE.items() if key != "synthetic"},
    "finetune": {
        "model": str(MODEL),
        "data": {
            "train": {"file": "squad.json", "limit": 2, "articles": "rest", "held_out_share": 0.1},
            "validation": {"file": "lines.jsonl"},
            "test": {"file": "squad.json"},
        },
        "max_length": 160,
        "max_answer_tokens": 10,
        "ranks_per_trial": 1,
        "precision": "fp32",
        "deepspeed": DEEPSPEED,
    },
}
PROFILE: dict[str, Any] = {
    "partition": "gpu",
    "account": "me",
    "time": "1-04:00:00",
    "workers": {"count": 2, "directives": ["--constraint=a100", "--exclusive"]},
    "node": {"cpus": 64, "gpus": "a100:4", "memory": "480G"},
    "cpus_per_rank": 8,
    "cpus_for_ray": 4,
    "gpu_request": "gres",
    "head": {"cpus": 2, "memory": "8G", "partition": "login", "directives": ["--qos=short"]},
    "directives": ["--comment=ours"],
    "environment": {"modules": ["cuda"], "venv": "~/hpo", "lines": ["export A=b"], "after_modules": ["export C=d"]},
    "interface": "ib0",
    "address": "10.1.0.0/16",
    "layout": "jobs",
    "store": "mlflow.db",
    "logs": "logs",
    "grace_seconds": 60,
    "join_minutes": 10,
    "requeue": True,
}
ROWS = (
    (
        "trial",
        "unit",
        "learning_rate",
        "batch_size_per_device",
        "eval_loss",
        "f1",
        "seconds",
        "devices",
        "outcome",
        "reason",
    ),
    ("a", "3", "0.001", "8", "1.21", "0.44", "31.5", "2", "", ""),
    ("b", "3", "0.02", "16", "2.90", "0.05", "20.1", "2", "stopped", "worse than half of the others"),
    ("c", "1", "0.0005", "8", "", "", "12.0", "2", "failed", "CUDA out of memory"),
    ("a", "9", "0.001", "8", "0.83", "0.71", "63.0", "2", "completed", ""),
)


PATHS = ("~nobody-of-that-name/x", "/dev/zero", "x/" * 3000, "a" * 300, "/a\0b", "/\ud800", "/proc/self/mem")


# ---- a benchmark and its files


def _examples(**cases: Iterable[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Cases that once failed, as `example` takes them; where one argument has fewer, its last goes on."""

    def add(target: Callable[..., None]) -> Callable[..., None]:
        given_ = {name: list(values) for name, values in cases.items()}
        for number in range(max(map(len, given_.values()))):
            case = {name: values[min(number, len(values) - 1)] for name, values in given_.items()}
            target = example(**case)(target)
        return target

    return add


def _with(document: Mapping[str, Any], **values: str) -> bytes:
    """A document as YAML, with other values at keys such as `space__learning_rate__low`, as they are written."""
    content = copy.deepcopy(dict(document))
    for place in values:
        *parents, key = place.split("__")
        section: Any = content
        for parent in parents:
            section = section[parent]
        section[key] = f"<{place}>"
    text = json.dumps(content)
    for place, value in values.items():
        text = text.replace(json.dumps(f"<{place}>"), value)
    return text.encode("utf-8", "surrogatepass")


def _titled(title: str) -> str:
    return json.dumps(SQUAD["data"]).replace('"Delft"', title)


FAULTY_YAML = [
    raw.encode() for raw in ("!!timestamp x", "!!int ''", "!!float x", "!!bool x", '"\\U0011ffff"', "[" * 5000)
]
BOMBS = [_with(SYNTHETIC, description=raw) for raw in RAW_YAML if "*" in raw]
LONG_NUMBER = "0x" + "f" * 5000


@_examples(
    method=["random"],
    content=[
        *FAULTY_YAML,
        *BOMBS,
        _with(SYNTHETIC, description=LONG_NUMBER),
        _with(SYNTHETIC, description='"\\ud800"'),
        _with(SYNTHETIC, diverged_above=".inf"),
        _with(SYNTHETIC, diverged_above=LONG_NUMBER),
        _with(SYNTHETIC, grid__batch_size_per_device=f"[{HUGE}]"),
        _with(WIDE, space__batch_size_per_device__high=str(HUGE)),
        _with(WIDE, grid__batch_size_per_device=f"[{HUGE}]"),
        _with(WIDE, space__warmup_ratio__high=str(HUGE)),
        _with(WIDE, resource__max_units=str(HUGE)),
        _with(SYNTHETIC, space__learning_rate__low="5e-324"),
        b"\xef\xbb\xbf" + _with(SYNTHETIC),
    ],
)
@example(method="hyperband", content=_with(SYNTHETIC, resource__max_units="1000000000001"))
@example(method="pbt", content=_with(WIDE, space__batch_size_per_device__high=str(2**62)))
@given(method=st.sampled_from(registry.names()), content=yaml_files(SYNTHETIC, WIDE))
def synthetic_benchmark(method: str, content: bytes) -> None:
    """A benchmark without a model: every method can plan a study of an accepted one."""
    _require_usable(_study("own.yaml", content, "run", method, "--benchmark", "own.yaml"), method)


@_examples(
    content=[
        *(_with(FINETUNE, finetune__model=json.dumps(name)) for name in PATHS),
        *(_with(FINETUNE, finetune__data__train__file=json.dumps(name)) for name in PATHS),
        *(_with(FINETUNE, finetune__deepspeed=json.dumps(name)) for name in PATHS),
        *(
            _with(FINETUNE, finetune__deepspeed=raw)
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


@_examples(
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


@_examples(
    content=[b"[" * 100_000, *(_with(SQUAD, data=_titled(raw)) for raw in ('"\\ud800"', '"\\u0000"', '"\\u001b[2J"'))]
)
@given(content=json_files(SQUAD))
def squad_file(content: bytes) -> None:
    """Questions in SQuAD's format."""
    _require_tokens("squad.json", content)


@given(content=json_lines_files(LINES) | json_files(*LINES))
def squad_lines(content: bytes) -> None:
    """Questions, one a line."""
    _require_tokens("lines.jsonl", content)


def _study(file: str, content: bytes, *words: str) -> Answer:
    """Run a study on a file, and return its answer."""
    Path(file).write_bytes(content)
    answer = call(*words, "--budget", "4")
    _require_no_store()
    assert (answer.study is None) == (answer.status == 2)
    return answer


def _require_no_store() -> None:
    assert list(Path("no_store").iterdir()) == []


def _write_data() -> None:
    Path("squad.json").write_text(json.dumps(SQUAD))
    Path("lines.jsonl").write_text("\n".join(map(json.dumps, LINES)))


@cache
def _yaml_of_a_benchmark(deepspeed: str | None = None) -> str:
    """With as little to parse as there can be, for every case reads it."""
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
    """The first proposals of searchers that draw by themselves."""
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
    assert squad.token_statistics("train", examples, finetune.max_length).longest > 0
    assert all(squad.exact_match(text, [text]) == 1 for example in examples for text in example.references)


@cache
def _tokenizer() -> Any:
    return load_tokenizer(str(MODEL))


# ---- a study from elsewhere


def _with_cells(**cells: str) -> bytes:
    """The table with other cells in its first line."""
    first = [cells.get(name, cell) for name, cell in zip(ROWS[0], ROWS[1], strict=True)]
    return "\n".join(",".join(row) for row in (ROWS[0], first, *ROWS[2:])).encode()


NUMBERS_TO_IMPORT = ("", "1", "0", "-1", "200", "1e6", "1e308", "nan", "inf", "²", "9" * 5000, "x")


@_examples(
    content=[
        *(_with_cells(reason=text) for text in ("y" * 9000, "\x1b[2J", "a\0b", "x" * 140_000)),
        _with_cells(seconds="1.7e308", devices="1e300"),
        _with_cells(seconds="5e-324"),
        _with_cells(devices="1e300"),
    ],
    label=["vizier"],
    accelerator=["cpu"],
    wall_seconds=[""],
    devices=[""],
)
@_examples(
    content=[_with_cells()],
    label=["vizier", "v" * 20_000, "vizier"],
    accelerator=["cpu", "cpu", "\ud800", "\x1b[2J", "", "x" * 70_000, "cpu"],
    wall_seconds=["", "", "", "", "", "", "1e308", "200"],
    devices=["²", "", "", "", "", "", "9", "9" * 5000],
)
@given(
    content=csv_files(ROWS),
    label=st.sampled_from(("vizier",) * 8 + TEXTS),
    accelerator=st.sampled_from(("Tesla V100",) * 8 + TEXTS),
    wall_seconds=st.sampled_from(("",) * 8 + NUMBERS_TO_IMPORT),
    devices=st.sampled_from(("",) * 8 + NUMBERS_TO_IMPORT),
)
def csv_import(content: bytes, label: str, accelerator: str, wall_seconds: str, devices: str) -> None:
    """Trials from a CSV file: a finished study, or nothing at all."""
    Path("results.csv").write_bytes(content)
    name = f"own-{uuid.uuid4()}"
    Path("own.yaml").write_text(json.dumps({**SYNTHETIC, "name": name}))
    options = {"method": label, "accelerator": accelerator, "wall-seconds": wall_seconds, "devices": devices}
    words = ["import", "results.csv", "--benchmark", "own.yaml", *(f"--{key}={text}" for key, text in options.items())]
    with store() as database:
        before = _stored(database)
        answer = call(*words)
        if answer.status == 2:
            assert _stored(database) == before
            return
        (study,) = records.read(name).studies
        assert study.method == label
        assert len(study.trials) == int(study.metrics["num_trials"]) > 0
        assert study.metrics["device_hours"] > 0
        with closing(sqlite3.connect(database)) as connection:
            running = connection.execute("select count(*) from runs where status not in ('FINISHED', 'FAILED')")
            assert running.fetchone() == (0,)


def _stored(database: Path) -> list[int]:
    with closing(sqlite3.connect(database)) as connection:
        counts = (connection.execute(f"select count(*) from {table}") for table in ("runs", "experiments", "tags"))
        return [count.fetchone()[0] for count in counts]


# ---- a cluster


@_examples(
    content=[
        _with(PROFILE, time='"04:00:00\\n"'),
        _with(PROFILE, time='"٤"'),
        _with(PROFILE, account='"a\\n"'),
        _with(PROFILE, node__memory='"²G"'),
        _with(PROFILE, node__memory='"4G\\n"'),
        _with(PROFILE, head__partition='"\\x1f"'),
        _with(PROFILE, logs='"a\\nb"'),
        _with(PROFILE, logs='"~nobody-of-that-name/x"'),
        _with(PROFILE, environment='{venv: "~nobody-of-that-name/x"}'),
        _with(PROFILE, environment='{lines: ["\\ud800"]}'),
        _with(PROFILE, environment='{lines: ["\\e[2J"]}'),
        _with(PROFILE, node__cpus=LONG_NUMBER),
        _with(PROFILE, time="04:00:00"),
        *FAULTY_YAML,
    ],
    verb=["serial"],
)
@given(content=yaml_files(PROFILE), verb=st.sampled_from(("submit", "array", "serial", "capacity")))
def cluster_profile(content: bytes, verb: str) -> None:
    """A cluster profile: job scripts whose directives are the profile's, one per line."""
    Path("cluster.yaml").write_bytes(content)
    what = ["random", "--dry-run"] if verb != "capacity" else []
    answer = call("slurm", verb, "--cluster", "cluster.yaml", *what, "--benchmark", "synthetic")
    if answer.status == 2 or verb == "capacity":
        return
    assert "#SBATCH --job-name=hpo-random" in answer.out
    for line in answer.out.splitlines():
        assert line.replace("\t", " ").isprintable(), line
        assert not line.startswith("#SBATCH") or line.startswith("#SBATCH --"), line


# ---- the command line


VERBS: dict[str, tuple[str, ...]] = {
    "run": (
        "--benchmark",
        "--budget",
        "--seed",
        "--space",
        "--gpu-hours",
        "--reduction-factor",
        "--searcher",
        "--initial-points",
        "--start-with-default",
        "--concurrency",
        "--interval-units",
        "--grace-units",
    ),
    "resume": (),
    "suite": ("--methods", "--seeds", "--benchmark", "--budget", "--space", "--gpu-hours", "--force"),
    "compare": ("--benchmark", "--budget", "--mixed-budgets", "--reference", "--max-gpu-hours", "--max-memory-mb"),
    "confirm": ("--benchmark", "--methods", "--repeats", "--gpu-hours"),
    "export": ("--benchmark", "--method"),
    "train": ("--config", "--benchmark", "--data-train", "--data-validation", "--data-test", "--seed"),
    "deepspeed": (
        "--benchmark",
        "--configurations",
        "--ranks",
        "--nodes",
        "--scaling",
        "--examples",
        "--epochs",
        "--batch-size",
        "--accumulation",
        "--learning-rate",
        "--weight-decay",
        "--seed",
        "--precision",
    ),
    "import": ("--benchmark", "--method", "--seed", "--accelerator", "--wall-seconds", "--devices", "--space"),
    "fetch": ("--benchmark", "--output"),
    "methods": (),
    "benchmarks": (),
    "slurm submit": ("--cluster", "--dry-run", "--benchmark", "--budget", "--seed", "--space"),
    "slurm array": ("--cluster", "--dry-run", "--at-once", "--batch", "--benchmark", "--budget", "--seed"),
    "slurm serial": ("--cluster", "--dry-run", "--benchmark", "--budget", "--seed"),
    "slurm capacity": ("--cluster", "--benchmark"),
    "slurm resume": ("--cluster",),
    "slurm collect": ("--cluster", "--incomplete"),
    "slurm head": ("--cluster", "--from-environment", "--"),
    "slurm worker": ("--connection", "--cpus", "--gpus"),
    "slurm task": ("--cluster",),
}
WORDS = (
    *registry.names(),
    "synthetic",
    "nano",
    "synthetic.yaml",
    "own.yaml",
    "space.yaml",
    "cluster.yaml",
    "results.csv",
    "best_config.json",
    "exported",
    "folder.yaml",
    "all",
    "true",
    "false",
    "best",
    "0",
    "1",
    "2",
    "-1",
    "3",
    "1.5",
    "nan",
    "inf",
    "1e400",
    "0x10",
    "²",
    "٣",
    "0,1",
    "0,²",
    "9" * 30,
    "9" * 5000,
    "random:budget=²",
    "asha:searcher=optuna,random:budget=99999999999999999999",
    "asha:reduction-factor=1",
    "plain,zero3-offload",
    "bloom_560m_squad",
    "--help",
    "--",
    "-",
    "-x",
    "--benchmark=",
    "--no-such",
    "a" * 300 + ".yaml",
    "a" * 5000 + ".yaml",
    "\udcff.yaml",
    "\udcff",
    *(text for text in TEXTS if "\0" not in text),  # no system passes it on
)


@st.composite
def command_lines(draw: st.DrawFn) -> list[str]:
    """Draw words after `python -m hpo`, most of the time with those that the verb needs."""
    verb = draw(st.sampled_from(list(VERBS)))
    words = verb.split()
    values = st.sampled_from(WORDS) | st.text(st.characters(exclude_characters="\0"), max_size=12)
    if draw(st.booleans()) and verb != "benchmarks":
        words.append(draw(st.sampled_from((*registry.names(), "results.csv", "suite", "resume", "confirm", *WORDS))))
    if "--cluster" in VERBS[verb] and draw(st.integers(0, 4)):
        words += ["--cluster", "cluster.yaml"]
    if verb == "import":
        words += ["--benchmark", "synthetic", "--method", "vizier", "--accelerator", "cpu"]
    for _ in range(draw(st.integers(0, 4))):
        options = VERBS[verb]
        if options and draw(st.integers(0, 9)):
            words.append(draw(st.sampled_from(options)))
        if draw(st.integers(0, 9)):
            words.append(draw(values))
    return words


@_examples(
    words=[
        ["slurm", "head", "--cluster", "cluster.yaml"],
        ["slurm", "head", "--cluster", "cluster.yaml", "--", "benchmarks"],
        ["slurm", "submit", "--cluster", "/dev/zero", "random"],
        ["slurm", "submit", "--cluster", "a" * 5000, "random"],
        ["run", "random", "--benchmark", "a" * 300 + ".yaml"],
        ["run", "random", "--benchmark", "\udcff.yaml"],
        ["run", "random", "--benchmark", "synthetic", "--space", "/dev/zero"],
        ["run", "random", "--benchmark", "synthetic", "--budget", "9" * 30],
        ["run", "pbt", "--benchmark", "synthetic", "--budget", "9" * 30],
        ["run", "random", "--benchmark", "synthetic", "--budget", "9" * 5000],
        ["run", "random", "\x1b[31mred\x1b[0m"],
        ["suite", "--benchmark", "synthetic", "--seeds", "0,²"],
        ["suite", "--benchmark", "synthetic", "--methods", "random:budget=²"],
        ["suite", "--benchmark", "synthetic", "--methods", "random:budget=" + "9" * 5000],
        ["compare", "--budget", "²"],
        ["deepspeed", "--ranks", "²"],
        ["deepspeed", "--learning-rate", "nan"],
        ["resume", "a" * 5000],
        ["train", "--config", "a" * 5000],
        ["train", "\udcff"],
    ]
)
@given(words=command_lines())
def command_line(words: list[str]) -> None:
    """Any words: nothing is stored by those that are refused."""
    for name, content in {"own": WIDE, "space": {"space": MANY_DOMAINS, "grid": GRID}, "cluster": PROFILE}.items():
        Path(f"{name}.yaml").write_text(json.dumps(content))  # which is YAML too
    Path("results.csv").write_text("\n".join(map(",".join, ROWS)))
    Path("best_config.json").write_text('{"config": {"learning_rate": 0.001}}')
    Path("folder.yaml").mkdir(exist_ok=True)
    if words[:1] == ["fetch"]:  # nothing here asks the hub
        words = [word for word in words if not word.startswith("bloom")]
    call(*words)
    _require_no_store()


TARGETS: dict[str, Callable[[], None]] = {
    target.__name__: target
    for target in (
        synthetic_benchmark,
        finetune_benchmark,
        space_file,
        deepspeed_file,
        squad_file,
        squad_lines,
        csv_import,
        cluster_profile,
        command_line,
    )
}
