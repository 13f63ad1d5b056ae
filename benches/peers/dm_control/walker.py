"""Reference numbers of the planar walker: model, rewards, a drop, torques, random actions.

Run it with `python walker.py` where `dm_control` and `mujoco` are installed. The model file, the reward functions and the
randomizer are dm_control's; the physics is stepped through `mujoco` itself, since the binding of dm_control 1.0.50 does not
load with mujoco 4.0.
"""

import time

import mujoco
import numpy as np
from dm_control.suite import walker
from dm_control.utils import rewards

STEPS_PER_ACTION = 10


def load() -> tuple[mujoco.MjModel, mujoco.MjData]:
    xml, assets = walker.get_model_and_assets()
    model = mujoco.MjModel.from_xml_string(xml.decode() if isinstance(xml, bytes) else xml, assets)
    return model, mujoco.MjData(model)


def write(model, data, qpos, qvel) -> None:
    mujoco.mj_resetData(model, data)
    data.qpos[:], data.qvel[:] = qpos, qvel
    mujoco.mj_forward(model, data)


def act(model, data, action) -> None:
    data.ctrl[:] = action
    for _ in range(STEPS_PER_ACTION):
        mujoco.mj_step(model, data)
    mujoco.mj_forward(model, data)


def observation(data) -> np.ndarray:
    matrices = data.xmat[1:]
    return np.concatenate([matrices[:, [0, 2]].ravel(), [data.xpos[1, 2]], data.qvel])


def facts(data) -> np.ndarray:
    """Horizontal velocity and angular momentum about y of the torso's subtree."""
    return np.array([data.sensordata[0], data.subtree_angmom[1, 1]])


def named_rewards(data) -> np.ndarray:
    """stand, walk, run as dm_control has them; flip as in URLB (Laskin et al. 2021)."""
    inf = float("inf")
    standing = rewards.tolerance(data.xpos[1, 2], bounds=(1.2, inf), margin=0.6)
    stand = (3 * standing + (1 + data.xmat[1, 8]) / 2) / 4
    speed, momentum = facts(data)

    def moving(value, target, margin, value_at_margin):
        move = rewards.tolerance(
            value, bounds=(target, inf), margin=margin, value_at_margin=value_at_margin, sigmoid="linear"
        )
        return stand * (5 * move + 1) / 6

    return np.array(
        [stand, moving(speed, 1, 0.5, 0.5), moving(speed, 8, 4, 0.5), moving(momentum, 5, 5, 0.0)]
    )


def row(values) -> str:
    return "[" + ", ".join(f"{value:.5f}" for value in values) + "]"


def print_model(model) -> None:
    for body in range(model.nbody):
        inertia, centre = model.body_inertia[body], model.body_ipos[body]
        print(model.body(body).name, model.body_pos[body], f"{model.body_mass[body]:.5f} kg", inertia, centre)
    for joint in range(model.njnt):
        print(
            model.joint(joint).name,
            np.degrees(model.jnt_range[joint]) if model.jnt_limited[joint] else "free",
            model.jnt_axis[joint],
            model.jnt_pos[joint],
            "armature", model.dof_armature[joint],
            "damping", model.dof_damping[joint],
            "solref", model.jnt_solref[joint],
            "solimp", model.jnt_solimp[joint],
        )
    for actuator in range(model.nu):
        print(model.actuator(actuator).name, model.actuator_gear[actuator, 0], model.actuator_ctrlrange[actuator])
    for geom in range(model.ngeom):
        print(
            model.geom(geom).name, model.geom_type[geom], model.geom_size[geom], model.geom_pos[geom],
            model.geom_friction[geom], model.geom_contype[geom], model.geom_conaffinity[geom],
        )
    print("timestep", model.opt.timestep, "gravity", model.opt.gravity, "qpos0", model.qpos0)


STATES = [
    ([0] * 9, [0] * 9),
    ([-0.3, 0.5, 0.4, 0.2, -0.5, 0.1, 1.0, -1.2, 0.3], [0.1, 1.5, -0.7, 2, -1, 0.5, -3, 1, 2]),
    ([-0.05, 2, -0.2, 0.9, -1.5, -0.4, 0.1, -0.2, 0.6], [-0.5, 6, 1.2, -4, 3, 1, 5, -6, -2]),
    ([-0.9, -1, 2.5, -0.3, -2.5, 0.7, 1.7, -0.1, -0.7], [1, -0.8, 6, 0, 0, 0, 0, 0, 0]),
    ([0.1, 0, 0.1, 0.4, -0.3, 0.2, -0.1, -0.9, -0.2], [0.2, 3, 3, 1, 1, -1, -1, 2, 0]),
]


