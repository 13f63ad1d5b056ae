"""One environment, in Gymnasium's interface."""

import copy
import subprocess
import sys

import gymnasium
import numpy as np
import pytest
from conftest import ENVS, GYMNASIUM_IDS, SMALL, assert_same
from gymnasium.utils.env_checker import check_env

import telic


def test_gymnasium_ids_come_from_the_registry() -> None:
    assert len(ENVS) == len(set(GYMNASIUM_IDS)) > 0
    for description in telic.envs():
        words = description["id"].split("-")
        name = "".join(word[0].upper() + word[1:] for word in words)
        assert description["gymnasium_id"] == f"telic/{name}-v{description['version']}"
        assert description["gymnasium_id"] in gymnasium.registry


def test_gymnasium_imports_the_package_from_the_id() -> None:
    code = f"import gymnasium; print(gymnasium.make('telic:{GYMNASIUM_IDS[0]}').unwrapped.description['id'])"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert output.stdout.strip() == ENVS[0]


@pytest.mark.parametrize("flat", [False, True], ids=["dict", "flat"])
def test_gymnasium_checker_has_nothing_to_say(gymnasium_id: str, flat: bool) -> None:
    # Warnings are errors in this test suite.
    check_env(gymnasium.make(gymnasium_id, flat=flat).unwrapped)


def test_observations_stay_in_their_space(env_id: str) -> None:
    env = telic.TelicEnv(env_id)
    env.action_space.seed(0)
    for seed in range(3):
        observation, _ = env.reset(seed=seed)
        assert observation in env.observation_space
        for _ in range(60):
            observation, _, terminated, truncated, info = env.step(env.action_space.sample())
            for key, space in env.observation_space.spaces.items():
                values = observation[key]
                outside = np.flatnonzero((values < space.low) | (values > space.high))
                assert observation[key] in space, [
                    (index, values[index], space.low[index], space.high[index]) for index in outside
                ]
            assert info["goal"] in env.observation_space["observation"]
            if terminated or truncated:
                break


def test_goals_are_read_off_observations(env_id: str) -> None:
    env = telic.TelicEnv(env_id)
    indices = env.description["goal"]["indices"]
    for seed in range(3):
        observation, info = env.reset(seed=seed)
        np.testing.assert_array_equal(observation["achieved_goal"], observation["observation"][indices])
        np.testing.assert_array_equal(observation["desired_goal"], info["goal"][indices])
        assert not info["success"]


def test_compute_reward_agrees_with_step(env_id: str) -> None:
    env = telic.TelicEnv(env_id)
    env.action_space.seed(1)
    achieved, desired, rewards = [], [], []
    env.reset(seed=0)
    for _ in range(40):
        observation, reward, terminated, truncated, info = env.step(env.action_space.sample())
        assert type(reward) is float
        assert reward == env.compute_reward(observation["achieved_goal"], observation["desired_goal"], info)
        achieved.append(observation["achieved_goal"])
        desired.append(observation["desired_goal"])
        rewards.append(reward)
        if terminated or truncated:
            env.reset()
    goal_dim = env.description["goal_dim"]
    batch = env.compute_reward(np.reshape(achieved, (4, 10, goal_dim)), np.reshape(desired, (4, 10, goal_dim)), None)
    np.testing.assert_array_equal(batch, np.reshape(rewards, (4, 10)))
    # A goal that is reached, against each row of a batch.
    hindsight = env.compute_reward(np.array(achieved), achieved[7])
    assert hindsight.shape == (40,)
    assert hindsight[7] == 0
    assert env.compute_terminated(np.array(achieved), achieved[7])[7]
    assert not env.compute_truncated(np.array(achieved), achieved[7]).any()
    assert env.compute_terminated(achieved[7], achieved[7]) is True


def test_a_goal_can_be_set(env_id: str) -> None:
    env = telic.TelicEnv(env_id)
    _, info = env.reset(seed=3)
    other = telic.TelicEnv(env_id)
    observation, other_info = other.reset(seed=8, options={"goal": info["goal"]})
    np.testing.assert_array_equal(other_info["goal"], info["goal"])
    np.testing.assert_array_equal(observation["desired_goal"], info["goal"][env.description["goal"]["indices"]])
    others = (other.reset(seed=seed)[1]["goal"] for seed in range(9, 40))
    assert any(not np.array_equal(goal, info["goal"]) for goal in others)
    other.goal = info["goal"]
    np.testing.assert_array_equal(other.goal, info["goal"])


