//! What: where the weights of a module come from.
//! Why here: the runtime reads tensors by name and must not know of file formats.
//! Pre: tensors are dense, row-major and little-endian.
//! Post: bytes of the wanted type; shared, not copied, when the type is the same.

use std::collections::HashMap;
use std::sync::Arc;

use tilewright_ir::DType;

use super::ExecError;
use crate::device::SharedBytes;
use crate::values::convert;

/// Tensors by name.
pub trait TensorSource: Send + Sync {
    /// The type and the extents of a tensor, if there is one of that name.
    fn info(&self, name: &str) -> Option<(DType, Vec<u64>)>;

    /// Its elements.
    fn bytes(&self, name: &str) -> Result<SharedBytes, Box<dyn std::error::Error + Send + Sync>>;

    /// A text that changes whenever the contents of a tensor may have changed, if what is made of them is worth keeping.
    fn fingerprint(&self, name: &str) -> Option<String> {
        let _ = name;
        None
    }
}

/// A source without tensors, for modules without weights.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoTensors;

impl TensorSource for NoTensors {
    fn info(&self, _: &str) -> Option<(DType, Vec<u64>)> {
        None
    }

    fn bytes(&self, name: &str) -> Result<SharedBytes, Box<dyn std::error::Error + Send + Sync>> {
        Err(format!("there is no tensor `{name}`").into())
    }
}

/// Tensors in memory.
#[derive(Clone, Default)]
pub struct MemoryTensors(HashMap<String, (DType, Vec<u64>, SharedBytes)>);

impl MemoryTensors {
    /// Adds a tensor.
    pub fn insert(&mut self, name: &str, dtype: DType, dims: &[u64], bytes: Vec<u8>) {
        self.0.insert(name.to_owned(), (dtype, dims.to_vec(), Arc::new(bytes)));
    }
}

impl TensorSource for MemoryTensors {
    fn info(&self, name: &str) -> Option<(DType, Vec<u64>)> {
        self.0.get(name).map(|(dtype, dims, _)| (*dtype, dims.clone()))
    }

    fn bytes(&self, name: &str) -> Result<SharedBytes, Box<dyn std::error::Error + Send + Sync>> {
        let (_, _, bytes) = self.0.get(name).ok_or_else(|| format!("there is no tensor `{name}`"))?;
        Ok(Arc::clone(bytes))
    }
}

/// The tensor `name` as `elements` elements of type `dtype`.
pub(super) fn read(
    source: &dyn TensorSource,
    name: &str,
    dtype: DType,
    elements: u64,
) -> Result<SharedBytes, ExecError> {
    let missing = || ExecError::MissingTensor { name: name.to_owned() };
    let (found, shape) = source.info(name).ok_or_else(missing)?;
    let count = shape.iter().try_fold(1u64, |n, &d| n.checked_mul(d));
    if count != Some(elements) {
        return Err(ExecError::TensorShape {
            name: name.to_owned(),
            found: count.unwrap_or(u64::MAX),
            shape,
            wanted: elements,
        });
    }
    // A float as an integer would lose what it means.
    if found.is_float() != dtype.is_float() {
        return Err(ExecError::TensorType { name: name.to_owned(), found, wanted: dtype });
    }
    let unreadable = |source| ExecError::Tensor { name: name.to_owned(), source };
    let bytes = source.bytes(name).map_err(unreadable)?;
    let length = (*bytes).as_ref().len() as u64;
    if Some(length) != elements.checked_mul(found.bytes() as u64) {
        return Err(unreadable(format!("{length} bytes for {elements} elements of {found}").into()));
    }
    if found == dtype {
        return Ok(bytes);
    }
    Ok(Arc::new(convert(found, dtype, (*bytes).as_ref())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::values::encode;

    #[test]
    fn the_same_type_is_shared_and_others_are_converted() {
        let mut tensors = MemoryTensors::default();
        let values = [1.0, -2.5, 1.0 / 3.0];
        tensors.insert("w", DType::F32, &[3, 1], encode(DType::F32, values));
        let same = read(&tensors, "w", DType::F32, 3).unwrap();
        assert!(Arc::ptr_eq(&same, &tensors.bytes("w").unwrap()));
        let other = read(&tensors, "w", DType::Bf16, 3).unwrap();
        assert_eq!((*other).as_ref(), encode(DType::Bf16, values.map(|v| DType::F32.round(v))));
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let mut tensors = MemoryTensors::default();
        tensors.insert("w", DType::F32, &[2, 2], vec![0; 16]);
        tensors.insert("short", DType::F32, &[2, 2], vec![0; 12]);
        let error = |name, dtype, n| read(&tensors, name, dtype, n).map(|_| ()).unwrap_err();
        assert!(matches!(error("v", DType::F32, 4), ExecError::MissingTensor { .. }));
        assert!(matches!(error("w", DType::F32, 5), ExecError::TensorShape { .. }));
        assert!(matches!(error("w", DType::I32, 4), ExecError::TensorType { .. }));
        assert!(matches!(error("short", DType::F32, 4), ExecError::Tensor { .. }));
        assert!(matches!(read(&NoTensors, "w", DType::F32, 1), Err(ExecError::MissingTensor { .. })));
    }
}
