"""Hindsight batches of Telic beside the numpy sampler of OGBench's agents, in one run.

    python3 benches/peers/sampling.py --telic target/release/telic --dataset cube-single.npz [--batch 1024]

OGBench's sampler is not part of its package, so the other side is the same draw written for this script with numpy, as whole
arrays without a loop over rows: value goals 0.2 current, 0.5 geometric, 0.3 random, actor goals uniform over the rest of the
episode. Every figure is the median over the repeats; the sides take turns. numpy is installed beside the script on the first call.
"""

import argparse
import json
import statistics
import subprocess
import time

import virtual_environment

if __name__ == "__main__":
    virtual_environment.enter("sampling", ["numpy"])

import numpy  # noqa: E402, only this environment has it


class Hindsight:
    """Transitions with goals from a dataset in OGBench's regular layout."""

    def __init__(self, path):
        data = numpy.load(path)
        self.observations, self.actions = data["observations"], data["actions"]
        (self.ends,) = numpy.nonzero(data["terminals"])
        keep = numpy.ones(len(self.observations), bool)
        keep[self.ends] = False
        (self.valid,) = numpy.nonzero(keep)

    def goals(self, rows, ends, current, trajectory, geometric):
        count = len(rows)
        random = self.valid[numpy.random.randint(len(self.valid), size=count)]
        if geometric:
            future = numpy.minimum(rows + numpy.random.geometric(p=0.01, size=count), ends)
        else:
            share = numpy.random.rand(count)
            future = numpy.round(numpy.minimum(rows + 1, ends) * share + ends * (1 - share)).astype(int)
        goals = numpy.where(numpy.random.rand(count) < trajectory / (1 - current + 1e-6), future, random)
        return numpy.where(numpy.random.rand(count) < current, rows, goals)

    def sample(self, count):
        rows = self.valid[numpy.random.randint(len(self.valid), size=count)]
        ends = self.ends[numpy.searchsorted(self.ends, rows)] - 1
        value = self.goals(rows, ends, 0.2, 0.5, True)
        actor = self.goals(rows, ends, 0.0, 1.0, False)
        success = (rows == value).astype(float)
        return {
            "observations": self.observations[rows],
            "next_observations": self.observations[rows + 1],
            "actions": self.actions[rows],
            "value_goals": self.observations[value],
            "actor_goals": self.observations[actor],
            "masks": 1.0 - success,
            "rewards": success - 1.0,
        }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--telic", default="target/release/telic")
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0)
    arguments = parser.parse_args()
    sampler = Hindsight(arguments.dataset)
    command = [arguments.telic, "bench", "sample", "--dataset", arguments.dataset, "--batch", str(arguments.batch)]
    command += ["--seconds", str(arguments.seconds), "--json"]
    ours, theirs = [], []
    for _ in range(arguments.repeats):
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        ours.append(json.loads(output)["batches_per_second"])
        batches, start = 0, time.perf_counter()
        while time.perf_counter() - start < arguments.seconds:
            sampler.sample(arguments.batch)
            batches += 1
        theirs.append(batches / (time.perf_counter() - start))
    left, right = statistics.median(ours), statistics.median(theirs)
    print("| batch | Telic, batches/s | numpy, batches/s | ratio |")
    print("|---|---|---|---|")
    print(f"| {arguments.batch} | {left:.0f} | {right:.0f} | {left / right:.1f} |")


if __name__ == "__main__":
    main()
