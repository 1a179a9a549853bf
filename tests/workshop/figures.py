"""Draw the computed figures of the workshop: `python -m tests.workshop.figures docs/images`."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from benchmarks.space import Domain, LogUniform, Uniform
from hpo.search.space import to_tune

LOW, HIGH, DRAWS = 1e-5, 1e-1, 1000
PRIORS = {
    "flat (uniform)": Uniform(type="uniform", low=LOW, high=HIGH),
    "log-uniform": LogUniform(type="loguniform", low=LOW, high=HIGH),
}
DECADES = range(round(math.log10(LOW)), round(math.log10(HIGH)))


def draws(domain: Domain) -> list[float]:
    """Draw learning rates by the sampler that searches use."""
    sampler = to_tune({"learning_rate": domain})["learning_rate"]
    return [float(value) for value in sampler.sample(size=DRAWS, random_state=np.random.RandomState(0))]


def shares(values: list[float]) -> list[float]:
    """Return the share of draws in each power of ten, from the least on."""
    return [sum(10.0**low <= value < 10.0 ** (low + 1) for value in values) / len(values) for low in DECADES]


def priors() -> Figure:
    """Draw the first 60 draws of both priors on a logarithmic axis, with the share of each power of ten."""
    figure = Figure(figsize=(7.2, 3.0), layout="constrained")
    for axes, (title, domain) in zip(figure.subplots(2, 1, sharex=True), PRIORS.items(), strict=True):
        values = draws(domain)
        axes.scatter(values[:60], [0.0] * 60, marker="|", s=300, color="#4c72b0")
        for low, share in zip(DECADES, shares(values), strict=True):
            axes.axvline(10.0**low, color="#888888", linewidth=0.6)
            axes.text(10.0 ** (low + 0.5), 0.6, f"{share:.1%}", ha="center", color="#555555")
        axes.set(xscale="log", xlim=(LOW, HIGH), ylim=(-0.7, 1.1), yticks=[], title=title)
    axes.set_xlabel("learning rate")
    return figure


def main() -> None:
    """Write each figure into a folder."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    priors().savefig(folder / "workshop-priors.png", dpi=130, facecolor="white")


if __name__ == "__main__":
    main()
