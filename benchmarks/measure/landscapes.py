"""Draw the landscapes of the recorded benchmarks side by side: `python -m benchmarks.measure.landscapes`.

From the banks that come with the suite, so nothing is trained: it takes seconds. Upper row: the loss of full trainings
over the learning rate, which shows how much there is to win, and where the default stands. Lower row: the loss at the
first unit, and at a third of the resource, over that of the full training, with Spearman's rank correlation: how far
early looks can be trusted. Configurations are those that were drawn at random, each with its first seed, and diverged
ones are left out.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from benchmarks.banks import bank
from benchmarks.banks.bank import Bank
from benchmarks.banks.training import BankTraining
from benchmarks.tasks.task import LOSS

Losses = NDArray[np.float64]
RATE = "learning_rate"
MIN_CONFIGURATIONS = 6
"""Random configurations below which a bank shows no landscape, nor its card any early looks."""
FIRST, THIRD = "#D55E00", "#0072B2"
"""Colours of the two early looks, which colour-blind readers tell apart (Okabe and Ito 2008)."""


@dataclass(frozen=True)
class Landscape:
    """Full trainings of random configurations of one benchmark.

    Attributes:
        name: of the benchmark.
        rates: learning rate of each configuration.
        losses: validation loss of each configuration at each unit; one row per configuration.
        default: learning rate and loss of the default configuration's full training; None if it is not recorded.
    """

    name: str
    rates: Losses
    losses: Losses
    default: tuple[float, float] | None

    @property
    def third(self) -> int:
        """Number of units of a third of the resource."""
        return int(self.losses.shape[1] // 3)

    def correlation(self, unit: int) -> float:
        """Compute Spearman's correlation of the losses at a unit with those of the full training."""
        return float(spearmanr(self.losses[:, unit - 1], self.losses[:, -1]).statistic)


def landscape_of(recorded: Bank) -> Landscape:
    """Take the first full training of each random configuration of a bank, and that of the default."""
    units = recorded.header.max_units
    firsts = [trainings[0] for trainings in recorded.configurations()]
    full = [one for one in firsts if len(one.units) == units and np.isfinite(_loss(one, units))]
    drawn = [one for one in full if one.source == "random"]
    default = next((one for one in full if one.source == "default"), None)
    return Landscape(
        recorded.header.name,
        np.array([_rate(one) for one in drawn]),
        np.array([[_loss(one, unit) for unit in range(1, units + 1)] for one in drawn]),
        (_rate(default), _loss(default, units)) if default else None,
    )


def _rate(training: BankTraining) -> float:
    return float(training.config[RATE])


def _loss(training: BankTraining, unit: int) -> float:
    return training.units[unit - 1].metrics[LOSS.name]


def draw(landscapes: list[Landscape], path: Path) -> None:
    """Draw a column for each landscape; `path` names the picture."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    columns = len(landscapes)
    figure, axes = pyplot.subplots(2, columns, figsize=(2.6 * columns, 6.2), layout="constrained", squeeze=False)
    for landscape, upper, lower in zip(landscapes, *axes, strict=True):
        _draw_rates(landscape, upper)
        _draw_looks(landscape, lower)
    axes[0, 0].set_ylabel("loss at the full resource")
    axes[1, 0].set_ylabel("loss of an early look")
    shown = [*axes[0, 0].get_lines(), *axes[1, 0].get_lines()]
    figure.legend(handles=shown, loc="outside lower center", ncols=len(shown))
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _draw_rates(landscape: Landscape, axes: Any) -> None:
    axes.plot(
        landscape.rates,
        landscape.losses[:, -1],
        "o",
        color=THIRD,
        markersize=3,
        alpha=0.7,
        label="random configuration",
    )
    if landscape.default:
        axes.plot(*landscape.default, "D", color=FIRST, markersize=7, label="default")
    axes.set(xscale="log", yscale="log", xlabel="learning rate")
    axes.set_title(f"{landscape.name}\n{len(landscape.rates)} configurations", fontsize=10)
    _number_plainly(axes.yaxis)


def _draw_looks(landscape: Landscape, axes: Any) -> None:
    last = landscape.losses[:, -1]
    for unit, colour, label in ((1, FIRST, "at unit 1"), (landscape.third, THIRD, "at a third of the resource")):
        axes.plot(last, landscape.losses[:, unit - 1], "o", color=colour, markersize=3, alpha=0.7, label=label)
    axes.set(xscale="log", yscale="log", xlabel="loss at the full resource")
    first, third = landscape.correlation(1), landscape.correlation(landscape.third)
    axes.set_title(f"Spearman {first:.2f} at unit 1,\n{third:.2f} at unit {landscape.third}", fontsize=10)
    for axis in (axes.xaxis, axes.yaxis):
        _number_plainly(axis)


def _number_plainly(axis: Any) -> None:
    """Write numbers as people do, and few of them: a logarithmic axis over one decade overlaps its labels."""
    from matplotlib.ticker import LogLocator, NullLocator

    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 30 * low else (1, 3)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_locator(NullLocator())


def main() -> None:
    """Draw, and print the figures of the picture as a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.measure.landscapes", description=__doc__.split("\n")[0])
    parser.add_argument("--banks", nargs="+", default=bank.names(), help="names of banks, or files (default: all)")
    parser.add_argument("--output", type=Path, default=Path("outputs/landscapes.png"), help="the picture")
    given = parser.parse_args()
    found = [landscape_of(bank.read(bank.find(name))) for name in given.banks]
    landscapes = [one for one in found if len(one.rates) >= MIN_CONFIGURATIONS]
    if not landscapes:
        parser.error(f"no bank has {MIN_CONFIGURATIONS} random configurations that were trained in full; record more")
    given.output.parent.mkdir(parents=True, exist_ok=True)
    draw(landscapes, given.output)
    print(f"{'benchmark':14} {'configurations':>14} {'best loss':>10} {'median':>8} {'unit 1':>7} {'a third':>8}")
    for one in landscapes:
        last = one.losses[:, -1]
        print(
            f"{one.name:14} {len(last):>14} {last.min():>10.3f} {np.median(last):>8.3f} "
            f"{one.correlation(1):>7.2f} {one.correlation(one.third):>8.2f}"
        )
    for one in (one for one in found if len(one.rates) < MIN_CONFIGURATIONS):
        print(f"left out: {one.name}, with {len(one.rates)} random configurations of {MIN_CONFIGURATIONS} at least")
    print(f"written: {given.output}")


if __name__ == "__main__":
    main()
