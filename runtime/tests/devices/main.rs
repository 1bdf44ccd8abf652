//! Devices, caches and steps.

mod emulated;
mod exec;
mod kernels;
mod nvrtc;
