//! Part of Tilewright: passes.
