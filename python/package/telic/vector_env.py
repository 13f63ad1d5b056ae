"""Many environments, stepped together in Rust."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import ArrayLike, NDArray

from telic import _telic
from telic.descriptions import EnvDescription
from telic.errors import InputError, TelicError
from telic.goals import (
    GoalRewards,
    Observation,
    Start,
    action_space,
    check_seed,
    count_of,
    observation_space,
    start_of,
    table_of,
)
from telic.registration import describe

_GOAL_KEYS = ("observation", "achieved_goal", "desired_goal")


class TelicVectorEnv(GoalRewards, VectorEnv[Any, Any, Any]):
    """Many instances of one environment on a fixed number of threads.

    It behaves like ``gymnasium.vector.SyncVectorEnv`` of :class:`telic.TelicEnv`, to the bit and for any number of threads,
    with these differences:

    - Rewards are float32.
    - Observations, rewards and ``info["goal"]`` are views on the memory of the environments. There are
      two sets of them, used in turn: what a step or reset returns stays as it is during the next one, and is overwritten by
      the one after. Copy what you keep longer, or pass ``copy=True``.
    - Options of :meth:`reset` also hold for the automatic resets that follow, and may have one entry per environment.
    - Other Python threads run while it resets or steps. Steps of one object from two threads at once are refused.

    Args:
        env: what to make, for example ``"cube-single"``.
        num_envs: how many.
        flat: return the observation alone in place of a dictionary with the goals.
        task: task of every episode, as for :class:`telic.TelicEnv`.
        copy: return copies that are never overwritten.
        autoreset_mode: what happens when an episode ends, by Gymnasium's ``AutoresetMode`` or its value.
        threads: how many to step on; by default one per processor that this process may use.
        render_mode: only ``None``.
    """

    metadata: dict[str, Any] = {"render_modes": [], "autoreset_mode": AutoresetMode.NEXT_STEP}

    def __init__(
        self,
        env: str,
        *,
        num_envs: int = 1,
        flat: bool = False,
        task: Start = None,
        copy: bool = False,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        threads: int | None = None,
        render_mode: None = None,
    ) -> None:
        if render_mode is not None:
            raise InputError(f"`render_mode` is {render_mode!r}, expected None")
        num_envs = count_of("num_envs", num_envs)
        threads = min(_processors(), num_envs) if threads is None else count_of("threads", threads)
        try:
            self.autoreset_mode = AutoresetMode(autoreset_mode)
        except ValueError:
            modes = ", ".join(mode.value for mode in AutoresetMode)
            raise InputError(f"`autoreset_mode` is {autoreset_mode!r}, expected one of {modes}") from None
        self.description: EnvDescription = describe(env)
        self.num_envs = num_envs
        self.flat = flat
        self.copy = copy
        self.threads = threads
        self.render_mode = None
        self.metadata = {**self.metadata, "autoreset_mode": self.autoreset_mode}
        self.single_observation_space = observation_space(self.description, flat=flat)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.single_action_space = action_space(self.description)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._task = task
        self._native = _telic.VecEnv(
            self.description["id"], num_envs=num_envs, threads=threads, autoreset=self.autoreset_mode.value
        )
        # Views on both sets of buffers; the second set exists from the first step on.
        self._buffers: dict[int, dict[str, NDArray[np.float32]]] = {}
        self._front = 0
        self._seeded = np.zeros(num_envs, dtype=np.bool_)
        self._tasks: NDArray[np.int64] = np.full(num_envs, -1, dtype=np.int64)
        self._has_metrics = False

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> tuple[Observation, dict[str, Any]]:
        """Starts episodes in all environments, or in those that ``options["reset_mask"]`` names.

        Args:
            seed: one seed per environment, or the seed of the first one, from which the others count up. Environments
                without a seed go on with their sequence of episodes.
            options: as for :meth:`telic.TelicEnv.reset`. A sequence as ``task`` or ``task_id`` and a table
                ``[num_envs, observation_dim]`` as ``goal`` have one entry per environment. ``reset_mask`` is an array
                of bool ``[num_envs]``: where to start an episode. The observations of the others are their last ones.
        """
        options = dict(options or {})
        rows = self._rows_to_reset(options.pop("reset_mask", None))
        seeds = self._seeds(seed)
        starts = self._starts(start_of(options, self._task))
        goals = self._goals(options.get("goal"))
        drawn_from = self.np_random.bit_generator.state
        for row in rows:
            if seeds[row] is None and not self._seeded[row]:
                seeds[row] = int(self.np_random.integers(2**63))
        try:
            self._front = self._native.reset(
                rows,
                seeds=[seeds[row] for row in rows],
                starts=[starts[row] for row in rows],
                goals=None if goals is None else goals[rows],
            )
        except TelicError:
            self.np_random.bit_generator.state = drawn_from
            raise
        self._seeded[rows] = True
        # Last, since a refused call changes nothing.
        super().reset(seed=int(seed) if isinstance(seed, int | np.integer) else None)
        mask = np.zeros(self.num_envs, dtype=np.bool_)
        mask[rows] = True
        self._tasks = self._native.tasks()
        self._has_metrics = bool(self._native.metrics())
        buffers = self._views()
        success = np.zeros(self.num_envs, dtype=np.bool_)
        infos = self._infos(buffers["goal"], success, self._tasks, self._metrics(), mask)
        if not mask.all():
            # As in Gymnasium, entries of `info` that a partial reset says nothing about are zero.
            infos = _masked(infos, mask)
        return self._observations(buffers), infos

    def step(
        self, actions: ArrayLike
    ) -> tuple[Observation, NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """Applies one action per environment, ``[num_envs, action_dim]``.

        Raises:
            InputError: actions of the wrong shape or with NaN or infinities; nothing has changed then.
            NotResetError: an environment has no episode, or one that has ended with ``AutoresetMode.DISABLED``.
        """
        last_goals = self._views()["goal"]
        self._front = self._native.step(actions)
        buffers = self._views()
        terminated, truncated, success, reset = self._native.flags()
        infos: dict[str, Any] = {}
        last_tasks = self._tasks
        if reset.any():
            self._tasks = self._native.tasks()
            if self.autoreset_mode is AutoresetMode.SAME_STEP:
                self._add_final(infos, buffers, last_goals, last_tasks, success, reset)
                success = success & ~reset
        everywhere = np.ones(self.num_envs, dtype=np.bool_)
        infos |= self._infos(buffers["goal"], success, self._tasks, self._metrics(), everywhere)
        rewards = buffers["reward"].copy() if self.copy else buffers["reward"]
        return self._observations(buffers), rewards, terminated, truncated, infos

    def _add_final(
        self,
        infos: dict[str, Any],
        buffers: dict[str, NDArray[np.float32]],
        goals: NDArray[np.float32],
        tasks: NDArray[np.int64],
        success: NDArray[np.bool_],
        ended: NDArray[np.bool_],
    ) -> None:
        """Adds what the episodes that have just ended were like at their end."""
        indices = self.description["goal"]["indices"]
        final_observations = np.full(self.num_envs, None, dtype=object)
        for row in np.flatnonzero(ended):
            observation = buffers["final_observation"][row].copy()
            final_observations[row] = (
                observation
                if self.flat
                else {
                    "observation": observation,
                    "achieved_goal": observation[indices],
                    "desired_goal": buffers["final_desired_goal"][row].copy(),
                }
            )
        metrics = self._native.final_metrics() if self._has_metrics else {}
        final_info = self._infos(goals, success, tasks, metrics, ended)
        infos["final_obs"], infos["_final_obs"] = final_observations, ended.copy()
        infos["final_info"], infos["_final_info"] = _masked(final_info, ended), ended.copy()

    def _infos(
        self,
        goals: NDArray[np.float32],
        success: NDArray[np.bool_],
        tasks: NDArray[np.int64],
        metrics: dict[str, NDArray[np.float64]],
        mask: NDArray[np.bool_],
    ) -> dict[str, Any]:
        """The entries of ``info``, each with the mask of the environments that it is about."""
        infos: dict[str, Any] = {
            "goal": goals.copy() if self.copy else goals,
            "success": success,
            "is_success": success.copy(),
            "task": tasks.copy(),
        }
        if metrics:
            infos["metrics"] = _with_masks(dict(metrics), mask)
        return _with_masks(infos, mask)

    def _metrics(self) -> dict[str, NDArray[np.float64]]:
        return self._native.metrics() if self._has_metrics else {}

    def _views(self) -> dict[str, NDArray[np.float32]]:
        """Views on the set of buffers that holds the last batch."""
        if self._front not in self._buffers:
            self._buffers[self._front] = self._native.buffers()
        return self._buffers[self._front]

    def _observations(self, buffers: dict[str, NDArray[np.float32]]) -> Observation:
        if self.flat:
            return buffers["observation"].copy() if self.copy else buffers["observation"]
        return {key: buffers[key].copy() if self.copy else buffers[key] for key in _GOAL_KEYS}

    def _rows_to_reset(self, mask: Any) -> list[int]:
        if mask is None:
            return list(range(self.num_envs))
        if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_ or mask.shape != (self.num_envs,):
            raise InputError(f"the reset option `reset_mask` is {mask!r}, expected an array of bool ({self.num_envs},)")
        if not mask.any():
            raise InputError("the reset option `reset_mask` is False everywhere, expected at least one True")
        return [int(row) for row in np.flatnonzero(mask)]

    def _seeds(self, seed: int | Sequence[int | None] | None) -> list[int | None]:
        if seed is None:
            return [None] * self.num_envs
        if isinstance(seed, int | np.integer):
            first = check_seed(seed)
            return [check_seed(first + row) for row in range(self.num_envs)]
        if isinstance(seed, str) or not isinstance(seed, Sequence | np.ndarray):
            raise InputError(f"`seed` is {seed!r}, expected a whole number or one for each environment")
        if len(seed) != self.num_envs:
            raise InputError(f"`seed` has {len(seed)} entries, expected {self.num_envs}")
        return [None if row_seed is None else check_seed(row_seed) for row_seed in seed]

    def _starts(self, start: Any) -> list[Start]:
        of_each = isinstance(start, Sequence) and not isinstance(start, str)
        if not of_each and not (isinstance(start, np.ndarray) and start.ndim > 0):
            return [start] * self.num_envs
        if len(start) != self.num_envs:
            raise InputError(f"the reset option `task` has {len(start)} entries, expected {self.num_envs}")
        return list(start)

    def _goals(self, goal: ArrayLike | None) -> NDArray[np.float32] | None:
        if goal is None:
            return None
        goals = table_of("goal", goal)
        dim = self.description["observation_dim"]
        if goals.shape not in ((dim,), (self.num_envs, dim)):
            raise InputError(
                f"the reset option `goal` has shape {goals.shape}, expected ({dim},) or ({self.num_envs}, {dim})"
            )
        return np.broadcast_to(goals, (self.num_envs, dim))

    def __str__(self) -> str:
        return f"<TelicVectorEnv<{self.description['id']}>, num_envs={self.num_envs}, threads={self.threads}>"


def _processors() -> int:
    """Processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _with_masks(infos: dict[str, Any], mask: NDArray[np.bool_]) -> dict[str, Any]:
    return infos | {f"_{key}": mask.copy() for key in infos}


def _masked(infos: dict[str, Any], mask: NDArray[np.bool_]) -> dict[str, Any]:
    """Copies with zeros outside of ``mask``, as Gymnasium fills them."""
    masked: dict[str, Any] = {}
    for key, value in infos.items():
        if isinstance(value, dict):
            masked[key] = _masked(value, mask)
        else:
            masked[key] = np.where(mask.reshape(-1, *[1] * (value.ndim - 1)), value, np.zeros_like(value))
    return masked
