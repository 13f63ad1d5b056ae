//! Picks the n-th row out of several ranges of rows.

/// Ranges of rows, numbered through without gaps.
#[derive(Clone, Debug)]
pub(crate) struct RowTable {
    /// First row of each range.
    starts: Vec<usize>,
    /// Rows before each range, then their total.
    cumulative: Vec<usize>,
    /// Rows per range where all are equal: then no search is needed.
    uniform: Option<usize>,
}

impl RowTable {
    /// From `(first row, rows)` of each range. Ranges are not empty.
    pub(crate) fn new(ranges: impl IntoIterator<Item = (usize, usize)>) -> Self {
        let (starts, counts): (Vec<_>, Vec<_>) = ranges.into_iter().unzip();
        debug_assert!(counts.iter().all(|&count| count > 0));
        let mut cumulative = Vec::with_capacity(counts.len() + 1);
        let mut total = 0;
        for count in &counts {
            cumulative.push(total);
            total += count;
        }
        cumulative.push(total);
        let uniform = counts
            .first()
            .copied()
            .filter(|first| counts.iter().all(|count| count == first));
        Self {
            starts,
            cumulative,
            uniform,
        }
    }

    /// Rows of all ranges.
    pub(crate) fn len(&self) -> usize {
        self.cumulative[self.starts.len()]
    }

    /// The n-th row, `n` below [`len`](Self::len).
    pub(crate) fn row(&self, n: usize) -> usize {
        self.row_and_last(n).0
    }

    /// The n-th row, `n` below [`len`](Self::len), and the last row of its range.
    pub(crate) fn row_and_last(&self, n: usize) -> (usize, usize) {
        let range = match self.uniform {
            Some(rows) => n / rows,
            None => self.cumulative.partition_point(|&before| before <= n) - 1,
        };
        let before = self.cumulative[range];
        let start = self.starts[range];
        let last = start + (self.cumulative[range + 1] - before) - 1;
        (start + (n - before), last)
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn lists_the_ranges_one_after_another(ranges in vec((0usize..1000, 1usize..20), 1..20)) {
            let table = RowTable::new(ranges.clone());
            let listed: Vec<usize> = ranges.iter().flat_map(|&(start, rows)| start..start + rows).collect();
            let picked: Vec<usize> = (0..table.len()).map(|n| table.row(n)).collect();
            prop_assert_eq!(picked, listed);
            let lasts: Vec<usize> = ranges.iter().flat_map(|&(start, rows)| vec![start + rows - 1; rows]).collect();
            let found: Vec<usize> = (0..table.len()).map(|n| table.row_and_last(n).1).collect();
            prop_assert_eq!(found, lasts);
        }
    }
}
