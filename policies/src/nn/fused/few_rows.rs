//! `x w` of a few rows and a large `w`, which is what acting with a transformer needs. It takes as long as `w` takes from
//! memory, so `w` is read in blocks of whole rows and what the next block needs is asked for ahead. The library's product goes
//! down a few columns of `w` at a time, each entry of which is in another page of memory, and waits for them.

use std::ops::{Range, RangeInclusive};

use rayon::prelude::*;

use super::slices::{add, simd};

/// Rows of `x` for which this is faster: with one the library reads whole rows of `w` too, with more it is arithmetic that takes time.
const FASTER_ROWS: RangeInclusive<usize> = 2..=16;

/// Entries of `w` from which on this is faster: networks of smaller matrices stay in a cache from one action to the next.
const MANY_ENTRIES: usize = 300_000;

/// Rows of `w` that are added to the sums of all columns before the next ones.
const BLOCK: usize = 16;

/// Columns whose sums are in registers at once.
const TILE: usize = 16;

/// Most rows of `w` in one sum; of more, sums of equal parts are added. That is the library's order of summation.
const PART: usize = 512;

/// Whether [`multiply`] is the faster product for `x` `[rows, inputs]` and `w` `[inputs, outputs]`.
pub(super) fn is_faster([rows, inputs, outputs]: [usize; 3]) -> bool {
    // Without vector instructions a sum of products would be a call to a function.
    let vectors = !matches!(pulp::Arch::new(), pulp::Arch::Scalar);
    FASTER_ROWS.contains(&rows) && inputs * outputs >= MANY_ENTRIES && vectors
}

/// `x w`, on the threads of the pool that this is called on, or else on this thread. The bits are those of the library's product,
/// and do not depend on the number of threads.
///
/// `x` `[rows, inputs]` and `w` `[inputs, outputs]` row by row; the same for the result, `[rows, outputs]`.
pub(super) fn multiply(x: &[f32], w: &[f32], [rows, inputs, outputs]: [usize; 3]) -> Vec<f32> {
    assert!(x.len() == rows * inputs && w.len() == inputs * outputs);
    let mut by_input = vec![0.0; x.len()];
    for (row, x) in x.chunks_exact(inputs).enumerate() {
        for (place, x) in by_input.chunks_exact_mut(rows).zip(x) {
            place[row] = *x;
        }
    }
    let factors = Factors {
        x: &by_input,
        rows,
        w,
        outputs,
    };
    let threads = match rayon::current_thread_index() {
        Some(_) => rayon::current_num_threads(),
        None => 1,
    };
    let width = outputs.div_ceil(threads * TILE) * TILE;
    if width >= outputs {
        return factors.sums(0..outputs);
    }
    let strips: Vec<Vec<f32>> = (0..outputs.div_ceil(width))
        .into_par_iter()
        .map(|strip| factors.sums(strip * width..((strip + 1) * width).min(outputs)))
        .collect();
    let mut output = Vec::with_capacity(rows * outputs);
    for row in 0..rows {
        for strip in &strips {
            let width = strip.len() / rows;
            output.extend_from_slice(&strip[row * width..][..width]);
        }
    }
    output
}

/// What is multiplied.
struct Factors<'a> {
    /// `[inputs, rows]`.
    x: &'a [f32],
    rows: usize,
    /// `[inputs, outputs]`.
    w: &'a [f32],
    outputs: usize,
}

