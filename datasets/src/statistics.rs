//! Statistics of columns.

use serde::Serialize;

/// Statistics of one column.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ColumnStatistics {
    /// Mean.
    pub mean: f64,
    /// Population standard deviation.
    pub std: f64,
    /// Least value.
    pub min: f32,
    /// Greatest value.
    pub max: f32,
}

impl ColumnStatistics {
    /// Statistics per column of a stream of rows of `width` entries, which is read twice: a mean first, then
    /// squared distances to it, since E[x²] − E[x]² cancels for columns far from 0. Zeros if there are no rows.
    pub(crate) fn of<I: Iterator<Item = f32>>(width: usize, rows: impl Fn() -> I) -> Vec<Self> {
        let mut columns = vec![
            Self {
                mean: 0.0,
                std: 0.0,
                min: f32::INFINITY,
                max: f32::NEG_INFINITY
            };
            width
        ];
        let mut values = 0usize;
        for_each_column(rows(), &mut columns, |column, value| {
            column.mean += f64::from(value);
            column.min = column.min.min(value);
            column.max = column.max.max(value);
            values += 1;
        });
        if values == 0 {
            columns.fill(Self {
                mean: 0.0,
                std: 0.0,
                min: 0.0,
                max: 0.0,
            });
            return columns;
        }
        let count = (values / width) as f64;
        for column in &mut columns {
            column.mean /= count;
        }
        for_each_column(rows(), &mut columns, |column, value| {
            column.std += (f64::from(value) - column.mean).powi(2);
        });
        for column in &mut columns {
            column.std = (column.std / count).sqrt();
        }
        columns
    }

    /// Whether the spread is no more than the rounding of `f32` at this magnitude.
    pub(crate) fn is_constant(&self) -> bool {
        let magnitude = f64::from(self.min.abs().max(self.max.abs()));
        f64::from(self.max) - f64::from(self.min) <= f64::from(f32::EPSILON) * magnitude
    }
}

fn for_each_column(
    rows: impl Iterator<Item = f32>,
    columns: &mut [ColumnStatistics],
    mut visit: impl FnMut(&mut ColumnStatistics, f32),
) {
    let width = columns.len();
    let mut entry = 0;
    for value in rows {
        visit(&mut columns[entry], value);
        entry += 1;
        if entry == width {
            entry = 0;
        }
    }
}
