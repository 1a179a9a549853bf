"""The figure of tiny trials: sequences per second over the size of a job."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from benchmarks.measure.tiny.ways import PLACES, RATE

COLOURS = ("#0b5d8a", "#4aa3d8", "#2a9d58", "#d98a1f", "#b8433a")


def draw(sizes: Sequence[int], found: dict[str, list[float]], path: Path) -> None:
    """Draw the throughput of each way.

    Args:
        sizes: sequences of a trial.
        found: sequences per second of each way, one for each size.
        path: the picture to write.
    """
    figure = Figure(figsize=(7.2, 4.0), layout="constrained")
    axes = figure.subplots()
    axes.axhline(PLACES * RATE, color="#777777", linestyle="--", linewidth=1)
    axes.text(sizes[0], PLACES * RATE * 1.08, "no overhead", color="#555555")
    for (way, rates), colour in zip(found.items(), COLOURS, strict=True):
        axes.plot(sizes, rates, marker="o", color=colour, label=way)
    axes.set(xscale="log", yscale="log", xlabel="sequences of a trial", ylabel="sequences per second")
    axes.set_ylim(1, 2 * PLACES * RATE)
    axes.set_yticks([1, 10, 100], ["1", "10", "100"])
    axes.set_xticks(sizes, [f"{size}\n({size / RATE:g} s)" for size in sizes])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", frameon=False)
    figure.savefig(path, dpi=130, facecolor="white")
