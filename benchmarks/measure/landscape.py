"""Measure the landscape of `nano`, on which search methods have to differ: `python -m benchmarks.measure.landscape`.

Trains a grid of learning rates, seeds at the best of them, the default, and random configurations, each from the
base model at the full resource, and checks five properties that a benchmark of search methods needs:

1. the best learning rate reaches a score >= 0.70, the worst <= 0.10, over three decades or more;
2. the default configuration lies between;
3. the spread over seeds at the best is at most a fifth of the spread over learning rates;
4. rankings at a third of the resource and at the full one correlate, but not perfectly (Spearman 0.4 to 0.95);
5. one full training takes at most 20 s on one core.

The score is the task's first metric of which more is better. Beside these properties it prints for each rung (1, 3, 9,
... units, where methods compare trials by default) how rankings correlate with those of the full training, and which
share of the best third a cut to the best third would keep. Writes the numbers and a figure to --output; exits with 1 if
a property does not hold.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import sys
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from benchmarks import spec
from benchmarks.check.device import settle_here
from benchmarks.clock import REAL
from benchmarks.space import Choice, Config, LogUniform
from benchmarks.spec import Benchmark, BenchmarkError
from benchmarks.tasks.task import LOSS, Metric
from benchmarks.training.process import join_process_group, prepare_process
from benchmarks.training.session import Session

LEARNING_RATES = (3e-5, 1e-4, 3e-4, 1e-3, 2e-3, 4e-3, 1e-2, 3e-2)
SEEDS = (0, 1, 2, 3, 4)
RANDOM_CONFIGS = 24
REDUCTION_FACTOR = 3
"""Factor between rungs, as in methods by default."""
AT_RUNG = f"{LOSS.name}_unit_"
"""Begin of the name of a column: the loss at a rung, whose units follow."""
TrainingRow = dict[str, object]


def main() -> int:
    """Measure, print, write, judge."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--benchmark", default="nano")
    parser.add_argument("--output", type=Path, default=Path("outputs/nano_landscape"))
    arguments = parser.parse_args()
    benchmark = settle_here(spec.load(arguments.benchmark))
    prepare_process(threads=1)
    join_process_group()
    session = Session(benchmark)
    score = score_of(benchmark)
    rows = measure(session, benchmark, score)
    summary = summarise(rows, score)
    arguments.output.mkdir(parents=True, exist_ok=True)
    write_csv(rows, arguments.output / "landscape.csv")
    (arguments.output / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    draw(rows, score, arguments.output / "landscape.png")
    print(json.dumps(summary, indent=2))
    failed = [name for name, holds in properties(summary, score).items() if not holds]
    print("all properties hold" if not failed else f"does not hold: {', '.join(failed)}")
    return 1 if failed else 0


def score_of(benchmark: Benchmark) -> Metric:
    """Return the score that the properties are about.

    Raises:
        BenchmarkError: the task has none.
    """
    for metric in benchmark.metrics:
        if metric.higher_is_better:
            return metric
    raise BenchmarkError(f"the task of {benchmark.name} has no metric of which more is better; give another benchmark")


def measure(session: Session, benchmark: Benchmark, score: Metric) -> list[TrainingRow]:
    """Train one row after another: its purpose, configuration, curves and seconds."""
    rows = [train(session, benchmark, "rate", {"learning_rate": rate}, 0) for rate in LEARNING_RATES]
    best = max(rows, key=lambda row: float(str(row[score.name])))
    rows += [train(session, benchmark, "seed", {"learning_rate": best["learning_rate"]}, seed) for seed in SEEDS]  # type: ignore[dict-item]
    rows.append(train(session, benchmark, "default", {}, 0))
    generator = np.random.default_rng(0)
    return rows + [
        train(session, benchmark, "random", draw_config(benchmark, generator), 0) for _ in range(RANDOM_CONFIGS)
    ]


def draw_config(benchmark: Benchmark, generator: np.random.Generator) -> Config:
    """Draw a configuration from the search space."""
    config: Config = {}
    for name, domain in benchmark.space.items():
        if isinstance(domain, Choice):
            config[name] = domain.values[int(generator.integers(len(domain.values)))]
        elif isinstance(domain, LogUniform):
            config[name] = math.exp(generator.uniform(math.log(domain.low), math.log(domain.high)))
        else:
            config[name] = float(generator.uniform(domain.low, domain.high))
    return config


def train(session: Session, benchmark: Benchmark, purpose: str, config: Config, seed: int) -> TrainingRow:
    """Train once in full."""
    session.start(config, seed)
    began = REAL.now()
    units = [session.run_unit() for _ in range(benchmark.resource.max_units)]
    seconds = REAL.now() - began
    third, last, score = units[len(units) // 3 - 1], units[-1], score_of(benchmark)
    settings = session.trial.hyperparameters
    row: TrainingRow = {
        "purpose": purpose,
        "seed": seed,
        "learning_rate": settings.learning_rate,
        "batch_size_per_device": settings.batch_size_per_device,
        "weight_decay": settings.weight_decay,
        "warmup_ratio": settings.warmup_ratio,
        "lr_scheduler": settings.lr_scheduler,
        **{metric.name: last[metric.name] for metric in (*benchmark.task.metrics, LOSS)},
        **{f"{AT_RUNG}{unit}": units[unit - 1][LOSS.name] for unit in rungs(len(units))},
        f"{score.name}_third": third[score.name],
        f"{LOSS.name}_third": third[LOSS.name],
        "seconds": seconds,
        "train_seconds": sum(unit["train_seconds"] for unit in units),
    }
    print(
        " ".join(f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}" for key, value in row.items()),
        flush=True,
    )
    return row


def rungs(max_units: int) -> list[int]:
    """Return the units below the full resource at which methods compare trials by default."""
    return [REDUCTION_FACTOR**k for k in range(max_units) if REDUCTION_FACTOR**k < max_units]


def early_looks(rows: list[TrainingRow]) -> dict[str, float]:
    """Compute for each rung the rank correlation with the full training, and the share of the best third it keeps."""
    drawn = [row for row in rows if row["purpose"] == "random"]
    late, found = np.array([row[LOSS.name] for row in drawn], dtype=float), dict[str, float]()
    for name in (key for key in rows[0] if key.startswith(AT_RUNG)):
        early, unit = np.array([row[name] for row in drawn], dtype=float), name.removeprefix(AT_RUNG)
        found[f"spearman_{name}"] = _rank_correlation(early, late)
        found[f"best_third_kept_at_unit_{unit}"] = _recall(early, late)
    return found


def _recall(early: np.ndarray, late: np.ndarray) -> float:
    """Return the share of the lowest third of `late` that is in the lowest third of `early`; NaN is the highest."""
    third = max(1, len(late) // 3)
    best = [set(np.argsort(values, kind="stable")[:third].tolist()) for values in (early, late)]
    return len(best[0] & best[1]) / third


def summarise(rows: list[TrainingRow], score: Metric) -> dict[str, float]:
    """Compute the numbers that the properties are about."""

    def column(purpose: str, name: str) -> np.ndarray:
        return np.array([row[name] for row in rows if row["purpose"] == purpose], dtype=float)

    rates, seeds = column("rate", score.name), column("seed", score.name)
    return {
        "decades": math.log10(LEARNING_RATES[-1] / LEARNING_RATES[0]),
        f"best_{score.name}": float(rates.max()),
        f"worst_{score.name}": float(rates.min()),
        "best_learning_rate": float(column("rate", "learning_rate")[rates.argmax()]),
        f"default_{score.name}": float(column("default", score.name)[0]),
        "spread_over_rates": float(np.ptp(rates)),
        "spread_over_seeds": float(np.ptp(seeds)),
        f"spearman_{LOSS.name}": _rank_correlation(column("random", f"{LOSS.name}_third"), column("random", LOSS.name)),
        f"spearman_{score.name}": _rank_correlation(
            column("random", f"{score.name}_third"), column("random", score.name)
        ),
        **early_looks(rows),
        "seconds_median": float(np.median([float(str(row["seconds"])) for row in rows])),
        "seconds_max": float(max(float(str(row["seconds"])) for row in rows)),
    }


def _rank_correlation(early: np.ndarray, late: np.ndarray) -> float:
    """Compute Spearman's rho; losses that are not finite rank last together."""
    clean = [np.nan_to_num(values, nan=1e9, posinf=1e9) for values in (early, late)]
    return float(spearmanr(*clean).statistic)


def properties(summary: dict[str, float], score: Metric) -> dict[str, bool]:
    """Return the five properties, each with True if it holds."""
    best, worst = summary[f"best_{score.name}"], summary[f"worst_{score.name}"]
    return {
        "contrast": best >= 0.70 and worst <= 0.10 and summary["decades"] >= 3,
        "default between": worst < summary[f"default_{score.name}"] < best,
        "seeds": summary["spread_over_seeds"] <= summary["spread_over_rates"] / 5,
        "rankings": 0.4 <= summary[f"spearman_{LOSS.name}"] <= 0.95,
        "time": summary["seconds_median"] <= 20,
    }


def write_csv(rows: list[TrainingRow], path: Path) -> None:
    """Write all rows."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def draw(rows: list[TrainingRow], score: Metric, path: Path) -> None:
    """Draw the score and eval loss over the learning rate, and early against late rank."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import LogLocator, NullLocator

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    for purpose, marker, label in (
        ("rate", "o-", "learning-rate sweep"),
        ("seed", "x", "5 seeds at the best"),
        ("default", "s", "default"),
    ):
        chosen = [row for row in rows if row["purpose"] == purpose]
        left.plot([row["learning_rate"] for row in chosen], [row[score.name] for row in chosen], marker, label=label)
    left.set(
        xscale="log",
        xlabel="learning rate",
        ylabel=f"{score.title} on validation",
        ylim=(-0.02, 1),
        title="Full resource",
    )
    left.legend()
    drawn = [row for row in rows if row["purpose"] == "random"]
    right.plot([row[f"{LOSS.name}_third"] for row in drawn], [row[LOSS.name] for row in drawn], "o")
    right.set(xscale="log", yscale="log", xlabel="eval loss at a third", ylabel="eval loss at the full resource")
    right.set_title("Random configurations: does an early look tell?")
    for axis in (right.xaxis, right.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_locator(NullLocator())
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


if __name__ == "__main__":
    sys.exit(main())
