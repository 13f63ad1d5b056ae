"""What the tests have in common."""

import multiprocessing
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import telic

ENVS = [description["id"] for description in telic.envs()]
GYMNASIUM_IDS = [description["gymnasium_id"] for description in telic.envs()]
# An environment with cheap episodes and several tasks, for tests that need many of them.
SMALL = min(
    (env for env in telic.envs() if len(env["tasks"]) >= 3),
    key=lambda env: (env["observation_dim"], env["max_episode_steps"]),
)["id"]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "env_id" in metafunc.fixturenames:
        metafunc.parametrize("env_id", ENVS)
    if "gymnasium_id" in metafunc.fixturenames:
        metafunc.parametrize("gymnasium_id", GYMNASIUM_IDS)


@pytest.fixture(scope="session")
def play_data(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A file with three short episodes of play."""
    path = tmp_path_factory.mktemp("data") / "play.npz"
    telic.collect(SMALL, episodes=3, seed=5).save(path)
    return path


def assert_same(left: Any, right: Any, *, place: str = "") -> None:
    """Equality to the bit, of nested dictionaries of arrays."""
    if isinstance(left, dict):
        assert left.keys() == right.keys(), place
        for key in left:
            assert_same(left[key], right[key], place=f"{place}[{key!r}]")
    elif isinstance(left, np.ndarray) and left.dtype == object:
        for row, (a, b) in enumerate(zip(left, right, strict=True)):
            assert (a is None) == (b is None), f"{place}[{row}]"
            if a is not None:
                assert_same(a, b, place=f"{place}[{row}]")
    elif isinstance(left, np.ndarray):
        np.testing.assert_array_equal(left, right, err_msg=place, strict=True)
    else:
        assert left == right, place


def in_a_fork(work: Callable[[], Any], *, seconds: float = 60) -> Any:
    """What `work` returns in a copy of this process, which has to be done in time."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=lambda: sender.send(work()))
    child.start()
    try:
        assert receiver.poll(seconds), f"the copy is not done after {seconds:.0f} seconds"
        return receiver.recv()
    finally:
        child.kill()
        child.join()
