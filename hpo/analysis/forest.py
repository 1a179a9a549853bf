"""The variance of a random forest over the search space, divided among hyperparameters and their pairs. Pure.

A random forest learns the metric from the configurations of all comparable trials. Its variance over the search space
is divided exactly into the share of each hyperparameter alone and the share of each pair beyond the two alone
(Hutter, Hoos and Leyton-Brown 2014, http://proceedings.mlr.press/v32/hutter14.html). Both come from one closed form:
over a tree's leaves, which are boxes, the variance of a marginal is a sum over pairs of boxes.

It agrees with `optuna.importance.FanovaImportanceEvaluator` on the same forest to rounding, which a test holds it to,
and is not a call of it for three reasons: that one gives no pairs; it averages learning rates on a linear scale, where
nine tenths of three decades are the last one; and it takes several times as long, which repeats on resampled trials
would have to pay for. PED-ANOVA, Optuna's default, answers another question (the traits of the best tenth),
and wants five trials in that tenth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # scikit-learn takes half a second to import
    from sklearn.ensemble import RandomForestRegressor

TREES = 64
TREES_OF_RESAMPLE = 16
"""Number of trees of a resample, fewer for time's sake: their scatter widens the intervals a little."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ForestShares:
    """Shares of a forest's variance.

    Attributes:
        shares: (effects,), see `decompose`.
        spread: (resamples, effects), the same on trials drawn with replacement.
        r_squared: share of the variance that the forest predicts of trials that a tree has not seen.
    """

    shares: Floats
    spread: Floats
    r_squared: float


Grow = Callable[[Floats, Floats, int, int], ForestShares]
"""See `grow`; it may grow them in another process."""


def prepare() -> None:
    """Import what `grow` needs, before there is something to grow."""
    import sklearn.ensemble  # noqa: F401


def grow(positions: Floats, values: Floats, resamples: int, seed: int) -> ForestShares:
    """Grow a forest on all trials, and a smaller one on each resample, and divide the variance of each.

    Args:
        positions: (trials, hyperparameters), in [0, 1].
        values: (trials,), the metric.
        resamples: number of them, at least 1.
        seed: of forests and resamples.
    """
    from sklearn.ensemble import RandomForestRegressor

    forest = RandomForestRegressor(TREES, oob_score=True, random_state=seed).fit(positions, values)
    spread = _resampled(positions, values, resamples, seed)
    return ForestShares(decompose(forest), spread, float(forest.oob_score_))


def decompose(forest: RandomForestRegressor) -> Floats:
    """Divide the variance of a random forest over the unit cube.

    Args:
        forest: fitted to positions in [0, 1], see `position`.

    Returns:
        Shares (hyperparameters + pairs,), the mean over trees: first of each hyperparameter alone, then of each pair,
        in the order of `itertools.combinations`. Trees that are the same everywhere do not count.
    """
    return _mean_shares([tree.tree_ for tree in forest.estimators_])


def _mean_shares(trees: Sequence[Any]) -> Floats:
    """Compute the mean over trees of their shares, see `decompose`."""
    shares = [share for tree in trees if (share := _tree_shares(tree)) is not None]
    num_effects = trees[0].n_features * (trees[0].n_features + 1) // 2
    return np.asarray(np.mean(shares, axis=0)) if shares else np.zeros(num_effects)


def _tree_shares(tree: Any) -> Floats | None:
    """Compute the shares of one tree, see `decompose`; None for a tree that is the same everywhere.

    With a leaf's value v, its volume and its sides, the mean square of the marginal over hyperparameters U is the sum
    over pairs of leaves of v v' volume volume' times, for each of U, the overlap of their sides by the sides' product.
    """
    low, high, values = _leaves(tree)
    sides = high - low
    weighted = values * sides.prod(axis=1)
    mean = weighted.sum()
    variance = float(values @ (values * sides.prod(axis=1)) - mean**2)
    if variance <= np.finfo(float).eps * float(np.abs(values).max()) ** 2:
        return None
    overlaps = [_overlap(low[:, k], high[:, k]) for k in range(low.shape[1])]
    alone = np.array([weighted @ overlap @ weighted - mean**2 for overlap in overlaps])
    pairs = [
        weighted @ (overlaps[i] * overlaps[j]) @ weighted - mean**2 - alone[i] - alone[j]
        for i, j in combinations(range(len(overlaps)), 2)
    ]
    return np.clip(np.array([*alone, *pairs]) / variance, 0.0, None)


def _overlap(low: Floats, high: Floats) -> Floats:
    """Compute (leaves, leaves): the overlap of the sides of two leaves, divided by the product of their lengths."""
    common = np.minimum(high[:, None], high[None, :]) - np.maximum(low[:, None], low[None, :])
    sides = high - low
    return np.asarray(np.clip(common, 0.0, None) / (sides[:, None] * sides[None, :]))


def _leaves(tree: Any) -> tuple[Floats, Floats, Floats]:
    """Find lower and upper corners (leaves, hyperparameters) and values (leaves,) of a tree over the unit cube."""
    low, high = np.zeros((tree.node_count, tree.n_features)), np.ones((tree.node_count, tree.n_features))
    for node, left, right, feature, threshold in _splits(tree):
        for child in (left, right):
            low[child], high[child] = low[node], high[node]
        high[left, feature] = low[right, feature] = threshold
    is_leaf = tree.children_left < 0
    return low[is_leaf], high[is_leaf], tree.value[is_leaf, 0, 0]


def _splits(tree: Any) -> Iterator[tuple[int, int, int, int, float]]:
    """Yield inner nodes, parents before children, as scikit-learn numbers them."""
    columns = (tree.children_left, tree.children_right, tree.feature, tree.threshold)
    for node, (left, right, feature, threshold) in enumerate(zip(*(c.tolist() for c in columns), strict=True)):
        if left >= 0:
            yield node, left, right, feature, threshold


def _resampled(positions: Floats, values: Floats, resamples: int, seed: int) -> Floats:
    """Compute (resamples, effects): the shares on trials drawn with replacement.

    Each tree draws from its resample once more, as in a random forest. scikit-learn's forests spend most of the time of
    so few trees on checks and copies of their arguments, so that the trees are grown here.
    """
    from sklearn import config_context

    rng, state = np.random.default_rng(seed), np.random.RandomState(seed)
    inputs, outputs = np.asarray(positions, dtype=np.float32), np.asarray(values).reshape(-1, 1)
    drawn = rng.integers(len(values), size=(resamples, len(values)))
    again = rng.integers(len(values), size=(resamples, TREES_OF_RESAMPLE, len(values)))
    with config_context(skip_parameter_validation=True):
        return np.array(
            [
                _mean_shares([_grown(inputs[rows[tree]], outputs[rows[tree]], state) for tree in trees])
                for rows, trees in zip(drawn, again, strict=True)
            ]
        )


def _grown(inputs: NDArray[np.float32], outputs: Floats, state: np.random.RandomState) -> Any:
    """Grow a tree; one random state for all, since each new one takes as long as a tree."""
    from sklearn.tree import DecisionTreeRegressor

    return DecisionTreeRegressor(random_state=state).fit(inputs, outputs, check_input=False).tree_
