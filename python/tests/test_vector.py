"""Many environments: the same episodes as Gymnasium's own vector environment, without copies and without the GIL."""

import copy
import gc
import threading
import time
from typing import Any

import gymnasium
import numpy as np
import pytest
from conftest import SMALL, assert_same, in_a_fork
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import telic

MODES = list(AutoresetMode)
SMALL_ID = telic.describe(SMALL)["gymnasium_id"]
LIMIT = telic.describe(SMALL)["max_episode_steps"]


def pair(env_id: str, num_envs: int, mode: AutoresetMode, **kwargs: object) -> tuple[SyncVectorEnv, telic.TelicVectorEnv]:
    sync = SyncVectorEnv([lambda: telic.TelicEnv(env_id, **kwargs)] * num_envs, autoreset_mode=mode)
    return sync, telic.TelicVectorEnv(env_id, num_envs=num_envs, autoreset_mode=mode, **kwargs)


def assert_same_step(sync: tuple, ours: tuple) -> None:
    for name, left, right in zip(("observation", "reward", "terminated", "truncated", "info"), sync, ours, strict=True):
        if name == "reward":
            assert right.dtype == np.float32
            right = right.astype(np.float64)
        assert_same(left, right, place=name)


def reset_ended(
    sync: gymnasium.vector.VectorEnv, ours: telic.TelicVectorEnv, mode: AutoresetMode, ended: np.ndarray
) -> None:
    """Starts the episodes again that are over, where nothing else does."""
    if mode is AutoresetMode.DISABLED and ended.any():
        left = sync.reset(options={"reset_mask": ended.copy()})
        right = ours.reset(options={"reset_mask": ended})
        assert_same(dict(enumerate(left)), dict(enumerate(right)))


@pytest.mark.parametrize("mode", MODES)
def test_same_episodes_as_gymnasium(env_id: str, mode: AutoresetMode) -> None:
    sync, ours = pair(env_id, 3, mode)
    assert sync.observation_space == ours.observation_space
    assert sync.action_space == ours.action_space
    assert sync.metadata == ours.metadata
    assert_same(dict(enumerate(sync.reset(seed=11))), dict(enumerate(ours.reset(seed=11))))
    ours.action_space.seed(0)
    for _ in range(15):
        actions = ours.action_space.sample()
        left, right = sync.step(actions), ours.step(actions)
        assert_same_step(left, right)
        reset_ended(sync, ours, mode, right[2] | right[3])


@pytest.mark.parametrize("flat", [False, True], ids=["dict", "flat"])
@pytest.mark.parametrize("mode", MODES)
def test_same_ends_of_episodes_as_gymnasium(mode: AutoresetMode, flat: bool) -> None:
    sync, ours = pair(SMALL, 3, mode, flat=flat)
    sync.reset(seed=[3, 1, 2])
    ours.reset(seed=[3, 1, 2])
    ours.action_space.seed(0)
    ends = 0
    for step in range(LIMIT + 30):
        if step == 10:
            # The second environment starts again, so that episodes end at different times.
            mask = np.array([False, True, False])
            left = sync.reset(options={"reset_mask": mask})
            right = ours.reset(options={"reset_mask": mask})
            assert_same(dict(enumerate(left)), dict(enumerate(right)))
        actions = ours.action_space.sample()
        left, right = sync.step(actions), ours.step(actions)
        assert_same_step(left, right)
        ended = right[2] | right[3]
        ends += ended.sum()
        reset_ended(sync, ours, mode, ended)
    assert ends >= 3


def test_same_step_returns_what_the_episode_ended_with() -> None:
    envs = telic.TelicVectorEnv(SMALL, num_envs=2, autoreset_mode=AutoresetMode.SAME_STEP, task="collection")
    envs.reset(seed=0)
    actions = np.zeros(envs.action_space.shape, dtype=np.float32)
    for _ in range(LIMIT - 1):
        *_, infos = envs.step(actions)
        assert "final_obs" not in infos
    observation, _, _, truncated, infos = envs.step(actions)
    assert truncated.all()
    assert infos["_final_obs"].all()
    for row in range(2):
        final = infos["final_obs"][row]
        assert final in envs.single_observation_space
        assert not np.array_equal(final["observation"], observation["observation"][row])
        np.testing.assert_array_equal(
            final["desired_goal"], infos["final_info"]["goal"][row][envs.description["goal"]["indices"]]
        )


