//! The `.npy` format of NumPy: a header in Python syntax, then raw numbers.
//!
//! Source: NEP 1 and `numpy.lib.format`, versions 1.0 to 3.0. Read are little-endian bool, u8, i32, i64, f32 and f64 in C or
//! Fortran order; every problem is a sentence for the user.

use std::io::Read;

/// First bytes of every file.
const MAGIC: &[u8; 6] = b"\x93NUMPY";

/// Longest header that is read. NumPy itself stops at 10,000 bytes.
const MAX_HEADER_BYTES: usize = 1 << 16;

/// Bytes that are decoded at once.
const BLOCK_BYTES: usize = 1 << 16;

/// Greatest expansion of deflate, 1032 : 1; what a member claims beyond it is not believed.
const MAX_EXPANSION: u64 = 1032;

/// Type of a stored number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dtype {
    Bool,
    U8,
    I32,
    I64,
    F32,
    F64,
}

impl Dtype {
    const ALL: [(Self, &'static str); 6] = [
        (Self::Bool, "|b1"),
        (Self::U8, "|u1"),
        (Self::I32, "<i4"),
        (Self::I64, "<i8"),
        (Self::F32, "<f4"),
        (Self::F64, "<f8"),
    ];

    fn descr(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(dtype, _)| *dtype == self)
            .map_or("", |(_, descr)| descr)
    }

    fn bytes(self) -> usize {
        match self {
            Self::Bool | Self::U8 => 1,
            Self::I32 | Self::F32 => 4,
            Self::I64 | Self::F64 => 8,
        }
    }

    fn parse(descr: &str) -> Result<Self, String> {
        if let Some((dtype, _)) = Self::ALL.iter().find(|(_, known)| *known == descr) {
            return Ok(*dtype);
        }
        let hint = match descr.as_bytes().first() {
            Some(b'>') => {
                "; it is big endian, save it with `array.astype(array.dtype.newbyteorder('<'))`"
            }
            _ if descr.contains('O') => "; it holds pickled Python objects, which are never read",
            _ => "",
        };
        Err(format!(
            "dtype '{descr}', expected one of |b1 |u1 <i4 <i8 <f4 <f8{hint}"
        ))
    }
}

/// Shape and type of an array.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) dtype: Dtype,
    pub(crate) fortran_order: bool,
    pub(crate) shape: Vec<usize>,
}

impl Header {
    /// A header in C order.
    pub(crate) fn new(dtype: Dtype, shape: &[usize]) -> Self {
        Self {
            dtype,
            fortran_order: false,
            shape: shape.to_vec(),
        }
    }

