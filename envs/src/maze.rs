//! Grid mazes: maps, tasks, cell geometry, shortest paths, portals.
//!
//! Maps and tasks are those of OGBench (Park et al. 2024). A cell is 4 m wide; cell (1, 1) is centred on
//! the world origin, columns grow with x and rows with y.

use std::fmt::Write as _;

/// Width of a cell, in metres.
pub const CELL_M: f32 = 4.0;
/// Height of the walls, in metres.
pub const WALL_HEIGHT_M: f32 = 2.0;
/// Starts and goals are drawn this far around a cell's centre, per axis, in metres.
pub const POSITION_NOISE_M: f32 = CELL_M / 4.0;
/// Distance from the centre of an entrance within which a portal takes hold, in metres.
pub const PORTAL_REACH_M: f32 = 1.5;

/// One cell of a grid, 0-based.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cell {
    /// Row, along +y.
    pub row: usize,
    /// Column, along +x.
    pub column: usize,
}

const fn cell(row: usize, column: usize) -> Cell {
    Cell { row, column }
}

impl Cell {
    /// Centre of the cell in the world, in metres.
    pub fn centre(self) -> [f32; 2] {
        [
            (self.column as f32 - 1.0) * CELL_M,
            (self.row as f32 - 1.0) * CELL_M,
        ]
    }
}

/// Cells that move whoever enters them to another place.
#[derive(Debug)]
pub struct Portals {
    /// Entering within [`PORTAL_REACH_M`] of one of these centres moves the agent.
    pub entrances: &'static [Cell],
    /// Where it comes out, each with the same probability.
    pub exits: &'static [Cell],
}

/// One axis-aligned block of wall cells, in metres.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Wall {
    /// Centre, x and y.
    pub centre: [f32; 2],
    /// Half of the extent along x and y.
    pub half_extents: [f32; 2],
}

/// A maze.
#[derive(Debug)]
pub struct Maze {
    /// Name, for example `medium`.
    pub name: &'static str,
    /// Rows of the map, `#` wall and `.` free; the border is wall.
    pub rows: &'static [&'static str],
    /// Start and goal cell of each evaluation task.
    pub tasks: &'static [(Cell, Cell)],
    /// Portals, if any.
    pub portals: Option<Portals>,
}

/// The mazes of the point, in the order of the documentation.
pub static MAZES: [Maze; 5] = [
    Maze {
        name: "arena",
        rows: &[
            "########", "#......#", "#......#", "#......#", "#......#", "#......#", "#......#",
            "########",
        ],
        tasks: &[(cell(1, 1), cell(6, 6))],
        portals: None,
    },
    Maze {
        name: "medium",
        rows: &[
            "########", "#..##..#", "#..#...#", "##...###", "#..#...#", "#.#..#.#", "#...#..#",
            "########",
        ],
        tasks: &[
            (cell(1, 1), cell(6, 6)),
            (cell(6, 1), cell(1, 6)),
            (cell(5, 3), cell(4, 2)),
            (cell(6, 5), cell(6, 1)),
            (cell(2, 6), cell(1, 1)),
        ],
        portals: None,
    },
    Maze {
        name: "large",
        rows: &[
            "############",
            "#....#.....#",
            "#.##.#.#.#.#",
            "#......#...#",
            "#.####.###.#",
            "#..#.#.....#",
            "##.#.#.#.###",
            "#..#...#...#",
            "############",
        ],
        tasks: &[
            (cell(1, 1), cell(7, 10)),
            (cell(5, 4), cell(7, 1)),
            (cell(7, 4), cell(1, 10)),
            (cell(3, 8), cell(5, 4)),
            (cell(1, 1), cell(5, 4)),
        ],
        portals: None,
    },
    Maze {
        name: "giant",
        rows: &[
            "################",
            "#.#......##....#",
            "#.#.##.#.#..##.#",
            "#...#..#...#...#",
            "#.###.######.#.#",
            "#...#...#....#.#",
            "###.#.#..#.#.###",
            "#...#..#...#...#",
            "#.#.#.######.#.#",
            "#.###...#...##.#",
            "#.....#...#....#",
            "################",
        ],
        tasks: &[
            (cell(1, 1), cell(10, 14)),
            (cell(1, 14), cell(10, 1)),
            (cell(8, 14), cell(1, 1)),
            (cell(8, 3), cell(5, 12)),
            (cell(5, 9), cell(3, 8)),
        ],
        portals: None,
    },
    Maze {
        name: "teleport",
        rows: &[
            "############",
            "#.....#.#..#",
            "##.#...#..##",
            "##.###.....#",
            "#....#.#.#.#",
            "#.##.#.#.#.#",
            "#.##.#.#.#.#",
            "#....#...#.#",
            "############",
        ],
        tasks: &[
            (cell(1, 10), cell(7, 1)),
            (cell(1, 1), cell(7, 10)),
            (cell(5, 6), cell(7, 10)),
            (cell(7, 1), cell(7, 10)),
            (cell(5, 6), cell(7, 1)),
        ],
        portals: Some(Portals {
            entrances: &[cell(4, 6), cell(5, 1)],
            exits: &[cell(1, 7), cell(6, 1), cell(6, 10)],
        }),
    },
];

