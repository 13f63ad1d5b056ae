from collections.abc import Callable
from os import PathLike
from typing import Any, TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray
from typing_extensions import NotRequired

from telic.descriptions import EnvDescription

__version__: str

class GoalMix(TypedDict):
    current: float
    trajectory: float
    random: float
    geometric: bool
    stitched: NotRequired[float]

class PolicyDescription(TypedDict):
    id: str
    name: str
    summary: str
    paper: str
    default_config: dict[str, Any]

class TransitionBatch(TypedDict):
    observations: NDArray[np.float32]
    actions: NDArray[np.float32]
    next_observations: NDArray[np.float32]
    value_goals: NDArray[np.float32]
    actor_goals: NDArray[np.float32]
    rewards: NDArray[np.float32]
    masks: NDArray[np.float32]
    rows: NDArray[np.int64]
    value_goal_rows: NDArray[np.int64]
    actor_goal_rows: NDArray[np.int64]
    later_observations: NotRequired[NDArray[np.float32]]

def env_specs() -> list[EnvDescription]: ...
def rewards(env: str, achieved_goals: ArrayLike, desired_goals: ArrayLike) -> NDArray[np.float32]: ...
def episode_seed(seed: int, index: int) -> int: ...
def collection_seed(seed: int, episode: int) -> int: ...
def rollout_checksum(env: str, *, seed: int = 0, steps: int = 100) -> int: ...
def load_dataset(path: str | PathLike[str]) -> Dataset: ...
def load_pickled(path: str | PathLike[str], size: tuple[int, int]) -> Dataset: ...
def load_policy(path: str | PathLike[str], *, device: str = "cpu") -> Policy: ...
def evaluate(
    policy: Policy,
    *,
    env: str | None = None,
    episodes: int = 100,
    seed: int = 0,
    tasks: list[str] | None = None,
    goals: Dataset | None = None,
    threads: int | None = None,
) -> dict[str, Any]:
    """How often a policy reaches the goals of the evaluation tasks, as ``telic evaluate --json`` tells it.

    ``env`` is the environment that the policy was trained for, unless another one is named; ``tasks`` are the names of some of
    its tasks, all by default. With ``goals``, a dataset of block-push, the policy is given the final states of its episodes in
    turn in place of the goals of the tasks. Episodes that the policy was acting in are forgotten. ``threads`` does not change the result.
    """

def record(
    policy: Policy,
    path: str | PathLike[str],
    *,
    env: str | None = None,
    episodes: int = 2,
    seed: int = 0,
    tasks: list[str] | None = None,
    play: str | None = None,
) -> int:
    """Writes episodes of a policy, with its denoising, as a recording of the rerun viewer (``.rrd``).

    They are the first ones of :func:`evaluate` with the same seed, or of ``tasks`` in turn, by name. ``play`` is for a policy that was
    prompted with a reward: whole episodes from the starts of play data; if it is the name of a reward of the environment, its return is shown.
    Returns how many of them succeeded.
    """

def policies() -> list[PolicyDescription]:
    """Every algorithm that can be trained, with the defaults of its ``[policy]`` table."""

def train(
    config: str | PathLike[str] | dict[str, Any],
    *,
    out: str | PathLike[str],
    overrides: list[str] | None = None,
    resume: bool = False,
    on_log: Callable[[int, dict[str, float]], object] | None = None,
    on_evaluate: Callable[[int, dict[str, Any]], object] | None = None,
) -> tuple[int, bool]:
    """Trains a policy into the run folder ``out``, as ``telic train`` does.

    ``config`` is a TOML file or the same as a dictionary; ``overrides`` are like ``"policy.optimizer.lr=1e-4"``. With
    ``resume`` the run goes on where it stopped. ``on_log(step, metrics)`` is called every ``log_every`` updates,
    ``on_evaluate(step, result)`` after each evaluation in the environment (``evaluate_every``), with what ``telic.evaluate``
    returns. An exception in one of them, or Ctrl-C, stops the run with a checkpoint.

    Returns the number of updates and whether all of them are done.
    """

