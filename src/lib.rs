//! Tilewright compiles transformer models into fused CUDA kernels that it derives.