    /// The bytes before the numbers, exactly as NumPy writes them in version 1.0.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let shape = match self.shape.as_slice() {
            [rows] => format!("({rows},)"),
            shape => format!(
                "({})",
                shape
                    .iter()
                    .map(usize::to_string)
                    .collect::<Vec<_>>()
                    .join(", ")
            ),
        };
        let order = if self.fortran_order { "True" } else { "False" };
        let mut text = format!(
            "{{'descr': '{}', 'fortran_order': {order}, 'shape': {shape}, }}",
            self.dtype.descr()
        );
        // NumPy leaves room for the first axis to grow to 21 digits, and aligns the numbers to 64 bytes.
        if let Some(first) = self.shape.first() {
            let digits = first.to_string().len();
            text.push_str(&" ".repeat(21usize.saturating_sub(digits)));
        }
        let unpadded = MAGIC.len() + 4 + text.len() + 1;
        text.push_str(&" ".repeat(unpadded.next_multiple_of(64) - unpadded));
        text.push('\n');
        let mut bytes = MAGIC.to_vec();
        bytes.extend([1, 0]);
        bytes.extend((text.len() as u16).to_le_bytes());
        bytes.extend(text.as_bytes());
        bytes
    }

    /// Reads a header, and nothing after it.
    pub(crate) fn read(reader: &mut impl Read) -> Result<Self, String> {
        let mut start = [0; 8];
        read_exact(reader, &mut start, "header")?;
        if start[..6] != MAGIC[..] {
            return Err("no NumPy array, its first bytes are not \\x93NUMPY".to_owned());
        }
        let bytes = match start[6] {
            1 => {
                let mut length = [0; 2];
                read_exact(reader, &mut length, "header")?;
                usize::from(u16::from_le_bytes(length))
            }
            2 | 3 => {
                let mut length = [0; 4];
                read_exact(reader, &mut length, "header")?;
                u32::from_le_bytes(length) as usize
            }
            version => {
                return Err(format!(
                    "version {version} of the npy format, expected 1, 2 or 3"
                ));
            }
        };
        if bytes > MAX_HEADER_BYTES {
            return Err(format!(
                "a header of {bytes} bytes, expected at most {MAX_HEADER_BYTES}"
            ));
        }
        let mut text = vec![0; bytes];
        read_exact(reader, &mut text, "header")?;
        let text = String::from_utf8(text).map_err(|_| "a header that is no text".to_owned())?;
        parse_header(&text)
            .ok_or_else(|| format!("the header {:?} cannot be understood", text.trim()))?
    }

    /// Numbers in the array; an error if there are more than memory can address.
    pub(crate) fn count(&self) -> Result<usize, String> {
        self.shape
            .iter()
            .try_fold(1usize, |count, &size| count.checked_mul(size))
            .filter(|count| {
                count
                    .checked_mul(8)
                    .is_some_and(|bytes| isize::try_from(bytes).is_ok())
            })
            .ok_or_else(|| format!("shape {:?} is larger than memory", self.shape))
    }

    /// Reads the numbers that follow the header. `member_bytes` is the size that the container gives for the
    /// whole array, `stored_bytes` what that takes on disk; neither is trusted with memory.
    pub(crate) fn read_values<T: FromStored>(
        &self,
        reader: &mut impl Read,
        member_bytes: u64,
        stored_bytes: u64,
    ) -> Result<Vec<T>, String> {
        let count = self.count()?;
        let width = self.dtype.bytes();
        let bytes = (count * width) as u64;
        if bytes > member_bytes {
            return Err(format!(
                "shape {:?} asks for {bytes} bytes, but the member has {member_bytes}",
                self.shape
            ));
        }
        let mut values = Vec::new();
        let believed = stored_bytes.saturating_mul(MAX_EXPANSION) / width as u64;
        let capacity = (believed.min(count as u64)) as usize;
        values
            .try_reserve_exact(capacity)
            .map_err(|_| format!("not enough memory for {count} numbers"))?;
        let mut block = vec![0; BLOCK_BYTES];
        while values.len() < count {
            let take = ((count - values.len()) * width).min(BLOCK_BYTES);
            read_exact(reader, &mut block[..take], "numbers")?;
            decode(self.dtype, &block[..take], &mut values)?;
        }
        // The container checks its checksum when it is read to the end.
        match reader.read(&mut block[..1]) {
            Ok(0) => Ok(values),
            Ok(_) => Err(format!(
                "bytes after the last number of shape {:?}",
                self.shape
            )),
            Err(error) => Err(error.to_string()),
        }
    }
}

fn read_exact(reader: &mut impl Read, bytes: &mut [u8], what: &str) -> Result<(), String> {
    reader
        .read_exact(bytes)
        .map_err(|error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => format!("its {what} end too early"),
            _ => error.to_string(),
        })
}

/// A type that stored numbers are converted to.
pub(crate) trait FromStored: Sized {
    /// What is accepted, for messages.
    const EXPECTED: &'static str;
    fn from_integer(value: i64) -> Self;
    /// `None` where a fraction has no meaning.
    fn from_float(value: f64) -> Option<Self>;
    fn from_single(value: f32) -> Option<Self>;
}

