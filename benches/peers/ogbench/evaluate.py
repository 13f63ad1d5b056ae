"""Success of a Telic run in OGBench's own environment, in MuJoCo, by OGBench's protocol.

    python3 benches/peers/ogbench/evaluate.py runs/ogbench-qrl --env pointmaze-medium-v0 [--prompt search] [--episodes 50] [--wheel FILE]

Five tasks, `--episodes` episodes of each; success is that of the last step. The policy is loaded with `telic.load_policy`; the
wheel is the newest one of `maturin build --release` (see docs/python.md). Writes `evaluation-ogbench.json` into the run folder,
with a prompt `evaluation-ogbench-PROMPT.json`; `telic report` shows both.
"""

import argparse
import json
import math
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import virtual_environment

PACKAGES = ["ogbench==1.2.1", "gymnasium>=1.1,<2", "numpy"]


def wilson(successes, episodes):
    """95 % interval of a proportion."""
    z, p = 1.959963984540054, successes / episodes
    centre = (p + z * z / (2 * episodes)) / (1 + z * z / episodes)
    half = z / (1 + z * z / episodes) * math.sqrt(p * (1 - p) / episodes + z * z / (4 * episodes**2))
    return [max(0.0, centre - half), min(1.0, centre + half)]


def install(wheel):
    """The wheel of Telic into this environment, if it is not the one that is there."""
    wheels = sorted((HERE.parents[2] / "python" / "dist").glob("telic-*.whl"), key=lambda path: path.stat().st_mtime)
    wheel = wheel or (wheels[-1] if wheels else None)
    if wheel is None:
        sys.exit("there is no wheel in python/dist: maturin build --release --manifest-path python/Cargo.toml --out python/dist")
    marker = pathlib.Path(sys.prefix) / ".telic"
    stamp = f"{wheel} {wheel.stat().st_mtime_ns}"
    if not marker.exists() or marker.read_text() != stamp:
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--force-reinstall", "--no-deps", str(wheel)]
        subprocess.run(command, check=True)
        marker.write_text(stamp)


def evaluate(run, env_id, prompt, episodes, seed):
    import gymnasium
    import numpy as np
    import ogbench  # noqa: F401  (registers the environments)
    import telic

    policy = telic.load_policy(run)
    if prompt:
        policy.configure(prompt={"kind": prompt})
    env = gymnasium.make(env_id)
    # The goals of mazes have noise from NumPy's global generator.
    np.random.seed(seed)
    tasks, returns, steps = [], [], []
    for task in range(1, env.unwrapped.num_tasks + 1):
        successes = 0
        for episode in range(episodes):
            observation, info = env.reset(seed=seed + 1000 * task + episode, options={"task_id": task})
            goal, done, count = np.float32(info["goal"]), False, 0
            policy.reset(seed=seed + 1000 * task + episode)
            while not done:
                action = policy.act(np.float32(observation), goal)
                observation, _, terminated, truncated, info = env.step(action)
                done = terminated or truncated
                count += 1
            successes += bool(info["success"])
            steps.append(count)
            returns.append(-float(count - bool(info["success"])))
        rate = successes / episodes
        tasks.append(
            {"name": f"task{task}", "success_rate": rate, "ci95": wilson(successes, episodes), "episodes": episodes}
        )
        print(f"task {task}: {100 * rate:.0f} %", flush=True)
    total = sum(task["success_rate"] * task["episodes"] for task in tasks)
    count = episodes * len(tasks)
    return {
        "env": f"ogbench/{env_id}",
        "success_rate": total / count,
        "ci95": wilson(total, count),
        "episodes": count,
        "mean_return": sum(returns) / count,
        "mean_steps": sum(steps) / count,
        "seed": seed,
        "tasks": tasks,
        "metrics_ci95": {},
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=pathlib.Path)
    parser.add_argument("--env", required=True, help="id of OGBench, for example cube-single-v0")
    parser.add_argument("--prompt", choices=["plan", "search"], help="way-points, for policies that have them")
    parser.add_argument("--episodes", type=int, default=50, help="episodes per task")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--wheel", type=pathlib.Path)
    arguments = parser.parse_args()
    virtual_environment.enter("ogbench", PACKAGES)
    install(arguments.wheel)
    result = evaluate(arguments.run, arguments.env, arguments.prompt, arguments.episodes, arguments.seed)
    name = "-".join(filter(None, ["evaluation", "ogbench", arguments.prompt]))
    (arguments.run / f"{name}.json").write_text(json.dumps(result, indent=2))
    low, high = result["ci95"]
    print(f"all: {100 * result['success_rate']:.1f} % [{100 * low:.1f}, {100 * high:.1f}] of {result['episodes']} episodes")
