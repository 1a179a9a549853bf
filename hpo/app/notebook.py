"""The Python interface, for notebooks: `import hpo`, then `hpo.run(...)`, `hpo.trials(...)` and the like.

`run`, `confirm`, `replay`, `compare` and `export` are commands of `python -m hpo`, and take their options by name.
Tables are pandas frames. Studies are stored in MLflow as those of the command line are, so each can read the other's.
MLflow's own functions, such as `mlflow.search_runs`, work on the same store.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from benchmarks.spec import BenchmarkError
from hpo.app.request import load_benchmark, name_of
from hpo.terminal import next_steps
from hpo.terminal.console import open_console

if TYPE_CHECKING:
    from hpo.analysis.compare import Result
    from hpo.engine.runner import Finished
    from hpo.workflows.export import Exported


def run(
    method: str,
    benchmark: str = "nano",
    *,
    budget: int = 12,
    seed: int = 0,
    gpu_hours: float | None = None,
    space: str | Path = "",
    **arguments: Any,
) -> Finished:
    """Run a study, and print its progress.

    Args:
        method: its name, such as "asha".
        benchmark: name of a shipped benchmark, or path of a YAML file.
        budget: full trainings that may be spent.
        seed: drives everything random.
        gpu_hours: cap in device-hours; None for none.
        space: YAML file that replaces the search space; empty for the benchmark's own.
        **arguments: the method's own, such as `reduction_factor=2`.

    Returns:
        The finished study: `run_id` in MLflow, `best` (the content of `best_config.json`, None without a sound trial),
        `reached_end`, and `reason` if it did not reach its end.

    Raises:
        BenchmarkError: a value that does not hold, or a file that is not there; nothing has been started.
    """
    from hpo.engine import runner
    from hpo.search import registry
    from hpo.workflows import doctor

    doctor.require()
    chosen = registry.get(method)
    study = chosen.study(load_benchmark(benchmark, str(space)), seed, budget, gpu_hours, arguments)
    options = {"benchmark": benchmark, "budget": budget, "seed": seed, "gpu_hours": gpu_hours, "space": space}
    command = next_steps.command("run", method, **options, **arguments)
    return runner.run(study, command, open_console(), plan=chosen.make_plan(study))


def studies(benchmark: str = "nano") -> pd.DataFrame:
    """Read one row per stored study of a benchmark, the oldest first.

    Args:
        benchmark: its name, or path of its YAML file.

    Returns:
        Columns `run_id`, `method`, `variant`, `seed`, `budget` and other tags, `status` (MLflow's), `started`, and each
        metric of the study, such as `device_hours` and `best_eval_loss`.

    Raises:
        BenchmarkError: the store cannot be used.
    """
    from hpo.analysis import frames

    return frames.studies(name_of(benchmark))


def trials(benchmark: str = "nano", *, run_id: str = "", method: str = "") -> pd.DataFrame:
    """Read one row per trial of a benchmark's studies that have ended.

    Args:
        benchmark: its name, or path of its YAML file.
        run_id: one study alone; empty for all.
        method: the studies of one method alone; empty for all.

    Returns:
        Columns `run_id`, `method`, `variant`, `study_seed`, then those of `trials.csv`.

    Raises:
        BenchmarkError: the store cannot be used, or lacks the file of a study.
    """
    from hpo.analysis import frames

    found = frames.trials(name_of(benchmark), [run_id] if run_id else [])
    return found[found["method"] == method].reset_index(drop=True) if method else found


def confirm(benchmark: str = "nano", *, methods: Sequence[str] = (), repeats: int = 5) -> int:
    """Train the studies' incumbents again with fresh seeds, and score them on the test split.

    Args:
        benchmark: name of a shipped benchmark, or path of a YAML file.
        methods: stored methods; all where it is empty.
        repeats: fresh seeds of each.

    Returns:
        The number of trainings that were run; those that are stored already are not repeated.

    Raises:
        BenchmarkError: there is no finished study, or trainings did not reach their end.
    """
    from benchmarks.spec import BenchmarkError
    from hpo.analysis import records
    from hpo.workflows import confirm, doctor

    doctor.require()
    loaded = load_benchmark(benchmark)
    stored = records.read(loaded.name, benchmark)
    confirm.require_same(loaded, stored)
    due = confirm.due(stored, list(methods), repeats)
    if due:
        command = next_steps.command("confirm", benchmark=benchmark, methods=",".join(methods), repeats=repeats)
        finished = confirm.train_again(loaded, due, None, command, open_console())
        if finished.reason:
            raise BenchmarkError(f"not all trainings reached their end ({finished.reason}); confirm again for the rest")
    return len(due)


def replay(
    benchmark: str = "nano_recorded",
    *,
    methods: str | Sequence[str] = "all",
    seeds: Sequence[int] = range(100),
    budgets: Sequence[int] = (12,),
    devices: int = 2,
    repeats: int = 3,
    accelerator: str = "",
    seconds_of: str | Path = "",
    processes: int | None = None,
    output: str | Path = "replays",
) -> pd.DataFrame:
    """Replay studies on a virtual clock, from a bank of recorded trainings.

    Args:
        benchmark: name or YAML file of a recorded benchmark.
        methods: names, with arguments as `asha:searcher=optuna`; "all" for all that a bank can answer.
        seeds: one study per method and budget for each.
        budgets: full trainings that a study may spend.
        devices: devices of each study.
        repeats: trainings of each incumbent with fresh seeds.
        accelerator: take the recorded seconds of this accelerator, such as "cpu"; empty for those of each training.
        seconds_of: name or file of another bank of the benchmark, whose seconds are taken.
        processes: studies at once; None for one per core. They import the calling script, so a script calls this under
            `if __name__ == "__main__"`.
        output: folder of the studies' file; a replay there resumes.

    Returns:
        One row per study, with the columns of the file; `attrs["notes"]` has the sentences that a reader must know.

    Raises:
        BenchmarkError: a value that does not hold, before anything runs; or the replay was interrupted.
    """
    from benchmarks.spec import BenchmarkError
    from hpo.analysis.replayed import table
    from hpo.planning import replay_request
    from hpo.replays import driver

    words = {
        "methods": methods if isinstance(methods, str) else ",".join(methods),
        "seeds": ",".join(map(str, seeds)),
        "budgets": ",".join(map(str, budgets)),
    }
    other = {"accelerator": accelerator, "seconds_of": str(seconds_of)}
    recorded = replay_request.with_seconds(load_benchmark(benchmark), **other)
    asked = replay_request.request(recorded, **words, devices=devices, repeats=repeats)
    params = {"benchmark": benchmark, **words, "devices": devices}
    named = {name: value for name, value in other.items() if value}
    command = next_steps.command("replay", **params, repeats=repeats, **named)
    done = driver.run(
        asked.studies, asked.header, Path(output), processes or driver.cores(), open_console(), params, command
    )
    if done.missing:
        raise BenchmarkError(f"{done.missing} studies are missing, since the replay was interrupted; call it again")
    found: pd.DataFrame = table.to_table(done.replay).to_pandas()
    found.attrs["notes"] = [asked.header.source, asked.header.certificate, *asked.header.left_out]
    return found


def compare(
    benchmark: str | Sequence[str] = "nano",
    *,
    budget: int | None = None,
    mixed_budgets: bool = False,
    reference: str = "",
) -> pd.DataFrame:
    """Set the methods of one benchmark or several side by side: one row per method, the best first.

    Args:
        benchmark: its name, or path of its YAML file; several in a list, or "all" for every one that has results.
        budget: studies of this budget alone; None for the one there is.
        mixed_budgets: compare studies of different budgets.
        reference: see `verdicts`.

    Returns:
        The columns of `comparison.csv`; `attrs["notes"]` has the sentences that a reader must know. For several
        benchmarks these are of normalised regret, and `attrs["statement"]` tells of a further task.

    Raises:
        BenchmarkError: no finished study, or studies of different budgets.
    """
    from hpo.report import tables

    if benchmark == "all" or not isinstance(benchmark, str):
        return _compared_tasks(benchmark, budget, mixed_budgets, reference)
    result = _compared(benchmark, budget, mixed_budgets, reference)
    found = pd.DataFrame(tables.standing_rows(result))
    found.attrs["notes"] = list(result.notes)
    return found


def verdicts(
    benchmark: str = "nano", *, budget: int | None = None, mixed_budgets: bool = False, reference: str = ""
) -> pd.DataFrame:
    """Reach a verdict on each pair of methods, from their confirmed scores.

    New scores are another look, which MLflow keeps and which shares the level, as with `compare`.

    Args:
        benchmark: its name, or path of its YAML file.
        budget: studies of this budget alone; None for the one there is.
        mixed_budgets: compare studies of different budgets.
        reference: a method that the others are compared with; "all" for every pair, which takes more seeds. By default
            the plan's, or random search.

    Returns:
        The columns of `pairs.csv`: one row per pair and metric, with its verdict and the reason.

    Raises:
        BenchmarkError: no finished study, or studies of different budgets.
    """
    from hpo.report import tables

    return pd.DataFrame(tables.pair_rows(_compared(benchmark, budget, mixed_budgets, reference)))


def _compared(benchmark: str, budget: int | None, mixed_budgets: bool, reference: str) -> Result:
    from hpo.analysis import compare
    from hpo.analysis.replayed import records

    stored = records.read(name_of(benchmark), benchmark)
    result = compare.compare(stored, budget=budget, mixed_budgets=mixed_budgets, reference=reference)
    _count_look(result, {tags.get("hpo.evidence") for tags in stored.comparisons})
    return result


def _count_look(result: Result, seen: Container[str | None]) -> None:
    """Store that verdicts were reached on scores that none was reached on before: the level is shared among looks."""
    from hpo.store import runs
    from hpo.terminal import errors

    if result.replay or not result.evidence or result.evidence in seen:
        return
    name = result.benchmark.name
    try:
        runs.store_files(name, "comparison", {}, {"hpo.benchmark": name, **result.look})
    except BenchmarkError as error:  # such as another user's experiment, which one may only read
        errors.warn(f"MLflow does not count this look at verdicts: {error}")


def _compared_tasks(
    benchmarks: str | Sequence[str], budget: int | None, mixed_budgets: bool, reference: str
) -> pd.DataFrame:
    from hpo.analysis.across import comparison, task_scores
    from hpo.report.across import sentences, tables

    names = {} if isinstance(benchmarks, str) else {name_of(one): one for one in benchmarks}
    tasks, left_out = task_scores.read_tasks(names, budget, mixed_budgets)
    result = comparison.compare_tasks(tasks, left_out, reference, mixed_budgets)
    found = pd.DataFrame(tables.method_rows(result))
    found.attrs |= {"notes": [*sentences.replays(result), *result.notes], "statement": sentences.statement(result)}
    return found


def export(
    benchmark: str = "nano", *, method: str = "best", output: str | Path = "exported", budget: int | None = None
) -> Exported:
    """Write the winning configuration as files for a Trainer script.

    Args:
        benchmark: its name, or path of its YAML file.
        method: a stored method; "best" for the best confirmed one.
        output: folder for the files.
        budget: choose among studies of this budget; None for the one there is.

    Returns:
        The export: `folder`, names of its `files`, and whether the method `is_confirmed`.

    Raises:
        BenchmarkError: nothing is stored or confirmed, no such method, or the folder cannot be written.
    """
    from hpo.workflows import export

    return export.export(name_of(benchmark), method, Path(output), benchmark, budget)
