"""Which seeds episodes may have: consecutive ones of a run in, the range of them out."""

from __future__ import annotations

HIGHEST_SEED = 2**31 - 1
"""The traffic simulator's seed is an int32, and every episode of a run is to have one of its own."""


EVALUATION_SEED = 5000
"""Episode seeds from here on belong to evaluation: training, validation and tuning refuse them."""


def episode_seeds(first: int, episodes: int) -> range:
    """Seeds of a run.

    Args:
        first: seed of the first episode; the others follow by 1.
        episodes: how many, at least 1.

    Raises:
        ValueError: the first is negative, or the last lies above HIGHEST_SEED.
    """
    last = first + episodes - 1
    if first < 0:
        raise ValueError(f"seed is {first}, must be at least 0")
    if last > HIGHEST_SEED:
        raise ValueError(f"seed {first} with {episodes} episodes ends at {last}, highest is {HIGHEST_SEED}")
    return range(first, last + 1)
