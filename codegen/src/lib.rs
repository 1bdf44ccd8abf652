//! Part of Tilewright: codegen.