def test_disabled_refuses_to_step_past_the_end() -> None:
    envs = telic.TelicVectorEnv(SMALL, num_envs=1, autoreset_mode="Disabled", task="collection")
    envs.reset(seed=0)
    actions = np.zeros(envs.action_space.shape, dtype=np.float32)
    for _ in range(LIMIT):
        envs.step(actions)
    with pytest.raises(telic.NotResetError, match="row 0 has ended"):
        envs.step(actions)
    envs.reset()
    envs.step(actions)


def test_number_of_threads_changes_nothing() -> None:
    alone = telic.TelicVectorEnv(SMALL, num_envs=7, threads=1)
    many = telic.TelicVectorEnv(SMALL, num_envs=7, threads=4)
    assert_same(alone.reset(seed=1)[0], many.reset(seed=1)[0])
    alone.action_space.seed(0)
    for _ in range(20):
        actions = alone.action_space.sample()
        left, right = alone.step(actions), many.step(actions)
        assert_same(dict(enumerate(left)), dict(enumerate(right)))


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_process_steps_the_same() -> None:
    """`fork` copies none of the threads that step."""
    envs = telic.TelicVectorEnv(SMALL, num_envs=7, threads=2)
    envs.reset(seed=1)
    actions = np.full(envs.action_space.shape, 0.5, dtype=np.float32)
    envs.step(actions)
    found = in_a_fork(lambda: envs.step(actions))
    assert_same(*(dict(enumerate(side)) for side in (found, envs.step(actions))))


def test_make_vec_gives_the_native_environment(gymnasium_id: str) -> None:
    envs = gymnasium.make_vec(gymnasium_id, num_envs=2, flat=True, autoreset_mode="SameStep")
    assert isinstance(envs, telic.TelicVectorEnv)
    assert envs.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    explicit = gymnasium.make_vec(gymnasium_id, num_envs=2, vectorization_mode="vector_entry_point")
    assert isinstance(explicit, telic.TelicVectorEnv)
    assert envs.spec is not None and envs.spec.id == gymnasium_id
    envs.close()
    envs.close()
    assert isinstance(gymnasium.make_vec(gymnasium_id, num_envs=1, vectorization_mode="sync"), SyncVectorEnv)


def test_gymnasium_wrappers_work_on_it() -> None:
    envs = gymnasium.make_vec(SMALL_ID, num_envs=3, autoreset_mode="NextStep", task="collection")
    envs = gymnasium.wrappers.vector.RecordEpisodeStatistics(envs)
    envs.reset(seed=0)
    actions = np.zeros(envs.action_space.shape, dtype=np.float32)
    for _ in range(LIMIT):
        *_, infos = envs.step(actions)
    assert (infos["episode"]["l"] == LIMIT).all()


def test_arrays_are_views_on_two_sets_of_buffers() -> None:
    envs = telic.TelicVectorEnv(SMALL, num_envs=4)
    actions = envs.action_space.sample()
    envs.reset(seed=0)
    steps = [envs.step(actions) for _ in range(4)]
    for key in ("observation", "achieved_goal", "desired_goal"):
        arrays = [step[0][key] for step in steps]
        assert not arrays[0].flags.owndata
        assert np.shares_memory(arrays[0], arrays[2])
        assert np.shares_memory(arrays[1], arrays[3])
        assert not np.shares_memory(arrays[2], arrays[3])
    assert np.shares_memory(steps[0][1], steps[2][1])
    assert np.shares_memory(steps[0][4]["goal"], steps[2][4]["goal"])
    assert not np.shares_memory(steps[0][2], steps[2][2])


def test_a_batch_stays_as_it_is_during_the_next_step() -> None:
    envs = telic.TelicVectorEnv(SMALL, num_envs=4)
    envs.action_space.seed(0)
    observation, _ = envs.reset(seed=0)
    for _ in range(10):
        kept = copy.deepcopy(observation)
        next_observation, *_ = envs.step(envs.action_space.sample())
        assert_same(observation, kept)
        assert not np.array_equal(observation["observation"], next_observation["observation"])
        observation = next_observation


