"""Probability that a method is better, practically equal or worse on a further task: a hierarchical model. Pure.

Corani et al. 2017, https://doi.org/10.1007/s10994-017-5641-9: differences of two methods vary over the seeds of a task,
and their means vary over tasks. All differences are in margins of their task's metric, so that 1 is the least that
matters, and tasks with other metrics can stand together:

- within task i, a block's difference is normal around d_i with variance s_i^2;
- s_i^2 is scaled inverse chi squared, worth one block with a difference of one margin: ties of a few blocks then do
  not make a task certain;
- over tasks, d_i is Student t around m with scale t and n degrees of freedom, so that one may be far from the others;
- m is flat, and so is t (Gelman 2006: three groups suffice for it). A scale of its own for t makes statements of few
  tasks too sure where methods differ by many margins. n is gamma with shape 2 and rate 0.1 (Juarez and Steel 2010), on
  the points of `FREEDOMS`.

Not as in the paper: blocks are seeds and no folds of a cross-validation, so they are not correlated; and the integral
over (m, t, n) is a sum over a grid, without random draws or convergence to watch. Student t is a mixture of normals, so
the integral over d_i is a short sum too. Packages with samplers for it need a compiler, or bring numba and more.

    further_task([[2.0, 3.1, 2.4], [0.2, 1.9, 1.1], [4.0, 3.3, 5.1]]).better
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy  # its parts are imported where they are first used: scipy.special takes a tenth of a second

from hpo.analysis.statistics.estimates import CONFIDENCE, Estimate, Floats, Interval, finite

MIN_TASKS = 3
"""Fewer tasks cannot tell how tasks vary."""
SHAPE, RATE = 2.0, 0.1
"""Gamma prior of the degrees of freedom."""
MEANS, SPREADS = 61, 25
"""Points of the grid over m and t."""
FREEDOMS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
"""Points of the grid over n; few let a task be far from the others."""
MIXTURE = (-10, 4)
"""Points of a Student t as a mixture of normals: from its tails, of low precision, to the last but one."""
STEP = 1.5
"""Distance of two such points, in standard deviations of the logarithm of the precision."""
VARIANCES = np.arange(-12.0, 31.0, 0.2)
"""Logarithms of variances of d_i around m; between two of them, densities are interpolated."""
MAX_FREEDOM = 100.0
"""Degrees of freedom from which a Student t is as good as normal."""
NEGLIGIBLE = 1e-100
"""Share of the highest density below which one counts as none."""
REACH = 8.0
"""Largest argument of the sinh that spaces the means: the outermost lies 1,490 widths from the centre."""


@dataclass(frozen=True)
class FurtherTask:
    """A method beside another on a further task like those that were seen.

    Attributes:
        better: probability that its mean difference there is above one margin.
        equal: probability that it is within one margin.
        worse: probability that it is below minus one margin.
        typical: the centre of the tasks' mean differences in margins, above 0 for better: the posterior's median, with
            its central interval.
    """

    better: float
    equal: float
    worse: float
    typical: Estimate


def further_task(differences: Sequence[Sequence[float]], repeats: int = 1) -> FurtherTask | None:
    """Compute the probabilities for a further task.

    Args:
        differences: for each task, that of each block in margins of its metric, above 0 where the method is better;
            finite, at least one each.
        repeats: as if that many tasks had been seen of each, with the same differences; for planning.

    Returns:
        None for fewer than `MIN_TASKS` tasks.

    Raises:
        BenchmarkError: a difference that is not finite.
    """
    if len(differences) < MIN_TASKS:
        return None
    tasks = [finite(own) for own in differences]
    means, spreads, freedoms, weights = _posterior(tasks, repeats)
    m, t, n = means[:, None, None], spreads[None, :, None], freedoms[None, None, :]
    better = float((weights * scipy.special.stdtr(n, (m - 1) / t)).sum())
    worse = float((weights * scipy.special.stdtr(n, (-1 - m) / t)).sum())
    return FurtherTask(better, max(0.0, 1 - better - worse), worse, _typical(means, weights.sum(axis=(1, 2))))


def _posterior(tasks: Sequence[Floats], repeats: int) -> tuple[Floats, Floats, Floats, Floats]:
    """Return the grid's means, spreads and degrees of freedom, and the weight of each point, `(m, t, n)`."""
    centres = np.array([own.mean() for own in tasks])
    counts = np.array([own.size for own in tasks], dtype=float)
    squares = np.array([((own - own.mean()) ** 2).sum() for own in tasks])
    errors = np.sqrt((1 + squares) / counts) / np.sqrt(counts)  # scale of a Student t with as many degrees as blocks
    middle = float(np.median(centres))
    u = np.linspace(-REACH, REACH, MEANS)
    width = float(np.median(np.abs(centres - middle) + errors)) / math.sqrt(repeats * len(tasks))
    means, density_of_means = middle + width * np.sinh(u), np.cosh(u)  # flat in m
    spreads = np.geomspace(0.03, 1000, SPREADS)
    density_of_spreads = spreads  # flat, on a logarithmic grid
    freedoms = np.array(FREEDOMS)
    density_of_freedoms = freedoms**SHAPE * np.exp(-RATE * freedoms)  # on a logarithmic grid too
    densities = (density_of_means[:, None, None], density_of_spreads[:, None], density_of_freedoms)
    logs = np.log(densities[0]) + np.log(densities[1]) + np.log(densities[2])
    over_tasks = _weights_over_tasks(spreads)
    for centre, error, count in zip(centres, errors, counts, strict=True):
        logs += repeats * _log_likelihood(means - centre, error, count, over_tasks)
    weights = np.exp(logs - logs.max())
    return means, spreads, freedoms, weights / weights.sum()


