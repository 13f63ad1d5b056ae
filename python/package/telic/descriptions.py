"""The shape of what describes an environment."""

from typing import TypedDict


class EntryDescription(TypedDict):
    """One number of an observation: name, SI unit and bounds."""

    name: str
    unit: str
    low: float
    high: float


class ActionDescription(TypedDict):
    """One number of an action: name, and the physical value of an action of 1."""

    name: str
    unit: str
    scale: float


class GoalDescription(TypedDict):
    """How a goal is read off an observation, and when it is reached.

    The achieved goal are the observation entries at ``indices``, split into points of ``point_dim`` entries. It is reached
    when every point is within ``tolerance`` metres, where one unit of an entry is ``metres_per_unit`` long.
    """

    indices: list[int]
    tolerance: float
    point_dim: int
    metres_per_unit: float


class EnvDescription(TypedDict):
    """What an environment is."""

    id: str
    gymnasium_id: str
    family: str
    version: int
    summary: str
    observation_dim: int
    action_dim: int
    goal_dim: int
    control_hz: float
    max_episode_steps: int
    tasks: list[str]
    demonstrators: list[str]
    rewards: list[str]
    observation: list[EntryDescription]
    action: list[ActionDescription]
    goal: GoalDescription
