"""Play data: columns without copies, goals in hindsight, and files that others can read."""

import pathlib
import pickle

import numpy as np
import pytest
from conftest import SMALL, assert_same

import telic

COLUMNS = ("observations", "actions", "terminals", "qpos", "qvel")


@pytest.fixture(scope="module")
def dataset(play_data: pathlib.Path) -> telic.Dataset:
    return telic.load_dataset(play_data)


def test_columns_are_read_only_views(dataset: telic.Dataset) -> None:
    for name in COLUMNS:
        column = getattr(dataset, name)
        assert column.dtype == (np.bool_ if name == "terminals" else np.float32)
        assert np.shares_memory(column, getattr(dataset, name))
        assert not column.flags.writeable
        with pytest.raises(ValueError, match="read-only"):
            column[0] = 0
        with pytest.raises(ValueError, match="WRITEABLE"):
            column.flags.writeable = True
    assert dataset.columns.keys() == set(COLUMNS)
    assert_same(dataset.columns["actions"], dataset.actions)
    assert dataset.button_states is None


def test_columns_outlive_the_dataset(play_data: pathlib.Path) -> None:
    dataset = telic.load_dataset(play_data)
    column = dataset.observations
    kept = column.copy()
    del dataset
    np.testing.assert_array_equal(column, kept)


def test_sizes(dataset: telic.Dataset) -> None:
    rows = len(dataset.observations)
    assert dataset.observations.shape == (rows, dataset.observation_dim)
    assert dataset.actions.shape == (rows, dataset.action_dim)
    assert dataset.num_episodes == 3
    assert len(dataset) == dataset.num_transitions == rows - 3
    assert dataset.terminals.sum() == 3
    np.testing.assert_array_equal(np.flatnonzero(dataset.terminals), dataset.episodes.sum(axis=1) - 1)
    assert "3 episodes" in repr(dataset)


def test_an_episode_is_a_view(dataset: telic.Dataset) -> None:
    start, rows = dataset.episodes[1]
    episode = dataset.episode(1)
    for name in COLUMNS:
        assert np.shares_memory(episode[name], getattr(dataset, name))
    np.testing.assert_array_equal(episode["observations"], dataset.observations[start : start + rows])
    np.testing.assert_array_equal(episode["terminals"], np.arange(rows) == rows - 1)
    for number in (3, -1):
        with pytest.raises(telic.InputError, match=f"no episode {number}; the dataset has 3"):
            dataset.episode(number)


def test_metadata_tells_where_it_comes_from(dataset: telic.Dataset) -> None:
    description = telic.describe(SMALL)
    metadata = dataset.metadata
    assert metadata["env"] == SMALL
    assert metadata["seed"] == 5
    assert metadata["demonstrator"] == description["demonstrators"][0]
    assert metadata["observation_names"] == [entry["name"] for entry in description["observation"]]
    assert metadata["goal_indices"] == description["goal"]["indices"]
    assert metadata["goal_tolerance"] == description["goal"]["tolerance"]
    assert len(metadata["episode_seeds"]) == 3


def test_actions_repeat_their_episode(env_id: str) -> None:
    if not telic.describe(env_id)["demonstrators"]:
        with pytest.raises(telic.InputError, match=f"`{env_id}` has no demonstrator"):
            telic.collect(env_id, episodes=1, seed=2)
        return
    dataset = telic.collect(env_id, episodes=1, seed=2)
    env = telic.TelicEnv(env_id, flat=True)
    observation, _ = env.reset(seed=dataset.metadata["episode_seeds"][0], options={"start": "collection"})
    episode = dataset.episode(0)
    np.testing.assert_array_equal(observation, episode["observations"][0])
    for action, expected, qpos in zip(
        episode["actions"][:-1], episode["observations"][1:], episode["qpos"][1:], strict=True
    ):
        np.testing.assert_array_equal(env.step(action)[0], expected)
        np.testing.assert_array_equal(env.qpos, qpos)


def test_threads_do_not_change_a_collection() -> None:
    alone, many = (telic.collect(SMALL, episodes=3, seed=1, threads=threads) for threads in (1, 3))
    assert_same(alone.columns, many.columns)
    assert alone.metadata == many.metadata