/// Row and column offsets of the neighbours, in the order in which ties between them are broken.
const NEIGHBOURS: [(isize, isize); 4] = [(-1, 0), (0, -1), (1, 0), (0, 1)];

impl Maze {
    /// Number of rows and columns.
    pub fn size(&self) -> (usize, usize) {
        (self.rows.len(), self.rows[0].len())
    }

    /// Whether nothing stands between any two of its free cells: all walls are its border.
    pub fn is_open(&self) -> bool {
        let (rows, columns) = self.size();
        self.free_cells().len() == (rows - 2) * (columns - 2)
    }

    /// Whether a cell of the grid is free.
    pub fn is_free(&self, cell: Cell) -> bool {
        self.rows
            .get(cell.row)
            .and_then(|row| row.as_bytes().get(cell.column))
            == Some(&b'.')
    }

    /// Every free cell, row by row.
    pub fn free_cells(&self) -> Vec<Cell> {
        let (rows, columns) = self.size();
        (0..rows)
            .flat_map(|row| (0..columns).map(move |column| Cell { row, column }))
            .filter(|&cell| self.is_free(cell))
            .collect()
    }

    /// Free cells that are not the inside of a straight corridor: corners, crossings, dead ends.
    pub fn vertex_cells(&self) -> Vec<Cell> {
        let mut cells = self.free_cells();
        cells.retain(|&cell| {
            let [up, left, down, right] = NEIGHBOURS
                .map(|offset| shifted(cell, offset).is_some_and(|cell| self.is_free(cell)));
            let horizontal = left && right && !up && !down;
            let vertical = up && down && !left && !right;
            !horizontal && !vertical
        });
        cells
    }

    /// The cell that contains a point of the world, or `None` outside of the grid.
    pub fn cell_at(&self, xy: [f32; 2]) -> Option<Cell> {
        let (rows, columns) = self.size();
        let index = |value: f32, count: usize| {
            let index = (value / CELL_M + 1.5).floor();
            (index >= 0.0 && index < count as f32).then_some(index as usize)
        };
        Some(Cell {
            row: index(xy[1], rows)?,
            column: index(xy[0], columns)?,
        })
    }

    /// Lengths of the shortest paths over free cells to `goal`, never entering a cell of `avoided`.
    pub fn distances(&self, goal: Cell, avoided: &[Cell]) -> Distances {
        let (rows, columns) = self.size();
        let mut steps = vec![None; rows * columns];
        let mut queue = std::collections::VecDeque::new();
        if self.is_free(goal) {
            steps[goal.row * columns + goal.column] = Some(0);
            queue.push_back((goal, 0));
        }
        while let Some((cell, distance)) = queue.pop_front() {
            for offset in NEIGHBOURS {
                let Some(next) = shifted(cell, offset) else {
                    continue;
                };
                if self.is_free(next) && !avoided.contains(&next) {
                    let entry = &mut steps[next.row * columns + next.column];
                    if entry.is_none() {
                        *entry = Some(distance + 1);
                        queue.push_back((next, distance + 1));
                    }
                }
            }
        }
        Distances { columns, steps }
    }

    /// The in-plane bounds that the walls leave free: low x, low y, high x, high y, in metres.
    pub fn bounds(&self) -> [f32; 4] {
        let (rows, columns) = self.size();
        let inner = |count: usize| (count as f32 - 2.5) * CELL_M;
        [-CELL_M / 2.0, -CELL_M / 2.0, inner(columns), inner(rows)]
    }