def _log_likelihood(distances: Floats, error: float, count: float, over_tasks: Floats) -> Floats:
    """Return the log density of a task's mean at each distance from m, spread and freedom, up to a constant.

    The task's own mean is Student t around d_i, and d_i is Student t around m. Given the precisions of both mixtures,
    their sum is normal.

    Args:
        distances: of the task's mean from m, `(m,)`.
        error: scale of the task's own mean.
        count: its degrees of freedom.
        over_tasks: see `_weights_over_tasks`.
    """
    own, own_weights = _precisions(min(count, MAX_FREEDOM))
    variances = np.exp(VARIANCES)[:, None] + error**2 / own  # (variance, own)
    squares = distances[:, None, None] ** 2
    found = (np.exp(-0.5 * squares / variances) * (own_weights / np.sqrt(variances))).sum(axis=-1)  # (m, variance)
    logs: Floats = np.log(np.maximum(found @ over_tasks, np.finfo(float).tiny))  # (t, m, n) from (t, variance, n)
    return logs.transpose(1, 0, 2)


def _weights_over_tasks(spreads: Floats) -> Floats:
    """Return the weights of `VARIANCES` for each spread and freedom, `(t, variance, n)`.

    Given its precision, d_i is normal around m. Its variance lies between two points, which share its weight.
    """
    weights = np.zeros((len(spreads), len(VARIANCES), len(FREEDOMS)))
    for which, freedom in enumerate(FREEDOMS):
        precisions, shares = _precisions(freedom)
        places = np.interp(np.log(spreads[:, None] ** 2 / precisions), VARIANCES, np.arange(len(VARIANCES)))
        below = np.minimum(places.astype(int), len(VARIANCES) - 2)
        for place, share in ((below, 1 - (places - below)), (below + 1, places - below)):
            np.add.at(weights[..., which], (np.arange(len(spreads))[:, None], place), share * shares)
    return weights


def _precisions(freedom: float) -> tuple[Floats, Floats]:
    """Return precisions and weights of the normals whose mixture is a Student t of scale 1.

    The precision is gamma. A sum over equal steps of its logarithm reaches into the tails, which Gauss's points do not.
    """
    step = STEP * math.sqrt(2 / (freedom + 1))
    precisions = np.exp(step * np.arange(*MIXTURE))
    weights = (precisions * np.exp(1 - precisions)) ** (freedom / 2)
    return precisions, weights / weights.sum()


def _typical(means: Floats, weights: Floats) -> Estimate:
    """Return the median of m with its central interval, from the weights of its grid."""
    from scipy import interpolate  # a third of a second, which only comparisons of several tasks need

    shares, density = np.array([(1 - CONFIDENCE) / 2, 0.5, (1 + CONFIDENCE) / 2]), weights / np.gradient(means)
    density[density < NEGLIGIBLE * density.max()] = 0.0  # slopes of the smallest numbers overflow
    fine = np.linspace(0, len(means) - 1, 20 * len(means))
    places, heights = (interpolate.PchipInterpolator(np.arange(len(means)), own)(fine) for own in (means, density))
    total = np.concatenate([[0.0], np.cumsum(np.diff(places) * (heights[1:] + heights[:-1]) / 2)])
    low, middle, high = np.interp(shares * total[-1], total, places)
    return Estimate(float(middle), Interval(float(low), float(high)))