def test_a_batch_stays_as_it_is_during_a_reset() -> None:
    envs = telic.TelicVectorEnv(SMALL, num_envs=4, autoreset_mode="Disabled")
    envs.reset(seed=0)
    step = envs.step(envs.action_space.sample())
    kept = copy.deepcopy(step)
    mask = np.array([True, False, True, False])
    observation, infos = envs.reset(options={"reset_mask": mask})
    assert_same(dict(enumerate(step)), dict(enumerate(kept)))
    np.testing.assert_array_equal(observation["observation"][~mask], kept[0]["observation"][~mask])
    assert not np.array_equal(observation["observation"][mask], kept[0]["observation"][mask])
    # What the reset returned survives the next step.
    shown = copy.deepcopy(observation)
    envs.step(envs.action_space.sample())
    assert_same(observation, shown)


def test_a_refused_reset_changes_nothing() -> None:
    envs = telic.TelicVectorEnv(SMALL, num_envs=2)
    observation, _ = envs.reset(seed=0)
    kept, drawn = copy.deepcopy(observation), copy.deepcopy(envs.np_random.bit_generator.state)
    with pytest.raises(telic.InputError, match="there is no task 99"):
        envs.reset(seed=[5, None], options={"task": [0, 99]})
    assert_same(observation, kept)
    assert envs.np_random.bit_generator.state == drawn
    stepped, *_ = envs.step(np.zeros(envs.action_space.shape))
    other = telic.TelicVectorEnv(SMALL, num_envs=2)
    other.reset(seed=0)
    expected, *_ = other.step(np.zeros(envs.action_space.shape))
    assert_same(stepped, expected)


@pytest.mark.parametrize(
    "wrong",
    [
        {"seed": 1.5},
        {"seed": "one"},
        {"options": {"goal": ["a", "b"]}},
        {"options": {"goal": [[1.0], [1.0, 2.0]]}},
        {"options": {"task": [[0], [1, 2]]}},
        {"options": {"task_id": [[1], [1, 2]]}},
        {"options": {"task": 99}},
    ],
    ids=str,
)
def test_arguments_of_the_wrong_type_are_named(wrong: dict[str, Any]) -> None:
    envs = telic.TelicVectorEnv(SMALL, num_envs=2)
    drawn = copy.deepcopy(envs.np_random.bit_generator.state)
    with pytest.raises(telic.InputError):
        envs.reset(**wrong)
    assert envs.np_random.bit_generator.state == drawn


@pytest.mark.parametrize("wrong", [{"num_envs": 1.5}, {"num_envs": "2"}, {"num_envs": 2, "threads": 1.5}], ids=str)
def test_numbers_of_environments_are_whole(wrong: dict[str, Any]) -> None:
    with pytest.raises(telic.InputError, match="a whole number of at least 1"):
        telic.TelicVectorEnv(SMALL, **wrong)


def test_copies_are_never_overwritten() -> None:
    envs = telic.TelicVectorEnv(SMALL, num_envs=4, copy=True)
    envs.reset(seed=0)
    step = envs.step(envs.action_space.sample())
    kept = copy.deepcopy(step)
    for _ in range(3):
        envs.step(envs.action_space.sample())
    assert_same(dict(enumerate(step)), dict(enumerate(kept)))


def test_arrays_outlive_the_environment() -> None:
    envs = telic.TelicVectorEnv(SMALL, num_envs=4)
    observation, _ = envs.reset(seed=0)
    kept = observation["observation"].copy()
    envs.close()
    del envs
    gc.collect()
    np.testing.assert_array_equal(observation["observation"], kept)


def test_other_threads_run_during_a_step() -> None:
    envs = telic.TelicVectorEnv(SMALL, num_envs=500, threads=1)
    envs.reset(seed=0)
    actions = envs.action_space.sample()
    count = 0
    stop = False

    def work() -> None:
        nonlocal count
        while not stop:
            count += 1
            time.sleep(0)

    thread = threading.Thread(target=work)
    thread.start()
    progressed = 0
    for _ in range(20):
        before = count
        envs._native.step(actions)
        progressed += count > before
    stop = True
    thread.join()
    assert progressed >= 15


