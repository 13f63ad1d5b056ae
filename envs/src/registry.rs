//! Every environment by id.

use std::sync::OnceLock;

use crate::{
    EnvError, EnvSpec, ant_maze, ant_soccer, block_push, cube, humanoid_maze, point_maze, walker,
};

/// Every registered environment, in the order of the documentation.
pub fn specs() -> &'static [EnvSpec] {
    static SPECS: OnceLock<Vec<EnvSpec>> = OnceLock::new();
    SPECS.get_or_init(|| {
        let tables = vec![block_push::spec()];
        [
            point_maze::specs(),
            ant_maze::specs(),
            ant_soccer::specs(),
            humanoid_maze::specs(),
            tables,
            cube::specs(),
            vec![walker::spec()],
        ]
        .concat()
    })
}

/// The environment with this id.
pub fn spec(id: &str) -> Result<&'static EnvSpec, EnvError> {
    specs()
        .iter()
        .find(|spec| spec.id == id)
        .ok_or_else(|| EnvError::UnknownId {
            id: id.to_owned(),
            known: specs()
                .iter()
                .map(|spec| spec.id)
                .collect::<Vec<_>>()
                .join(", "),
        })
}
