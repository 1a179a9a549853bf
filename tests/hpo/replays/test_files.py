"""The files of a replay: what is written comes back, and what is no replay is refused in a sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pyarrow
import pytest
from pyarrow import parquet

from benchmarks import spec
from benchmarks.spec import BenchmarkError
from hpo.analysis.replayed import table
from hpo.analysis.replayed.study import FreshTraining, Improvement, ReplayedStudy, ReplayHeader
from hpo.analysis.replayed.table import KEY, Replay
from hpo.replays import log

SYNTHETIC = spec.load("synthetic")
HEADER = ReplayHeader(
    benchmark=SYNTHETIC.model_dump(mode="json", exclude_unset=True),
    digest="0123456789abcdef",
    devices=2,
    repeats=1,
    protocol="2",
    versions={"hpo.version.ray": "2"},
    source="the bank synthetic",
)
SCORES = {"eval_loss": 0.5, "exact_match": 0.25, "f1": 0.5}
FOUND = ReplayedStudy(
    method="asha",
    variant="searcher=optuna",
    seed=1,
    budget=12,
    outcomes={"completed": 2, "stopped": 7},
    units=108,
    wall_seconds=60.5,
    device_seconds=121.0,
    parts={"train": 100.0, "evaluate": 10.0, "idle": 11.0, "startup": 0.0, "checkpoint": 0.0, "failed": 0.0},
    model_share=0.5,
    config={"learning_rate": 1e-3, "batch_size_per_device": 8, "weight_decay": 0.0},
    incumbent_units=9,
    best=SCORES,
    test=SCORES,
    fresh=(
        FreshTraining(
            seed=7, metrics=SCORES | {f"test_{name}": score for name, score in SCORES.items()}, device_seconds=9
        ),
        FreshTraining(seed=8, metrics={}, device_seconds=4),
    ),
    improvements=(Improvement(wall_seconds=9, device_seconds=18, units=12, value=0.5),),
    cpu_seconds=0.1,
)
NOTHING = ReplayedStudy(
    method="default", seed=0, budget=12, outcomes={"diverged": 1}, units=2, wall_seconds=3, device_seconds=6, parts={}
)
REPLAY = Replay(HEADER, (FOUND, NOTHING.model_copy(update={"parts": dict.fromkeys(FOUND.parts, 0.0)})))


def test_studies_come_back_from_the_file_as_they_were(tmp_path: Path) -> None:
    table.write(REPLAY, tmp_path / "own.parquet")
    assert table.read(tmp_path / "own.parquet") == REPLAY


def test_pandas_reads_the_file_in_one_line(tmp_path: Path) -> None:
    table.write(REPLAY, tmp_path / "own.parquet")
    frame = pd.read_parquet(tmp_path / "own.parquet")
    assert list(frame["method"]) == ["asha", "default"]
    assert frame["config_learning_rate"][0] == 1e-3
    assert frame["fresh_test_f1"][0][0] == 0.5


def damaged(kind: str, path: Path) -> None:
    whole = table.to_table(REPLAY)
    description = json.loads(whole.schema.metadata[KEY])
    if kind == "cut":
        path.write_bytes(path.read_bytes()[:-50])
    elif kind == "text":
        path.write_text("method,seed\n")
    elif kind == "bank":
        parquet.write_table(pyarrow.table({"seed": [1]}), path)
    elif kind == "schema":
        description["schema_version"] = 99
        parquet.write_table(whole.replace_schema_metadata({KEY: json.dumps(description)}), path)
    elif kind == "description":
        del description["devices"]
        parquet.write_table(whole.replace_schema_metadata({KEY: json.dumps(description)}), path)
    elif kind == "column":
        parquet.write_table(whole.drop_columns(["units"]), path)
    elif kind == "row":
        seeds = whole.column_names.index("seed")
        parquet.write_table(whole.set_column(seeds, "seed", pyarrow.array([-1, 0])), path)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("cut", "no Parquet file, or cut off"),
        ("text", "no Parquet file, or cut off"),
        ("bank", "a Parquet file, but no replay of studies"),
        ("schema", "its schema has version 99, but this suite reads 1"),
        ("description", "its description cannot be used: devices: Field required"),
        ("column", r"its columns are not those of a replay \(units\)"),
        ("row", "a study cannot be used: .*seed"),
    ],
)
def test_a_file_that_is_no_replay_is_refused(tmp_path: Path, kind: str, message: str) -> None:
    path = tmp_path / "own.parquet"
    table.write(REPLAY, path)
    damaged(kind, path)
    with pytest.raises(BenchmarkError, match=rf"own\.parquet: .*{message}"):
        table.read(path)


def test_a_log_that_is_cut_off_anywhere_keeps_its_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "own.jsonl"
    writing = log.ReplayLog(path, Replay(HEADER, (FOUND,)))
    writing.add(NOTHING)
    assert log.read(path, HEADER) == [FOUND, NOTHING]
    text = path.read_bytes()
    for length in range(0, len(text), len(text) // 9):
        path.write_bytes(text[:length])
        kept = log.read(path, HEADER)
        assert kept == [FOUND, NOTHING][: max(0, text[:length].count(b"\n") - 1)]
        log.ReplayLog(path, Replay(HEADER, tuple(kept))).add(NOTHING)
        assert log.read(path, HEADER) == [*kept, NOTHING]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"digest": "f" * 16}, r"digest \(0123456789abcdef, here ffffffffffffffff\); give another folder"),
        ({"devices": 3}, r"devices \(2, here 3\)"),
        ({"versions": {"hpo.version.ray": "3"}}, r"versions \(others, here others\)"),
    ],
)
def test_studies_of_another_replay_are_not_mixed_in(tmp_path: Path, change: dict[str, object], message: str) -> None:
    log.ReplayLog(tmp_path / "own.jsonl", REPLAY)
    with pytest.raises(BenchmarkError, match=message):
        log.read(tmp_path / "own.jsonl", HEADER.model_copy(update=change))


def test_two_replays_do_not_write_to_one_log(tmp_path: Path) -> None:
    path = tmp_path / "own.jsonl"
    with log.only_replay(path), pytest.raises(BenchmarkError, match=r"own\.jsonl: another replay writes to it; wait"):
        log.only_replay(path).__enter__()
    with log.only_replay(path):
        pass


def test_a_log_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "own.jsonl").write_text("{}\n")
    with pytest.raises(BenchmarkError, match=r"own\.jsonl: no log of a replay"):
        log.read(tmp_path / "own.jsonl", HEADER)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(BenchmarkError, match=r"cannot be written .*--output"):
        log.ReplayLog(tmp_path / "taken" / "own.jsonl", REPLAY)
