"""Type checkers accept the package and code that uses it."""

import pathlib
import subprocess
import sys

import pytest

pytest.importorskip("mypy")

USER = '''
import numpy as np
from numpy.typing import NDArray

import telic

env = telic.TelicEnv("cube-single", flat=True)
state: bytes = env.get_state()
envs = telic.TelicVectorEnv("cube-single", num_envs=2)
rewards: NDArray[np.float32] = envs.step(envs.action_space.sample())[1]
data: telic.Dataset = telic.load_dataset("play.npz")
batch = data.sample(3, value_goals={"current": 0.0, "trajectory": 1.0, "random": 0.0, "geometric": True})
goals: NDArray[np.float32] = batch["value_goals"]
action: NDArray[np.float32] = telic.load_policy("run").act(data.observations[0], goals[0])
description: telic.EnvDescription = telic.describe("cube-single")
name: str = description["observation"][0]["name"]
'''

WRONG = '''
import telic

telic.load_dataset("play.npz").sample("three")
telic.describe("cube-single")["observations"]
telic.TelicEnv("cube-single", True)
'''


def mypy(*arguments: str) -> str:
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--cache-dir=/dev/null", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def test_package_is_consistent() -> None:
    assert mypy("--package", "telic") == ""


def test_users_are_understood(tmp_path: pathlib.Path) -> None:
    script = tmp_path / "user.py"
    script.write_text(USER)
    assert mypy(str(script)) == ""


def test_mistakes_are_found(tmp_path: pathlib.Path) -> None:
    script = tmp_path / "wrong.py"
    script.write_text(WRONG)
    assert mypy(str(script)).count("error:") == 3