    /// The walls as few boxes, so that a body that slides along them meets few seams.
    pub fn walls(&self) -> Vec<Wall> {
        let (rows, columns) = self.size();
        let mut open: Vec<Vec<bool>> = (0..rows)
            .map(|row| {
                (0..columns)
                    .map(|column| !self.is_free(Cell { row, column }))
                    .collect()
            })
            .collect();
        let mut walls = Vec::new();
        for row in 0..rows {
            for column in 0..columns {
                if !open[row][column] {
                    continue;
                }
                let wide = open[row][column..].iter().take_while(|&&wall| wall).count();
                let tall = open[row..].iter().take_while(|line| line[column]).count();
                let (height, width) = if wide >= tall { (1, wide) } else { (tall, 1) };
                for line in &mut open[row..row + height] {
                    line[column..column + width].fill(false);
                }
                let low = Cell { row, column }.centre();
                walls.push(Wall {
                    centre: [
                        low[0] + (width - 1) as f32 * CELL_M / 2.0,
                        low[1] + (height - 1) as f32 * CELL_M / 2.0,
                    ],
                    half_extents: [width as f32 * CELL_M / 2.0, height as f32 * CELL_M / 2.0],
                });
            }
        }
        walls
    }

    /// The walls as MJCF geoms of the world body, with `attributes` on each.
    pub fn mjcf_walls(&self, attributes: &str) -> String {
        let mut xml = String::new();
        for (index, wall) in self.walls().iter().enumerate() {
            let [x, y] = wall.centre;
            let [half_x, half_y] = wall.half_extents;
            let half_z = WALL_HEIGHT_M / 2.0;
            // Writing to a string cannot fail.
            let _ = writeln!(
                xml,
                "<geom name=\"wall_{index}\" type=\"box\" pos=\"{x} {y} {half_z}\" size=\"{half_x} {half_y} {half_z}\" \
                 rgba=\"0.55 0.6 0.68 1\" {attributes}/>"
            );
        }
        xml
    }

    /// Whether a point is within reach of the entrance of a portal.
    pub fn in_portal(&self, xy: [f32; 2]) -> bool {
        self.portals.as_ref().is_some_and(|portals| {
            portals.entrances.iter().any(|entrance| {
                let [x, y] = entrance.centre();
                let (dx, dy) = (xy[0] - x, xy[1] - y);
                dx * dx + dy * dy <= PORTAL_REACH_M * PORTAL_REACH_M
            })
        })
    }
}

/// Shortest path lengths to one goal cell.
#[derive(Clone, Debug)]
pub struct Distances {
    columns: usize,
    steps: Vec<Option<u16>>,
}

impl Distances {
    /// Steps from a cell to the goal, or `None` where no path leads there.
    pub fn from(&self, cell: Cell) -> Option<u16> {
        if cell.column >= self.columns {
            return None;
        }
        self.steps
            .get(cell.row * self.columns + cell.column)
            .copied()
            .flatten()
    }

    /// The cell to head for from `cell`: its neighbour closest to the goal, or itself in the goal cell and where no
    /// path leads on. Of equal neighbours the first wins, in the order −row, −column, +row, +column.
    pub fn next(&self, cell: Cell) -> Cell {
        let mut best = (self.from(cell).unwrap_or(u16::MAX), cell);
        for offset in NEIGHBOURS {
            if let Some(next) = shifted(cell, offset)
                && let Some(distance) = self.from(next)
                && distance < best.0
            {
                best = (distance, next);
            }
        }
        best.1
    }
}

