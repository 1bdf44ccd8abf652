//! What: reading and writing NumPy's `.npy` files.
//! Why here: arrays go in and out of programs in this form, on the command line and in tests.
//! Pre: versions 1 to 3 of the format, either byte order, either order of axes.
//! Post: little-endian elements in row-major order; writing is all or nothing (aside, then renamed).

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use thiserror::Error;
use tilewright_ir::DType;

const MAGIC: &[u8; 6] = b"\x93NUMPY";

/// The element type of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NpyType {
    /// A type that we have too.
    Is(DType),
    /// 16 bits without meaning (`u2` or `V2`): NumPy has no bfloat16, so it is stored like this.
    Bits16,
}

/// An array.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Npy {
    /// Its element type.
    pub dtype: NpyType,
    /// Its extents.
    pub dims: Vec<u64>,
    /// Its elements, little-endian and row-major.
    pub data: Vec<u8>,
}

/// Why a file cannot be read or written.
#[derive(Debug, Error)]
pub enum NpyError {
    /// The file system.
    #[error("`{path}`: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The content.
    #[error("`{path}` is no usable .npy file: {reason}")]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The type of the file is not the declared one.
    #[error("`{path}` holds {found} where {wanted} is declared: convert it, or change the declaration")]
    Type {
        /// The file.
        path: PathBuf,
        /// The type in the file.
        found: String,
        /// The declared type.
        wanted: DType,
    },
    /// 16 bits without a declaration.
    #[error("`{path}` holds 16-bit words: declare the array as bf16 if that is what they are")]
    Undeclared {
        /// The file.
        path: PathBuf,
    },
}

impl NpyType {
    /// The type as ours, given what the program declares.
    pub fn resolve(self, declared: Option<DType>, path: &Path) -> Result<DType, NpyError> {
        let wrong = |found: &str, wanted| {
            Err(NpyError::Type { path: path.to_owned(), found: found.to_owned(), wanted })
        };
        match (self, declared) {
            (NpyType::Bits16, Some(DType::Bf16)) => Ok(DType::Bf16),
            (NpyType::Bits16, Some(wanted)) => wrong("16-bit words", wanted),
            (NpyType::Bits16, None) => Err(NpyError::Undeclared { path: path.to_owned() }),
            (NpyType::Is(found), Some(wanted)) if found != wanted => wrong(found.name(), wanted),
            (NpyType::Is(found), _) => Ok(found),
        }
    }

    fn bytes(self) -> usize {
        match self {
            NpyType::Is(dtype) => dtype.bytes(),
            NpyType::Bits16 => 2,
        }
    }
}

/// Reads a file.
pub fn read(path: &Path) -> Result<Npy, NpyError> {
    let bytes = fs::read(path).map_err(|source| NpyError::Io { path: path.to_owned(), source })?;
    decode(&bytes).map_err(|reason| NpyError::Format { path: path.to_owned(), reason })
}

/// Writes a file in one step: readers see the old content or the new one.
pub fn write(path: &Path, dtype: DType, dims: &[u64], data: &[u8]) -> Result<(), NpyError> {
    Staged::new(path, dtype, dims, data)?.commit()
}

/// A file that is written but does not have its name yet: several can be made before the first one shows. Dropped, it
/// is gone.
#[derive(Debug)]
pub struct Staged {
    path: PathBuf,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Aside(tempfile::NamedTempFile),
    /// For pipes and devices: nothing can take their place.
    Bytes(Vec<u8>),
}

