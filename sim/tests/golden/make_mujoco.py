"""Writes mujoco.json: poses, velocities and accelerations of the fixtures in random states, by MuJoCo 3.3.2.

    pip install mujoco==3.3.2 && python make_mujoco.py
"""

import json
import pathlib

import mujoco
import numpy as np

HERE = pathlib.Path(__file__).parent
STATES = 4


def random_state(model, data, rng):
    data.qpos[:] = model.qpos0
    for joint in range(model.njnt):
        at = model.jnt_qposadr[joint]
        kind = model.jnt_type[joint]
        if kind == mujoco.mjtJoint.mjJNT_FREE:
            data.qpos[at : at + 3] += rng.uniform(-0.5, 0.5, 3) + [0, 0, 2]
            quat = rng.normal(size=4)
            data.qpos[at + 3 : at + 7] = quat / np.linalg.norm(quat)
        elif kind == mujoco.mjtJoint.mjJNT_BALL:
            quat = np.array([1, 0, 0, 0]) + 0.5 * rng.normal(size=4)
            data.qpos[at : at + 4] = quat / np.linalg.norm(quat)
        elif model.jnt_limited[joint]:
            low, high = model.jnt_range[joint]
            span = min(high - low, 3.0)
            middle = (low + high) / 2
            data.qpos[at] = rng.uniform(middle - 0.45 * span, middle + 0.45 * span)
        else:
            data.qpos[at] += rng.uniform(-0.8, 0.8)
    data.qvel[:] = rng.uniform(-1, 1, model.nv)
    data.ctrl[:] = rng.uniform(-1, 1, model.nu)


def main():
    rng = np.random.default_rng(0)
    out = []
    fixtures, assets = HERE.parent / "fixtures", HERE.parents[2] / "envs" / "assets"
    for name, folder in [("arm", fixtures), ("ant", assets), ("limbs", fixtures)]:
        model = mujoco.MjModel.from_xml_path(str(folder / f"{name}.xml"))
        # Couplings and contacts are soft there and hard here; the free dynamics are compared.
        model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_EQUALITY | mujoco.mjtDisableBit.mjDSBL_CONTACT
        data = mujoco.MjData(model)
        for _ in range(STATES):
            random_state(model, data, rng)
            mujoco.mj_forward(model, data)
            velocities = []
            for body in range(1, model.nbody):
                velocity = np.zeros(6)
                mujoco.mj_objectVelocity(model, data, mujoco.mjtObj.mjOBJ_XBODY, body, velocity, 0)
                velocities.append([*velocity[3:], *velocity[:3]])
            out.append(
                {
                    "model": name,
                    "qpos": data.qpos.tolist(),
                    "qvel": data.qvel.tolist(),
                    "ctrl": data.ctrl.tolist(),
                    "bodies": [mujoco.mj_id2name(model, mujoco.mjtObj.mjOBJ_BODY, b) for b in range(1, model.nbody)],
                    "masses": model.body_mass[1:].tolist(),
                    "positions": data.xpos[1:].tolist(),
                    "quaternions": data.xquat[1:].tolist(),
                    "velocities": velocities,
                    "qacc": data.qacc.tolist(),
                }
            )
    rounded = json.loads(json.dumps(out), parse_float=lambda text: round(float(text), 8))
    (HERE / "mujoco.json").write_text(json.dumps(rounded) + "\n")


if __name__ == "__main__":
    main()
