//! Part of Tilewright: runtime.
