//! Copies single rows out of a table.

/// Entries that are copied at once. Rows are copied by code that knows how many pieces they have, or their width where it is no more
/// than this: a general copy of a few entries takes longer to call than to do.
const PIECE: usize = 8;

/// Entries of a cache line.
#[cfg(target_arch = "x86_64")]
const LINE: usize = 16;

/// Writes `rows` of a row-major table of `width` entries per row to `out`, `[rows, width]`.
///
/// # Panics
/// On a row that is not in the table.
pub(crate) fn gather(
    (table, width): (&[f32], usize),
    rows: impl ExactSizeIterator<Item = usize>,
    out: &mut Vec<f32>,
) {
    out.resize(rows.len() * width, 0.0);
    match width {
        0 => {}
        1 => narrow::<1>(table, rows, out),
        2 => narrow::<2>(table, rows, out),
        3 => narrow::<3>(table, rows, out),
        4 => narrow::<4>(table, rows, out),
        5 => narrow::<5>(table, rows, out),
        6 => narrow::<6>(table, rows, out),
        7 => narrow::<7>(table, rows, out),
        8 => narrow::<8>(table, rows, out),
        9..=16 => wide::<2>(table, width, rows, out),
        17..=24 => wide::<3>(table, width, rows, out),
        25..=32 => wide::<4>(table, width, rows, out),
        33..=40 => wide::<5>(table, width, rows, out),
        41..=48 => wide::<6>(table, width, rows, out),
        49..=56 => wide::<7>(table, width, rows, out),
        57..=64 => wide::<8>(table, width, rows, out),
        65..=72 => wide::<9>(table, width, rows, out),
        _ => {
            for (row, out) in rows.zip(out.chunks_exact_mut(width)) {
                out.copy_from_slice(&table[row * width..][..width]);
            }
        }
    }
}

/// Asks for a row of a table that is soon to be read, `row` in the table: its way from memory takes longer than drawing the next
/// ones.
pub(crate) fn prefetch((table, width): (&[f32], usize), row: usize) {
    #[cfg(target_arch = "x86_64")]
    for line in table[row * width..][..width].chunks(LINE) {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        #[allow(unsafe_code)]
        // SAFETY: a hint without effect on what is read or written, and the address is that of an entry.
        unsafe {
            _mm_prefetch::<_MM_HINT_T1>(line.as_ptr().cast());
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (table, width, row);
}

fn narrow<const WIDTH: usize>(table: &[f32], rows: impl Iterator<Item = usize>, out: &mut [f32]) {
    let (table, _) = table.as_chunks::<WIDTH>();
    let (out, _) = out.as_chunks_mut::<WIDTH>();
    for (row, out) in rows.zip(out) {
        *out = table[row];
    }
}

/// Rows in `BLOCKS` pieces of [`PIECE`] entries, the last of which overlaps the one before it.
fn wide<const BLOCKS: usize>(
    table: &[f32],
    width: usize,
    rows: impl Iterator<Item = usize>,
    out: &mut [f32],
) {
    for (row, out) in rows.zip(out.chunks_exact_mut(width)) {
        let row = &table[row * width..][..width];
        for block in 0..BLOCKS {
            let start = (block * PIECE).min(width - PIECE);
            let piece: &mut [f32; PIECE] = (&mut out[start..start + PIECE])
                .try_into()
                .expect("a slice of this length");
            piece.copy_from_slice(&row[start..start + PIECE]);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn copies_every_entry_of_every_row(width in 1_usize..80, rows in vec(0_usize..50, 0..20), before in 0_usize..3000) {
            let table: Vec<f32> = (0..50 * width).map(|entry| entry as f32).collect();
            let mut out = vec![-1.0; before];
            gather((&table, width), rows.iter().copied(), &mut out);
            let expected: Vec<f32> = rows.iter().flat_map(|row| table[row * width..(row + 1) * width].to_vec()).collect();
            prop_assert_eq!(out, expected);
        }
    }
}
