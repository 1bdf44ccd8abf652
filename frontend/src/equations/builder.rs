//! Equations without text.
