//! Mesh assets: inline vertices, STL and OBJ files.

use std::collections::BTreeMap;
use std::path::Path;

use camino::Utf8PathBuf;
use rapier3d::math::Vector;
use rapier3d::parry::transformation::try_convex_hull;
use rapier3d_mjcf::mjcf_rs;

use crate::error::{ModelError, Place};
use crate::validate::Lines;

/// A triangle mesh asset, scaled.
#[derive(Clone, Debug, Default)]
pub(crate) struct Mesh {
    pub(crate) vertices: Vec<[f32; 3]>,
    pub(crate) triangles: Vec<[u32; 3]>,
}

/// Most corners a mesh may have.
const MAX_CORNERS: usize = 10_000_000;

/// Loads every mesh asset of a model.
pub(crate) fn load(
    file: &str,
    model: &mjcf_rs::Model,
    folder: &Path,
    lines: &Lines,
) -> Result<BTreeMap<String, Mesh>, ModelError> {
    let mut meshes = BTreeMap::new();
    for asset in &model.assets.meshes {
        let name = asset.name.clone().unwrap_or_default();
        let line = lines.get(&("mesh".to_owned(), name.clone()));
        let fail = |message: String| ModelError::Invalid {
            message,
            place: Box::new(Place {
                file: line.map_or_else(|| file.to_owned(), |(file, _)| file.clone()),
                line: line.map_or(0, |(_, line)| *line),
                element: format!("<mesh name=\"{name}\">"),
            }),
        };
        let mut mesh = match (
            &asset.inline_vertices,
            model.resolve_mesh_file(asset, folder),
        ) {
            (Some(vertices), _) => inline(vertices, asset.inline_faces.as_deref()).map_err(fail)?,
            (None, Some(path)) => from_path(&path)?.map_err(fail)?,
            (None, None) => return Err(fail("`file` is missing".to_owned())),
        };
        // MuJoCo first moves the mesh by the inverse of the reference pose, then scales it.
        let reference = asset.refpose.inverse();
        for vertex in &mut mesh.vertices {
            let p =
                reference.transform_point(mjcf_rs::glam::DVec3::from_array(vertex.map(f64::from)));
            *vertex = [p.x, p.y, p.z].map(|v| v as f32);
            for (value, scale) in vertex.iter_mut().zip(asset.scale) {
                *value *= scale as f32;
            }
        }
        if !mesh.vertices.iter().flatten().all(|v| v.is_finite()) {
            return Err(fail("a corner is not finite".to_owned()));
        }
        meshes.insert(name, mesh);
    }
    Ok(meshes)
}

/// Reads a mesh file by its extension, without scale.
pub(crate) fn from_path(path: &Path) -> Result<Result<Mesh, String>, ModelError> {
    let shown = Utf8PathBuf::from(path.to_string_lossy().into_owned());
    let bytes = std::fs::read(path).map_err(|source| ModelError::Read {
        path: shown.clone(),
        source,
    })?;
    let extension = shown.extension().map(str::to_ascii_lowercase);
    Ok(match extension.as_deref() {
        Some("stl") => stl(&bytes),
        Some("obj") => obj(&bytes),
        _ => Err(format!(
            "`file` is \"{shown}\", expected an .stl or .obj file"
        )),
    })
}

fn checked(mesh: Mesh) -> Result<Mesh, String> {
    let corners = mesh.vertices.len();
    if !(4..=MAX_CORNERS).contains(&corners) {
        return Err(format!(
            "the mesh has {corners} corners, expected 4 to {MAX_CORNERS}"
        ));
    }
    match mesh
        .triangles
        .iter()
        .flatten()
        .find(|&&index| index as usize >= corners)
    {
        Some(index) => Err(format!("a face names corner {index}, there are {corners}")),
        None => Ok(mesh),
    }
}

