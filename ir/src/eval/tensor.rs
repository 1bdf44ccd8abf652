//! Dense row-major arrays of the evaluator.

use crate::DType;
use crate::eval::EvalError;

/// A dense row-major array.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tensor<T> {
    /// Extents; empty for a scalar.
    pub dims: Vec<usize>,
    /// The elements; as many as the product of `dims`.
    pub data: Vec<T>,
}

impl<T> Tensor<T> {
    /// An array from its elements.
    ///
    /// Fails when the number of elements is not the product of the extents.
    pub fn new(dims: &[usize], data: Vec<T>) -> Result<Tensor<T>, EvalError> {
        let expected = elements("tensor", dims)?;
        if expected != data.len() {
            return Err(EvalError::Elements { what: "tensor".to_owned(), expected, found: data.len() });
        }
        Ok(Tensor { dims: dims.to_vec(), data })
    }

    /// An array without axes.
    pub fn scalar(x: T) -> Tensor<T> {
        Tensor { dims: Vec::new(), data: vec![x] }
    }

    /// An array of the value of `f` at each multi-index.
    pub fn from_fn(dims: &[usize], mut f: impl FnMut(&[usize]) -> T) -> Tensor<T> {
        let count = dims.iter().product();
        let mut index = vec![0; dims.len()];
        let mut data = Vec::with_capacity(count);
        for _ in 0..count {
            data.push(f(&index));
            for d in (0..dims.len()).rev() {
                index[d] += 1;
                if index[d] < dims[d] {
                    break;
                }
                index[d] = 0;
            }
        }
        Tensor { dims: dims.to_vec(), data }
    }

    /// An array of `f` of each element.
    pub fn map<U>(&self, f: impl FnMut(&T) -> U) -> Tensor<U> {
        Tensor { dims: self.dims.clone(), data: self.data.iter().map(f).collect() }
    }

    /// The element at a multi-index; `None` outside the array.
    pub fn get(&self, index: &[usize]) -> Option<&T> {
        if index.len() != self.dims.len() || index.iter().zip(&self.dims).any(|(i, d)| i >= d) {
            return None;
        }
        self.data.get(index.iter().zip(strides(&self.dims)).map(|(i, s)| i * s).sum::<usize>())
    }
}

impl Tensor<f64> {
    /// The array that is read back after storing this one in a type.
    pub fn rounded(&self, dtype: DType) -> Tensor<f64> {
        self.map(|&x| dtype.round(x))
    }
}

/// Row-major strides.
pub fn strides(dims: &[usize]) -> Vec<usize> {
    let mut out = vec![1; dims.len()];
    for d in (1..dims.len()).rev() {
        out[d - 1] = out[d] * dims[d];
    }
    out
}

/// The number of elements, or the limit that is exceeded.
pub(crate) fn elements(what: &str, dims: &[usize]) -> Result<usize, EvalError> {
    const LIMIT: usize = 1 << 30;
    let count = dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).filter(|&n| n <= LIMIT);
    count.ok_or_else(|| EvalError::TooLarge { what: what.to_owned(), dims: dims.to_vec(), limit: LIMIT })
}
