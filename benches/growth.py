"""How the cost of Telic grows with batch, width, worlds and threads: one plot each, and the numbers as CSV.

    python3 benches/growth.py --telic target/release/telic --out docs/pictures

Makes a virtual environment with matplotlib on its first call. Every point is the median of three measurements.
"""

import argparse
import csv
import json
import os
import pathlib
import statistics
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "peers"))
import virtual_environment  # noqa: E402

PACKAGES = ["matplotlib==3.10.7"]


def bench(binary, repeats, key, *arguments, threads=None):
    """Median of one figure of `telic bench`."""
    environment = dict(os.environ)
    if threads:
        environment["RAYON_NUM_THREADS"] = str(threads)
    command = [binary, "bench", *map(str, arguments), "--json"]
    run = lambda: subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
    return statistics.median(json.loads(run())[key] for _ in range(repeats))


def train(binary, repeats, policy, batch, width, threads=None):
    settings = [f"actor.network.hidden=[{width},{width},{width}]"]
    if policy == "gciql":
        settings.append(f"value.hidden=[{width},{width},{width}]")
    flags = [flag for setting in settings for flag in ("--set", setting)]
    arguments = ["train", "--policy", policy, "--dims", "28,5", "--batch", batch, "--seconds", 1, *flags]
    return bench(binary, repeats, "ms_per_update", *arguments, threads=threads)


def sim(binary, repeats, env, worlds, threads):
    arguments = ["sim", "--env", env, "--worlds", worlds, "--threads", threads, "--seconds", 1]
    return bench(binary, repeats, "steps_per_second", *arguments)


def curves(binary, repeats, cores):
    """Name, axis labels, whether axes are logarithmic, and the points of each line."""
    policies = ("gcbc", "gciql")
    envs = ("point-maze-medium", "block-push", "cube-single")
    threads = range(1, cores + 1)
    yield "batch", "batch", "ms per update, 3×256", {
        policy: [(batch, train(binary, repeats, policy, batch, 256)) for batch in (64, 128, 256, 512, 1024, 2048)]
        for policy in policies
    }
    yield "width", "width of three layers", "ms per update, batch 256", {
        policy: [(width, train(binary, repeats, policy, 256, width)) for width in (64, 128, 256, 512, 1024)]
        for policy in policies
    }
    yield "worlds", "worlds, stepped on all cores", "environment steps per second", {
        env: [(worlds, sim(binary, repeats, env, worlds, cores)) for worlds in (1, 2, 4, 8, 16, 32, 64, 128)] for env in envs
    }
    lines = {env: [(count, sim(binary, repeats, env, 64, count)) for count in threads] for env in envs}
    speed_up = {name: [(count, value / points[0][1]) for count, value in points] for name, points in lines.items()}
    for policy in policies:
        times = [(count, train(binary, repeats, policy, 1024, 512, threads=count)) for count in threads]
        speed_up[f"{policy}, 3×512, batch 1024"] = [(count, times[0][1] / value) for count, value in times]
    yield "threads", "threads", "speed relative to one thread", speed_up


def draw(folder, name, x_label, y_label, lines):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 3.6), layout="constrained")
    for line, points in lines.items():
        axes.plot(*zip(*points), marker="o", label=line)
    if name == "threads":
        counts = [count for count, _ in next(iter(lines.values()))]
        axes.plot(counts, counts, color="0.6", linestyle="--", label="ideal")
        axes.set_xticks(counts)
    else:
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.xaxis.set_major_formatter(matplotlib.ticker.ScalarFormatter())
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    figure.savefig(folder / f"growth_{name}.png", dpi=120)
    pyplot.close(figure)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--telic", default="target/release/telic")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("docs/pictures"))
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    with open(arguments.out / "growth.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["plot", "line", "x", "y"])
        for name, x_label, y_label, lines in curves(arguments.telic, arguments.repeats, os.cpu_count()):
            draw(arguments.out, name, x_label, y_label, lines)
            for line, points in lines.items():
                writer.writerows([name, line, x, f"{y:.4g}"] for x, y in points)
            print(f"{name}: done", flush=True)


if __name__ == "__main__":
    virtual_environment.enter("plots", PACKAGES)
    main()
