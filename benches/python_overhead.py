"""What Python costs: a policy's `act` and a batch of environments, called from Python and from Rust, in one run.

    python3 benches/python_overhead.py --telic target/release/telic [--repeats 3] [--seconds 3]

Needs the installed package (`make python`). Every figure is the median over the repeats; the sides take turns.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import tempfile
import time

import numpy
import telic

ENVS = ["cube-single", "point-maze-medium"]
# The actor that act times are given for elsewhere.
HIDDEN = "hidden=[256,256,256]"


def run(binary, *command):
    """The JSON report of a command."""
    done = subprocess.run([binary, *command, "--json"], check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)


def median_us(call, seconds):
    """Median microseconds of a call."""
    for _ in range(50):
        call()
    times, start = [], time.perf_counter()
    while time.perf_counter() - start < seconds:
        begin = time.perf_counter()
        call()
        times.append((time.perf_counter() - begin) * 1e6)
    return statistics.median(times)


def small_policy(binary, folder):
    """A perceptron of 3×256 after one update: its speed is that of any other one."""
    data, config = folder / "data.npz", folder / "config.toml"
    run(binary, "collect", "--env", "cube-single", "--episodes", "2", "--out", str(data))
    config.write_text(f"dataset = {json.dumps(str(data))}\nsteps = 1\nbatch_size = 8\n[policy]\nid = 'gcbc'\n")
    run(binary, "train", str(config), "--set", f"policy.actor.network.{HIDDEN}", "--out", str(folder / "run"))
    return telic.load_policy(folder / "run")


def act(binary, policy, seconds):
    """Microseconds of an action from Python and from Rust."""
    observation, goal = (numpy.full(policy.observation_dim, value, numpy.float32) for value in (0, 1))
    ours = median_us(lambda: policy.act(observation, goal), seconds)
    setting = ["--set", f"actor.network.{HIDDEN}", "--seconds", str(seconds)]
    return ours, run(binary, "bench", "act", "--policy", "gcbc", "--env", "cube-single", *setting)["p50_us"]


def steps(binary, env, worlds, threads, seconds):
    """Environment steps per second from Python and from Rust."""
    envs = telic.TelicVectorEnv(env, num_envs=worlds, threads=threads, autoreset_mode="SameStep")
    envs.reset(seed=0)
    rng = numpy.random.default_rng(0)
    actions = [rng.uniform(-1, 1, (worlds, *envs.single_action_space.shape)).astype(numpy.float32) for _ in range(64)]
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        envs.step(actions[count % len(actions)])
        count += 1
    ours = count * worlds / (time.perf_counter() - start)
    envs.close()
    sizes = ["--worlds", str(worlds), "--threads", str(threads), "--seconds", str(seconds)]
    return ours, run(binary, "bench", "sim", "--env", env, *sizes)["steps_per_second"]


def pair(measure, repeats):
    """Medians of both sides."""
    left, right = zip(*(measure() for _ in range(repeats)))
    return statistics.median(left), statistics.median(right)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--telic", default="target/release/telic")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0)
    arguments = parser.parse_args()
    binary, repeats, seconds = arguments.telic, arguments.repeats, arguments.seconds
    print("| what | from Python | from Rust | Python / Rust |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        policy = small_policy(binary, pathlib.Path(folder))
        left, right = pair(lambda: act(binary, policy, seconds), repeats)
        print(f"| action, MLP 3×256, µs | {left:.1f} | {right:.1f} | + {left - right:.1f} µs |", flush=True)
    threads = os.cpu_count()
    for env in ENVS:
        for worlds, used in ((64, threads), (64, 1), (1, 1)):
            left, right = pair(lambda: steps(binary, env, worlds, used, seconds), repeats)
            print(f"| {env}, {worlds} worlds, {used} threads, steps/s | {left:.0f} | {right:.0f} | {left / right:.2f} |", flush=True)


if __name__ == "__main__":
    main()