def test_two_threads_may_not_step_one_object() -> None:
    envs = telic.TelicVectorEnv(SMALL, num_envs=500, threads=1)
    envs.reset(seed=0)
    actions = envs.action_space.sample()
    errors: list[Exception] = []

    def work() -> None:
        for _ in range(20):
            try:
                envs._native.step(actions)
            except RuntimeError as error:
                errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors and all("borrowed" in str(error) for error in errors)
    envs.step(actions)


def test_options_hold_for_automatic_resets() -> None:
    envs = telic.TelicVectorEnv(SMALL, num_envs=3, autoreset_mode="SameStep")
    tasks = [2, 0, 1]
    _, infos = envs.reset(seed=0, options={"task": tasks})
    np.testing.assert_array_equal(infos["task"], tasks)
    actions = np.zeros(envs.action_space.shape, dtype=np.float32)
    for _ in range(LIMIT):
        *_, infos = envs.step(actions)
    assert "final_obs" in infos
    np.testing.assert_array_equal(infos["task"], tasks)
    _, infos = envs.reset(options={"task_id": [1, 1, 2]})
    np.testing.assert_array_equal(infos["task"], [0, 0, 1])
    _, infos = envs.reset(options={"task": envs.description["tasks"][1]})
    np.testing.assert_array_equal(infos["task"], [1, 1, 1])


def test_goals_per_environment() -> None:
    envs = telic.TelicVectorEnv(SMALL, num_envs=2)
    goals = np.stack([telic.TelicEnv(SMALL).reset(seed=seed)[1]["goal"] for seed in (1, 2)])
    _, infos = envs.reset(seed=0, options={"goal": goals})
    np.testing.assert_array_equal(infos["goal"], goals)
    _, infos = envs.reset(seed=0, options={"goal": goals[1]})
    np.testing.assert_array_equal(infos["goal"], goals[[1, 1]])


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"num_envs": 0}, "`num_envs` is 0"),
        ({"threads": 0}, "`threads` is 0"),
        ({"autoreset_mode": "Never"}, "NextStep, SameStep, Disabled"),
    ],
)
def test_bad_settings_are_refused(kwargs: dict[str, object], message: str) -> None:
    with pytest.raises(telic.InputError, match=message):
        telic.TelicVectorEnv(SMALL, **kwargs)


def test_bad_input_changes_nothing() -> None:
    envs = telic.TelicVectorEnv(SMALL, num_envs=2)
    shape = envs.action_space.shape
    with pytest.raises(telic.NotResetError):
        envs.step(np.zeros(shape))
    observation, _ = envs.reset(seed=0)
    kept = copy.deepcopy(observation)
    for actions in (np.zeros(shape[1]), np.zeros((3, shape[1])), np.full(shape, np.nan)):
        with pytest.raises(telic.InputError):
            envs.step(actions)
    assert_same(observation, kept)
    for seed in ([1], [1, -1], -3, 2**64 - 1):
        with pytest.raises(telic.InputError, match="`seed`"):
            envs.reset(seed=seed)
    for mask in ([True, False], np.array([1, 0]), np.array([False, False]), np.array([True])):
        with pytest.raises(telic.InputError, match="`reset_mask`"):
            envs.reset(options={"reset_mask": mask})
    with pytest.raises(telic.InputError, match="`task` has 3 entries, expected 2"):
        envs.reset(options={"task": [0, 1, 1]})
    with pytest.raises(telic.InputError, match="`goal` has shape"):
        envs.reset(options={"goal": np.zeros((2, 1000))})


@pytest.mark.parametrize("name", ["telic/CubeSingle-v0", "telic/PointMazeMedium-v2", "telic/BlockPush-v0"])
def test_a_first_reset_that_is_refused_is_no_panic(name: str) -> None:
    envs = gymnasium.make_vec(name, num_envs=2)
    width = len(telic.describe(name)["observation"])
    with pytest.raises(telic.InputError):
        envs.reset(options={"goal": np.full(width, np.nan, dtype=np.float32)})
    envs.reset(seed=0)