impl Factors<'_> {
    /// Some columns of the product, `[rows, columns]`.
    fn sums(&self, columns: Range<usize>) -> Vec<f32> {
        let inputs = self.x.len() / self.rows;
        let part = inputs.div_ceil(inputs.div_ceil(PART));
        let mut total = vec![0.0; self.rows * columns.len()];
        self.add_part(0..part, &columns, &mut total);
        for first in (part..inputs).step_by(part) {
            let mut addend = vec![0.0; total.len()];
            self.add_part(first..(first + part).min(inputs), &columns, &mut addend);
            add(&mut total, &addend);
        }
        total
    }

    /// Adds the products of some inputs to the sums of some columns.
    fn add_part(&self, inputs: Range<usize>, columns: &Range<usize>, sums: &mut [f32]) {
        simd(
            #[inline(always)]
            || {
                for first in inputs.clone().step_by(BLOCK) {
                    let block = first..(first + BLOCK).min(inputs.end);
                    let mut tile = columns.start;
                    while tile + TILE <= columns.end {
                        self.add_tile::<TILE>(&block, tile, columns, sums);
                        tile += TILE;
                    }
                    if tile + TILE / 2 <= columns.end {
                        self.add_tile::<{ TILE / 2 }>(&block, tile, columns, sums);
                        tile += TILE / 2;
                    }
                    while tile < columns.end {
                        self.add_tile::<1>(&block, tile, columns, sums);
                        tile += 1;
                    }
                }
            },
        );
    }

    /// As [`add_part`](Self::add_part), of the `WIDTH` columns from `tile` on.
    #[inline(always)]
    fn add_tile<const WIDTH: usize>(
        &self,
        block: &Range<usize>,
        tile: usize,
        columns: &Range<usize>,
        sums: &mut [f32],
    ) {
        let mut row = 0;
        while row < self.rows {
            // As many rows as registers can hold the sums of.
            row += match self.rows - row {
                6.. => self.add_group::<6, WIDTH>(block, row, tile, columns, sums),
                5 => self.add_group::<5, WIDTH>(block, row, tile, columns, sums),
                4 => self.add_group::<4, WIDTH>(block, row, tile, columns, sums),
                3 => self.add_group::<3, WIDTH>(block, row, tile, columns, sums),
                2 => self.add_group::<2, WIDTH>(block, row, tile, columns, sums),
                _ => self.add_group::<1, WIDTH>(block, row, tile, columns, sums),
            };
        }
    }

    /// As [`add_tile`](Self::add_tile), of `ROWS` rows from `row` on; returns their number.
    #[inline(always)]
    fn add_group<const ROWS: usize, const WIDTH: usize>(
        &self,
        block: &Range<usize>,
        row: usize,
        tile: usize,
        columns: &Range<usize>,
        sums: &mut [f32],
    ) -> usize {
        let place = |i: usize| (row + i) * columns.len() + tile - columns.start;
        let mut group = [[0.0_f32; WIDTH]; ROWS];
        for (i, group) in group.iter_mut().enumerate() {
            group.copy_from_slice(&sums[place(i)..][..WIDTH]);
        }
        let weights = &self.w[block.start * self.outputs..block.end * self.outputs];
        let x = &self.x[block.start * self.rows..block.end * self.rows];
        for (weights, x) in weights
            .chunks_exact(self.outputs)
            .zip(x.chunks_exact(self.rows))
        {
            let weights: &[f32; WIDTH] = weights[tile..].first_chunk().expect("a tile is inside");
            let x: &[f32; ROWS] = x[row..].first_chunk().expect("a group is inside");
            if row == 0 {
                self.ask_for_next(weights);
            }
            for (group, x) in group.iter_mut().zip(x) {
                for (sum, weight) in group.iter_mut().zip(weights) {
                    *sum = x.mul_add(*weight, *sum);
                }
            }
        }
        for (i, group) in group.iter().enumerate() {
            sums[place(i)..][..WIDTH].copy_from_slice(group);
        }
        ROWS
    }

    /// Asks memory for what stands a block of rows after these entries of `w`.
    #[inline(always)]
    fn ask_for_next(&self, weights: &[f32]) {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            let next = weights.as_ptr().wrapping_add(BLOCK * self.outputs);
            #[allow(unsafe_code)]
            // SAFETY: a hint without effect on what is read or written, of any address.
            unsafe {
                _mm_prefetch::<_MM_HINT_T0>(next.cast());
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = weights;
    }
}
