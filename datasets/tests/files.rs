//! Archives that NumPy wrote, and archives that are damaged.
#![allow(clippy::unwrap_used)]

use std::alloc::{GlobalAlloc, Layout as MemoryLayout, System};
use std::cell::Cell;

use camino::{Utf8Path, Utf8PathBuf};
use ndarray::Array2;
use proptest::prelude::*;
use telic_datasets::{Columns, Dataset, DatasetError, EpisodeIndex, InvalidData, Metadata};

/// Remembers the largest allocation of each thread.
struct Watching;

thread_local! {
    static LARGEST: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: everything is handed on to the system's allocator unchanged.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Watching {
    unsafe fn alloc(&self, layout: MemoryLayout) -> *mut u8 {
        LARGEST.with(|largest| largest.set(largest.get().max(layout.size())));
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: MemoryLayout) {
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static WATCHING: Watching = Watching;

fn fixture(name: &str) -> Utf8PathBuf {
    Utf8Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}

/// What `make_fixtures.py` writes.
fn expected(states: bool) -> Dataset {
    let table = |first: f32| {
        Some(Array2::from_shape_fn((8, 1), |(row, _)| first + row as f32)).filter(|_| states)
    };
    let columns = Columns {
        observations: Array2::from_shape_fn((8, 3), |(row, entry)| {
            (row as f64 + entry as f64 / 10.0) as f32
        }),
        actions: Array2::from_shape_fn((8, 2), |(row, entry)| {
            -(row as f64 + entry as f64 / 10.0) as f32
        }),
        qpos: table(100.0),
        qvel: table(200.0),
        button_states: Some(Array2::from_shape_fn((8, 1), |(row, _)| row as i64 % 3))
            .filter(|_| states),
    };
    Dataset::new(
        columns,
        EpisodeIndex::from_lengths(&[5, 3]).unwrap(),
        Metadata::default(),
    )
    .unwrap()
}

#[test]
fn archives_of_numpy_are_read_in_every_layout() {
    for name in ["file.npz", "file_stored.npz", "compact.npz"] {
        assert_eq!(
            Dataset::load(&fixture(name)).unwrap(),
            expected(true),
            "{name}"
        );
    }
    assert_eq!(
        Dataset::load(&fixture("doubles.npz")).unwrap(),
        expected(false)
    );
    let regular = Dataset::load(&fixture("regular.npz")).unwrap();
    assert_eq!(regular.regular(), expected(true).regular());
    assert_eq!(regular.observations(), expected(true).observations());
    assert!(regular.metadata().final_states_repeated);
    assert!(Metadata::load(&fixture("file.npz")).unwrap().is_empty());
}

#[test]
fn what_cannot_be_read_is_explained() {
    let message = |name: &str| {
        let text = Dataset::load(&fixture(name)).unwrap_err().to_string();
        let (message, place) = text.rsplit_once("\nin ").unwrap();
        assert!(place.ends_with(name), "{text}");
        message.to_owned()
    };
    let list = "|b1 |u1 <i4 <i8 <f4 <f8";
    assert_eq!(
        message("big_endian.npz"),
        format!(
            "cannot read `actions`: dtype '>f4', expected one of {list}; it is big endian, save it with \
             `array.astype(array.dtype.newbyteorder('<'))`"
        )
    );
    assert_eq!(
        message("objects.npz"),
        format!(
            "cannot read `actions`: dtype '|O', expected one of {list}; it holds pickled Python objects, \
             which are never read"
        )
    );
    assert_eq!(
        message("structured.npz"),
        "cannot read `actions`: a structured dtype, expected plain numbers"
    );
    assert_eq!(
        message("pixels.npz"),
        "`observations` has shape [8, 2, 2, 3], expected a table of two axes, rows and entries"
    );
    assert!(
        message("missing.npz").starts_with("cannot open the dataset: "),
        "{}",
        message("missing.npz")
    );
    assert!(
        message("make_fixtures.py").starts_with("cannot read the archive: "),
        "{}",
        message("make_fixtures.py")
    );
    assert!(matches!(
        Dataset::load(&fixture("")),
        Err(DatasetError::Io { .. })
    ));
}

#[test]
fn a_missing_column_is_named_with_what_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = Utf8PathBuf::from_path_buf(folder.path().join("data.npz")).unwrap();
    // The name in the local header and in the directory of the archive.
    let bytes = replace(
        &std::fs::read(fixture("doubles.npz")).unwrap(),
        b"terminals.npy",
        b"dones_xxx.npy",
    );
    std::fs::write(&path, bytes).unwrap();
    let Err(DatasetError::Invalid {
        problem: InvalidData::MissingColumn { column, found },
        ..
    }) = Dataset::load(&path)
    else {
        panic!("`terminals` is not there")
    };
    assert_eq!(
        (column, found.as_str()),
        (
            "terminals",
            "`observations`, `actions`, `dones_xxx`, `notes`"
        )
    );
}

fn replace(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut out = bytes.to_vec();
    for start in 0..bytes.len() - from.len() {
        if &bytes[start..start + from.len()] == from {
            out[start..start + to.len()].copy_from_slice(to);
        }
    }
    out
}

/// Loads bytes as a file. Whatever they are: no panic, and no memory that they do not fill.
fn load_bytes(bytes: &[u8]) -> Result<Dataset, DatasetError> {
    thread_local! {
        static FOLDER: tempfile::TempDir = tempfile::tempdir().unwrap();
    }
    let path =
        FOLDER.with(|folder| Utf8PathBuf::from_path_buf(folder.path().join("data.npz")).unwrap());
    std::fs::write(&path, bytes).unwrap();
    LARGEST.with(|largest| largest.set(0));
    let result = Dataset::load(&path);
    let largest = LARGEST.with(Cell::get);
    assert!(
        largest < 1 << 22,
        "{largest} bytes at once for a file of {}",
        bytes.len()
    );
    result
}

#[test]
fn every_truncation_is_an_error() {
    for name in ["file.npz", "file_stored.npz"] {
        let bytes = std::fs::read(fixture(name)).unwrap();
        for length in 0..bytes.len() {
            assert!(
                load_bytes(&bytes[..length]).is_err(),
                "{name} cut to {length} bytes"
            );
        }
    }
}

#[test]
fn every_flipped_bit_is_an_error_or_harmless() {
    for name in ["file.npz", "file_stored.npz"] {
        let bytes = std::fs::read(fixture(name)).unwrap();
        let whole = expected(true);
        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            // Bits of times, permissions and optional members do not matter; a checksum stands behind all numbers.
            if let Ok(dataset) = load_bytes(&bytes) {
                assert_eq!(
                    dataset.observations(),
                    whole.observations(),
                    "{name}, bit {bit}"
                );
                assert_eq!(dataset.actions(), whole.actions(), "{name}, bit {bit}");
                assert_eq!(dataset.episodes(), whole.episodes(), "{name}, bit {bit}");
            }
        }
    }
}

#[test]
fn a_shape_that_claims_the_world_is_not_believed() {
    let path = fixture("file_stored.npz");
    let bytes = std::fs::read(path).unwrap();
    for shape in [
        &b"(9, 3)"[..],
        b"(8, 4)",
        b"(7, 3)",
        b"(8, 0)",
        b"(0, 3)",
        b"(8,3,)",
        b"(-8,3)",
        b"(8, 3L",
    ] {
        let _ = load_bytes(&replace(&bytes, b"(8, 3)", shape));
    }
    let huge = replace(&bytes, b"(8, 3), }       ", b"(80000000000,3)}");
    let error = load_bytes(&huge).unwrap_err().to_string();
    assert!(error.contains("cannot read `observations`"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn random_bytes_are_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(load_bytes(&bytes).is_err());
    }

    #[test]
    fn several_wrong_bytes_never_panic(changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let mut bytes = std::fs::read(fixture("compact.npz")).unwrap();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let _ = load_bytes(&bytes);
    }
}
