//! safetensors files, one or many.
//!
//! Format: eight bytes with the length of a JSON header (little-endian), the header, then the data. The header maps
//! each name to a type, a shape and a byte range of the data. Sharded models have an index that maps names to files.
//!
//! Pre: a folder or a file. Post: every byte range lies in its file and has the size that type and shape say; files are
//! mapped and read only where a tensor is used.

use std::collections::HashMap;
use std::fs::File;
use std::ops::Range;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use indexmap::IndexMap;
use memmap2::Mmap;
use serde_json::Value;
use tilewright_ir::DType;

use super::map::{Slice, map};
use super::{Bytes, WeightError, Weights};

/// Name of the file of a model in one piece.
const SINGLE: &str = "model.safetensors";
/// Name of the index of a sharded model.
const INDEX: &str = "model.safetensors.index.json";
/// Longest header that is believed; real ones have a few hundred KiB.
const MAX_HEADER: u64 = 100 << 20;

/// The tensors of a model in one or more mapped files.
pub struct SafeTensors {
    folder: PathBuf,
    files: Vec<Mapped>,
    /// For each tensor, its file and entry.
    tensors: IndexMap<String, (usize, Entry)>,
}

struct Mapped {
    path: PathBuf,
    map: Arc<Mmap>,
    fingerprint: String,
}

#[derive(Clone, Debug)]
struct Entry {
    /// `None` for a type that we have no name for.
    dtype: Option<DType>,
    dtype_name: String,
    dims: Vec<u64>,
    range: Range<usize>,
}

impl SafeTensors {
    /// Opens the weights of a folder: a single file, or an index with its shards.
    pub fn open(folder: &Path) -> Result<SafeTensors, WeightError> {
        let single = folder.join(SINGLE);
        if single.is_file() {
            return SafeTensors::open_file(&single);
        }
        let index = folder.join(INDEX);
        if !index.is_file() {
            return Err(WeightError::NoWeights { folder: folder.to_owned() });
        }
        let shards = read_index(&index)?;
        let mut out = SafeTensors { folder: folder.to_owned(), files: Vec::new(), tensors: IndexMap::new() };
        let mut opened: HashMap<String, (usize, IndexMap<String, Entry>)> = HashMap::new();
        for (tensor, shard) in shards {
            if !opened.contains_key(&shard) {
                let (mapped, entries) = open_one(&folder.join(&shard))?;
                out.files.push(mapped);
                opened.insert(shard.clone(), (out.files.len() - 1, entries));
            }
            // Inserted above.
            let Some((number, entries)) = opened.get_mut(&shard) else { continue };
            let Some(entry) = entries.get(&tensor) else {
                let origin = folder.join(&shard).display().to_string();
                return Err(WeightError::Missing { tensor, origin });
            };
            out.tensors.insert(tensor, (*number, entry.clone()));
        }
        Ok(out)
    }

    /// Opens one file.
    pub fn open_file(path: &Path) -> Result<SafeTensors, WeightError> {
        let (mapped, entries) = open_one(path)?;
        let tensors = entries.into_iter().map(|(name, e)| (name, (0, e))).collect();
        let folder = path.parent().unwrap_or(Path::new(".")).to_owned();
        Ok(SafeTensors { folder, files: vec![mapped], tensors })
    }

    /// The names of all tensors.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }
}

impl Weights for SafeTensors {
    fn names(&self) -> Vec<String> {
        SafeTensors::names(self).map(str::to_owned).collect()
    }

    fn info(&self, name: &str) -> Option<(DType, Vec<u64>)> {
        let (_, e) = self.tensors.get(name)?;
        // A type that we cannot name is not usable, like F64; `type_name` knows what the file calls it.
        Some((e.dtype.unwrap_or(DType::F64), e.dims.clone()))
    }

    fn bytes(&self, name: &str) -> Result<Bytes, WeightError> {
        let Some((file, e)) = self.tensors.get(name) else {
            return Err(WeightError::Missing { tensor: name.to_owned(), origin: self.origin(name) });
        };
        if e.dtype.is_none() {
            let (tensor, origin) = (name.to_owned(), self.origin(name));
            return Err(WeightError::DType { tensor, origin, found: e.dtype_name.clone() });
        }
        Ok(Arc::new(Slice { map: self.files[*file].map.clone(), range: e.range.clone() }))
    }

    fn type_name(&self, name: &str) -> String {
        self.tensors.get(name).map_or_else(|| "unknown".to_owned(), |(_, e)| e.dtype_name.clone())
    }

    fn origin(&self, name: &str) -> String {
        match self.tensors.get(name) {
            Some((file, _)) => self.files[*file].path.display().to_string(),
            None => self.folder.display().to_string(),
        }
    }

    fn fingerprint(&self) -> String {
        let parts: Vec<&str> = self.files.iter().map(|f| f.fingerprint.as_str()).collect();
        parts.join("\n")
    }
}

fn read_index(path: &Path) -> Result<Vec<(String, String)>, WeightError> {
    let wrong = |what: String| WeightError::Index { file: path.to_owned(), what };
    let text =
        std::fs::read_to_string(path).map_err(|source| WeightError::Io { file: path.to_owned(), source })?;
    let json: Value = serde_json::from_str(&text).map_err(|e| wrong(e.to_string()))?;
    let map = json
        .get("weight_map")
        .and_then(Value::as_object)
        .ok_or_else(|| wrong("it has no object `weight_map`".to_owned()))?;
    let mut out = Vec::with_capacity(map.len());
    for (tensor, shard) in map {
        let shard =
            shard.as_str().ok_or_else(|| wrong(format!("the file of tensor `{tensor}` is not a string")))?;
        // Shards lie beside the index; anything else is not an index that a tool wrote.
        let mut parts = Path::new(shard).components();
        if !matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None)) {
            return Err(wrong(format!(
                "tensor `{tensor}` is said to be in `{shard}`, which is no file name"
            )));
        }
        out.push((tensor.clone(), shard.to_owned()));
    }
    Ok(out)
}

