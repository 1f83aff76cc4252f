//! Tests of the answers engine.