class Env:
    def __new__(cls, env: str) -> Env: ...
    def reset(self, seed: int, *, start: int | str | None = None, goal: ArrayLike | None = None) -> None: ...
    def step(self, action: ArrayLike) -> tuple[float, bool, bool, bool]: ...
    def view(
        self,
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]: ...
    def set_goal(self, goal: ArrayLike) -> None: ...
    @property
    def task(self) -> int | None: ...
    @property
    def elapsed_steps(self) -> int: ...
    def metrics(self) -> dict[str, float]: ...
    def rewards(self) -> dict[str, float]: ...
    @property
    def qpos(self) -> NDArray[np.float32]: ...
    @property
    def qvel(self) -> NDArray[np.float32]: ...
    def set_physics(self, qpos: ArrayLike, qvel: ArrayLike) -> None: ...
    def snapshot(self) -> bytes: ...
    def restore(self, snapshot: bytes) -> None: ...

class VecEnv:
    def __new__(cls, env: str, *, num_envs: int, threads: int, autoreset: str) -> VecEnv: ...
    def reset(
        self,
        rows: list[int],
        *,
        seeds: list[int | None],
        starts: list[int | str | None],
        goals: ArrayLike | None = None,
    ) -> int: ...
    def step(self, actions: ArrayLike) -> int: ...
    def buffers(self) -> dict[str, NDArray[np.float32]]: ...
    def flags(
        self,
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]: ...
    def tasks(self) -> NDArray[np.int64]: ...
    def metrics(self) -> dict[str, NDArray[np.float64]]: ...
    def final_metrics(self) -> dict[str, NDArray[np.float64]]: ...

class Demonstrator:
    """A scripted expert and the environment it drives; ``noise`` scales the perturbation of its actions."""

    def __new__(cls, env: str, *, name: str | None = None, noise: float = 1.0) -> Demonstrator: ...
    @property
    def name(self) -> str: ...
    @property
    def episode_steps(self) -> int: ...
    def reset(self, seed: int, *, task: int | str | None = None) -> None:
        """Starts an episode: play, or an evaluation task by number or name."""

    def act(self) -> NDArray[np.float32]: ...
    def step(self, action: ArrayLike) -> tuple[float, bool, bool, bool]:
        """Applies an action; returns reward, terminated, truncated and success."""

    @property
    def finished(self) -> bool: ...
    @property
    def observation(self) -> NDArray[np.float32]: ...
    @property
    def goal(self) -> NDArray[np.float32]: ...
    def episode(self, seed: int, *, task: int | str | None = None) -> dict[str, Any]:
        """A whole episode as columns, one row per state, and whether the goal was reached at any step."""

