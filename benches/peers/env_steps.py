"""Environment steps per second of Telic beside OGBench and EnvPool, in one run.

    python3 benches/peers/env_steps.py --telic target/release/telic [--repeats 3] [--seconds 5] [--only ant-maze]

Makes a virtual environment with the peers on its first call. Every figure is the median over the repeats; the sides
take turns, so that a drift of the machine's speed hits both. All sides draw 32 uniformly random actions before the clock
starts and apply them and their opposites in turn.
"""

import argparse
import itertools
import json
import statistics
import subprocess
import time

import virtual_environment

PACKAGES = ["ogbench==1.2.1", "gymnasium>=1.1,<2", "envpool", "numpy"]

# Telic id, worlds, threads -> peer and its environment.
ROWS = [
    ("point-maze-medium", 1, 1, "ogbench", "pointmaze-medium-v0"),
    ("point-maze-medium", 64, 2, "ogbench-async", "pointmaze-medium-v0"),
    ("ant-maze-medium", 1, 1, "ogbench", "antmaze-medium-v0"),
    ("ant-maze-medium", 64, 2, "ogbench-async", "antmaze-medium-v0"),
    ("ant-maze-medium", 64, 2, "envpool", "Ant-v4"),
    ("cube-single", 1, 1, "ogbench", "cube-single-v0"),
    ("cube-single", 64, 2, "ogbench-async", "cube-single-v0"),
    ("cube-single", 64, 2, "envpool", "FetchPickAndPlace-v4"),
]


def telic(binary, env, worlds, threads, seconds):
    """Steps per second of `telic bench sim`."""
    command = [binary, "bench", "sim", "--env", env, "--worlds", str(worlds), "--threads", str(threads)]
    command += ["--seconds", str(seconds), "--json"]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)["steps_per_second"]


def rate(step, draw, count, seconds):
    """Steps per second of `step`, which advances `count` environments by an action of `draw`."""
    drawn = [draw() for _ in range(32)]
    actions = itertools.cycle([*drawn, *(-action for action in drawn)])
    for _ in range(10):
        step(next(actions))
    steps, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        step(next(actions))
        steps += count
    return steps / (time.perf_counter() - start)


def ogbench(env_id, seconds):
    """One OGBench environment with uniformly random actions, reset at the end of its episodes."""
    import gymnasium
    import ogbench  # noqa: F401  (registers the environments)

    env = gymnasium.make(env_id)
    env.reset(seed=0)
    env.action_space.seed(0)

    def step(action):
        _, _, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            env.reset()

    figure = rate(step, env.action_space.sample, 1, seconds)
    env.close()
    return figure


def ogbench_async(env_id, seconds):
    """Two OGBench environments in two processes."""
    import gymnasium

    def make():
        import ogbench  # noqa: F401

        return gymnasium.make(env_id)

    envs = gymnasium.vector.AsyncVectorEnv([make, make])
    envs.reset(seed=0)
    envs.action_space.seed(0)
    figure = rate(envs.step, envs.action_space.sample, 2, seconds)
    envs.close()
    return figure


def envpool(env_id, seconds):
    """64 EnvPool environments on two threads."""
    import envpool as pool
    import numpy

    count = 64
    envs = pool.make(env_id, env_type="gymnasium", num_envs=count, num_threads=2, seed=0)
    envs.reset()
    rng = numpy.random.default_rng(0)
    shape = (count, *envs.action_space.shape)
    figure = rate(envs.step, lambda: rng.uniform(-1, 1, shape), count, seconds)
    envs.close()
    return figure


PEERS = {"ogbench": ogbench, "ogbench-async": ogbench_async, "envpool": envpool}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--telic", default="target/release/telic")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--only", default="", help="part of the name of the environments to measure")
    arguments = parser.parse_args()
    print("| Telic | worlds | threads | steps/s | peer | steps/s | ratio |")
    print("|---|---|---|---|---|---|---|")
    for env, worlds, threads, peer, peer_env in ROWS:
        if arguments.only not in env:
            continue
        ours, theirs = [], []
        try:
            for _ in range(arguments.repeats):
                ours.append(telic(arguments.telic, env, worlds, threads, arguments.seconds))
                theirs.append(PEERS[peer](peer_env, arguments.seconds))
        except Exception as error:  # a peer that cannot run here is a row, not the end of the table
            print(f"| {env} | {worlds} | {threads} | | {peer} {peer_env} | {type(error).__name__}: {error} | |")
            continue
        left, right = statistics.median(ours), statistics.median(theirs)
        print(f"| {env} | {worlds} | {threads} | {left:.0f} | {peer} {peer_env} | {right:.0f} | {left / right:.1f} |", flush=True)


if __name__ == "__main__":
    virtual_environment.enter("envs", PACKAGES)
    main()