impl FromStored for f32 {
    const EXPECTED: &'static str = "numbers";
    fn from_integer(value: i64) -> Self {
        value as Self
    }
    fn from_float(value: f64) -> Option<Self> {
        Some(value as Self)
    }
    fn from_single(value: f32) -> Option<Self> {
        Some(value)
    }
}

impl FromStored for f64 {
    const EXPECTED: &'static str = "numbers";
    fn from_integer(value: i64) -> Self {
        value as Self
    }
    fn from_float(value: f64) -> Option<Self> {
        Some(value)
    }
    fn from_single(value: f32) -> Option<Self> {
        Some(f64::from(value))
    }
}

impl FromStored for i64 {
    const EXPECTED: &'static str = "integers";
    fn from_integer(value: i64) -> Self {
        value
    }
    fn from_float(_: f64) -> Option<Self> {
        None
    }
    fn from_single(_: f32) -> Option<Self> {
        None
    }
}

fn decode<T: FromStored>(dtype: Dtype, bytes: &[u8], out: &mut Vec<T>) -> Result<(), String> {
    match dtype {
        Dtype::Bool => decode_as(bytes, out, |[byte]: [u8; 1]| {
            Some(T::from_integer(i64::from(byte != 0)))
        }),
        Dtype::U8 => decode_as(bytes, out, |[byte]: [u8; 1]| {
            Some(T::from_integer(i64::from(byte)))
        }),
        Dtype::I32 => decode_as(bytes, out, |b| {
            Some(T::from_integer(i64::from(i32::from_le_bytes(b))))
        }),
        Dtype::I64 => decode_as(bytes, out, |b| Some(T::from_integer(i64::from_le_bytes(b)))),
        Dtype::F32 => decode_as(bytes, out, |b| T::from_single(f32::from_le_bytes(b))),
        Dtype::F64 => decode_as(bytes, out, |b| T::from_float(f64::from_le_bytes(b))),
    }
    .ok_or_else(|| format!("dtype '{}', expected {}", dtype.descr(), T::EXPECTED))
}

fn decode_as<T, const N: usize>(
    bytes: &[u8],
    out: &mut Vec<T>,
    convert: impl Fn([u8; N]) -> Option<T>,
) -> Option<()> {
    let (numbers, _) = bytes.as_chunks::<N>();
    for &number in numbers {
        out.push(convert(number)?);
    }
    Some(())
}

/// Parses the Python dictionary of a header. `None` if it is none, an inner error if its content is not supported.
fn parse_header(text: &str) -> Option<Result<Header, String>> {
    let mut descr = None;
    let mut fortran_order = None;
    let mut shape = None;
    let mut rest = text.trim().strip_prefix('{')?.trim_start();
    while !rest.starts_with('}') {
        let (key, after) = quoted(rest)?;
        let value = after.trim_start().strip_prefix(':')?.trim_start();
        rest = match key {
            "descr" => {
                // Structured types are lists of pairs.
                let Some((found, after)) = quoted(value) else {
                    return Some(Err("a structured dtype, expected plain numbers".to_owned()));
                };
                descr = Some(found);
                after
            }
            "fortran_order" => {
                let (found, after) = match value.strip_prefix("True") {
                    Some(after) => (true, after),
                    None => (false, value.strip_prefix("False")?),
                };
                fortran_order = Some(found);
                after
            }
            "shape" => {
                let (inside, after) = value.strip_prefix('(')?.split_once(')')?;
                let sizes = inside
                    .split(',')
                    .map(str::trim)
                    .filter(|size| !size.is_empty());
                // Python 2 wrote long integers with an L.
                shape = Some(
                    sizes
                        .map(|size| size.trim_end_matches('L').parse().ok())
                        .collect::<Option<Vec<usize>>>()?,
                );
                after
            }
            _ => return None,
        };
        rest = rest.trim_start();
        rest = rest.strip_prefix(',').unwrap_or(rest).trim_start();
    }
    let (descr, fortran_order, shape) = (descr?, fortran_order?, shape?);
    Some(Dtype::parse(descr).map(|dtype| Header {
        dtype,
        fortran_order,
        shape,
    }))
}

