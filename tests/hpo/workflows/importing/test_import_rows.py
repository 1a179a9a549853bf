"""The CSV file of a study that was run elsewhere: the cells that are accepted, and the sentences that refuse others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import hyperparameters, spec
from benchmarks.space import Integer
from benchmarks.spec import Benchmark, BenchmarkError
from hpo.workflows import import_rows, importing
from hpo.workflows.import_events import External
from tests.hpo.workflows.importing.csv_files import GOOD, HEADING, write

REPOSITORY = Path(__file__).parents[4]


@pytest.fixture
def benchmark() -> Benchmark:
    """The synthetic benchmark, 9 units."""
    return spec.load("synthetic")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "results.csv"


def parse(file: Path, benchmark: Benchmark, *lines: str, heading: str = HEADING) -> External:
    return importing.read(write(file, *lines, heading=heading), benchmark)


def refusal(file: Path, benchmark: Benchmark, *lines: str, heading: str = HEADING) -> str:
    """The message about a file, without the file's name, which every message begins with."""
    with pytest.raises(BenchmarkError) as raised:
        parse(file, benchmark, *lines, heading=heading)
    message = str(raised.value)
    assert message.startswith(str(file))
    return message.removeprefix(str(file)).removeprefix(", ")


class TestWhatAFileMaySay:
    def test_spreadsheets_write_a_mark_and_carriage_returns(self, benchmark: Benchmark, file: Path) -> None:
        file.write_bytes(b"\xef\xbb\xbf" + f"{HEADING}\r\n{GOOD}\r\n\r\n".encode())
        assert importing.read(file, benchmark).units == 9

    def test_whole_numbers_may_have_a_point(self, benchmark: Benchmark, file: Path) -> None:
        heading = "trial,unit,learning_rate,batch_size_per_device,eval_loss,seconds,devices"
        content = parse(file, benchmark, "0,9.0,1e-3,16.0,0.5,10,1.0", heading=heading)
        config = content.rows[0].config
        assert config == {"learning_rate": 1e-3, "batch_size_per_device": 16}
        assert isinstance(config["batch_size_per_device"], int)

    def test_trials_may_take_turns(self, benchmark: Benchmark, file: Path) -> None:
        lines = ("a,3,1e-3,0.7,,5,1,,", "b,3,2e-3,0.9,,5,1,,", "a,9,1e-3,0.5,,5,1,,")
        assert [trial.outcome for trial in parse(file, benchmark, *lines).trials.values()] == ["completed", "stopped"]

    def test_the_outcome_may_stand_in_any_line(self, benchmark: Benchmark, file: Path) -> None:
        lines = ("a,3,1e-3,0.7,,5,1,failed,out of memory", "a,4,1e-3,0.6,,5,1,,")
        trial = parse(file, benchmark, *lines).trials["a"]
        assert (trial.outcome, trial.reason) == ("failed", "out of memory")

    def test_a_trial_may_be_said_to_have_diverged_with_a_sound_loss(self, benchmark: Benchmark, file: Path) -> None:
        assert parse(file, benchmark, "a,3,1e-3,0.7,,5,1,diverged,").trials["a"].outcome == "diverged"


