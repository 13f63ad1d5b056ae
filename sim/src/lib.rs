//! Simulated worlds over rapier: models, actuation, state, contacts and kinematics.
//!
//! A [`Model`] is parsed from an MJCF or URDF file and never changes; a [`World`] is that model in motion. The world is Z-up,
//! in SI units and radians, and states have MuJoCo's layout.
//!
//! - `mjcf`, `urdf`: reading files; `lowering`: from a file to what the engine simulates; `assembly`: the engine's objects
//! - `world`, `state`, `actuation`, `contacts`, `geometry`, `momentum`, `snapshot`: what a world can do
//! - [`kinematics`]: chains of joints in double precision, with inverse kinematics
//!
//! ```
//! use std::sync::Arc;
//! use telic_sim::{Model, PhysicsConfig, World};
//!
//! let model = Model::from_mjcf_str(
//!     "drop",
//!     r#"<mujoco><worldbody><body name="ball" pos="0 0 1"><freejoint/><geom type="sphere" size="0.1"/></body></worldbody></mujoco>"#,
//! )?;
//! let mut world = World::new(&Arc::new(model), &PhysicsConfig::default())?;
//! for _ in 0..20 {
//!     world.step();
//! }
//! let ball = world.body_id("ball").expect("it is in the file above");
//! assert!(world.body_pose(ball).translation.z < 1.0);
//! # Ok::<(), telic_sim::ModelError>(())
//! ```

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub use rapier3d::math::{Pose, Rotation, Vector};

pub use config::{Friction, JointLimits, PhysicsConfig};
pub use contacts::Contact;
pub use error::{ModelError, Place, StateError};
pub use geometry::RayHit;
pub use model::{
    Actuator, ActuatorId, Body, BodyId, Geom, GeomId, GeomShape, Joint, JointId, JointKind,
    Keyframe, Model, Site, SiteId,
};
pub use momentum::Momentum;
pub use world::World;

mod actuation;
mod assembly;
mod config;
mod contacts;
mod error;
mod geometry;
pub mod kinematics;
mod lowering;
mod mass;
mod meshes;
mod mjcf;
mod model;
mod momentum;
mod snapshot;
mod state;
mod urdf;
mod validate;
mod world;
