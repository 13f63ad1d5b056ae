"""Play data from scripted experts."""

import operator
from concurrent.futures import ThreadPoolExecutor
from threading import local
from typing import Any

import numpy as np

from telic._telic import Dataset, Demonstrator, __version__, collection_seed
from telic.errors import InputError
from telic.goals import check_seed
from telic.registration import describe


def collect(
    env: str,
    *,
    episodes: int,
    seed: int = 0,
    demonstrator: str | None = None,
    noise: float = 1.0,
    threads: int = 1,
) -> Dataset:
    """Makes the episodes that ``telic collect`` makes with the same arguments, in memory.

    Args:
        env: environment, for example ``"cube-single"``.
        episodes: how many.
        seed: fixes all of them, for any number of threads.
        demonstrator: name of the expert; the first one of the environment by default.
        noise: scale of the perturbation of its actions, 1 as published.
        threads: how many to collect on.
    """
    description = describe(env)
    check_seed(seed)
    for name, value in (("episodes", episodes), ("threads", threads)):
        try:
            number = operator.index(value)
        except TypeError:
            raise InputError(f"`{name}` is {value!r}, expected a whole number") from None
        if number < 1:
            raise InputError(f"`{name}` is {value}, expected at least 1")
    first = Demonstrator(description["id"], name=demonstrator, noise=noise)
    experts = local()
    seeds = [collection_seed(seed, episode) for episode in range(episodes)]

    def play(episode_seed: int) -> dict[str, Any]:
        if not hasattr(experts, "expert"):
            experts.expert = Demonstrator(description["id"], name=demonstrator, noise=noise)
        episode: dict[str, Any] = experts.expert.episode(episode_seed)
        return episode

    with ThreadPoolExecutor(threads) as pool:
        parts = list(pool.map(play, seeds))
    goal = description["goal"]
    metadata = {
        "env": description["id"],
        "env_version": description["version"],
        "seed": seed,
        "generator": f"telic {__version__} collect",
        "demonstrator": first.name,
        "options": {"noise": np.format_float_positional(np.float32(noise), trim="-")},
        "control_hz": description["control_hz"],
        "observation_names": [entry["name"] for entry in description["observation"]],
        "action_names": [entry["name"] for entry in description["action"]],
        "goal_indices": goal["indices"],
        "goal_tolerance": goal["tolerance"],
        "goal_point_dim": goal["point_dim"],
        "goal_metres_per_unit": goal["metres_per_unit"],
        "episode_seeds": seeds,
        "episode_successes": [part["success"] for part in parts],
    }
    columns = {
        name: np.concatenate([part[name] for part in parts])
        for name in ("observations", "actions", "terminals", "qpos", "qvel")
    }
    return Dataset.from_arrays(**columns, metadata=metadata)
