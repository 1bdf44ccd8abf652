//! Part of Tilewright: frontend.
