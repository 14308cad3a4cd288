"""How many independent requests a run is worth: those of one queue, or one minute, are alike.

A percentile's uncertainty is that of the *share* of requests above it. Whether a request is above
it is a series of zeros and ones, and the block bootstrap tells how much the share would differ in
another run: cut the series, on a circle, into blocks so long that what follows a block knows little
of it, and draw blocks with replacement. For a share the bootstrap's variance has a closed form
(Künsch 1989, Politis and Romano 1992), so nothing needs to be drawn and the same file always gives
the same figures. Where there are several rounds, the spread of the share between them is a second
witness, which also sees what is slower than a round. The larger variance counts. n requests that
vary by τ times as much as independent ones do are worth n / τ.

The block's length is twice that of Politis and White (2004, corrected by Patton, Politis and White
2009) for the circular block bootstrap, which balances bias against variance where too narrow is the
worse mistake; few blocks know their own spread badly, which Student's factor pays for.

A run that by chance has few slow stretches shows a low percentile *and* little dependence above it:
it would be sure of what it missed. So τ is also looked for at the percentiles with three and ten
times as many requests above them, where a run has more to tell. How often the intervals hold is
measured by `bench.validation.coverage`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rankers.requests import Array

# With fewer rounds their spread says too little about the spread of rounds.
FEWEST_ROUNDS = 5
_BLOCK_STRETCH = 2
_TAILS = (1, 3, 10)


def worth(
    samples: Array, quantile: float, rounds: Sequence[int] = (), *, tails: Sequence[int] = _TAILS
) -> float:
    """Return how many independent requests a percentile of a run rests on.

    Args:
        samples: Response times ``[count]`` in the order of time, in any unit.
        quantile: In (0, 1).
        rounds: As for `effective_count`.
        tails: Multiples of the share above the percentile at which dependence is looked for.
    """
    if not len(samples):
        return 0.0
    ascending = np.sort(samples)
    shares = dict.fromkeys(max(1 - quantile, min(each * (1 - quantile), 0.5)) for each in tails)
    ranks = [max(1, math.ceil(round((1 - share) * len(samples), 9))) for share in shares]
    return min(effective_count(samples > ascending[rank - 1], rounds) for rank in ranks)


def effective_count(above: Array, rounds: Sequence[int] = ()) -> float:
    """Return how many independent requests a series of zeros and ones is worth.

    Args:
        above: Whether each request was above a bound, bool ``[count]``, in the order of time.
        rounds: How many requests each round has, if there were several; they add up to ``count``.

    Returns:
        In (0, count]: never more than there are. A series that is all the same says nothing about
        its own dependence and counts in full.
    """
    series = np.asarray(above, dtype=np.float64)
    count, share = len(series), float(series.mean()) if len(series) else 0.0
    independent = share * (1 - share) / count if count else 0.0  # variance of the share
    if not independent:
        return float(count)
    pieces = [series]
    if sum(rounds) == count:
        pieces = [each for each in np.split(series, np.cumsum(rounds)[:-1]) if len(each)]
    within = _within(pieces, count) if count > 1 else independent
    variance = max(within, _between(pieces), independent)
    return min(count * independent / variance, float(count))


def block_length(series: Array) -> int:
    """Return the length of blocks for a series' mean, by Politis and White's rule.

    Autocorrelations are summed with a flat-top window up to twice the lag from which on they stay
    within what chance alone would give, and weighed against the bias of short blocks.

    Args:
        series: ``[count]`` values in the order of time.
    """
    count = len(series)
    longest = min(math.ceil(3 * math.sqrt(count)), count // 3)
    centred = series - series.mean()
    if longest < 2 or not centred.any():
        return 1
    patience = max(5, math.ceil(math.sqrt(math.log10(count))))
    lags = min(math.ceil(math.sqrt(count)) + patience, count - 1)
    covariance = _autocovariance(centred, max(2 * lags, 1))
    last = _last_correlated_lag(covariance / covariance[0], count, patience, lags)
    window = np.arange(1, min(2 * last, count - 1) + 1)
    weight = np.minimum(1, 2 * (1 - window / (2 * last))) if last else np.empty(0)
    spectral = covariance[0] + 2 * float(weight @ covariance[window])
    bias = 2 * float((weight * window) @ covariance[window])
    if spectral <= 0:
        return 1
    length = (2 * bias**2 / (4 / 3 * spectral**2)) ** (1 / 3) * count ** (1 / 3)
    return min(max(1, round(float(length))), longest)


def _within(pieces: Sequence[Array], count: int) -> float:
    """Return the block bootstrap's variance of the share, blocks not reaching over rounds."""
    found = [(*_block_variance(piece), len(piece) / count) for piece in pieces]
    variance = sum(each * share**2 for each, _, share in found)
    return variance * _student(sum(blocks for _, blocks, _ in found) - len(found))


def _block_variance(series: Array) -> tuple[float, float]:
    """Return the variance of a series' mean, and of how many blocks that is known."""
    count = len(series)
    length = max(1, min(_BLOCK_STRETCH * block_length(series), count // 3))
    circle = np.concatenate([[0.0], np.cumsum(np.concatenate([series, series[: length - 1]]))])
    means = (circle[length:] - circle[:-length]) / length  # [count], one for each start of a block
    # A circle of count / length blocks has that many free means less one.
    blocks = count / length
    correction = blocks / (blocks - 1) if blocks > 1 else 1.0
    return float(means.var()) / blocks * correction, blocks


def _between(pieces: Sequence[Array]) -> float:
    """Return the variance of the share by its spread between rounds; 0 with too few of them."""
    if len(pieces) < FEWEST_ROUNDS:
        return 0.0
    shares = np.array([piece.mean() for piece in pieces])
    return float(shares.var(ddof=1)) / len(shares) * _student(len(shares) - 1)


def _student(free: float) -> float:
    """Return Student's factor of a variance known from so many, for comparing with a normal."""
    from scipy.stats import t

    return (float(t.ppf(0.975, max(free, 1.0))) / 1.96) ** 2


def _autocovariance(centred: Array, lags: int) -> Array:
    """Return autocovariances at lags 0 … ``lags``, by the fast Fourier transform."""
    size = 1 << (2 * len(centred) - 1).bit_length()
    spectrum = np.fft.rfft(centred, size)
    found: Array = np.fft.irfft(spectrum * spectrum.conj(), size)[: lags + 1] / len(centred)
    return np.pad(found, (0, max(0, lags + 1 - len(found))))


def _last_correlated_lag(correlation: Array, count: int, patience: int, lags: int) -> int:
    """Return the lag after which ``patience`` autocorrelations in a row are no more than chance."""
    chance = 2 * math.sqrt(math.log10(count) / count)
    small = np.abs(correlation[1 : lags + 1]) < chance
    for lag in range(lags - patience + 1):
        if small[lag : lag + patience].all():
            return lag
    large = np.flatnonzero(~small)
    return int(large[-1]) + 1 if len(large) else 0