fn inline(vertices: &[f64], faces: Option<&[u32]>) -> Result<Mesh, String> {
    if !vertices.len().is_multiple_of(3) {
        return Err(format!(
            "`vertex` has {} numbers, expected three per corner",
            vertices.len()
        ));
    }
    let vertices: Vec<[f32; 3]> = vertices
        .chunks_exact(3)
        .map(|v| [v[0] as f32, v[1] as f32, v[2] as f32])
        .collect();
    let triangles = match faces {
        Some(faces) if faces.len().is_multiple_of(3) => {
            faces.chunks_exact(3).map(|f| [f[0], f[1], f[2]]).collect()
        }
        Some(faces) => {
            return Err(format!(
                "`face` has {} numbers, expected three per triangle",
                faces.len()
            ));
        }
        // Corners alone stand for their hull.
        None => return hull(&vertices),
    };
    checked(Mesh {
        vertices,
        triangles,
    })
}

fn hull(vertices: &[[f32; 3]]) -> Result<Mesh, String> {
    let points: Vec<Vector> = vertices.iter().map(|&v| Vector::from(v)).collect();
    let (points, triangles) = try_convex_hull(&points).map_err(|_| {
        "`vertex` has no convex hull, expected corners that span a volume".to_owned()
    })?;
    checked(Mesh {
        vertices: points.iter().map(Vector::to_array).collect(),
        triangles,
    })
}

fn stl(bytes: &[u8]) -> Result<Mesh, String> {
    let short = || "the STL file ends early".to_owned();
    let mut mesh = Mesh::default();
    let count = bytes
        .get(80..84)
        .map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]) as usize);
    // A binary file has exactly the length that its header says; everything else is text.
    if let Some(count) = count.filter(|count| bytes.len() == 84 + 50 * count) {
        for triangle in bytes[84..].chunks_exact(50).take(count) {
            let corner = |at: usize| -> [f32; 3] {
                [0, 4, 8].map(|o| {
                    let b = &triangle[at + o..at + o + 4];
                    f32::from_le_bytes([b[0], b[1], b[2], b[3]])
                })
            };
            push_triangle(&mut mesh, [corner(12), corner(24), corner(36)]);
        }
        return checked(mesh);
    }
    let text = std::str::from_utf8(bytes).map_err(|_| short())?;
    let mut words = text.split_ascii_whitespace();
    let mut corners = Vec::new();
    while let Some(word) = words.next() {
        if word == "vertex" {
            let mut corner = [0.0; 3];
            for value in &mut corner {
                *value = words
                    .next()
                    .and_then(|w| w.parse().ok())
                    .ok_or_else(short)?;
            }
            corners.push(corner);
        }
    }
    for triangle in corners.chunks_exact(3) {
        push_triangle(&mut mesh, [triangle[0], triangle[1], triangle[2]]);
    }
    checked(mesh)
}

fn push_triangle(mesh: &mut Mesh, corners: [[f32; 3]; 3]) {
    let first = mesh.vertices.len() as u32;
    mesh.vertices.extend(corners);
    mesh.triangles.push([first, first + 1, first + 2]);
}

fn obj(bytes: &[u8]) -> Result<Mesh, String> {
    let text = String::from_utf8_lossy(bytes);
    let mut mesh = Mesh::default();
    for (number, line) in text.lines().enumerate() {
        let bad = || format!("line {} of the OBJ file is \"{line}\"", number + 1);
        let mut words = line.split_ascii_whitespace();
        match words.next() {
            Some("v") => {
                let mut corner = [0.0; 3];
                for value in &mut corner {
                    *value = words.next().and_then(|w| w.parse().ok()).ok_or_else(bad)?;
                }
                mesh.vertices.push(corner);
            }
            Some("f") => {
                let mut polygon = Vec::new();
                for word in words {
                    let index: i64 = word
                        .split('/')
                        .next()
                        .and_then(|w| w.parse().ok())
                        .ok_or_else(bad)?;
                    // 1-based; negative counts from the end.
                    let index = if index < 0 {
                        mesh.vertices.len() as i64 + index
                    } else {
                        index - 1
                    };
                    polygon.push(u32::try_from(index).map_err(|_| bad())?);
                }
                for corner in 2..polygon.len() {
                    mesh.triangles
                        .push([polygon[0], polygon[corner - 1], polygon[corner]]);
                }
            }
            _ => {}
        }
    }
    checked(mesh)
}
