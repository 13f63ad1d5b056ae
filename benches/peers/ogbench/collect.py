"""OGBench's own kind of data, made with its environments in MuJoCo: a file that `telic train` reads.

    python3 benches/peers/ogbench/collect.py pointmaze-medium-navigate --out data/ogbench-pointmaze-medium-navigate.npz
    python3 benches/peers/ogbench/collect.py pointmaze-large-stitch --out data/ogbench-pointmaze-large-stitch.npz
    python3 benches/peers/ogbench/collect.py cube-single-play --out data/ogbench-cube-single-play.npz

Collection follows Park et al. 2025 (arXiv:2410.20092): the same protocol, noise, number and length of episodes, written anew
with the environments and oracles of the `ogbench` package. The published files need a download of gigabytes; these need minutes
to hours of one core. Observations, actions and terminals are float32, as in the published files.
"""

import argparse
import json
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import virtual_environment

PACKAGES = ["ogbench==1.2.1", "gymnasium>=1.1,<2", "numpy"]

# Name: environment of OGBench, episodes, transitions per episode, and the environment of Telic with the same layout.
DATASETS = {
    "pointmaze-medium-navigate": ("pointmaze-medium-v0", 1000, 1000, "point-maze-medium"),
    "pointmaze-large-navigate": ("pointmaze-large-v0", 1000, 1000, "point-maze-large"),
    "pointmaze-medium-stitch": ("pointmaze-medium-v0", 5000, 200, "point-maze-medium"),
    "pointmaze-large-stitch": ("pointmaze-large-v0", 5000, 200, "point-maze-large"),
    "cube-single-play": ("cube-single-v0", 1000, 1000, "cube-single"),
}


class Maze:
    """The point robot: towards the next cell on the shortest way, with noise of standard deviation 0.5."""

    NOISE = 0.5

    def __init__(self, env_id, protocol, rng):
        import gymnasium
        import ogbench  # noqa: F401  (registers the environments)

        self.env = gymnasium.make(env_id, terminate_at_goal=False, max_episode_steps=None)
        self.maze = self.env.unwrapped
        self.protocol, self.rng = protocol, rng
        grid = self.maze.maze_map
        self.free = [(i, j) for i in range(grid.shape[0]) for j in range(grid.shape[1]) if grid[i, j] == 0]
        # A vertex is a cell that a way does not simply pass: it is no corridor.
        self.vertices = [cell for cell in self.free if not self._is_corridor(cell)]

    def _neighbours(self, cell):
        i, j = cell
        return [c for c in ((i - 1, j), (i + 1, j), (i, j - 1), (i, j + 1)) if c in self.free]

    def _is_corridor(self, cell):
        near = self._neighbours(cell)
        return len(near) == 2 and (near[0][0] == near[1][0] or near[0][1] == near[1][1])

    def _choice(self, cells):
        return cells[self.rng.integers(len(cells))]

    def _at_distance(self, start, distance):
        """Cells at this distance; the start if there are none."""
        seen, front = {start}, [start]
        for _ in range(distance):
            front = sorted({c for cell in front for c in self._neighbours(cell)} - seen)
            seen.update(front)
        return front or [start]

    def _goal(self, start):
        return self._choice(self.vertices if self.protocol == "navigate" else self._at_distance(start, 4))

    def reset(self, seed):
        start = self._choice(self.free)
        task = {"init_ij": start, "goal_ij": self._goal(start)}
        observation, _ = self.env.reset(seed=seed, options={"task_info": task})
        return observation

    def act(self, observation):
        import numpy as np

        way_point, _ = self.maze.get_oracle_subgoal(self.maze.get_xy(), self.maze.cur_goal_xy)
        way = way_point - self.maze.get_xy()
        way = way / (np.linalg.norm(way) + 1e-6)
        return np.clip(way + self.rng.normal(0, self.NOISE, 2), -1, 1)

    def step(self, action):
        observation, _, _, _, info = self.env.step(action)
        if info["success"] and self.protocol == "navigate":
            self.maze.set_goal(self._choice(self.vertices))
        return observation


class Cube:
    """The arm: the package's own open-loop oracle, from one random target to the next."""

    def __init__(self, env_id, protocol, rng):
        import gymnasium
        import numpy as np
        import ogbench  # noqa: F401
        from ogbench.manipspace.oracles.plan.cube_plan import CubePlanOracle

        assert protocol == "play"
        self.env = gymnasium.make(
            env_id, terminate_at_goal=False, mode="data_collection", max_episode_steps=None
        )
        self.oracle = CubePlanOracle(env=self.env, noise=0.1, noise_smoothing=0.5)
        # The oracle draws from NumPy's global generator.
        np.random.seed(int(rng.integers(2**31)))

    def reset(self, seed):
        observation, self.info = self.env.reset(seed=seed)
        self.oracle.reset(observation, self.info)
        return observation

    def act(self, observation):
        import numpy as np

        return np.clip(self.oracle.select_action(observation, self.info), -1, 1)

    def step(self, action):
        observation, _, _, _, self.info = self.env.step(action)
        if self.oracle.done:
            observation, self.info = self.env.unwrapped.set_new_target(p_stack=0.0)
            self.oracle.reset(observation, self.info)
        return observation


def collect(name, out, seed, share):
    import numpy as np

    env_id, episodes, length, telic_env = DATASETS[name]
    episodes = max(1, round(share * episodes))
    rng = np.random.default_rng(seed)
    collector = (Cube if "cube" in name else Maze)(env_id, name.rsplit("-", 1)[1], rng)
    columns = {"observations": [], "actions": [], "terminals": []}
    start = time.perf_counter()
    for episode in range(episodes):
        observation = collector.reset(seed * 1_000_000 + episode)
        for row in range(length + 1):
            action = collector.act(observation)
            columns["observations"].append(np.float32(observation))
            columns["actions"].append(np.float32(action))
            columns["terminals"].append(np.float32(row == length))
            if row < length:
                observation = collector.step(action)
        if (episode + 1) % max(1, episodes // 20) == 0:
            rate = (episode + 1) * length / (time.perf_counter() - start)
            print(f"{episode + 1} of {episodes} episodes, {rate:.0f} transitions/s", flush=True)
    arrays = {key: np.stack(values) for key, values in columns.items()}
    # What Telic does not find in OGBench's files: which of its environments the layout is that of.
    metadata = {"env": telic_env, "demonstrator": f"ogbench {name}", "seed": seed}
    arrays["telic_metadata"] = np.frombuffer(json.dumps(metadata).encode(), dtype=np.uint8)
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_suffix(".tmp.npz")
    np.savez_compressed(temporary, **arrays)
    temporary.rename(out)
    print(out)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", choices=DATASETS)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--share", type=float, default=1.0, help="share of the published number of episodes")
    arguments = parser.parse_args()
    virtual_environment.enter("ogbench", PACKAGES)
    collect(arguments.dataset, arguments.out, arguments.seed, arguments.share)
