//! dsync