impl Staged {
    /// Writes the content aside, in the directory of the file. A link stays a link: the file it names is replaced.
    pub fn new(path: &Path, dtype: DType, dims: &[u64], data: &[u8]) -> Result<Staged, NpyError> {
        let io = |source| NpyError::Io { path: path.to_owned(), source };
        let head = header(dtype, dims);
        let present = fs::metadata(path).ok();
        let target = match fs::symlink_metadata(path) {
            Ok(m) if m.is_symlink() && present.is_some() => fs::canonicalize(path).map_err(io)?,
            _ => path.to_owned(),
        };
        if present.as_ref().is_some_and(|m| m.is_dir()) {
            return Err(io(io::Error::from(io::ErrorKind::IsADirectory)));
        }
        if present.as_ref().is_some_and(|m| !m.is_file()) {
            return Ok(Staged { path: target, content: Content::Bytes([&head, data].concat()) });
        }
        let dir = target.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut file = tempfile::Builder::new().prefix(".npy-").tempfile_in(dir).map_err(io)?;
        file.write_all(&head).map_err(io)?;
        file.write_all(data).map_err(io)?;
        file.flush().map_err(io)?;
        // Temporary files are private; a result should be as readable as any other file.
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = present.map_or(0o644, |m| m.permissions().mode() & 0o777);
            file.as_file().set_permissions(fs::Permissions::from_mode(mode)).map_err(io)?;
        }
        Ok(Staged { path: target, content: Content::Aside(file) })
    }

    /// Gives the file its name.
    pub fn commit(self) -> Result<(), NpyError> {
        let done = match self.content {
            Content::Aside(file) => file.persist(&self.path).map(|_| ()).map_err(|e| e.error),
            Content::Bytes(bytes) => {
                fs::OpenOptions::new().write(true).open(&self.path).and_then(|mut f| f.write_all(&bytes))
            }
        };
        done.map_err(|source| NpyError::Io { path: self.path, source })
    }
}

/// The bytes of a file before the data.
fn header(dtype: DType, dims: &[u64]) -> Vec<u8> {
    let descr = match dtype {
        DType::Bool => "|b1",
        DType::I8 => "|i1",
        DType::U8 => "|u1",
        DType::I32 => "<i4",
        DType::I64 => "<i8",
        DType::F16 => "<f2",
        DType::Bf16 => "<u2",
        DType::F32 => "<f4",
        DType::F64 => "<f8",
    };
    let shape: String = dims.iter().map(|d| format!("{d}, ")).collect();
    let mut text =
        format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({}), }}", shape.trim_end());
    // The data starts at a multiple of 64 and the header ends in a newline.
    let unpadded = MAGIC.len() + 4 + text.len() + 1;
    text.extend(std::iter::repeat_n(' ', unpadded.next_multiple_of(64) - unpadded));
    text.push('\n');
    let mut bytes = MAGIC.to_vec();
    match u16::try_from(text.len()) {
        Ok(length) => {
            bytes.extend([1, 0]);
            bytes.extend(length.to_le_bytes());
        }
        Err(_) => {
            // Only thousands of axes get here; the alignment, which is a courtesy, is given up.
            bytes.extend([2, 0]);
            bytes.extend(u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes());
        }
    }
    bytes.extend(text.bytes());
    bytes
}

