"""What environments there are, and their ids in Gymnasium's registry."""

from functools import cache

import gymnasium

from telic import _telic
from telic.descriptions import EnvDescription
from telic.errors import InputError


@cache
def _descriptions() -> dict[str, EnvDescription]:
    return {description["id"]: description for description in _telic.env_specs()}


def envs() -> list[EnvDescription]:
    """Every environment, in the order of the documentation, with the keys of ``telic envs --json`` and more."""
    return _telic.env_specs()


def describe(env: str) -> EnvDescription:
    """What the environment ``env`` is, for example ``"cube-single"``: a name and a unit for every number in it.

    Gymnasium's id, ``"telic/CubeSingle-v0"``, is understood as well.
    """
    descriptions = _descriptions()
    for description in descriptions.values():
        if env in (description["id"], description["gymnasium_id"]):
            return description
    raise InputError(f"unknown environment `{env}`; known: {', '.join(descriptions)}")


def register_envs() -> None:
    """Registers every environment with Gymnasium; importing :mod:`telic` has done so."""
    for description in _descriptions().values():
        if description["gymnasium_id"] in gymnasium.registry:
            continue
        gymnasium.register(
            id=description["gymnasium_id"],
            entry_point="telic.env:TelicEnv",
            vector_entry_point="telic.vector_env:TelicVectorEnv",
            kwargs={"env": description["id"]},
            # An environment ends its own episodes and refuses a step before the first reset, and the tests of this
            # package run Gymnasium's checker on each: wrappers that do so again would only cost time.
            order_enforce=False,
            disable_env_checker=True,
        )
