//! Flex, Burn's CPU backend.

impl crate::ops::SparseAttentionOps for burn::backend::Flex {}