class TestWhatIsRefused:
    """Every message names the file, and where it can the line and the column."""

    @pytest.mark.parametrize(
        ("cells", "message"),
        [
            ("a,x,1e-3,0.5,,10,1,,", "unit: 'x' is not a number"),
            ("a,1.5,1e-3,0.5,,10,1,,", "unit: '1.5' is not a whole number >= 1"),
            ("a,0,1e-3,0.5,,10,1,,", "unit: '0' is not a whole number >= 1"),
            ("a,10,1e-3,0.5,,10,1,,", "unit: is 10, but must be <= 9, the full resource of benchmark"),
            ("a,9,fast,0.5,,10,1,,", "learning_rate: 'fast' cannot be used: Input should be a valid num"),
            ("a,9,-1,0.5,,10,1,,", "learning_rate: '-1' cannot be used: Input should be greater than 0"),
            ("a,9,,0.5,,10,1,,", "learning_rate: is empty"),
            ("a,9,0.5,0.5,,10,1,,", "learning_rate: 0.5 lies outside the search space, loguniform 1e-06"),
            ("a,9,1e-3,low,,10,1,,", "eval_loss: 'low' is not a number"),
            ("a,9,1e-3,-1,,10,1,,", "eval_loss: is -1, but must be >= 0 and finite"),
            ("a,9,1e-3,,,10,1,,", "eval_loss: is empty, which only the last line of a trial may have"),
            ("a,9,1e-3,0.5,78.2,10,1,,", "f1: is 78.2, but must be from 0 to 1; divide percentages by 100"),
            ("a,9,1e-3,0.5,nan,10,1,,", "f1: is nan, but must be from 0 to 1"),
            ("a,9,1e-3,0.5,,0,1,,", "seconds: is 0, but must be > 0 and finite"),
            ("a,9,1e-3,0.5,,inf,1,,", "seconds: is inf, but must be > 0 and finite"),
            ("a,9,1e-3,0.5,,10,0,,", "devices: '0' is not a whole number >= 1"),
            ("a,9,1e-3,0.5,,10,,,", "devices: is empty"),
            (",9,1e-3,0.5,,10,1,,", "trial: is empty"),
            ("a,9,1e-3,0.5,,10,1,won,", "outcome: is 'won', but must be one of completed, stopped, div"),
            ("a,3,1e-3,0.5,,10,1,completed,", "outcome: is completed, but trial a is stopped by its res"),
            ("a,9,1e-3,0.5,,10,1,stopped,", "outcome: is stopped, but trial a is completed by its res"),
            ("a,9,1e-3,26,,10,1,completed,", "outcome: is completed, but trial a is diverged by its res"),
        ],
    )
    def test_a_cell(self, benchmark: Benchmark, file: Path, cells: str, message: str) -> None:
        assert refusal(file, benchmark, cells).startswith(f"line 2, column {message}")

    def test_whether_a_model_proposed_a_trial(self, benchmark: Benchmark, file: Path) -> None:
        heading = "trial,unit,learning_rate,eval_loss,seconds,devices,by_model"
        unclear = refusal(file, benchmark, "a,9,1e-3,0.5,10,1,maybe", heading=heading)
        assert unclear == "line 2, column by_model: is 'maybe', but must be true or false, or empty"
        differing = refusal(file, benchmark, "a,3,1e-3,0.5,5,1,true", "a,9,1e-3,0.5,5,1,false", heading=heading)
        assert differing.startswith("line 3, column by_model: differs from that of line 2")

    def test_of_several_faulty_cells_the_leftmost_is_named(self, benchmark: Benchmark, file: Path) -> None:
        assert refusal(file, benchmark, "a,0,fast,-1,78,0,0,won,\a").startswith("line 2, column unit: '0'")
        assert refusal(file, benchmark, "a,9,1e-3,-1,78,0,0,won,\a").startswith("line 2, column eval_loss: is -1")

    def test_braces_in_a_cell_are_shown_as_they_are(self, benchmark: Benchmark, file: Path) -> None:
        assert refusal(file, benchmark, "a,{0},1e-3,0.5,,10,1,,").startswith("line 2, column unit: '{0}' is not a")

    @pytest.mark.parametrize(
        ("cells", "message"),
        [
            ("a,9,1e-3,0.5", "line 2: has 4 cells, but the heading has 9"),
            ('a,9,1e-3,0.5,,10,1,,"x', "line 2: not valid CSV"),
        ],
    )
    def test_a_line(self, benchmark: Benchmark, file: Path, cells: str, message: str) -> None:
        assert refusal(file, benchmark, cells).startswith(message)

    @pytest.mark.parametrize(
        ("lines", "message"),
        [
            (
                ("a,3,1e-3,0.5,,10,1,,", "a,3,1e-3,0.5,,10,1,,"),
                "line 3, column unit: trial a has unit 3 already, in line 2",
            ),
            (("a,3,1e-3,0.5,,10,1,,", "a,2,1e-3,0.5,,10,1,,"), "line 3, column unit: trial a was at unit 3 before"),
            (("a,3,1e-3,,,10,1,failed,", "a,4,1e-3,0.5,,10,1,failed,"), "line 2, column eval_loss: is empty"),
            (
                ("a,3,1e-3,0.5,,10,1,stopped,", "a,4,1e-3,0.5,,10,1,failed,"),
                "line 3, column outcome: is failed, but trial a is stopped in line 2",
            ),
        ],
    )
    def test_a_line_beside_another(
        self, benchmark: Benchmark, file: Path, lines: tuple[str, ...], message: str
    ) -> None:
        assert refusal(file, benchmark, *lines).startswith(message)

    def test_a_trial_whose_model_changes(self, benchmark: Benchmark, file: Path) -> None:
        heading = "trial,unit,learning_rate,lora_rank,eval_loss,seconds,devices"
        space = {**benchmark.space, "lora_rank": Integer(type="int", low=0, high=8)}
        benchmark = benchmark.model_copy(update={"space": space})
        message = refusal(file, benchmark, "a,3,1e-3,4,0.5,10,1", "a,9,1e-4,8,0.4,10,1", heading=heading)
        assert message == (
            "line 3: trial a: lora_rank changes from 4 to 8, but cannot change within a trial; split the trial"
        )

    @pytest.mark.parametrize(
        ("heading", "message"),
        [
            ("trial,unit,lr,eval_loss,seconds,devices", "line 1, column lr: unknown; known are trial, unit, eval_loss"),
            ("trial,unit,learning_rate,,seconds,devices", "line 1, column (no name): unknown"),
            ("trial;unit;learning_rate", "line 1, column trial;unit;learning_rate: unknown"),
            ("trial,unit,learning_rate,seconds,devices", "line 1: there is no column eval_loss"),
            ("trial,unit,unit,eval_loss,seconds,devices", "line 1, column unit: is there twice"),
            ("trial,unit,eval_loss,seconds,devices", "line 1: there is no hyperparameter; known are learning_rate"),
        ],
    )
    def test_a_heading(self, benchmark: Benchmark, file: Path, heading: str, message: str) -> None:
        assert refusal(file, benchmark, "a,9,1e-3,0.5,10,1", heading=heading).startswith(message)

    def test_an_unknown_column_lists_hyperparameters_too(self, benchmark: Benchmark, file: Path) -> None:
        message = refusal(file, benchmark, "1", heading="lr")
        assert all(name in message for name in hyperparameters.Hyperparameters.model_fields)

    def test_a_fixed_hyperparameter_that_is_not_the_default(self, benchmark: Benchmark, file: Path) -> None:
        """Trials with another fixed warm-up would be compared as if warm-up were the same."""
        heading = "trial,unit,learning_rate,warmup_ratio,eval_loss,seconds,devices"
        message = refusal(file, benchmark, "a,9,1e-3,0.1,0.5,10,1", heading=heading)
        assert message.startswith("line 2, column warmup_ratio: is 0.1, but the search space leaves it out")
        assert parse(file, benchmark, "a,9,1e-3,0.0,0.5,10,1", heading=heading).units == 9

    def test_what_lacks_the_benchmark_s_metric(self, benchmark: Benchmark, file: Path) -> None:
        by_f1 = benchmark.model_copy(update={"metric": "f1", "mode": "max"})
        heading = "trial,unit,learning_rate,eval_loss,seconds,devices"
        message = refusal(file, by_f1, "a,9,1e-3,0.5,10,1", heading=heading)
        assert message.startswith("line 1: there is no column f1, by which benchmark")
        assert refusal(file, by_f1, "a,9,1e-3,0.5,,10,1,,").startswith("line 2, column f1: is empty, but benchmark")

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", ": nothing in it, but an import needs"),
            (b"\n\n", ": nothing in it, but an import needs"),
            (HEADING.encode(), ": only a heading in it"),
            (f"{HEADING}\na,9,1e-3,0.5,,10,1,,caf\xe9".encode("latin-1"), ": not UTF-8 (byte"),
        ],
    )
    def test_a_file_as_a_whole(self, benchmark: Benchmark, file: Path, content: bytes, message: str) -> None:
        file.write_bytes(content)
        with pytest.raises(BenchmarkError) as raised:
            importing.read(file, benchmark)
        assert str(raised.value).startswith(f"{file}{message}")

    def test_a_file_that_is_not_there(self, benchmark: Benchmark, file: Path) -> None:
        with pytest.raises(BenchmarkError, match="cannot be read"):
            importing.read(file, benchmark)


def test_the_page_names_every_column(benchmark: Benchmark) -> None:
    page = (REPOSITORY / "docs/import.md").read_text()
    assert [name for name in import_rows.columns(benchmark) if f"`{name}`" not in page] == []


def test_the_page_s_example_is_a_file_that_imports(file: Path, benchmark: Benchmark) -> None:
    page = (REPOSITORY / "docs/import.md").read_text()
    file.write_text(page.partition("```csv\n")[2].partition("```")[0])
    assert json.dumps(importing.read(file, benchmark).rows[0].config)