def test_every_task_can_be_asked_for(env_id: str) -> None:
    env = telic.TelicEnv(env_id)
    for number, name in enumerate(env.description["tasks"]):
        episodes = [
            env.reset(seed=4, options=options)
            for options in ({"task": number}, {"task": name}, {"task_id": number + 1})
        ]
        for observation, info in episodes:
            assert info["task"] == number
            assert_same(observation, episodes[0][0])
        assert telic.TelicEnv(env_id, task=name).reset(seed=4)[1]["task"] == number


def test_collection_start_has_no_task(env_id: str) -> None:
    env = telic.TelicEnv(env_id)
    _, info = env.reset(seed=0, options={"start": "collection"})
    assert info["task"] == -1


def test_seeds_fix_the_sequence_of_episodes() -> None:
    def first_observations(*, seed: int) -> list[np.ndarray]:
        env = telic.TelicEnv(SMALL, flat=True)
        return [env.reset(seed=seed)[0], env.reset()[0], env.reset()[0]]

    assert_same(dict(enumerate(first_observations(seed=3))), dict(enumerate(first_observations(seed=3))))
    episodes = [*first_observations(seed=3), *first_observations(seed=4)]
    assert len({episode.tobytes() for episode in episodes}) == 6


def test_without_a_seed_episodes_come_from_np_random() -> None:
    env, other = telic.TelicEnv(SMALL, flat=True), telic.TelicEnv(SMALL, flat=True)
    env.np_random = np.random.default_rng(5)
    other.np_random = np.random.default_rng(5)
    np.testing.assert_array_equal(env.reset()[0], other.reset()[0])


def test_an_episode_ends_at_the_step_limit() -> None:
    env = telic.TelicEnv(SMALL, task="collection")
    limit = env.description["max_episode_steps"]
    env.reset(seed=0)
    action = np.zeros(env.description["action_dim"])
    for step in range(1, limit + 1):
        _, _, terminated, truncated, _ = env.step(action)
        assert not terminated
        assert truncated == (step == limit)
        assert env.elapsed_steps == step


def test_flat_and_dict_observations_are_the_same_episode(env_id: str) -> None:
    nested, flat = telic.TelicEnv(env_id), telic.TelicEnv(env_id, flat=True, with_state=True)
    observation, info = nested.reset(seed=1)
    flat_observation, flat_info = flat.reset(seed=1)
    np.testing.assert_array_equal(observation["observation"], flat_observation)
    np.testing.assert_array_equal(info["goal"], flat_info["goal"])
    np.testing.assert_array_equal(flat_info["qpos"], flat.qpos)
    np.testing.assert_array_equal(flat_info["qvel"], flat.qvel)


def test_a_state_continues_to_the_same_bits(env_id: str) -> None:
    env, other = telic.TelicEnv(env_id), telic.TelicEnv(env_id)
    env.action_space.seed(2)
    actions = [env.action_space.sample() for _ in range(12)]
    env.reset(seed=6)
    for action in actions[:6]:
        env.step(action)
    state = env.get_state()
    other.set_state(state)
    copied = copy.deepcopy(env)
    for action in actions[6:]:
        expected = env.step(action)
        for same in (other, copied):
            assert_same(dict(enumerate(same.step(action))), dict(enumerate(expected)))
    # The states of one object are independent of each other.
    observation, _ = env.set_state(state)
    assert_same(other.set_state(state)[0], observation)


def test_values_are_copies() -> None:
    env = telic.TelicEnv(SMALL)
    observation, info = env.reset(seed=0)
    kept = copy.deepcopy((observation, info))
    env.step(env.action_space.sample())
    env.goal[:] = 0
    env.qpos[:] = 0
    assert_same(observation, kept[0])
    assert_same(info, kept[1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": 1000}, "there is no task 1000"),
        ({"task": -1}, "there is no task -1"),
        ({"task_id": 0}, "there is no task -1"),
        ({"task": "no such"}, "has no task `no such`; known: "),
        ({"task": 0, "task_id": 1}, "exclude each other"),
        ({"start": "here"}, "expected 'collection'"),
        ({"tusk": 0}, "unknown reset option `tusk`; known: task"),
        ({"goal": np.zeros(3000)}, "`goal` has shape"),
    ],
)
def test_bad_reset_options_say_what_is_expected(options: dict[str, object], message: str) -> None:
    env = telic.TelicEnv(SMALL)
    with pytest.raises(telic.InputError, match=message) as caught:
        env.reset(seed=0, options=options)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, telic.TelicError)