def main() -> None:
    np.set_printoptions(precision=6, suppress=True, linewidth=160)
    model, data = load()
    print_model(model)
    print("\nstates: qpos, qvel, observation, [speed, angular momentum], rewards")
    for qpos, qvel in STATES:
        write(model, data, qpos, qvel)
        for values in (qpos, qvel, observation(data), facts(data), named_rewards(data)):
            print(row(values))
    print("\ndrop from rest: control steps, height, qpos[2:]")
    write(model, data, np.zeros(9), np.zeros(9))
    for step in range(1, 201):
        act(model, data, np.zeros(6))
        if step in (1, 5, 10, 15, 20, 25, 30, 35, 40, 60, 80, 120, 200):
            print(step, f"{data.xpos[1, 2]:.4f}", row(data.qpos[2:]))
    print("\ndrop bent, knees first: control steps, height, qpos[2:]")
    write(model, data, [0, 0, 0.3, 0.5, -1, 0.2, 0.2, -0.6, 0.1], np.zeros(9))
    for step in range(1, 201):
        act(model, data, np.zeros(6))
        if step in (1, 5, 10, 15, 20, 25, 30, 35, 40, 60, 80, 120, 200):
            print(step, f"{data.xpos[1, 2]:.4f}", row(data.qpos[2:]))
    print("\none action of full torque in the air: qpos[2:] and qvel after it")
    for joint in range(3):
        for torque in (1, -1):
            write(model, data, [3, 0, 0, 0.7, -1.3, 0, 0.7, -1.3, 0], np.zeros(9))
            action = np.zeros(6)
            action[joint] = torque
            act(model, data, action)
            print(joint, torque, row(data.qpos[2:]), row(data.qvel))
    print("\nslide on the belly from 3 m/s: speed every 5 control steps")
    write(model, data, [-1.23, 0, 1.5708, 0, 0, 0, 0, 0, 0], [0, 3, 0, 0, 0, 0, 0, 0, 0])
    for step in range(1, 21):
        act(model, data, np.zeros(6))
        if step % 5 == 0:
            print(step, row(facts(data)))
    print("\nten flights of half a second with random actions: worst |speed|, |angular momentum|")
    rng = np.random.default_rng(1)
    drift = np.zeros(2)
    for _ in range(10):
        write(model, data, [100, 0, 0, 0.7, -1.3, 0, 0.7, -1.3, 0], np.zeros(9))
        for _ in range(20):
            act(model, data, rng.uniform(-1, 1, 6))
        drift = np.maximum(drift, np.abs(facts(data)))
    print(row(drift))
    print("\nrandom actions")
    rng = np.random.default_rng(0)
    ranges = model.jnt_range[3:]
    limited = np.zeros(0)
    heights, speeds, worst = [], [], np.zeros(9)
    started = time.perf_counter()
    for step in range(20_000):
        if step % 1000 == 0:
            qpos = np.zeros(9)
            qpos[2], qpos[3:] = rng.uniform(-np.pi, np.pi), rng.uniform(ranges[:, 0], ranges[:, 1])
            write(model, data, qpos, np.zeros(9))
        act(model, data, rng.uniform(-1, 1, 6))
        heights.append(data.xpos[1, 2])
        speeds.append(abs(data.sensordata[0]))
        worst = np.maximum(worst, np.abs(data.qvel))
        limited = np.append(limited, np.maximum(ranges[:, 0] - data.qpos[3:], data.qpos[3:] - ranges[:, 1]).max())
    seconds = time.perf_counter() - started
    print(f"height {np.mean(heights):.4f} +- {np.std(heights):.4f} (min {min(heights):.4f}, max {max(heights):.4f})")
    print(f"speed {np.mean(speeds):.4f}, 99 % {np.quantile(speeds, 0.99):.3f}, max {max(speeds):.3f}")
    print("fastest", worst, "farthest beyond a limit", limited.max(), "99 %", np.quantile(limited, 0.99))
    print(f"{20_000 / seconds:.0f} control steps/s")


if __name__ == "__main__":
    main()
