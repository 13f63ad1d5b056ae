"""Goal-conditioned robotics: environments, play data and policies of Telic.

Importing this package registers every environment with Gymnasium, so that
``gymnasium.make("telic/CubeSingle-v0")`` and ``gymnasium.make_vec`` work.

- :func:`envs` lists the environments, :func:`describe` tells what every number of one means.
- :class:`TelicEnv` is one environment, :class:`TelicVectorEnv` many on a fixed number of threads.
- :func:`collect` makes play data with a scripted expert; :func:`load_dataset` opens it as NumPy columns, with goals
  chosen in hindsight.
- :func:`policies` lists the algorithms, :func:`train` trains one, :func:`load_policy` opens what it learned.
- :func:`evaluate` measures how often a policy reaches its goals, :func:`record` writes its episodes for the rerun viewer.
"""

from telic._telic import (
    Dataset,
    Demonstrator,
    Policy,
    __version__,
    evaluate,
    load_dataset,
    load_policy,
    policies,
    record,
    rollout_checksum,
    train,
)
from telic.collection import collect
from telic.env import TelicEnv
from telic.descriptions import EnvDescription
from telic.errors import InputError, MissingFileError, NotResetError, TelicError
from telic.registration import describe, envs, register_envs
from telic.vector_env import TelicVectorEnv

__all__ = [
    "Dataset",
    "Demonstrator",
    "EnvDescription",
    "InputError",
    "MissingFileError",
    "NotResetError",
    "Policy",
    "TelicEnv",
    "TelicError",
    "TelicVectorEnv",
    "__version__",
    "collect",
    "describe",
    "envs",
    "evaluate",
    "load_dataset",
    "load_policy",
    "policies",
    "record",
    "register_envs",
    "rollout_checksum",
    "train",
]

register_envs()


def _configured_policy(path: str, device: str, settings: dict[str, object]) -> Policy:
    """Unpickles a policy."""
    policy = load_policy(path, device=device)
    policy.configure(**settings)
    return policy
