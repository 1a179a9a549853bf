"""Banks of trainings that the suite did not run: CSV, opda's JSON lines, and studies of the store."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import spec
from benchmarks.banks import bank as banks
from benchmarks.files import BenchmarkError
from hpo.app.cli import main
from hpo.recording import importing

NANO = spec.load("nano")
CSV = """trial,unit,learning_rate,batch_size_per_device,eval_loss,f1,seconds,devices,outcome,reason
a,3,0.001,8,1.25,0.44,31.5,2,,
b,3,0.02,16,2.90,0.05,20.1,2,stopped,worse than half of the others
c,1,0.0005,8,,,12.0,2,failed,CUDA out of memory
a,9,0.001,8,0.83,0.71,63.0,2,completed,
"""


def opda(**changes: Any) -> dict[str, Any]:
    curves = {"matched": [[1000, 0.5], [2000, 0.75], [3000, 1.0]], "mismatched": [[1000, 0.25], [3000, 0.875]]}
    line = {"iteration": 1, "total_model_steps": 3000, "learning_rate": 1e-5, "cls_drop_out": 0.1}
    return {**line, "learning_curves": curves, **changes}


def written(folder: Path, *lines: object) -> Path:
    path = folder / "tuning.results.jsonl"
    path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
    return path


class TestCsv:
    def test_each_trial_is_a_training_as_far_as_it_got(self, tmp_path: Path) -> None:
        path = tmp_path / "results.csv"
        path.write_text(CSV)
        bank = importing.of_csv(path, NANO, seed=4, accelerator="Tesla V100")
        found = {t.config["learning_rate"]: (t.outcome, [u.unit for u in t.units], t.seed) for t in bank.trainings}
        assert found == {
            0.001: ("completed", [3, 9], 4),
            0.02: ("stopped", [3], 4),
            0.0005: ("out_of_memory", [], 4),
        }
        assert bank.trainings[0].units[1].metrics == {"eval_loss": 0.83, "f1": 0.71}
        assert bank.header.sessions[0].accelerator == "Tesla V100"

    def test_the_command_writes_bank_and_card_and_extends_them(self, tmp_path: Path) -> None:
        path = tmp_path / "results.csv"
        path.write_text(CSV)
        words = ["bank", "import", str(path), "--benchmark", "nano", "--accelerator", "cpu", "--output", str(tmp_path)]
        assert main([*words, "--seed", "0"]) == 0
        assert main([*words, "--seed", "1"]) == 0
        bank = banks.read(tmp_path / "nano.parquet")
        assert [len(of_one) for of_one in bank.configurations()] == [2, 2, 2]
        assert "3 configurations, 6 trainings" in (tmp_path / "nano.md").read_text()

    def test_trials_that_repeat_a_configuration_are_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "results.csv"
        path.write_text(CSV + "d,9,0.001,8,0.9,0.7,63.0,2,completed,\n")
        with pytest.raises(BenchmarkError, match="1 trials repeat a configuration; give each seed a file of its own"):
            importing.of_csv(path, NANO, 0, "cpu")


class TestOpda:
    def test_a_unit_has_the_last_score_measured_by_its_share_of_the_training_s_own_steps(self, tmp_path: Path) -> None:
        bank = importing.of_opda(written(tmp_path, opda()), max_units=6, licence="CC-BY-SA-4.0")
        [training] = bank.trainings
        assert [unit.metrics["accuracy"] for unit in training.units] == [0.5, 0.5, 0.5, 0.75, 0.75, 1.0]
        assert training.test == {"accuracy": 0.875}
        assert training.config == {"learning_rate": 1e-5, "cls_drop_out": 0.1, "total_model_steps": 3000}
        assert (bank.header.licence, bank.header.mode) == ("CC-BY-SA-4.0", "max")

    def test_the_command_writes_a_bank_that_reads_back(self, tmp_path: Path) -> None:
        lines = [opda(iteration=i, learning_rate=i * 1e-5) for i in range(1, 9)]
        words = ["bank", "import", str(written(tmp_path, *lines)), "--format", "opda", "--licence", "CC-BY-SA-4.0"]
        assert main([*words, "--output", str(tmp_path)]) == 0
        bank = banks.read(tmp_path / "tuning.parquet")
        assert len(bank.trainings) == 8
        assert all(unit.train_seconds is None for training in bank.trainings for unit in training.units)
        assert "Licence of the figures: CC-BY-SA-4.0" in (tmp_path / "tuning.md").read_text()

    @pytest.mark.parametrize(
        ("line", "said"),
        [
            ("{", "line 2: not valid JSON"),
            ("[1]", "line 2: "),
            (opda(total_model_steps=2999), "line 2: the steps of matched must rise and end at total_model_steps, 2999"),
            ({**opda(), "dropout": 0.5}, r"line 2: has other hyperparameters than line 1 \(dropout\)"),
            (opda(learning_curves={"matched": []}), "line 2: learning_curves.matched"),
            (opda(learning_rate=[1]), "line 2: "),
        ],
    )
    def test_a_line_that_cannot_be_used_is_named(self, tmp_path: Path, line: object, said: str) -> None:
        with pytest.raises(BenchmarkError, match=said):
            importing.of_opda(written(tmp_path, opda(), line), 9, "none")

    def test_an_empty_file_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(BenchmarkError, match="has no line"):
            importing.of_opda(written(tmp_path), 9, "none")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--format", "opda"], "--licence is missing"),
        (["--format", "opda", "--licence", "x", "--benchmark", "nano"], "--benchmark goes with another format"),
        (["--accelerator", "cpu"], "--benchmark is missing"),
        (["--benchmark", "nano"], "--accelerator is missing"),
        (["--benchmark", "nano", "--licence", "x"], "--licence goes with another format"),
    ],
)
def test_options_of_the_other_format_are_refused(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bank", "import", str(tmp_path / "none"), *words, "--output", str(tmp_path)]) == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
