"""Policies: trained from Python, loaded, and acting."""

import pathlib
import pickle
from typing import Any

import numpy as np
import pytest
from conftest import SMALL, assert_same, in_a_fork

import telic

POLICIES = [policy["id"] for policy in telic.policies()]


def config(policy: str, data: pathlib.Path) -> dict[str, Any]:
    return {
        "dataset": str(data),
        "steps": 3,
        "batch_size": 16,
        "seed": 1,
        "train_fraction": 1.0,
        "threads": 1,
        "log_every": 1,
        "policy": {"id": policy},
    }


@pytest.fixture(scope="module", params=POLICIES)
def run(request: pytest.FixtureRequest, play_data: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A run of three updates."""
    out = tmp_path_factory.mktemp("runs") / request.param
    logged = []
    step, finished = telic.train(
        config(request.param, play_data), out=out, on_log=lambda step, metrics: logged.append((step, metrics))
    )
    assert (step, finished) == (3, True)
    assert [step for step, _ in logged] == [1, 2, 3]
    assert all(np.isfinite(value) for _, metrics in logged for value in metrics.values())
    return out


@pytest.fixture
def inputs(play_data: pathlib.Path) -> tuple[np.ndarray, np.ndarray]:
    observations = telic.load_dataset(play_data).observations
    return observations[:4], observations[50:54]


def test_there_are_policies() -> None:
    assert POLICIES
    for policy in telic.policies():
        assert policy["summary"] and policy["paper"] and isinstance(policy["default_config"], dict)


def test_one_observation_gives_one_action(run: pathlib.Path, inputs: tuple[np.ndarray, np.ndarray]) -> None:
    policy = telic.load_policy(run)
    observations, goals = inputs
    action = policy.act(observations[0], goals[0])
    assert action.shape == (policy.action_dim,)
    assert action.dtype == np.float32
    assert (np.abs(action) <= 1).all()
    assert policy.observation_dim == observations.shape[1]
    assert policy.env == SMALL
    assert policy.step == 3
    assert policy.id in POLICIES
    # Lists and other types of numbers are as good as float32 arrays.
    policy.reset()
    np.testing.assert_array_equal(policy.act(observations[0].astype(np.float64).tolist(), goals[0]), action)


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
@pytest.mark.parametrize("copies", [1, 16], ids=["few", "many"])
def test_a_forked_process_acts_the_same(
    run: pathlib.Path, inputs: tuple[np.ndarray, np.ndarray], copies: int
) -> None:
    """`fork` copies none of the threads that a policy may have acted on; many rows are divided among them by any policy."""
    observations, goals = (np.tile(rows, (copies, 1)) for rows in inputs)
    policy = telic.load_policy(run)
    policy.act(observations, goals)

    def act() -> tuple[np.ndarray, np.ndarray | None]:
        return policy.act(observations, goals), policy.values(observations, goals)

    assert_same(*(dict(enumerate(side)) for side in (in_a_fork(act), act())))


def test_a_row_does_not_depend_on_its_neighbours(run: pathlib.Path, inputs: tuple[np.ndarray, np.ndarray]) -> None:
    observations, goals = inputs
    many, alone = telic.load_policy(run), telic.load_policy(run)
    for _ in range(3):
        actions = many.act(observations, goals)
        assert actions.shape == (4, many.action_dim)
        np.testing.assert_array_equal(actions[0], alone.act(observations[0], goals[0]))
    # One goal for all.
    many.reset()
    shared = many.act(observations, goals[1])
    many.reset()
    np.testing.assert_array_equal(shared, many.act(observations, goals[[1, 1, 1, 1]]))


def test_seeds_fix_actions(run: pathlib.Path, inputs: tuple[np.ndarray, np.ndarray]) -> None:
    observations, goals = inputs
    policy = telic.load_policy(run)

    def actions(seed: int) -> np.ndarray:
        policy.reset(seed=seed)
        return np.stack([policy.act(observations, goals) for _ in range(2)])

    first = actions(0)
    np.testing.assert_array_equal(first, actions(0))
    other = telic.load_policy(run)
    np.testing.assert_array_equal(first, np.stack([other.act(observations, goals) for _ in range(2)]))
    policy.reset()
    once = policy.act(observations, goals, seed=9)
    policy.reset()
    np.testing.assert_array_equal(once, policy.act(observations, goals, seed=9))


def test_an_episode_begins_in_the_rows_that_are_reset(run: pathlib.Path, inputs: tuple[np.ndarray, np.ndarray]) -> None:
    observations, goals = inputs
    policy, unbroken, fresh = (telic.load_policy(run) for _ in range(3))
    for earlier in (policy, unbroken):
        for _ in range(3):
            earlier.act(goals, observations)
    reset = np.array([True, False, False, True])
    policy.reset_rows(reset)
    actions, went_on, began = (each.act(observations, goals, seed=9) for each in (policy, unbroken, fresh))
    np.testing.assert_array_equal(actions[reset], began[reset])
    np.testing.assert_array_equal(actions[~reset], went_on[~reset])
    # What came before matters to one that remembers it, and to no other.
    assert (went_on != began).any(axis=1).tolist() == [policy.id == "beso"] * 4
    with pytest.raises(telic.InputError, match=r"`mask` has shape \[2\], the policy acts for \[4\] rows"):
        policy.reset_rows([True, False])


def test_wrong_shapes_say_what_is_expected(run: pathlib.Path, inputs: tuple[np.ndarray, np.ndarray]) -> None:
    observations, goals = inputs
    policy = telic.load_policy(run)
    dim = policy.observation_dim
    with pytest.raises(telic.InputError, match=rf"`observation` has shape \[{dim + 1}\], expected \[{dim}\]"):
        policy.act(np.zeros(dim + 1), goals[0])
    with pytest.raises(telic.InputError, match="`goal` has shape"):
        policy.act(observations[0], np.zeros((1, 1, dim)))
    with pytest.raises(telic.InputError, match="`goal` has 2 rows, `observation` 4"):
        policy.act(observations, goals[:2])
    policy.act(observations, goals)
    with pytest.raises(telic.InputError, match=r"acting for 4; call `reset\(\)`"):
        policy.act(observations[0], goals[0])
    with pytest.raises(ValueError):
        policy.act("here", goals[0])  # type: ignore[arg-type]


def test_settings_can_be_changed(run: pathlib.Path) -> None:
    policy = telic.load_policy(run)
    settings = policy.settings
    policy.configure()
    policy.configure(**settings)
    assert policy.settings == settings
    with pytest.raises(telic.InputError, match="no_such_setting"):
        policy.configure(no_such_setting=1)
    with pytest.raises(telic.InputError):
        policy.configure(**{"no.such": 1})
    with pytest.raises(telic.InputError, match="`settings.sampler` is None, expected a string, path, number"):
        policy.configure(sampler=None)
    assert policy.settings == settings
    sampler = settings.get("sampler", {})
    if "steps" in sampler:
        policy.configure(**{"sampler.steps": sampler["steps"] + 1})
        assert policy.settings["sampler"] == sampler | {"steps": sampler["steps"] + 1}
        received = pickle.loads(pickle.dumps(policy))
        assert received.settings == policy.settings


def test_values_have_one_number_per_row(run: pathlib.Path, inputs: tuple[np.ndarray, np.ndarray]) -> None:
    values = telic.load_policy(run).values(*inputs)
    assert values is None or (values.shape == (4,) and np.isfinite(values).all())


def test_rewards_are_prompts_where_there_is_an_embedding(
    run: pathlib.Path, inputs: tuple[np.ndarray, np.ndarray], play_data: pathlib.Path
) -> None:
    policy = telic.load_policy(run)
    observations = telic.load_dataset(play_data).observations
    latents = policy.latents(observations[:4])
    rewards = observations[:, 0] > np.median(observations[:, 0])
    if latents is None:
        with pytest.raises(telic.InputError, match="cannot be prompted with a reward"):
            policy.prompt_reward(observations, rewards)
        return
    assert latents.shape[0] == 4 and np.isfinite(latents).all()
    assert 0.0 < policy.prompt_reward(observations, rewards) < 1.0
    assert policy.settings["prompt"]["kind"] == "reward"
    state, goals = inputs[0][:1], inputs[1]
    np.testing.assert_array_equal(policy.act(state, goals[:1]), policy.act(state, goals[1:2]))
    with pytest.raises(telic.InputError, match="has shape"):
        policy.prompt_reward(observations, rewards[:3])
    with pytest.raises(telic.InputError, match="expected rewards that differ"):
        policy.prompt_reward(observations, np.zeros(len(observations)))
    huge = observations.copy()
    huge[0] = 1e38
    if policy.id == "hilp":
        with pytest.raises(telic.InputError, match="not finite"):
            policy.prompt_reward(huge, rewards)
    else:
        # Its first layer has a norm and a bound.
        policy.prompt_reward(huge, rewards)
        assert np.isfinite(policy.act(state, goals[:1])).all()
    policy.configure(prompt={"kind": "goal"})
    assert policy.settings["prompt"]["kind"] == "goal"


def test_a_policy_can_be_sent(run: pathlib.Path, inputs: tuple[np.ndarray, np.ndarray]) -> None:
    policy = telic.load_policy(run)
    received = pickle.loads(pickle.dumps(policy))
    assert received.path == policy.path
    np.testing.assert_array_equal(policy.act(*inputs), received.act(*inputs))


def test_a_checkpoint_folder_can_be_loaded(run: pathlib.Path, inputs: tuple[np.ndarray, np.ndarray]) -> None:
    newest = telic.load_policy(run)
    np.testing.assert_array_equal(newest.act(*inputs), telic.load_policy(newest.path).act(*inputs))


def test_a_run_goes_on(run: pathlib.Path, play_data: pathlib.Path) -> None:
    policy = POLICIES[0]
    out = run.parent / f"{run.name}-interrupted"
    settings = config(policy, play_data)

    def interrupt(step: int, metrics: dict[str, float]) -> None:
        if step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        telic.train(settings, out=out, on_log=interrupt)
    assert telic.load_policy(out).step == 2
    assert telic.train(settings, out=out, resume=True) == (3, True)
    uninterrupted = run.parent / f"{run.name}-uninterrupted"
    telic.train(settings, out=uninterrupted)
    inputs = telic.load_dataset(play_data).observations[:2]
    np.testing.assert_array_equal(
        telic.load_policy(out).act(inputs, inputs), telic.load_policy(uninterrupted).act(inputs, inputs)
    )


def test_a_run_is_evaluated_on_the_way(play_data: pathlib.Path, tmp_path: pathlib.Path) -> None:
    settings = config(POLICIES[0], play_data) | {"evaluate_every": 2, "evaluation_episodes": 3}
    results: list[tuple[int, dict[str, Any]]] = []
    telic.train(settings, out=tmp_path / "run", on_evaluate=lambda step, result: results.append((step, result)))
    assert [step for step, _ in results] == [2, 3]
    assert all(result["env"] == SMALL and result["episodes"] == 3 for _, result in results)
    table = (tmp_path / "run" / "metrics.csv").read_text()
    header, *rows = [line.split(",") for line in table.splitlines()]
    rates = {row[0]: row[header.index("evaluation/success_rate")] for row in rows}
    assert {step: float(rate) for step, rate in rates.items() if rate} == {
        str(step): result["success_rate"] for step, result in results
    }


def test_a_run_that_a_callback_of_an_evaluation_stopped_goes_on(play_data: pathlib.Path, tmp_path: pathlib.Path) -> None:
    settings = config(POLICIES[0], play_data) | {"evaluate_every": 2, "evaluation_episodes": 3}

    def interrupt(step: int, result: dict[str, Any]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        telic.train(settings, out=tmp_path / "run", on_evaluate=interrupt)
    assert telic.train(settings, out=tmp_path / "run", resume=True) == (3, True)
    telic.train(settings, out=tmp_path / "whole")
    for name in ("metrics.csv", "config.toml"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    with pytest.raises(telic.InputError, match="observation entries"):
        telic.train(settings, out=tmp_path / "cube", overrides=["env=cube-single"])
    assert not (tmp_path / "cube").exists()


def test_bad_configurations_name_every_problem(play_data: pathlib.Path, tmp_path: pathlib.Path) -> None:
    settings = config(POLICIES[0], play_data)
    with pytest.raises(telic.InputError) as caught:
        telic.train(settings | {"steps": -1, "bach_size": 3}, out=tmp_path / "run")
    assert "steps" in str(caught.value) and "bach_size" in str(caught.value)
    with pytest.raises(telic.InputError, match="a path or a dictionary"):
        telic.train(7, out=tmp_path / "run")  # type: ignore[arg-type]
    with pytest.raises(telic.MissingFileError, match="no configuration here"):
        telic.train(tmp_path / "none.toml", out=tmp_path / "run")
    with pytest.raises(telic.MissingFileError):
        telic.train(settings | {"dataset": str(tmp_path / "none.npz")}, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_overrides_go_on_top(play_data: pathlib.Path, tmp_path: pathlib.Path) -> None:
    settings = config(POLICIES[0], play_data)
    assert telic.train(settings, out=tmp_path / "run", overrides=["steps=1"]) == (1, True)


def test_missing_runs_are_named(tmp_path: pathlib.Path) -> None:
    with pytest.raises(telic.MissingFileError, match="no run here"):
        telic.load_policy(tmp_path / "none")
    with pytest.raises(telic.MissingFileError, match="no checkpoint here"):
        telic.load_policy(tmp_path)


def test_unknown_devices_are_refused(run: pathlib.Path) -> None:
    with pytest.raises(telic.InputError, match="`device` is `abacus`, expected `cpu` or `cuda`"):
        telic.load_policy(run, device="abacus")


def test_policies_act_in_environments(run: pathlib.Path) -> None:
    def rollout() -> np.ndarray:
        envs = telic.TelicVectorEnv(SMALL, num_envs=4, flat=True, autoreset_mode="SameStep")
        policy = telic.load_policy(run)
        observations, infos = envs.reset(seed=0)
        for _ in range(5):
            actions = policy.act(observations, infos["goal"])
            observations, _, terminated, truncated, infos = envs.step(actions)
            policy.reset_rows(terminated | truncated)
        return observations.copy()

    np.testing.assert_array_equal(rollout(), rollout())


def test_policies_are_configured_in_a_fork(run: pathlib.Path, inputs: tuple[np.ndarray, np.ndarray]) -> None:
    # Searches look at the embeddings of their data then.
    policy = telic.load_policy(run)
    if "prompt" not in policy.settings:
        pytest.skip("it takes goals only")

    def configured() -> np.ndarray:
        try:
            policy.configure(prompt={"kind": "search", "landmarks": 8})
        except telic.InputError:
            policy.configure(prompt={"kind": "goal"})
        return policy.act(*inputs)

    child = in_a_fork(configured)
    np.testing.assert_array_equal(child, configured())


def test_a_run_in_a_fork_is_the_same(run: pathlib.Path, play_data: pathlib.Path, tmp_path: pathlib.Path) -> None:
    settings = config(telic.load_policy(run).id, play_data)
    assert in_a_fork(lambda: telic.train(settings, out=tmp_path / "run")) == (3, True)
    observations = telic.load_dataset(play_data).observations[:2]
    np.testing.assert_array_equal(
        telic.load_policy(tmp_path / "run").act(observations, observations),
        telic.load_policy(run).act(observations, observations),
    )


def test_a_policy_that_a_reward_prompts_is_not_pickled(run: pathlib.Path, inputs: tuple[np.ndarray, np.ndarray]) -> None:
    policy = telic.load_policy(run)
    observations, _ = inputs
    try:
        policy.prompt_reward(observations, np.arange(len(observations)))
    except telic.InputError:
        pytest.skip("it takes goals only")
    with pytest.raises(telic.InputError, match="prompted with a reward"):
        pickle.dumps(policy)


def test_a_refused_action_begins_nothing(run: pathlib.Path, inputs: tuple[np.ndarray, np.ndarray]) -> None:
    policy = telic.load_policy(run)
    observations, goals = inputs
    with pytest.raises(telic.InputError, match="`observations` has NaN in row 0"):
        policy.act(np.full_like(observations[0], np.nan), goals[0])
    assert policy.act(observations, goals).shape == (len(observations), policy.action_dim)


@pytest.mark.parametrize("seed", [-1, 1.5, 2**64, "one"])
def test_seeds_that_cannot_be_used_are_named(run: pathlib.Path, seed: Any) -> None:
    policy = telic.load_policy(run)
    with pytest.raises(telic.InputError, match="`seed` is"):
        policy.reset(seed=seed)
    with pytest.raises(telic.InputError, match="`seed` is"):
        telic.evaluate(policy, seed=seed)


def test_every_seed_can_be_evaluated(run: pathlib.Path) -> None:
    result = telic.evaluate(telic.load_policy(run), episodes=1, seed=2**64 - 1)
    assert result["seed"] == 2**64 - 1 and result["step"] == 3


def test_success_is_measured_as_the_command_does(run: pathlib.Path) -> None:
    policy = telic.load_policy(run)
    result = telic.evaluate(policy, episodes=5, seed=3, threads=1)
    assert result["env"] == SMALL and result["episodes"] == 5
    assert 0.0 <= result["ci95"][0] <= result["success_rate"] <= result["ci95"][1] <= 1.0
    assert sum(task["episodes"] for task in result["tasks"]) == 5
    with pytest.raises(telic.InputError, match="episodes"):
        telic.evaluate(policy, episodes=0)
    with pytest.raises(telic.InputError, match="no-such-env"):
        telic.evaluate(policy, env="no-such-env")
    with pytest.raises(telic.InputError):
        telic.evaluate(policy, env="block-push")


def test_single_tasks_and_ends_of_episodes_can_be_asked_for(run: pathlib.Path, play_data: pathlib.Path) -> None:
    policy = telic.load_policy(run)
    result = telic.evaluate(policy, episodes=4, tasks=["task2"])
    assert [(task["name"], task["episodes"]) for task in result["tasks"]] == [("task2", 4)]
    with pytest.raises(telic.InputError, match="task9"):
        telic.evaluate(policy, tasks=["task9"])
    with pytest.raises(telic.InputError, match="twice"):
        telic.evaluate(policy, tasks=["task2", "task2"])
    with pytest.raises(telic.InputError, match="ends of other episodes"):
        telic.evaluate(policy, goals=telic.load_dataset(play_data))


def test_an_evaluation_depends_on_its_seed_and_not_on_threads(tmp_path: pathlib.Path) -> None:
    """In an open square, where goals are reached and each after another number of steps."""
    data = tmp_path / "play.npz"
    telic.collect("point-maze-arena", episodes=20, seed=0, demonstrator="stitch").save(data)
    settings = config("gcbc", data) | {"steps": 300, "batch_size": 64, "log_every": 100}
    settings["policy"] |= {"actor": {"network": {"hidden": [32]}}, "optimizer": {"lr": 3e-3}}
    telic.train(settings, out=tmp_path / "run")
    policy = telic.load_policy(tmp_path / "run")
    policy.configure(**{"inference.temperature": 0.5})

    def evaluate(*, seed: int, threads: int) -> dict[str, Any]:
        # More episodes than the 50 worlds that they are run in.
        result = telic.evaluate(policy, episodes=60, seed=seed, threads=threads)
        assert result.pop("seed") == seed
        return result

    first = evaluate(seed=1, threads=1)
    assert first["success_rate"] > 0
    assert evaluate(seed=2, threads=1)["mean_steps"] != first["mean_steps"]
    assert evaluate(seed=1, threads=2) == first


def test_episodes_are_recorded(run: pathlib.Path, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "episodes.rrd"
    successes = telic.record(telic.load_policy(run), path, episodes=1)
    assert successes in (0, 1)
    assert path.read_bytes()[:3] == b"RRF"
    with pytest.raises(telic.InputError, match="episodes"):
        telic.record(telic.load_policy(run), tmp_path / "none.rrd", episodes=0)
    with pytest.raises(telic.InputError, match="no-such-task"):
        telic.record(telic.load_policy(run), tmp_path / "none.rrd", tasks=["no-such-task"])
    with pytest.raises(telic.InputError, match="`tasks` and `play`"):
        telic.record(telic.load_policy(run), tmp_path / "none.rrd", tasks=[], play="run")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["episodes.rrd"]
