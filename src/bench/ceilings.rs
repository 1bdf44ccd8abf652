//! What: what a device can do: reading, copying, multiplying matrices.
//! Why here: times are shown as shares of what was measured in the same run, not of a datasheet.
//! Pre: a device with a clock.
//! Post: medians over arrays far larger than the cache. A library that is missing leaves its ceiling out, with a note
//! among the versions.

use std::collections::BTreeMap;

use tilewright_runtime::device::DeviceError;

use super::probe::{COPY, Maker, Memory, READ};
use super::record::{Ceilings, Time};
use super::timing::{Hold, Plan};
use super::{Settings, inputs};
use crate::{DType, Error};

/// Bytes of the arrays that are streamed.
const STREAM: u64 = 1 << 30;

/// The extents of the matrices.
const MATRIX: u32 = 8192;

/// Blocks for each multiprocessor.
const BLOCKS: u32 = 8;

/// Blocks that keep so many multiprocessors busy.
pub(super) fn blocks_of(multiprocessors: u32) -> u32 {
    multiprocessors * BLOCKS
}

/// Measures; returns versions of libraries too.
pub(super) fn measure(
    settings: &Settings,
    plan: &Plan,
) -> Result<(Ceilings, BTreeMap<String, String>), Error> {
    let opened = settings.device.open()?;
    // The clock of this very device: it has a stream of its own.
    let Some(clock) = opened.device.clock() else { return Ok(Default::default()) };
    let maker = Maker::new(&settings.toolchain, &opened.device, settings.target.as_deref())?;
    let facts = clock.facts()?;
    let hold = Hold::new(&maker, 2000)?;
    // Not zeros: data may be compressed on its way.
    let pattern = inputs::normal(DType::Bf16, &[1 << 22], 1).data;
    let times = usize::try_from(STREAM).unwrap_or(usize::MAX) / pattern.len();
    let x = maker.bytes("stream", &pattern.repeat(times))?;
    let blocks = blocks_of(facts.multiprocessors);
    let sums = maker.zeros("sums", u64::from(blocks) * 256 * 4)?;
    let pieces = maker.words("pieces", &[i32::try_from(STREAM / 16).unwrap_or(i32::MAX)])?;
    let time = |work: &mut dyn FnMut() -> Result<(), DeviceError>| {
        for _ in 0..plan.warmup.min(3) {
            work()?;
        }
        hold.launch()?;
        let times = clock.time(plan.least.max(20), work)?;
        Ok::<_, Error>(Time::of(times).map(|t| t.median_us))
    };
    let mut ceilings = Ceilings::default();
    let read = maker.make(&READ)?;
    let us = time(&mut || read.launch(blocks, &[&x, &sums, &pieces]))?;
    ceilings.read_gb_s = us.map(|us| STREAM as f64 / us / 1e3);
    let half = maker.words("half of the pieces", &[i32::try_from(STREAM / 32).unwrap_or(i32::MAX)])?;
    let y = Memory::new(&opened.device, "copy", STREAM / 2)?;
    let copy = maker.make(&COPY)?;
    let us = time(&mut || copy.launch(blocks, &[&x, &y, &half]))?;
    ceilings.copy_gb_s = us.map(|us| STREAM as f64 / us / 1e3);
    let mut versions = BTreeMap::new();
    match clock.vendor_matmul() {
        Ok(vendor) => {
            versions.insert("cublas".into(), vendor.version().to_owned());
            let elements = u64::from(MATRIX) * u64::from(MATRIX) * 2;
            let w = Memory::new(&opened.device, "w", elements)?;
            opened.device.copy(w.at(), x.at(), elements, Default::default())?;
            let us = time(&mut || vendor.run([MATRIX; 3], x.at(), w.at(), y.at()))?;
            ceilings.matmul_tflops = us.map(|us| 2.0 * f64::from(MATRIX).powi(3) / us / 1e6);
        }
        Err(error) => {
            versions.insert("cublas".into(), error.to_string());
        }
    }
    Ok((ceilings, versions))
}