def test_an_expert_can_be_driven_step_by_step() -> None:
    expert = telic.Demonstrator(SMALL, noise=0.5)
    episode = expert.episode(4)
    expert.reset(4)
    for row in range(len(episode["observations"]) - 1):
        np.testing.assert_array_equal(expert.observation, episode["observations"][row])
        action = expert.act()
        np.testing.assert_array_equal(action, episode["actions"][row])
        expert.step(action)
    with pytest.raises(telic.InputError, match="no demonstrator `nobody`; known: "):
        telic.Demonstrator(SMALL, name="nobody")
    with pytest.raises(telic.InputError, match="`walker` has no demonstrator"):
        telic.Demonstrator("walker")
    with pytest.raises(telic.InputError, match="`noise` is -1"):
        telic.Demonstrator(SMALL, noise=-1)


@pytest.mark.parametrize("layout", ["file", "compact", "regular"])
def test_files_come_back(dataset: telic.Dataset, layout: str, tmp_path: pathlib.Path) -> None:
    dataset.save(tmp_path / "copy.npz", layout=layout)
    again = telic.load_dataset(tmp_path / "copy.npz")
    if layout == "regular":
        # This layout does not hold the last action and the last physical state of an episode.
        inside = ~dataset.terminals
        np.testing.assert_array_equal(again.observations, dataset.observations)
        np.testing.assert_array_equal(again.actions[inside], dataset.actions[inside])
    else:
        assert_same(again.columns, dataset.columns)
    assert [entry.name for entry in tmp_path.iterdir()] == ["copy.npz"]


def test_plain_numpy_reads_the_file(play_data: pathlib.Path, dataset: telic.Dataset) -> None:
    with np.load(play_data) as archive:
        for name in COLUMNS:
            np.testing.assert_array_equal(archive[name], getattr(dataset, name))
        assert archive["observations"].dtype == archive["actions"].dtype == np.float32
        assert archive["terminals"].dtype == np.bool_


def test_plain_numpy_writes_a_file(dataset: telic.Dataset, tmp_path: pathlib.Path) -> None:
    columns = {name: getattr(dataset, name) for name in COLUMNS}
    np.savez_compressed(tmp_path / "numpy.npz", **columns)
    again = telic.load_dataset(tmp_path / "numpy.npz")
    assert_same(again.columns, dataset.columns)
    assert again.metadata["env"] == ""


def ogbench_view(path: pathlib.Path, *, compact: bool) -> dict[str, np.ndarray]:
    """What OGBench makes of a file: pairs of states, or all states with flags of which start a pair."""
    with np.load(path) as archive:
        observations, actions = archive["observations"][...], archive["actions"][...]
        ends = archive["terminals"][...].astype(np.float32)
    if compact:
        before = np.append(ends[1:], 1.0)
        return {
            "observations": observations,
            "actions": actions,
            "terminals": np.minimum(ends + before, 1.0).astype(np.float32),
            "valids": 1.0 - ends,
        }
    first, second = ends == 0, np.append(False, ends[:-1] == 0)
    return {
        "observations": observations[first],
        "actions": actions[first],
        "next_observations": observations[second],
        "terminals": np.append(ends[1:], 1.0)[first].astype(np.float32),
    }


@pytest.mark.parametrize("compact", [False, True])
def test_ogbench_reads_the_file(dataset: telic.Dataset, play_data: pathlib.Path, compact: bool, tmp_path: pathlib.Path) -> None:
    theirs = ogbench_view(play_data, compact=compact)
    path = tmp_path / "layout.npz"
    dataset.save(path, layout="compact" if compact else "regular")
    with np.load(path) as ours:
        for name, column in theirs.items():
            np.testing.assert_array_equal(ours[name], column, err_msg=name)
    assert len(theirs["observations"]) == len(dataset) + (3 if compact else 0)


def test_samples_are_transitions_with_goals(dataset: telic.Dataset) -> None:
    batch = dataset.sample(500, seed=3)
    rows = batch["rows"]
    for name, expected in (
        ("observations", dataset.observations[rows]),
        ("actions", dataset.actions[rows]),
        ("next_observations", dataset.observations[rows + 1]),
        ("value_goals", dataset.observations[batch["value_goal_rows"]]),
        ("actor_goals", dataset.observations[batch["actor_goal_rows"]]),
    ):
        assert batch[name].dtype == np.float32
        np.testing.assert_array_equal(batch[name], expected)
    reached = batch["value_goal_rows"] == rows
    assert 50 < reached.sum() < 200
    np.testing.assert_array_equal(batch["rewards"], np.where(reached, 0, -1))
    np.testing.assert_array_equal(batch["masks"], np.where(reached, 0, 1))
    episode = np.searchsorted(dataset.episodes[:, 0], rows, side="right")
    goal_episode = np.searchsorted(dataset.episodes[:, 0], batch["actor_goal_rows"], side="right")
    np.testing.assert_array_equal(episode, goal_episode)
    assert (batch["actor_goal_rows"] >= rows).all()


