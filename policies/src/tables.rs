//! Tables of a batch on their way to a device.

use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};

use crate::nn::is_flex;

/// A row-major table on the host.
pub(crate) struct Table {
    rows: usize,
    values: Vec<f32>,
}

impl Table {
    /// Row-major tables side by side, `[rows, sum of widths]`.
    pub(crate) fn side_by_side(rows: usize, tables: &[&[f32]]) -> Self {
        if let [table] = tables {
            let values = table.to_vec();
            return Self { rows, values };
        }
        let widths: Vec<usize> = tables.iter().map(|table| table.len() / rows).collect();
        let mut values = Vec::with_capacity(rows * widths.iter().sum::<usize>());
        for row in 0..rows {
            for (table, width) in tables.iter().zip(&widths) {
                values.extend_from_slice(&table[row * width..(row + 1) * width]);
            }
        }
        Self { rows, values }
    }

    /// On the device, `[rows, columns]`.
    pub(crate) fn upload<B: Backend>(self, device: &B::Device) -> Tensor<B, 2> {
        let shape = self.shape();
        Tensor::from_data(TensorData::new(self.values, shape), device)
    }

    fn shape(&self) -> [usize; 2] {
        [self.rows, self.values.len() / self.rows]
    }
}

/// Takes tables to the device, in one copy where that is another memory than the host's.
pub(crate) fn upload<B: Backend, const N: usize>(
    tables: [Table; N],
    device: &B::Device,
) -> [Tensor<B, 2>; N] {
    if is_flex::<B>() {
        return tables.map(|table| table.upload(device));
    }
    upload_joined(tables, device)
}

fn upload_joined<B: Backend, const N: usize>(
    tables: [Table; N],
    device: &B::Device,
) -> [Tensor<B, 2>; N] {
    let all: Vec<f32> = tables
        .iter()
        .flat_map(|table| table.values.iter().copied())
        .collect();
    let length = all.len();
    let all = Tensor::<B, 1>::from_data(TensorData::new(all, [length]), device);
    let mut first = 0;
    tables.map(|table| {
        let range = first..first + table.values.len();
        first = range.end;
        all.clone().slice([range]).reshape(table.shape())
    })
}

#[cfg(test)]
mod tests {
    use burn::backend::Flex;

    use super::*;
    use crate::module_state::tensor_values;

    #[test]
    fn tables_arrive_the_same_alone_and_joined() {
        let tables = || {
            [
                Table::side_by_side(2, &[&[1.0, 2.0, 3.0, 4.0], &[5.0, 6.0]]),
                Table::side_by_side(3, &[&[7.0, 8.0, 9.0]]),
            ]
        };
        let device = Default::default();
        for [first, second] in [
            upload::<Flex, 2>(tables(), &device),
            upload_joined::<Flex, 2>(tables(), &device),
        ] {
            assert_eq!((first.dims(), second.dims()), ([2, 3], [3, 1]));
            assert_eq!(tensor_values(first), [1.0, 2.0, 5.0, 3.0, 4.0, 6.0]);
            assert_eq!(tensor_values(second), [7.0, 8.0, 9.0]);
        }
    }
}