/// Reads the content of a file.
pub fn decode(bytes: &[u8]) -> Result<Npy, String> {
    let rest = bytes.strip_prefix(MAGIC).ok_or("it does not start like one")?;
    let truncated = || "it is truncated".to_owned();
    let (&[major, _], rest) = rest.split_first_chunk::<2>().ok_or_else(truncated)?;
    let (length, rest) = match major {
        1 => {
            let (n, rest) = rest.split_first_chunk::<2>().ok_or_else(truncated)?;
            (usize::from(u16::from_le_bytes(*n)), rest)
        }
        2 | 3 => {
            let (n, rest) = rest.split_first_chunk::<4>().ok_or_else(truncated)?;
            (u32::from_le_bytes(*n) as usize, rest)
        }
        _ => return Err(format!("its version {major} is not known")),
    };
    let (header, data) = rest.split_at_checked(length).ok_or_else(truncated)?;
    let header = std::str::from_utf8(header).map_err(|_| "its header is no text")?;

    let descr = field(header, "descr").and_then(quoted).ok_or("its header names no simple `descr`")?;
    let (dtype, big_endian) = parse_descr(descr)?;
    let fortran = match field(header, "fortran_order").map(|f| f.trim_start()) {
        Some(f) if f.starts_with("True") => true,
        Some(f) if f.starts_with("False") => false,
        _ => return Err("its header names no `fortran_order`".into()),
    };
    let dims = field(header, "shape").and_then(parse_shape).ok_or("its header names no `shape`")?;

    let count = dims
        .iter()
        .try_fold(1usize, |n, &d| n.checked_mul(usize::try_from(d).ok()?))
        .and_then(|n| n.checked_mul(dtype.bytes()))
        .ok_or("its extents are too large")?;
    if data.len() != count {
        return Err(format!("its extents ask for {count} bytes, and there are {}", data.len()));
    }
    let mut data = data.to_vec();
    if big_endian {
        data.chunks_exact_mut(dtype.bytes()).for_each(<[u8]>::reverse);
    }
    if fortran && dims.len() > 1 {
        data = to_row_major(&data, &dims, dtype.bytes());
    }
    Ok(Npy { dtype, dims, data })
}

fn field<'a>(header: &'a str, name: &str) -> Option<&'a str> {
    [format!("'{name}'"), format!("\"{name}\"")].iter().find_map(|key| {
        let after = &header[header.find(key.as_str())? + key.len()..];
        after.trim_start().strip_prefix(':')
    })
}

fn quoted(text: &str) -> Option<&str> {
    let text = text.trim_start();
    let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    text[1..].split(quote).next()
}

fn parse_descr(descr: &str) -> Result<(NpyType, bool), String> {
    let (order, kind) = match descr.chars().next() {
        Some(c @ ('<' | '>' | '|' | '=')) => (c, &descr[1..]),
        _ => ('|', descr),
    };
    let dtype = match kind {
        "f8" => NpyType::Is(DType::F64),
        "f4" => NpyType::Is(DType::F32),
        "f2" => NpyType::Is(DType::F16),
        "i8" => NpyType::Is(DType::I64),
        "i4" => NpyType::Is(DType::I32),
        "i1" => NpyType::Is(DType::I8),
        "u1" => NpyType::Is(DType::U8),
        "b1" => NpyType::Is(DType::Bool),
        "u2" | "V2" => NpyType::Bits16,
        _ => {
            return Err(format!(
                "its type `{descr}` is not supported: use f8, f4, f2, i8, i4, i1, u1, b1, or u2 for bf16"
            ));
        }
    };
    Ok((dtype, order == '>'))
}

fn parse_shape(text: &str) -> Option<Vec<u64>> {
    let inside = text.trim_start().strip_prefix('(')?.split(')').next()?;
    inside.split(',').map(str::trim).filter(|s| !s.is_empty()).map(|s| s.parse().ok()).collect()
}

