//! What: the NVRTC that tests use.
//! Why here: tests of several crates compile kernels, and a fresh machine must be able to run them all without a step
//! by hand.
//! Pre: called from tests only; may fetch NVRTC with pip into the cache directory.
//! Post: one loaded NVRTC per process.

use std::sync::OnceLock;

use crate::nvrtc::{Nvrtc, find_or_fetch};
use crate::{Toolchain, nvrtc};

/// The toolchain that the environment of the test run describes.
pub fn toolchain() -> Toolchain {
    Toolchain::from_vars(|name| std::env::var_os(name))
}

/// NVRTC, fetched first when this machine has none.
///
/// # Panics
/// When there is none and it cannot be fetched: a test that needs it cannot pass.
pub fn nvrtc() -> &'static Nvrtc {
    static NVRTC: OnceLock<Nvrtc> = OnceLock::new();
    NVRTC.get_or_init(|| match find_or_fetch(&toolchain(), &mut |_: &nvrtc::Progress| ()) {
        Ok(nvrtc) => nvrtc,
        Err(error) => panic!("this test needs NVRTC: {error}"),
    })
}
