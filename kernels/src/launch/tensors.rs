//! Tensors of a launch that no caller sees.

use cubecl::client::Client;
use cubecl::prelude::*;

/// An uninitialised contiguous tensor of f32.
pub(crate) fn empty(client: &Client, shape: [usize; 4]) -> TensorBinding {
    let [a, b, c, d] = shape;
    let handle = client.empty(a * b * c * d * size_of::<f32>());
    // SAFETY: shape and strides are those of the allocation.
    unsafe { TensorBinding::from_raw_parts(handle, [b * c * d, c * d, d, 1].into(), shape.into()) }
}

/// What stands for a tensor that a kernel does not touch: a buffer cannot be bound twice to a kernel that
/// writes it.
pub(crate) fn none(client: &Client) -> TensorBinding {
    empty(client, [1; 4])
}

/// A tensor, or what stands for it.
pub(crate) fn or_none(client: &Client, tensor: &Option<TensorBinding>) -> TensorArg {
    let tensor = tensor.clone().unwrap_or_else(|| none(client));
    tensor.into_tensor_arg()
}

/// Labels of queries and keys, or what stands for them.
pub(crate) fn labels(
    client: &Client,
    labels: &Option<(TensorBinding, TensorBinding)>,
) -> (BufferArg, BufferArg) {
    let (q, k) = labels
        .clone()
        .unwrap_or_else(|| (none(client), none(client)));
    (q.into_buffer_arg(), k.into_buffer_arg())
}

/// The integers that index every one of `tensors`, with their sizes of an element, and count its elements: a
/// broadcast view has more of them than memory.
pub(crate) fn address(tensors: &[(&TensorBinding, usize)]) -> AddressType {
    let each = tensors.iter().map(|(t, size)| {
        let elements = AddressType::from_len(t.size());
        t.required_address_type(*size).max(elements)
    });
    each.max().unwrap_or_default()
}