class Dataset:
    """Episodes as NumPy columns, with goals chosen in hindsight.

    Columns are read-only views on the memory of the dataset: one row per state, T + 1 rows for an episode of T transitions.
    ``len(dataset)`` is the number of transitions.
    """

    @staticmethod
    def from_arrays(
        *,
        observations: ArrayLike,
        actions: ArrayLike,
        terminals: ArrayLike,
        qpos: ArrayLike | None = None,
        qvel: ArrayLike | None = None,
        button_states: ArrayLike | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> Dataset:
        """A dataset from one row per state; ``terminals`` is true on the last row of each episode."""

    def save(self, path: str | PathLike[str], *, layout: str = "file") -> None:
        """Writes an ``.npz`` archive in one of OGBench's layouts: ``file``, ``compact`` or ``regular``."""

    @property
    def observations(self) -> NDArray[np.float32]: ...
    @property
    def actions(self) -> NDArray[np.float32]: ...
    @property
    def qpos(self) -> NDArray[np.float32] | None: ...
    @property
    def qvel(self) -> NDArray[np.float32] | None: ...
    @property
    def button_states(self) -> NDArray[np.int64] | None: ...
    @property
    def terminals(self) -> NDArray[np.bool_]: ...
    @property
    def episodes(self) -> NDArray[np.int64]:
        """First row and number of rows of each episode, ``[num_episodes, 2]``."""

    def episode(self, episode: int) -> dict[str, NDArray[Any]]:
        """The columns of one episode, as views."""

    @property
    def columns(self) -> dict[str, NDArray[Any]]: ...
    @property
    def metadata(self) -> dict[str, Any]: ...
    @property
    def path(self) -> str | None: ...
    @property
    def num_episodes(self) -> int: ...
    @property
    def num_transitions(self) -> int: ...
    @property
    def observation_dim(self) -> int: ...
    @property
    def action_dim(self) -> int: ...
    def sample(
        self,
        batch_size: int,
        *,
        seed: int | None = None,
        value_goals: GoalMix | None = None,
        actor_goals: GoalMix | None = None,
        discount: float = 0.99,
        negative_rewards: bool = True,
        n_step: int = 1,
        clusters: int = 40,
    ) -> TransitionBatch:
        """Transitions with goals chosen in hindsight, as new arrays.

        With ``n_step`` above 1, ``rewards`` are discounted sums of up to as many steps, ``later_observations`` are those that
        they lead to, and ``masks`` are γ to the power of one less than their number.

        A share ``stitched`` of the trajectory goals of a mixture is taken from any episode that passes a state like one
        ahead, out of ``clusters`` clusters of states.

        A ``seed`` fixes the batch. Without one, the batches of a dataset are a fixed sequence.
        """

    def __len__(self) -> int: ...
    def __repr__(self) -> str: ...
    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]: ...

class Policy:
    """A trained policy, which acts towards goals for one or many episodes in parallel.

    The first action after loading or :meth:`reset` decides how many. Some policies remember what they saw: each
    row is one episode, and needs :meth:`reset` or :meth:`reset_rows` where the next one begins.
    """

    @property
    def path(self) -> str: ...
    @property
    def id(self) -> str: ...
    @property
    def env(self) -> str: ...
    @property
    def step(self) -> int: ...
    @property
    def observation_dim(self) -> int: ...
    @property
    def action_dim(self) -> int: ...
    def reset(self, *, seed: int | None = None) -> None:
        """Forgets everything. ``seed`` fixes all draws from here on; it is 0 after loading."""

    def reset_rows(self, mask: ArrayLike) -> None:
        """Begins a new episode in the rows where ``mask`` ``[rows]`` is true.

        What they saw is forgotten; their streams of random numbers go on, so that they act as in a new :meth:`reset` only with the same ``seed`` of :meth:`act`.
        """

    def act(self, observation: ArrayLike, goal: ArrayLike, *, seed: int | None = None) -> NDArray[np.float32]:
        """The action towards a goal observation.

        One observation ``[observation_dim]`` gives one action ``[action_dim]``; many ``[rows, observation_dim]`` give
        ``[rows, action_dim]``, with one goal for all or one for each. A ``seed`` fixes the draws of this call alone.
        """

    def values(self, observation: ArrayLike, goal: ArrayLike) -> NDArray[np.float32] | None:
        """The value of each observation with each goal, ``[rows]``; ``None`` for a policy without a value function."""

    def latents(self, observation: ArrayLike) -> NDArray[np.float32] | None:
        """The embedding of each observation, ``[rows, width]``; ``None`` for a policy without one."""

    def prompt_reward(self, observations: ArrayLike, rewards: ArrayLike) -> float:
        """Makes it the task to be where labelled observations have high rewards, whatever the goals.

        Returns R², the share of the variance of these rewards that the policy's features can express.
        ``configure(prompt={"kind": "goal"})`` asks for goals again. An :class:`InputError` for a policy that takes goals only.
        """

    @property
    def settings(self) -> dict[str, Any]: ...
    def configure(self, **settings: Any) -> None:
        """Changes inference settings: ``configure(sampler={"steps": 3})`` or ``configure(**{"sampler.steps": 3})``."""

    def __repr__(self) -> str: ...
    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]: ...
