"""Python and Rust make the same bits."""

import zlib

import numpy as np
import pytest

import telic


@pytest.mark.parametrize("seed", [0, 2**63 + 5])
def test_python_steps_to_the_bits_of_rust(env_id: str, seed: int) -> None:
    env = telic.TelicEnv(env_id, flat=True)
    observation, _ = env.reset(seed=seed)
    checksum = zlib.crc32(observation.astype("<f4").tobytes())
    entries = np.arange(env.description["action_dim"])
    for step in range(100):
        action = ((7 * step + 3 * entries) % 11).astype(np.float32) / np.float32(5) - np.float32(1)
        observation, _, terminated, truncated, _ = env.step(action)
        checksum = zlib.crc32(observation.astype("<f4").tobytes(), checksum)
        if terminated or truncated:
            break
    assert checksum == telic.rollout_checksum(env_id, seed=seed, steps=100)


def test_checksums_tell_rollouts_apart(env_id: str) -> None:
    assert telic.rollout_checksum(env_id, seed=1) == telic.rollout_checksum(env_id, seed=1)
    assert telic.rollout_checksum(env_id, seed=1) != telic.rollout_checksum(env_id, seed=2)
    assert telic.rollout_checksum(env_id, steps=3) != telic.rollout_checksum(env_id, steps=4)