def test_goal_mixtures_can_be_chosen(dataset: telic.Dataset) -> None:
    current = {"current": 1.0, "trajectory": 0.0, "random": 0.0, "geometric": False}
    batch = dataset.sample(64, seed=0, value_goals=current, negative_rewards=False)
    np.testing.assert_array_equal(batch["value_goal_rows"], batch["rows"])
    np.testing.assert_array_equal(batch["rewards"], 1)
    near = {"current": np.float32(0), "trajectory": np.float32(1), "random": 0, "geometric": np.bool_(True)}
    batch = dataset.sample(64, seed=0, actor_goals=near, discount=0.01)
    assert (batch["actor_goal_rows"] - batch["rows"] <= 3).all()
    stitched = {"current": 0.0, "trajectory": 1.0, "random": 0.0, "geometric": False, "stitched": 1.0}
    batch = dataset.sample(64, seed=0, actor_goals=stitched, clusters=4)
    assert (batch["actor_goal_rows"] < batch["rows"]).any()


def test_rewards_of_several_steps(dataset: telic.Dataset) -> None:
    single = dataset.sample(256, seed=0)
    assert "later_observations" not in single
    batch = dataset.sample(256, seed=0, n_step=3, discount=0.9)
    np.testing.assert_array_equal(batch["rows"], dataset.sample(256, seed=0, discount=0.9)["rows"])
    episode = np.searchsorted(dataset.episodes[:, 0], batch["rows"], side="right") - 1
    final_rows = dataset.episodes[:, 0] + dataset.episodes[:, 1] - 1
    steps = np.minimum(3, final_rows[episode] - batch["rows"])
    later = dataset.columns["observations"][batch["rows"] + steps]
    np.testing.assert_array_equal(batch["later_observations"], later)
    ahead = batch["value_goal_rows"] - batch["rows"]
    reached = (ahead >= 0) & (ahead < steps)
    assert 20 < reached.sum() < 200
    np.testing.assert_allclose(batch["masks"], np.where(reached, 0, 0.9 ** (steps - 1.0)), rtol=1e-6)
    paid = np.where(reached, ahead, steps)
    np.testing.assert_allclose(batch["rewards"], -(1 - 0.9**paid) / 0.1, rtol=1e-6)


def test_seeds_fix_batches(play_data: pathlib.Path) -> None:
    first, second = telic.load_dataset(play_data), telic.load_dataset(play_data)
    assert_same(first.sample(32, seed=1), second.sample(32, seed=1))
    assert not np.array_equal(first.sample(32, seed=1)["rows"], first.sample(32, seed=2)["rows"])
    ours, theirs = [first.sample(32) for _ in range(3)], [second.sample(32) for _ in range(3)]
    for left, right in zip(ours, theirs, strict=True):
        assert_same(left, right)
    assert not np.array_equal(ours[0]["rows"], ours[1]["rows"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "`batch_size` is 0"),
        ({"batch_size": 10**15}, "`batch_size` is 1000000000000000, more rows than there is memory for"),
        ({"batch_size": 1, "discount": 1.0}, "`discount` is 1, expected a number in 0..1"),
        ({"batch_size": 1, "value_goals": {"current": 1.0}}, "`value_goals`: missing field"),
        (
            {"batch_size": 1, "actor_goals": {"current": 0.5, "trajectory": 0.1, "random": 0.1, "geometric": False}},
            "`actor`: current 0.5",
        ),
    ],
)
def test_bad_requests_for_batches_are_refused(
    dataset: telic.Dataset, arguments: dict[str, object], message: str
) -> None:
    with pytest.raises(telic.InputError, match=message):
        dataset.sample(**arguments)


