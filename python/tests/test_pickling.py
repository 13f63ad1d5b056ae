"""What a worker process needs can be sent to it."""

import copy
import pickle

import gymnasium
import numpy as np
import pytest
from conftest import GYMNASIUM_IDS, SMALL, assert_same
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv

import telic

# Loading data from a pickle is what is tested here; nothing is loaded that the test did not make.


def test_an_environment_continues_elsewhere(env_id: str) -> None:
    env = telic.TelicEnv(env_id, flat=True, with_state=True)
    env.action_space.seed(0)
    env.reset(seed=5)
    for _ in range(5):
        env.step(env.action_space.sample())
    received = pickle.loads(pickle.dumps(env))
    assert received.flat
    for _ in range(5):
        # The spaces carry their generators along.
        action = env.action_space.sample()
        np.testing.assert_array_equal(received.action_space.sample(), action)
        assert_same(dict(enumerate(env.step(action))), dict(enumerate(received.step(action))))
    assert_same(dict(enumerate(env.reset())), dict(enumerate(received.reset())))
    assert env.np_random.bit_generator.state == received.np_random.bit_generator.state


def test_an_environment_without_an_episode_can_be_sent() -> None:
    received = pickle.loads(pickle.dumps(telic.TelicEnv(SMALL, task=1)))
    assert received.reset(seed=0)[1]["task"] == 1
    with pytest.raises(telic.NotResetError):
        copy.deepcopy(telic.TelicEnv(SMALL)).step(np.zeros(received.action_space.shape))


def test_spec_survives() -> None:
    env = gymnasium.make(GYMNASIUM_IDS[0], flat=True)
    assert pickle.loads(pickle.dumps(env)).spec == env.spec
    assert env.spec is not None
    assert env.spec.make().unwrapped.flat


# Python 3.12 and later warn where a process with threads forks; a fork server has none.
@pytest.mark.parametrize("context", ["spawn", "forkserver"])
def test_gymnasium_runs_it_in_processes(context: str) -> None:
    def make() -> gymnasium.Env:
        return telic.TelicEnv(SMALL)

    sync = SyncVectorEnv([make] * 2)
    processes = AsyncVectorEnv([make] * 2, context=context)
    try:
        assert_same(sync.reset(seed=3)[0], processes.reset(seed=3)[0])
        sync.action_space.seed(0)
        for _ in range(10):
            actions = sync.action_space.sample()
            left, right = sync.step(actions), processes.step(actions)
            assert_same(dict(enumerate(left)), dict(enumerate(right)))
    finally:
        processes.close()


def test_errors_can_be_sent() -> None:
    with pytest.raises(telic.InputError) as caught:
        telic.describe("moon")
    received = pickle.loads(pickle.dumps(caught.value))
    assert type(received) is telic.InputError
    assert str(received) == str(caught.value)
