"""Promises for imports from CSV, cluster profiles and command lines.

An accepted import reads back as a finished study.
"""

from __future__ import annotations

import json
import sqlite3
import uuid
from contextlib import closing
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from hpo.analysis import records
from hpo.search import registry
from tests.fuzz.cases import FAULTY_YAML, LONG_NUMBER, examples, require_no_store, with_values
from tests.fuzz.documents import csv_files, yaml_files
from tests.fuzz.hostile_values import TEXTS
from tests.fuzz.samples import GRID, MANY_DOMAINS, PROFILE, ROWS, SYNTHETIC, WIDE
from tests.fuzz.workspace import call, store


def _with_cells(**cells: str) -> bytes:
    """Write the table with other cells in its first line."""
    first = [cells.get(name, cell) for name, cell in zip(ROWS[0], ROWS[1], strict=True)]
    return "\n".join(",".join(row) for row in (ROWS[0], first, *ROWS[2:])).encode()


NUMBERS_TO_IMPORT = ("", "1", "0", "-1", "200", "1e6", "1e308", "nan", "inf", "²", "9" * 5000, "x")


@examples(
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
@examples(
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


@examples(
    content=[
        with_values(PROFILE, time='"04:00:00\\n"'),
        with_values(PROFILE, time='"٤"'),
        with_values(PROFILE, account='"a\\n"'),
        with_values(PROFILE, node__memory='"²G"'),
        with_values(PROFILE, node__memory='"4G\\n"'),
        with_values(PROFILE, head__partition='"\\x1f"'),
        with_values(PROFILE, logs='"a\\nb"'),
        with_values(PROFILE, logs='"~nobody-of-that-name/x"'),
        with_values(PROFILE, environment='{venv: "~nobody-of-that-name/x"}'),
        with_values(PROFILE, environment='{lines: ["\\ud800"]}'),
        with_values(PROFILE, environment='{lines: ["\\e[2J"]}'),
        with_values(PROFILE, node__cpus=LONG_NUMBER),
        with_values(PROFILE, time="04:00:00"),
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


@examples(
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
    """Give any words: refused ones store nothing."""
    for name, content in {"own": WIDE, "space": {"space": MANY_DOMAINS, "grid": GRID}, "cluster": PROFILE}.items():
        Path(f"{name}.yaml").write_text(json.dumps(content))  # which is YAML too
    Path("results.csv").write_text("\n".join(map(",".join, ROWS)))
    Path("best_config.json").write_text('{"config": {"learning_rate": 0.001}}')
    Path("folder.yaml").mkdir(exist_ok=True)
    if words[:1] == ["fetch"]:  # nothing here asks the hub
        words = [word for word in words if not word.startswith("bloom")]
    call(*words)
    require_no_store()