/// Column-major elements in row-major order.
fn to_row_major(data: &[u8], dims: &[u64], width: usize) -> Vec<u8> {
    let dims: Vec<usize> = dims.iter().map(|&d| d as usize).collect();
    let mut strides = vec![1usize; dims.len()];
    for i in 1..dims.len() {
        strides[i] = strides[i - 1] * dims[i - 1];
    }
    let mut out = Vec::with_capacity(data.len());
    let mut index = vec![0usize; dims.len()];
    for _ in 0..data.len() / width.max(1) {
        let at: usize = index.iter().zip(&strides).map(|(i, s)| i * s).sum();
        out.extend_from_slice(&data[at * width..(at + 1) * width]);
        for axis in (0..dims.len()).rev() {
            index[axis] += 1;
            if index[axis] < dims[axis] {
                break;
            }
            index[axis] = 0;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.npy");
        for dims in [vec![], vec![0], vec![1], vec![7], vec![3, 5], vec![2, 0, 4], vec![1; 12]] {
            for dtype in tilewright_ir::dtype::ALL_DTYPES {
                let count = dims.iter().product::<u64>() as usize * dtype.bytes();
                let data: Vec<u8> = (0..count).map(|i| (i * 37 + 1) as u8).collect();
                write(&path, dtype, &dims, &data).unwrap();
                assert_eq!(fs::read(&path).unwrap().len() % 64, count % 64, "the data is aligned");
                let back = read(&path).unwrap();
                assert_eq!(back.dtype.resolve(Some(dtype), &path).unwrap(), dtype);
                assert_eq!((back.dims, back.data), (dims.clone(), data));
            }
        }
    }

    #[test]
    fn staged_files_show_when_they_are_committed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.npy");
        drop(Staged::new(&path, DType::U8, &[1], &[7]).unwrap());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        let staged = Staged::new(&path, DType::U8, &[1], &[7]).unwrap();
        assert!(!path.exists());
        staged.commit().unwrap();
        assert_eq!(read(&path).unwrap().data, [7]);
        assert!(Staged::new(dir.path(), DType::U8, &[1], &[7]).is_err());
    }

    #[cfg(unix)]
    #[test]
    fn links_and_devices_keep_their_place() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("file.npy"), dir.path().join("link.npy"));
        fs::write(&file, "old").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        write(&link, DType::U8, &[1], &[7]).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(read(&file).unwrap().data, [7]);
        let null = dir.path().join("null");
        std::os::unix::fs::symlink("/dev/null", &null).unwrap();
        write(&null, DType::U8, &[1], &[7]).unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
    }

    fn file(header: &str, data: &[u8]) -> Vec<u8> {
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.bytes());
        bytes.extend(data);
        bytes
    }

    #[test]
    fn other_orders_become_ours() {
        let a = decode(&file("{'descr': '>i4', 'fortran_order': True, 'shape': (2, 3), }\n", &{
            // [[1, 2, 3], [4, 5, 6]] column by column, big-endian.
            [1u8, 4, 2, 5, 3, 6].iter().flat_map(|&v| [0, 0, 0, v]).collect::<Vec<_>>()
        }))
        .unwrap();
        let values: Vec<u8> = a.data.chunks(4).map(|c| c[0]).collect();
        assert_eq!((values, a.dims), (vec![1, 2, 3, 4, 5, 6], vec![2, 3]));
    }

    #[test]
    fn damaged_files_are_errors() {
        let good = file("{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }\n", &[0; 8]);
        assert!(decode(&good).is_ok());
        for n in 0..good.len() {
            assert!(decode(&good[..n]).is_err(), "{n}");
        }
        for header in [
            "{'descr': '<c8', 'fortran_order': False, 'shape': (2,), }",
            "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2,), }",
            "{'descr': '<f4', 'fortran_order': Maybe, 'shape': (2,), }",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (-2,), }",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (9223372036854775807, 9223372036854775807), }",
            "{'descr': '<f4', 'fortran_order': False}",
            "",
            "{'descr': '",
            "{'descr':",
        ] {
            assert!(decode(&file(header, &[0; 8])).is_err(), "{header}");
        }
    }

    #[test]
    fn sixteen_bits_need_a_declaration() {
        let path = Path::new("x.npy");
        assert!(matches!(NpyType::Bits16.resolve(None, path), Err(NpyError::Undeclared { .. })));
        assert!(matches!(NpyType::Bits16.resolve(Some(DType::F16), path), Err(NpyError::Type { .. })));
        assert!(matches!(
            NpyType::Is(DType::F64).resolve(Some(DType::F32), path),
            Err(NpyError::Type { .. })
        ));
        assert_eq!(NpyType::Is(DType::F64).resolve(None, path).unwrap(), DType::F64);
    }

    #[test]
    fn a_failed_write_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("no/such/a.npy");
        assert!(write(&path, DType::F32, &[1], &[0; 4]).is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
