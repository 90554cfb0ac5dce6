//! Devices on other machines: the tensor-op fallback, each op sent to the server.

use crate::ops::SparseAttentionOps;

impl SparseAttentionOps for burn::backend::Remote {}
