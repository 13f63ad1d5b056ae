"""Spaces, options and rewards that one environment and many have in common."""

from collections.abc import Mapping
from operator import index
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray

from telic import _telic
from telic.descriptions import EnvDescription
from telic.errors import InputError

Observation = dict[str, NDArray[np.float32]] | NDArray[np.float32]
Start = int | str | None

_OPTIONS = ("task", "task_id", "start", "goal")
_LARGEST_SEED = 2**64 - 1


def observation_space(description: EnvDescription, *, flat: bool) -> spaces.Box | spaces.Dict:
    """The bounds of every entry of an observation, and of the goal inside it."""
    low = np.array([entry["low"] for entry in description["observation"]], dtype=np.float32)
    high = np.array([entry["high"] for entry in description["observation"]], dtype=np.float32)
    observation = spaces.Box(low, high, dtype=np.float32)
    if flat:
        return observation
    indices = description["goal"]["indices"]
    return spaces.Dict(
        {
            "observation": observation,
            "achieved_goal": spaces.Box(low[indices], high[indices], dtype=np.float32),
            "desired_goal": spaces.Box(low[indices], high[indices], dtype=np.float32),
        }
    )


def action_space(description: EnvDescription) -> spaces.Box:
    """Every entry of an action is in -1..=1."""
    return spaces.Box(-1.0, 1.0, (description["action_dim"],), dtype=np.float32)


def check_seed(seed: Any) -> int:
    """A seed that the environments can take."""
    if not isinstance(seed, int | np.integer) or isinstance(seed, bool) or not 0 <= seed <= _LARGEST_SEED:
        raise InputError(f"`seed` is {seed!r}, expected a whole number in 0..=2**64 - 1")
    return int(seed)


def start_of(options: Mapping[str, Any], default: Start) -> Any:
    """The start that reset options ask for: one of the options `task`, `task_id` and `start`, or else ``default``."""
    unknown = [key for key in options if key not in _OPTIONS]
    if unknown:
        raise InputError(f"unknown reset option `{unknown[0]}`; known: {', '.join(_OPTIONS)}")
    given = [key for key in ("task", "task_id", "start") if options.get(key) is not None]
    if len(given) > 1:
        raise InputError(f"the reset options `{given[0]}` and `{given[1]}` exclude each other")
    if not given:
        return default
    value = options[given[0]]
    if given[0] == "task_id":
        # OGBench numbers tasks from 1.
        try:
            return [index(one) - 1 for one in value] if np.ndim(value) else index(value) - 1
        except (TypeError, ValueError):
            raise InputError(f"the reset option `task_id` is {value!r}, expected whole numbers from 1") from None
    if given[0] == "start" and value != "collection":
        raise InputError(f"the reset option `start` is {value!r}, expected 'collection'")
    return value


def table_of(name: str, values: ArrayLike) -> NDArray[np.float32]:
    """An array of numbers."""
    try:
        return np.asarray(values, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise InputError(f"`{name}`: {error}") from None


def count_of(name: str, value: Any) -> int:
    """A whole number, at least 1."""
    try:
        count = index(value)
    except TypeError:
        count = 0
    if count < 1:
        raise InputError(f"`{name}` is {value!r}, expected a whole number of at least 1")
    return count


def _goals(name: str, goals: ArrayLike, goal_dim: int) -> NDArray[np.float32]:
    """Goals of the right width."""
    table = table_of(name, goals)
    if table.ndim == 0 or table.shape[-1] != goal_dim:
        raise InputError(f"`{name}` has shape {table.shape}, expected (..., {goal_dim})")
    return table


class GoalRewards:
    """The reward functions of Gymnasium-Robotics' ``GoalEnv``, for whole batches."""

    description: EnvDescription

    def compute_reward(self, achieved_goal: ArrayLike, desired_goal: ArrayLike, info: Any = None) -> Any:
        """0 where the goal is reached, -1 elsewhere.

        Goals are ``[..., goal_dim]`` with any leading axes, and are broadcast against each other; the result has
        the leading axes. For one pair of goals it is a float. ``info`` is not used.
        """
        goal_dim = self.description["goal_dim"]
        achieved, desired = _goals("achieved_goal", achieved_goal, goal_dim), _goals("desired_goal", desired_goal, goal_dim)
        if achieved.shape != desired.shape:
            try:
                achieved, desired = np.broadcast_arrays(achieved, desired)
            except ValueError:
                raise InputError(
                    f"`achieved_goal` has shape {achieved.shape}, `desired_goal` {desired.shape}"
                ) from None
        rewards = _telic.rewards(
            self.description["id"], achieved.reshape(-1, goal_dim), desired.reshape(-1, goal_dim)
        )
        return float(rewards[0]) if achieved.ndim == 1 else rewards.reshape(achieved.shape[:-1])

    def compute_terminated(self, achieved_goal: ArrayLike, desired_goal: ArrayLike, info: Any = None) -> Any:
        """Whether the goal is reached, shaped like the rewards."""
        return self.compute_reward(achieved_goal, desired_goal, info) == 0

    def compute_truncated(self, achieved_goal: ArrayLike, desired_goal: ArrayLike, info: Any = None) -> Any:
        """Never: the step limit is not a matter of goals."""
        rewards = self.compute_reward(achieved_goal, desired_goal, info)
        return np.zeros(rewards.shape, dtype=np.bool_) if isinstance(rewards, np.ndarray) else False
