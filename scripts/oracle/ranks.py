#!/usr/bin/env python3
"""Exact rank statistics of random samples, and exact intervals of shares, by scipy, as JSON.

    pip install numpy scipy
    scripts/oracle/ranks.py > reports/tests/golden/ranks.json

An interval is found by asking scipy's exact test of every shift between two neighbours among the possible ends: those shifts that it
does not refuse. Nothing of how reports finds the same is in here.
"""

import json

import numpy as np
from scipy import stats

rng = np.random.default_rng(1306)


def kept(ends, p, alpha):
    """The outermost ends between which no shift is refused; None where the test refuses none at all, however far."""
    ends = np.sort(ends)
    middles = (ends[1:] + ends[:-1]) / 2
    if any(p(shift) > alpha for shift in (ends[0] - 1, ends[-1] + 1)):
        return None
    # From outside inwards: what lies between is not refused either, as the test grows surer with the distance.
    first = next(i for i, shift in enumerate(middles) if p(shift) > alpha)
    last = next(i for i in reversed(range(len(middles))) if p(middles[i]) > alpha)
    return [float(ends[first]), float(ends[last + 1])]


def draw(n):
    kind = rng.integers(3)
    if kind == 0:
        return rng.normal(0.01, 0.02, n)
    if kind == 1:
        return rng.standard_t(2, n) * 0.01
    return rng.exponential(0.02, n) - 0.01


def flipped(x):
    """Of all signs, the share whose sum is as far from 0."""
    return float(stats.permutation_test((x,), np.sum, permutation_type="samples", n_resamples=np.inf, batch=64,
                                        alternative="two-sided", vectorized=False).pvalue)


def paired(n, alpha):
    x = draw(n)
    means = np.array([(x[i] + x[j]) / 2 for i in range(n) for j in range(i, n)])
    return {
        "values": x.tolist(),
        "alpha": alpha,
        "estimate": float(np.median(means)),
        "interval": kept(means, lambda shift: stats.wilcoxon(x - shift, method="exact").pvalue, alpha),
        "flips": flipped(x) if n <= 10 else None,
    }


def two(m, n, alpha):
    a, b = draw(m), draw(n)
    differences = np.subtract.outer(b, a).ravel()
    return {
        "a": a.tolist(),
        "b": b.tolist(),
        "alpha": alpha,
        "estimate": float(np.median(differences)),
        "interval": kept(differences, lambda s: stats.mannwhitneyu(b - s, a, method="exact").pvalue, alpha),
    }


def share(k, n, alpha):
    low, high = stats.binomtest(k, n).proportion_ci(1 - alpha, "exact")
    return {"k": k, "n": n, "alpha": alpha, "interval": [float(low), float(high)]}


alphas = [0.05, 0.01, 0.01 / 3]
print(json.dumps({
    "paired": [paired(n, alpha) for n in (4, 6, 8, 10, 12, 20, 25) for alpha in alphas],
    "shares": [share(k, n, alpha) for k, n in ((0, 60), (1, 60), (19, 20), (15, 20), (20, 20), (37, 10_000)) for alpha in alphas],
    "two": [two(m, n, alpha) for m, n in ((3, 3), (4, 5), (6, 6), (10, 10), (8, 14)) for alpha in alphas],
}, indent=1))