@pytest.mark.parametrize("seed", [-1, 2**64, 1.5, True])
def test_bad_seeds_are_refused(seed: object) -> None:
    with pytest.raises(telic.InputError, match="`seed` is"):
        telic.TelicEnv(SMALL).reset(seed=seed)  # type: ignore[arg-type]


def test_bad_actions_change_nothing() -> None:
    env = telic.TelicEnv(SMALL)
    dim = env.description["action_dim"]
    with pytest.raises(telic.NotResetError) as caught:
        env.step(np.zeros(dim))
    assert isinstance(caught.value, gymnasium.error.ResetNeeded)
    env.reset(seed=0)
    state = env.get_state()
    for action in (np.zeros(dim + 1), np.zeros((1, dim)), np.full(dim, np.nan), np.full(dim, np.inf)):
        with pytest.raises(telic.InputError):
            env.step(action)
    assert env.get_state() == state


def test_states_of_others_are_refused() -> None:
    env = telic.TelicEnv(SMALL)
    env.reset(seed=0)
    state = env.get_state()
    for damaged in (b"", state[: len(state) // 2], b"\xff" * len(state)):
        with pytest.raises(telic.InputError):
            env.set_state(damaged)


def test_unknown_environments_are_named() -> None:
    with pytest.raises(telic.InputError, match=f"unknown environment `moon`; known: .*{ENVS[0]}"):
        telic.TelicEnv("moon")
    with pytest.raises(telic.InputError, match="unknown environment"):
        telic.collect("moon", episodes=1)


def test_rendering_is_refused() -> None:
    with pytest.raises(telic.InputError, match="render_mode"):
        telic.TelicEnv(SMALL, render_mode="human")  # type: ignore[arg-type]


def test_arguments_after_the_first_have_names() -> None:
    with pytest.raises(TypeError):
        telic.TelicEnv(SMALL, True)  # type: ignore[misc]
    with pytest.raises(TypeError):
        telic.TelicVectorEnv(SMALL, 3)  # type: ignore[misc]


def test_bad_goals_are_refused_in_rewards() -> None:
    env = telic.TelicEnv(SMALL)
    dim = env.description["goal_dim"]
    with pytest.raises(telic.InputError, match="expected"):
        env.compute_reward(np.zeros(dim + 1), np.zeros(dim + 1))
    with pytest.raises(telic.InputError, match="`desired_goal`"):
        env.compute_reward(np.zeros((2, dim)), np.zeros((3, dim)))
    assert env.compute_reward(np.zeros((0, dim)), np.zeros((0, dim))).shape == (0,)


def test_named_rewards_and_physics_can_be_read_and_written() -> None:
    env = telic.TelicEnv("walker", flat=True, task="collection")
    assert env.description["rewards"] == ["stand", "walk", "run", "flip"]
    env.reset(seed=3)
    seen = [(env.qpos, env.qvel, env.rewards)]
    for _ in range(20):
        observation = env.step(np.full(6, 0.5))[0]
        seen.append((env.qpos, env.qvel, env.rewards))
    assert all(list(rewards) == env.description["rewards"] for _, _, rewards in seen)
    assert all(0 <= value <= 1 for _, _, rewards in seen for value in rewards.values())
    assert seen[0][2] != seen[-1][2]
    for qpos, qvel, rewards in seen:
        env.set_physics(qpos, qvel)
        np.testing.assert_allclose(list(env.rewards.values()), list(rewards.values()), atol=1e-4)
    np.testing.assert_allclose(env.set_physics(*seen[-1][:2])[0], observation, atol=1e-4)
    with pytest.raises(telic.InputError, match="qpos"):
        env.set_physics(seen[0][0][:-1], seen[0][1])
    assert telic.describe("block-push")["rewards"] == []
    blocks = telic.TelicEnv("block-push")
    blocks.reset(seed=0)
    assert blocks.rewards == {}
    with pytest.raises(telic.InputError, match="snapshot"):
        blocks.set_physics(blocks.qpos, blocks.qvel)