fn open_one(path: &Path) -> Result<(Mapped, IndexMap<String, Entry>), WeightError> {
    let io = |source| WeightError::Io { file: path.to_owned(), source };
    let file = File::open(path).map_err(io)?;
    let meta = file.metadata().map_err(io)?;
    let wrong = |what: String| WeightError::Header { file: path.to_owned(), what };
    if meta.len() < 8 {
        return Err(wrong(format!("it has {} bytes, less than the length of its header", meta.len())));
    }
    let map = map(&file).map_err(io)?;
    let mut length = [0; 8];
    length.copy_from_slice(&map[..8]);
    let header_len = u64::from_le_bytes(length);
    if header_len > MAX_HEADER || 8 + header_len > map.len() as u64 {
        return Err(wrong(format!(
            "its header is said to have {header_len} bytes, the file has {}",
            map.len()
        )));
    }
    let start = 8 + header_len as usize;
    let header: Value = serde_json::from_slice(&map[8..start]).map_err(|e| wrong(format!("header: {e}")))?;
    let header = header.as_object().ok_or_else(|| wrong("its header is not a JSON object".to_owned()))?;
    let mut entries = IndexMap::with_capacity(header.len());
    for (name, value) in header {
        if name == "__metadata__" {
            continue;
        }
        entries.insert(name.clone(), entry(path, name, value, start, map.len())?);
    }
    covered(path, &entries, start, map.len())?;
    let modified = meta.modified().ok().and_then(|t| t.duration_since(std::time::UNIX_EPOCH).ok());
    let modified = modified.map_or(0, |d| d.as_nanos());
    let fingerprint = format!("{} {} {modified} {:016x}", path.display(), meta.len(), hash(&map[..start]));
    Ok((Mapped { path: path.to_owned(), map, fingerprint }, entries))
}

/// That the tensors share no byte and leave none over, as the format demands: otherwise the offsets are not those that
/// the writer meant.
fn covered(
    path: &Path,
    entries: &IndexMap<String, Entry>,
    start: usize,
    len: usize,
) -> Result<(), WeightError> {
    let wrong = |what: String| Err(WeightError::Header { file: path.to_owned(), what });
    let mut sorted: Vec<(&String, &Entry)> = entries.iter().collect();
    sorted.sort_by_key(|(_, e)| (e.range.start, e.range.end));
    let mut end = start;
    for (name, e) in sorted {
        if e.range.start < end {
            return wrong(format!("tensor `{name}` overlaps the one before it"));
        }
        if e.range.start > end {
            return wrong(format!("no tensor owns the {} bytes before `{name}`", e.range.start - end));
        }
        end = e.range.end;
    }
    if end < len {
        return wrong(format!("no tensor owns the last {} bytes", len - end));
    }
    Ok(())
}

fn entry(path: &Path, name: &str, value: &Value, start: usize, len: usize) -> Result<Entry, WeightError> {
    let wrong =
        |what: &str| WeightError::Header { file: path.to_owned(), what: format!("tensor `{name}`: {what}") };
    let dtype_name = value.get("dtype").and_then(Value::as_str).ok_or_else(|| wrong("no dtype"))?;
    let (dtype, bytes) = dtype_of(dtype_name);
    let list = |key: &str| -> Option<Vec<u64>> {
        value.get(key)?.as_array()?.iter().map(Value::as_u64).collect::<Option<Vec<u64>>>()
    };
    let dims = list("shape").ok_or_else(|| wrong("no shape"))?;
    let offsets = list("data_offsets").ok_or_else(|| wrong("no data_offsets"))?;
    let &[begin, end] = &offsets[..] else {
        return Err(wrong("data_offsets are not two numbers"));
    };
    let end_in_file = end.saturating_add(start as u64);
    if end_in_file > len as u64 {
        let (file, tensor) = (path.to_owned(), name.to_owned());
        return Err(WeightError::Truncated { file, tensor, end: end_in_file, len: len as u64 });
    }
    let count = dims.iter().try_fold(1u64, |p, &d| p.checked_mul(d));
    let size = count.and_then(|c| c.checked_mul(bytes.unwrap_or(1)));
    let fits = end.checked_sub(begin).is_some_and(|n| bytes.is_none() || size == Some(n));
    if !fits {
        return Err(wrong(&format!("bytes {begin}..{end} do not hold {dims:?} of {dtype_name}")));
    }
    let range = start + begin as usize..start + end as usize;
    Ok(Entry { dtype, dtype_name: dtype_name.to_owned(), dims, range })
}

/// The type of the format and the bytes of an element, where we know them.
fn dtype_of(name: &str) -> (Option<DType>, Option<u64>) {
    let dtype = match name {
        "BF16" => DType::Bf16,
        "F16" => DType::F16,
        "F32" => DType::F32,
        "F64" => DType::F64,
        "I64" => DType::I64,
        "I32" => DType::I32,
        "I8" => DType::I8,
        "U8" => DType::U8,
        "BOOL" => DType::Bool,
        _ => return (None, None),
    };
    (Some(dtype), Some(dtype.bytes() as u64))
}

/// FNV-1a; it only has to notice that a header changed.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, &b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}
