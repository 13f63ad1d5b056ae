//! `metrics.csv`: one row per step at which something was measured, one column per metric.
//!
//! The file depends on the run alone, so it holds no wall-clock time, and a run that was interrupted and
//! resumed ends with the bytes of one that was not. A metric that is measured for the first time later on (the
//! first evaluation, say) adds a column: the file is then written again with a longer header.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};

use camino::{Utf8Path, Utf8PathBuf};

/// The header of the first column.
const STEP: &str = "step";

/// Appends rows to a `metrics.csv`.
#[derive(Debug)]
pub struct MetricsFile {
    path: Utf8PathBuf,
    columns: Vec<String>,
    file: File,
}

/// A row: its step, and a cell per column, empty where nothing was measured.
type Row = (u64, Vec<String>);

impl MetricsFile {
    /// A file without rows.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn create(path: &Utf8Path) -> io::Result<Self> {
        Self::rewrite(path, vec![], &[])
    }

    /// Goes on with a file after `step`: drops later rows, an incomplete last line, and columns that are then empty.
    ///
    /// # Errors
    /// Those of the file system, and [`io::ErrorKind::InvalidData`] if it is no metrics file.
    pub fn resume(path: &Utf8Path, step: u64) -> io::Result<Self> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            // A run that was killed before its first row.
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error),
        };
        let (columns, mut rows) = parse(&text)?;
        rows.retain(|(row_step, _)| *row_step <= step);
        let used: Vec<usize> = (0..columns.len())
            .filter(|&column| rows.iter().any(|(_, row)| !row[column].is_empty()))
            .collect();
        let columns = used.iter().map(|&column| columns[column].clone()).collect();
        for (_, cells) in &mut rows {
            *cells = used.iter().map(|&column| cells[column].clone()).collect();
        }
        Self::rewrite(path, columns, &rows)
    }

    /// Adds a row; nothing if there are no metrics.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn append<'a>(
        &mut self,
        step: u64,
        metrics: impl IntoIterator<Item = (&'a str, f64)>,
    ) -> io::Result<()> {
        let mut cells = vec![String::new(); self.columns.len()];
        let known = self.columns.len();
        for (name, value) in metrics {
            // The shortest digits that read back to the same number.
            let cell = value.to_string();
            if let Some(column) = self.columns.iter().position(|column| column == name) {
                cells[column] = cell;
            } else {
                self.columns.push(name.to_owned());
                cells.push(cell);
            }
        }
        if cells.iter().all(String::is_empty) {
            return Ok(());
        }
        if self.columns.len() > known {
            let (_, mut rows) = parse(&std::fs::read_to_string(&self.path)?)?;
            for (_, row) in &mut rows {
                row.resize(self.columns.len(), String::new());
            }
            rows.push((step, cells));
            *self = Self::rewrite(&self.path, std::mem::take(&mut self.columns), &rows)?;
            return Ok(());
        }
        // One write per row, so that a kill leaves at most one incomplete line, at the end.
        self.file.write_all(line(step, &cells).as_bytes())
    }

    fn rewrite(path: &Utf8Path, columns: Vec<String>, rows: &[Row]) -> io::Result<Self> {
        let mut text = STEP.to_owned();
        for column in &columns {
            text.push(',');
            text.push_str(&quoted(column));
        }
        text.push('\n');
        for (step, cells) in rows {
            text.push_str(&line(*step, cells));
        }
        crate::run_folder::write_atomically(path, text.as_bytes())?;
        let file = OpenOptions::new().append(true).open(path)?;
        Ok(Self {
            path: path.to_owned(),
            columns,
            file,
        })
    }
}

fn line(step: u64, cells: &[String]) -> String {
    let mut line = step.to_string();
    for cell in cells {
        let _ = write!(line, ",{cell}");
    }
    line.push('\n');
    line
}

fn quoted(name: &str) -> String {
    if name.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", name.replace('"', "\"\""))
    } else {
        name.to_owned()
    }
}

fn parse(text: &str) -> io::Result<(Vec<String>, Vec<Row>)> {
    // What follows the last line break is a row that a kill cut short.
    let complete = text.rfind('\n').map_or("", |end| &text[..=end]);
    if complete.is_empty() {
        return Ok((vec![], vec![]));
    }
    let bad = |error: String| io::Error::new(io::ErrorKind::InvalidData, error);
    let mut reader = csv::ReaderBuilder::new().from_reader(complete.as_bytes());
    let mut columns = reader
        .headers()
        .map_err(|error| bad(error.to_string()))?
        .iter()
        .map(str::to_owned);
    if columns.next().as_deref() != Some(STEP) {
        return Err(bad(format!("its first column is not `{STEP}`")));
    }
    let columns = columns.collect();
    let mut rows = vec![];
    for record in reader.records() {
        let record = record.map_err(|error| bad(error.to_string()))?;
        let step = record[0]
            .parse()
            .map_err(|_| bad(format!("`{}` is not a step", &record[0])))?;
        rows.push((step, record.iter().skip(1).map(str::to_owned).collect()));
    }
    Ok((columns, rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> (tempfile::TempDir, Utf8PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(folder.path().join("metrics.csv")).unwrap();
        (folder, path)
    }

    fn log(file: &mut MetricsFile, steps: std::ops::RangeInclusive<u64>) {
        for step in steps {
            let mut metrics = vec![("training/loss", 1.0 / step as f64)];
            if step % 4 == 0 {
                metrics.push(("evaluation/a,\"b\"", 0.5));
            }
            file.append(step, metrics).unwrap();
        }
    }

    #[test]
    fn the_file_is_a_table() {
        let (_folder, path) = folder();
        let mut file = MetricsFile::create(&path).unwrap();
        log(&mut file, 1..=5);
        file.append(6, []).unwrap();
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            "step,training/loss,\"evaluation/a,\"\"b\"\"\"\n1,1,\n2,0.5,\n3,0.3333333333333333,\n4,0.25,0.5\n5,0.2,\n"
        );
    }

    #[test]
    fn a_resumed_file_equals_an_uninterrupted_one() {
        let (_folder, path) = folder();
        let mut file = MetricsFile::create(&path).unwrap();
        log(&mut file, 1..=10);
        let uninterrupted = std::fs::read(&path).unwrap();
        for (killed_at, resumed_at) in [(10, 0), (9, 3), (4, 2), (5, 4), (9, 9), (1, 1)] {
            std::fs::remove_file(&path).unwrap();
            let mut file = MetricsFile::create(&path).unwrap();
            log(&mut file, 1..=killed_at);
            // The kill cuts the row that is being written.
            file.file.write_all(b"11,0.09").unwrap();
            let mut file = MetricsFile::resume(&path, resumed_at).unwrap();
            log(&mut file, resumed_at + 1..=10);
            assert_eq!(
                std::fs::read(&path).unwrap(),
                uninterrupted,
                "killed at {killed_at}"
            );
        }
        std::fs::remove_file(&path).unwrap();
        log(&mut MetricsFile::resume(&path, 0).unwrap(), 1..=10);
        assert_eq!(std::fs::read(&path).unwrap(), uninterrupted);
    }

    #[test]
    fn other_files_are_refused() {
        let (_folder, path) = folder();
        std::fs::write(&path, "time,loss\n1,2\n").unwrap();
        let error = MetricsFile::resume(&path, 1).unwrap_err();
        assert_eq!(error.to_string(), "its first column is not `step`");
        std::fs::write(&path, "step,loss\n1,2,3\n").unwrap();
        assert_eq!(
            MetricsFile::resume(&path, 1).unwrap_err().kind(),
            io::ErrorKind::InvalidData
        );
    }
}
