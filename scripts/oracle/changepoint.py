#!/usr/bin/env python3
"""Best splits of random series by the energy statistic, computed anew by numpy, as JSON.

    pip install numpy
    scripts/oracle/changepoint.py > reports/tests/golden/changepoint.json

Every split is tried and every distance summed by itself, straight from equations 4 and 5 of Matteson and James (arXiv 1306.4933). Series are
so clear that every one of their changes is significant; how surely is for the permutation test, which is not in here.
"""

import json

import numpy as np

FEWEST = 3
rng = np.random.default_rng(4933)


def energy(before, after):
    n, m = len(before), len(after)
    between = np.abs(before[:, None] - after[None, :]).mean()
    within = [np.abs(x[:, None] - x[None, :]).sum() / (len(x) * (len(x) - 1)) for x in (before, after)]
    return n * m / (n + m) * (2 * between - sum(within))


def best(x):
    """The split of a stretch with the largest statistic, against any number of the values that follow it."""
    ways = [(energy(x[:at], x[at:end]), at) for at in range(FEWEST, len(x) - FEWEST + 1)
            for end in range(at + FEWEST, len(x) + 1)]
    return max(ways, key=lambda way: way[0], default=None)


def changes(x, count):
    """The first `count` splits of all stretches, each the best there then is."""
    bounds, found = [0, len(x)], []
    for _ in range(count):
        ways = [(split[0], a + split[1]) for a, b in zip(bounds, bounds[1:]) if (split := best(x[a:b]))]
        statistic, at = max(ways)
        found.append({"at": at, "statistic": statistic})
        bounds = sorted([*bounds, at])
    return sorted(found, key=lambda change: change["at"])


def series(levels, length, noise):
    return np.concatenate([level + draw(length, noise) for level in levels])


def draw(n, noise):
    return rng.normal(0, noise, n) if rng.integers(2) else rng.standard_t(3, n) * noise / 2


cases = []
for levels, length, noise in (((1.0, 2.0), 10, 0.05), ((5.0, 4.0), 8, 0.1), ((1.0, 2.0, 1.0), 12, 0.05),
                              ((10.0, 11.0, 13.0), 15, 0.1), ((1.0, 3.0, 2.0, 4.0), 12, 0.05)):
    x = series(levels, length, noise)
    cases.append({"values": x.tolist(), "changes": changes(x, len(levels) - 1)})
print(json.dumps(cases, indent=1))
