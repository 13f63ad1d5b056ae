"""One environment."""

from typing import Any

import gymnasium
import numpy as np
from numpy.typing import ArrayLike, NDArray

from telic import _telic
from telic.descriptions import EnvDescription
from telic.errors import InputError, TelicError
from telic.goals import GoalRewards, Observation, Start, action_space, check_seed, observation_space, start_of
from telic.registration import describe


class TelicEnv(GoalRewards, gymnasium.Env[Any, Any]):
    """One goal environment, in Gymnasium's interface.

    Observations are dictionaries with ``observation``, ``achieved_goal`` and ``desired_goal``; with ``flat=True``
    they are the observation alone, as in OGBench. Either way ``info["goal"]`` is the goal as a full observation, which
    is what policies take. All arrays are float32.

    ``info`` always holds:

    - ``goal``: the goal as an observation;
    - ``success`` and ``is_success``: whether the goal is reached in this state;
    - ``task``: number of the evaluation task from 0, or -1;
    - ``metrics``: further scores of the episode so far, where the environment has any;
    - ``qpos`` and ``qvel``: the physical state in MuJoCo's order, with ``with_state=True``.

    An episode is a pure function of its seed, options and actions. ``reset(seed=7)`` gives the episode with seed 7;
    each ``reset()`` that follows gives the next one of a fixed sequence. Without any seed the sequence is
    drawn from :attr:`np_random`.

    Args:
        env: what to make, for example ``"cube-single"``.
        flat: return the observation alone.
        task: task of every episode, by number from 0 or by name; ``"collection"`` is the start distribution of play
            data, whose episodes do not end on success, except those of block-push. By default tasks are drawn from the seed.
        with_state: put ``qpos`` and ``qvel`` into ``info``.
        render_mode: only ``None``; recordings are made by ``telic view``.
    """

    metadata: dict[str, Any] = {"render_modes": []}

    def __init__(
        self,
        env: str,
        *,
        flat: bool = False,
        task: Start = None,
        with_state: bool = False,
        render_mode: None = None,
    ) -> None:
        if render_mode is not None:
            raise InputError(f"`render_mode` is {render_mode!r}, expected None")
        self.description: EnvDescription = describe(env)
        self.flat = flat
        self.with_state = with_state
        self.render_mode = None
        self.observation_space = observation_space(self.description, flat=flat)
        self.action_space = action_space(self.description)
        self._task = task
        self._native = _telic.Env(self.description["id"])
        self._is_reset = False
        self._sequence_seed: int | None = None
        self._sequence_index = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Starts an episode.

        Args:
            seed: seed of the episode, in 0..=2**64 - 1. Without one, the next episode of the sequence.
            options: at most one of ``task`` (number from 0, or name), ``task_id`` (number from 1, as OGBench counts) and
                ``start`` (``"collection"``); and ``goal``, an observation that replaces the goal of the task. They hold
                for this episode.

        Raises:
            InputError: a seed, an option or a goal that cannot be used.
        """
        options = options or {}
        start = start_of(options, self._task)
        first = seed is not None or self._sequence_seed is None
        if seed is not None:
            seed = check_seed(seed)
        drawn_from = self.np_random.bit_generator.state
        if first:
            base = seed if seed is not None else int(self.np_random.integers(2**63))
            episode_seed, index = base, 0
        else:
            assert self._sequence_seed is not None
            base, index = self._sequence_seed, self._sequence_index + 1
            episode_seed = _telic.episode_seed(base, index)
        try:
            self._native.reset(episode_seed, start=start, goal=options.get("goal"))
        except TelicError:
            self.np_random.bit_generator.state = drawn_from
            raise
        # Last, since a refused call changes nothing.
        super().reset(seed=seed)
        self._sequence_seed, self._sequence_index = base, index
        self._is_reset = True
        return self._view(False)

    def step(self, action: ArrayLike) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Applies an action ``[action_dim]`` for one control period; values outside -1..=1 are clipped.

        Returns:
            Observation; reward, 0 at the goal and -1 elsewhere; whether the task ended; whether the step limit was
            reached; info.

        Raises:
            InputError: an action of the wrong length or with NaN or infinities; nothing has changed then.
            NotResetError: there is no episode yet.
        """
        reward, terminated, truncated, success = self._native.step(action)
        observation, info = self._view(success)
        return observation, reward, terminated, truncated, info

    def _view(self, success: bool) -> tuple[Observation, dict[str, Any]]:
        native = self._native
        observation, achieved_goal, desired_goal, goal = native.view()
        task = native.task
        info: dict[str, Any] = {
            "goal": goal,
            "success": success,
            "is_success": success,
            "task": -1 if task is None else task,
        }
        metrics = native.metrics()
        if metrics:
            info["metrics"] = metrics
        if self.with_state:
            info["qpos"], info["qvel"] = native.qpos, native.qvel
        if self.flat:
            return observation, info
        return {
            "observation": observation,
            "achieved_goal": achieved_goal,
            "desired_goal": desired_goal,
        }, info

    @property
    def goal(self) -> NDArray[np.float32]:
        """The goal of the running episode, a copy, as an observation. Can be set."""
        return self._native.view()[3]

    @goal.setter
    def goal(self, goal: ArrayLike) -> None:
        self._native.set_goal(goal)

    @property
    def qpos(self) -> NDArray[np.float32]:
        """Generalised coordinates in MuJoCo's order."""
        return self._native.qpos

    @property
    def qvel(self) -> NDArray[np.float32]:
        """Generalised velocities in MuJoCo's order."""
        return self._native.qvel

    @property
    def rewards(self) -> dict[str, float]:
        """Named rewards of the state, 0 to 1, beside that of the goal; empty where the environment has none."""
        return self._native.rewards()

    @property
    def elapsed_steps(self) -> int:
        """Steps since the reset."""
        return self._native.elapsed_steps

    def get_state(self) -> bytes:
        """Everything that decides the future of the episode: physics, goal, task and step count."""
        return self._native.snapshot()

    def set_state(self, state: bytes) -> tuple[Observation, dict[str, Any]]:
        """Puts a state of :meth:`get_state` back, of this or of another instance of the same environment.

        Returns:
            Observation and info of that state, with ``success`` worked out from the goal.

        Raises:
            InputError: not a state of this environment.
        """
        self._native.restore(state)
        self._is_reset = True
        _, achieved_goal, desired_goal, _ = self._native.view()
        return self._view(bool(self.compute_terminated(achieved_goal, desired_goal)))

    def set_physics(self, qpos: ArrayLike, qvel: ArrayLike) -> tuple[Observation, dict[str, Any]]:
        """Writes coordinates and velocities in MuJoCo's order, for example a row of a dataset. Goal, task and step count stay.

        Returns:
            Observation and info of that state, with ``success`` worked out from the goal.

        Raises:
            InputError: lengths or values that do not fit, or an environment that has more state than these (blocks, arms);
                nothing has changed then.
        """
        self._native.set_physics(qpos, qvel)
        _, achieved_goal, desired_goal, _ = self._native.view()
        return self._view(bool(self.compute_terminated(achieved_goal, desired_goal)))

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        state["_native"] = self.get_state() if self._is_reset else None
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        snapshot = state["_native"]
        self.__dict__.update(state)
        self._native = _telic.Env(self.description["id"])
        if snapshot is not None:
            self._native.restore(snapshot)

    def __str__(self) -> str:
        return f"<TelicEnv<{self.description['id']}>>"