/// Splits a leading Python string off.
fn quoted(text: &str) -> Option<(&str, &str)> {
    let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    text[1..].split_once(quote)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(bytes: &[u8]) -> Result<(Header, Vec<f32>), String> {
        let mut reader = bytes;
        let header = Header::read(&mut reader)?;
        let (all, stored) = (bytes.len() as u64, bytes.len() as u64);
        let values = header.read_values(&mut reader, all, stored)?;
        Ok((header, values))
    }

    #[test]
    fn header_has_the_bytes_of_numpy() {
        // numpy.lib.format.write_array(f, numpy.zeros((2, 3), '<f4')), NumPy 2.4.
        let bytes = Header::new(Dtype::F32, &[2, 3]).to_bytes();
        let expected: &[u8] =
            b"\x93NUMPY\x01\x00\x76\x00{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }";
        assert_eq!(bytes.len(), 128);
        assert_eq!(&bytes[..expected.len()], expected);
        assert!(bytes[expected.len()..127].iter().all(|&byte| byte == b' ') && bytes[127] == b'\n');
    }

    #[test]
    fn other_versions_and_orders_of_keys_are_read() {
        let text = "{\"shape\":(2L,),'fortran_order':True,'descr':'<f8'}\n";
        let mut bytes = b"\x93NUMPY\x03\x00".to_vec();
        bytes.extend((text.len() as u32).to_le_bytes());
        bytes.extend(text.as_bytes());
        bytes.extend(1.5f64.to_le_bytes());
        bytes.extend((-2.0f64).to_le_bytes());
        let (header, values) = read(&bytes).unwrap();
        assert_eq!(
            header,
            Header {
                dtype: Dtype::F64,
                fortran_order: true,
                shape: vec![2]
            }
        );
        assert_eq!(values, [1.5, -2.0]);
    }

    #[test]
    fn unsupported_types_are_explained() {
        let with = |descr: &str| {
            let text = format!("{{'descr': {descr}, 'fortran_order': False, 'shape': (1,), }}\n");
            let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
            bytes.extend((text.len() as u16).to_le_bytes());
            bytes.extend(text.as_bytes());
            read(&bytes).unwrap_err()
        };
        assert!(with("'>f4'").contains("big endian"), "{}", with("'>f4'"));
        assert!(with("'|O'").contains("pickled"), "{}", with("'|O'"));
        assert!(
            with("[('x', '<f4')]").contains("structured"),
            "{}",
            with("[('x', '<f4')]")
        );
        assert!(with("'<f4'").contains("end too early"), "{}", with("'<f4'"));
    }

    proptest! {
        #[test]
        fn numbers_survive(values in proptest::collection::vec(any::<f32>(), 0..200)) {
            let mut bytes = Header::new(Dtype::F32, &[values.len(), 1]).to_bytes();
            bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
            let (header, read) = read(&bytes).unwrap();
            prop_assert_eq!(header.shape, [values.len(), 1]);
            prop_assert_eq!(read.iter().map(|v| v.to_bits()).collect::<Vec<_>>(),
                values.iter().map(|v| v.to_bits()).collect::<Vec<_>>());
        }

        #[test]
        fn damaged_headers_are_errors(at in 0usize..128, byte: u8, cut in 0usize..140) {
            let mut bytes = Header::new(Dtype::F32, &[2, 1]).to_bytes();
            bytes.extend([0; 8]);
            bytes[at] = byte;
            bytes.truncate(cut);
            // A change inside the padding may leave the array whole; anything else is an error, never a panic.
            if let Ok((header, values)) = read(&bytes) {
                prop_assert_eq!(header.count().unwrap(), values.len());
            }
        }
    }
}
