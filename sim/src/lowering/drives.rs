//! Actuators and keyframes.

use rapier3d_mjcf::mjcf_rs;
use rapier3d_mjcf::mjcf_rs::extras::{Actuator as XmlActuator, ActuatorKind};

use super::{Lowering, element, invalid};
use crate::error::ModelError;
use crate::model::{Actuator, JointId, JointKind, Keyframe};

impl Lowering<'_> {
    pub(super) fn actuators(&mut self) -> Result<(), ModelError> {
        for actuator in &self.source.model.actuators {
            let actuator = self.actuator(actuator)?;
            self.model.actuators.push(actuator);
        }
        Ok(())
    }

    fn actuator(&self, xml: &XmlActuator) -> Result<Actuator, ModelError> {
        let tag = match xml.kind {
            ActuatorKind::Motor => "motor",
            ActuatorKind::Position => "position",
            ActuatorKind::Velocity => "velocity",
            _ => "general",
        };
        let element = element(tag, xml.name.as_ref());
        let fail = |message: String| invalid(self.source, &element, message);
        let name = xml.joint.as_ref().ok_or_else(|| {
            fail("`joint` is missing; only joint transmissions are supported".to_owned())
        })?;
        let joint = self.joint_index(name).ok_or_else(|| {
            fail(format!(
                "`joint` is \"{name}\", expected the name of a joint"
            ))
        })?;
        if !matches!(
            self.model.joints[joint].kind,
            JointKind::Hinge | JointKind::Slide
        ) {
            return Err(fail(format!(
                "`joint` is \"{name}\", expected a hinge or slide joint"
            )));
        }
        let kp = xml.kp.unwrap_or(1.0) as f32;
        let kv = xml.kv.map(|kv| kv as f32);
        let entry = |list: &[f64], index: usize, default: f64| {
            list.get(index).copied().unwrap_or(default) as f32
        };
        let (gain, bias) = match xml.kind {
            ActuatorKind::Motor => (1.0, [0.0; 3]),
            ActuatorKind::Position => (kp, [0.0, -kp, -kv.unwrap_or(0.0)]),
            ActuatorKind::Velocity => (kv.unwrap_or(1.0), [0.0, 0.0, -kv.unwrap_or(1.0)]),
            ActuatorKind::General => {
                if xml.gain_type.as_deref().is_some_and(|t| t != "fixed") {
                    return Err(fail("`gaintype` is not \"fixed\"".to_owned()));
                }
                if xml.dyn_type.as_deref().is_some_and(|t| t != "none") {
                    return Err(fail("`dyntype` is not \"none\"".to_owned()));
                }
                let gain = entry(&xml.gainprm, 0, 1.0);
                match xml.bias_type.as_deref() {
                    None | Some("none") => (gain, [0.0; 3]),
                    Some("affine") => (gain, [0, 1, 2].map(|i| entry(&xml.biasprm, i, 0.0))),
                    Some(_) => {
                        return Err(fail(
                            "`biastype` is neither \"none\" nor \"affine\"".to_owned(),
                        ));
                    }
                }
            }
            ActuatorKind::Damper | ActuatorKind::IntVelocity | ActuatorKind::Other => {
                return Err(fail(
                    "this kind of actuator is not supported, expected motor, position, velocity or general".to_owned(),
                ));
            }
        };
        let autolimits = self.source.model.compiler.autolimits;
        let range = |limited: mjcf_rs::Tristate, range: Option<[f64; 2]>| {
            if limited.resolve(autolimits, range.is_some()) {
                range.map(|r| r.map(|v| v as f32))
            } else {
                None
            }
        };
        Ok(Actuator {
            name: xml.name.clone(),
            joint: JointId(joint),
            ctrl_range: range(xml.ctrl_limited, xml.ctrl_range),
            force_range: range(xml.force_limited, xml.force_range),
            gear: xml.gear[0] as f32,
            gain,
            bias,
        })
    }

    pub(super) fn keyframes(&mut self) -> Result<(), ModelError> {
        for key in &self.source.model.keyframes {
            for (attribute, values, expected) in [
                ("qpos", &key.qpos, self.model.nq),
                ("qvel", &key.qvel, self.model.nv),
                ("ctrl", &key.ctrl, self.model.actuators.len()),
            ] {
                if !values.is_empty() && values.len() != expected {
                    return Err(invalid(
                        self.source,
                        &element("key", key.name.as_ref()),
                        format!(
                            "`{attribute}` has {} numbers, the model has {expected}",
                            values.len()
                        ),
                    ));
                }
            }
            let single = |values: &[f64]| values.iter().map(|&v| v as f32).collect();
            self.model.keyframes.push(Keyframe {
                name: key.name.clone(),
                qpos: single(&key.qpos),
                qvel: single(&key.qvel),
                ctrl: single(&key.ctrl),
            });
        }
        Ok(())
    }
}
