"""How far the same training on two devices, or in two precisions, drifts apart: every policy, 100 updates, the same seed.

    python3 benches/device_agreement.py --telic target/release/telic [--devices cpu,cuda] [--updates 100]
    python3 benches/device_agreement.py --devices cpu,cpu --precisions f32,bf16 --tolerance 0.2

Prints, per policy, the largest relative difference of its losses over the updates, and fails where it is above the tolerance.
Devices add up in different orders, so single bits differ from the first update on; nothing is random on a device.
"""

import argparse
import csv
import pathlib
import shutil
import subprocess
import sys
import tempfile

POLICIES = {
    "beso": ["policy.network.embed_dim=64", "policy.network.heads=4", "policy.network.layers=2"],
    "hilp": [],
    "hilp_zero_shot": [],
    "smore": [],
    "gcivl": [],
    "gciql": [],
    "qrl": [],
    "crl": [],
    "hiql": [],
    "gcbc": [],
}


def train(telic, folder, policy, side, updates):
    """The rows of `metrics.csv` of a training."""
    device, precision = side
    config = folder / "config.toml"
    config.write_text(f"dataset = '{folder}/data.npz'\nsteps = {updates}\nbatch_size = 256\nlog_every = 1\n[policy]\nid = '{policy}'\n")
    out = folder / f"{policy}-{device}-{precision}"
    settings = [flag for setting in [f"precision={precision}", *POLICIES[policy]] for flag in ("--set", setting)]
    command = [telic, "train", str(config), "--device", device, "--out", str(out), "--json", *settings]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    with open(out / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    shutil.rmtree(out)
    return rows


def drift(left, right):
    """The largest difference of a loss, relative to the mean size of that loss."""
    worst = 0.0
    for name in left[0]:
        if name.startswith("training/") and name.endswith("/loss"):
            size = sum(abs(float(row[name])) for row in left) / len(left)
            worst = max(worst, *(abs(float(a[name]) - float(b[name])) / size for a, b in zip(left, right)))
    return worst


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--telic", default="target/release/telic")
    parser.add_argument("--devices", default="cpu,cuda")
    parser.add_argument("--precisions", default="f32,f32")
    parser.add_argument("--updates", type=int, default=100)
    parser.add_argument("--tolerance", type=float, default=0.01)
    arguments = parser.parse_args()
    first, second = zip(arguments.devices.split(","), arguments.precisions.split(","), strict=True)
    failed = False
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        collect = [arguments.telic, "collect", "--env", "block-push", "--episodes", "50", "--out", str(folder / "data.npz"), "--json"]
        subprocess.run(collect, check=True, stdout=subprocess.DEVNULL)
        print(f"| policy | losses of {' '.join(first)} and {' '.join(second)} differ by at most |\n|---|---|")
        for policy in POLICIES:
            left = train(arguments.telic, folder, policy, first, arguments.updates)
            right = train(arguments.telic, folder, policy, second, arguments.updates)
            worst = drift(left, right)
            failed |= not worst <= arguments.tolerance
            print(f"| {policy} | {worst:.1e} |", flush=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