def test_bad_files_are_refused(tmp_path: pathlib.Path, play_data: pathlib.Path) -> None:
    with pytest.raises(telic.MissingFileError, match="no dataset here") as caught:
        telic.load_dataset(tmp_path / "nothing.npz")
    assert isinstance(caught.value, FileNotFoundError)
    (tmp_path / "text.npz").write_text("this is no archive")
    (tmp_path / "half.npz").write_bytes(play_data.read_bytes()[:1000])
    np.savez(tmp_path / "columns.npz", observations=np.zeros((3, 2)))
    for name in ("text.npz", "half.npz", "columns.npz"):
        with pytest.raises(telic.TelicError, match=name):
            telic.load_dataset(tmp_path / name)


def test_bad_arrays_are_refused() -> None:
    good = {"observations": np.zeros((3, 2)), "actions": np.zeros((3, 1)), "terminals": [0, 0, 1]}
    assert len(telic.Dataset.from_arrays(**good)) == 2
    for bad, message in (
        ({"terminals": [0, 0, 0]}, "no episode ends"),
        ({"terminals": [[0, 0, 1]]}, "`terminals` has shape"),
        ({"terminals": [0, 0.5, 1]}, "`terminals` is 0.5 at row 1; expected 0 or 1"),
        ({"button_states": np.full((3, 1), 0.5)}, "`button_states` has the entry 0.5, expected whole numbers"),
        ({"button_states": np.full((3, 1), np.inf)}, "`button_states` has the entry inf, expected whole numbers"),
        ({"metadata": {"sed": 3}}, "`metadata` has the key sed, expected some of "),
        ({"actions": np.zeros((2, 1))}, "`actions` has 2 rows but `observations` has 3"),
        ({"observations": np.zeros(3)}, "`observations` has shape"),
        ({"observations": np.full((3, 2), np.nan)}, "`observations` is NaN at row 0"),
        ({"metadata": {"goal_indices": [9]}}, "`metadata.goal_indices` holds 9"),
    ):
        with pytest.raises(telic.InputError, match=message):
            telic.Dataset.from_arrays(**good | bad)


def test_a_dataset_can_be_sent(dataset: telic.Dataset) -> None:
    assert_same(pickle.loads(pickle.dumps(dataset)).columns, dataset.columns)
    with pytest.raises(TypeError, match="loaded from a file"):
        pickle.dumps(telic.collect(SMALL, episodes=1))


def test_a_sent_dataset_finds_its_file_from_elsewhere(
    dataset: telic.Dataset, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset.save(tmp_path / "copy.npz")
    monkeypatch.chdir(tmp_path)
    sent = pickle.dumps(telic.load_dataset("copy.npz"))
    monkeypatch.chdir(tmp_path.parent)
    assert_same(pickle.loads(sent).columns, dataset.columns)
    telic.Dataset.from_arrays(**dataset.episode(0)).save(tmp_path / "copy.npz")
    with pytest.raises(telic.InputError, match="the file has 1 episodes and .* it had 3 and "):
        pickle.loads(sent)


def test_columns_make_a_dataset_again(dataset: telic.Dataset) -> None:
    assert_same(telic.Dataset.from_arrays(**dataset.columns).columns, dataset.columns)
    buttons = np.arange(6).reshape(3, 2)
    arrays = {"observations": np.zeros((3, 2)), "actions": np.zeros((3, 1)), "terminals": [0, 0, 1]}
    again = telic.Dataset.from_arrays(**arrays, button_states=buttons)
    assert again.button_states is not None
    np.testing.assert_array_equal(again.button_states, buttons)
    assert_same(telic.Dataset.from_arrays(**again.columns).columns, again.columns)


def test_a_collection_is_the_file_of_the_command_line(tmp_path: pathlib.Path) -> None:
    dataset = telic.collect(SMALL, episodes=1, noise=0.1234567)
    assert dataset.metadata["options"] == {"noise": "0.1234567"}
    assert telic.collect(SMALL, episodes=1).metadata["options"] == {"noise": "1"}


@pytest.mark.parametrize("wrong", [{"episodes": 1.5}, {"episodes": "a"}, {"episodes": 1, "threads": 0.5}])
def test_numbers_of_a_collection_are_whole(wrong: dict[str, object]) -> None:
    with pytest.raises(telic.InputError, match="expected a whole number"):
        telic.collect(SMALL, **wrong)  # type: ignore[arg-type]