fn shifted(cell: Cell, (rows, columns): (isize, isize)) -> Option<Cell> {
    Some(Cell {
        row: cell.row.checked_add_signed(rows)?,
        column: cell.column.checked_add_signed(columns)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn maze(name: &str) -> &'static Maze {
        MAZES.iter().find(|maze| maze.name == name).unwrap()
    }

    #[test]
    fn maps_have_the_published_statistics() {
        // Free cells, vertex cells, longest shortest path.
        let expected = [
            ("arena", 36, 36, 10),
            ("medium", 26, 21, 11),
            ("large", 46, 22, 19),
            ("giant", 86, 46, 31),
            ("teleport", 45, 24, 23),
        ];
        for (name, free, vertices, diameter) in expected {
            let maze = maze(name);
            let cells = maze.free_cells();
            assert_eq!(cells.len(), free, "{name}");
            assert_eq!(maze.vertex_cells().len(), vertices, "{name}");
            let longest = cells
                .iter()
                .flat_map(|&goal| {
                    let distances = maze.distances(goal, &[]);
                    cells
                        .iter()
                        .filter_map(move |&cell| distances.from(cell))
                        .collect::<Vec<_>>()
                })
                .max();
            assert_eq!(longest, Some(diameter), "{name}");
        }
    }

    #[test]
    fn tasks_have_the_published_path_lengths() {
        let expected: [(&str, &[u16]); 5] = [
            ("arena", &[10]),
            ("medium", &[10, 10, 6, 10, 8]),
            ("large", &[15, 19, 12, 14, 15]),
            ("giant", &[30, 26, 30, 26, 17]),
            ("teleport", &[19, 15, 10, 21, 15]),
        ];
        for (name, lengths) in expected {
            let maze = maze(name);
            let found: Vec<_> = maze
                .tasks
                .iter()
                .map(|&(start, goal)| maze.distances(goal, &[]).from(start).unwrap())
                .collect();
            assert_eq!(found, lengths, "{name}");
        }
    }

    #[test]
    fn every_task_has_a_path_that_avoids_the_portals() {
        for maze in &MAZES {
            let avoided = maze
                .portals
                .as_ref()
                .map_or(&[][..], |portals| portals.entrances);
            for &(start, goal) in maze.tasks {
                assert!(
                    maze.distances(goal, avoided).from(start).is_some(),
                    "{} {start:?}",
                    maze.name
                );
            }
        }
    }

    #[test]
    fn cells_and_points_agree() {
        for maze in &MAZES {
            for cell in maze.free_cells() {
                let [x, y] = cell.centre();
                for offset in [-1.99, 0.0, 1.99] {
                    assert_eq!(maze.cell_at([x + offset, y - offset]), Some(cell));
                }
            }
            assert_eq!(maze.cell_at([-6.1, 0.0]), None);
            assert_eq!(maze.cell_at([0.0, 1e9]), None);
        }
        assert_eq!(cell(1, 1).centre(), [0.0, 0.0]);
        assert_eq!(cell(6, 2).centre(), [4.0, 20.0]);
    }

    #[test]
    fn walls_cover_every_wall_cell_once() {
        for maze in &MAZES {
            let walls = maze.walls();
            let (rows, columns) = maze.size();
            for row in 0..rows {
                for column in 0..columns {
                    let cell = Cell { row, column };
                    let [x, y] = cell.centre();
                    let covering = walls
                        .iter()
                        .filter(|wall| {
                            (x - wall.centre[0]).abs() < wall.half_extents[0]
                                && (y - wall.centre[1]).abs() < wall.half_extents[1]
                        })
                        .count();
                    assert_eq!(
                        covering,
                        usize::from(!maze.is_free(cell)),
                        "{} {cell:?}",
                        maze.name
                    );
                }
            }
        }
    }

    #[test]
    fn paths_lead_to_the_goal_cell_by_cell() {
        for maze in &MAZES {
            for &(start, goal) in maze.tasks {
                let distances = maze.distances(goal, &[]);
                let mut at = start;
                for _ in 0..distances.from(start).unwrap() {
                    at = distances.next(at);
                    assert!(maze.is_free(at));
                }
                assert_eq!(at, goal);
                assert_eq!(distances.next(goal), goal);
            }
        }
    }

    #[test]
    fn a_cell_without_a_path_leads_nowhere() {
        let maze = maze("teleport");
        let distances = maze.distances(cell(7, 10), &[]);
        assert_eq!(distances.from(cell(1, 7)), None);
        assert_eq!(distances.next(cell(1, 7)), cell(1, 7));
    }

    #[test]
    fn portals_reach_a_metre_and_a_half() {
        let maze = maze("teleport");
        let [x, y] = cell(4, 6).centre();
        assert!(maze.in_portal([x + 1.5, y]));
        assert!(!maze.in_portal([x + 1.501, y]));
        assert!(!MAZES[1].in_portal([x, y]));
    }
}
