//! Functions whose gradient is written by hand, at the level of tensors.
//!
//! Burn's custom operations are written per backend and have a fixed number of inputs. Here the
//! value and its vector-Jacobian product are ordinary tensor code, and there may be any number of
//! inputs: each is tied to a one-element *token* by an [`anchor`](VjpOps::anchor), and the value
//! hangs off the last token. In the backward pass the value's step runs first; it calls the
//! closure, which leaves one gradient per input in a slot, and each anchor delivers its own. A second value
//! hangs off the first: its step runs before, and leaves its gradient for the closure.

use burn::backend::autodiff::{
    checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
    grads::Gradients,
    ops::{Backward, Ops, OpsKind},
};
use burn::backend::{
    Autodiff, Backend, BackendTensor, Dispatch, DispatchKindConversion, DispatchTensor,
    TensorMetadata, backend_extension, tensor::FloatTensor,
};
use burn::tensor::{DType, Device, Shape, Tensor};
use std::fmt;
use std::sync::{Arc, Mutex};

/// Where the gradient of one input waits for its anchor.
pub(crate) type Slot = Arc<Mutex<Option<DispatchTensor>>>;

type Product = Box<dyn FnOnce(DispatchTensor) + Send>;

/// A vector-Jacobian product that runs at most once, in the backward pass.
#[derive(Clone)]
pub(crate) struct Vjp(Arc<Mutex<Option<Product>>>);

impl fmt::Debug for Vjp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Vjp")
    }
}

fn lift<B: Backend>(tensor: FloatTensor<B>) -> DispatchTensor
where
    DispatchTensor: DispatchKindConversion<B>,
{
    DispatchTensor::from_backend(BackendTensor::Float(tensor))
}

fn lower<B: Backend>(tensor: DispatchTensor) -> FloatTensor<B>
where
    DispatchTensor: DispatchKindConversion<B>,
{
    DispatchTensor::try_into_backend(tensor)
        .expect("a gradient has the backend of the tensor it belongs to")
        .float()
}

#[backend_extension(
    Cube: cfg(feature = "cube"),
    Flex: cfg(feature = "flex"),
    Remote: cfg(feature = "remote"),
    Autodiff,
    Fusion: cfg(feature = "cube")
)]
pub(crate) trait VjpOps: Backend {
    /// The token, made to depend on `input`.
    #[fusion(default)]
    fn anchor(token: FloatTensor<Self>, input: FloatTensor<Self>, slot: Slot) -> FloatTensor<Self> {
        let _ = (input, slot);
        token
    }

    /// A second value, made to depend on the first.
    #[fusion(default)]
    fn beside(
        second: FloatTensor<Self>,
        first: FloatTensor<Self>,
        slot: Slot,
    ) -> FloatTensor<Self> {
        let _ = (first, slot);
        second
    }

    /// The value, made to depend on the token.
    #[fusion(default)]
    fn hang(value: FloatTensor<Self>, token: FloatTensor<Self>, vjp: Vjp) -> FloatTensor<Self> {
        let _ = (token, vjp);
        value
    }
}

#[cfg(feature = "flex")]
impl VjpOps for burn::backend::Flex {}

#[cfg(feature = "cube")]
impl VjpOps for burn_cubecl::CubeBackend {}

#[cfg(feature = "remote")]
impl VjpOps for burn::backend::Remote {}

#[derive(Debug)]
struct Anchor;

#[derive(Debug)]
struct Hang;

#[derive(Debug)]
struct Beside;

impl<B: Backend> Backward<B, 2> for Anchor
where
    DispatchTensor: DispatchKindConversion<B>,
{
    type State = Slot;

    fn backward(self, ops: Ops<Slot, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [token, input] = ops.parents;
        let dtoken = grads.consume::<B>(&ops.node);
        if let Some(token) = token {
            grads.register::<B>(token.id, dtoken);
        }
        let gradient = ops.state.lock().expect("no panic under this lock").take();
        if let (Some(input), Some(gradient)) = (input, gradient) {
            grads.register::<B>(input.id, lower::<B>(gradient));
        }
    }
}

impl<B: Backend> Backward<B, 1> for Hang
where
    DispatchTensor: DispatchKindConversion<B>,
{
    type State = (Vjp, FloatTensor<B>);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [token] = ops.parents;
        let (Vjp(product), zero) = ops.state;
        let product = product.lock().expect("no panic under this lock").take();
        product.expect("a graph runs backward once")(lift::<B>(grads.consume::<B>(&ops.node)));
        if let Some(token) = token {
            grads.register::<B>(token.id, zero);
        }
    }
}

impl<B: Backend> Backward<B, 1> for Beside
where
    DispatchTensor: DispatchKindConversion<B>,
{
    type State = (Slot, Shape, DType);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = grads.consume::<B>(&ops.node);
        let (slot, shape, dtype) = ops.state;
        if let [Some(first)] = ops.parents {
            // So that the step of the first runs even where only the second is used.
            let zeros = B::float_zeros(shape, &gradient.device(), dtype.into());
            grads.register::<B>(first.id, zeros);
            *slot.lock().expect("no panic under this lock") = Some(lift::<B>(gradient));
        }
    }
}

impl<B: Backend, C: CheckpointStrategy> VjpOps for Autodiff<B, C>
where
    DispatchTensor: DispatchKindConversion<B>,
{
    fn anchor(token: FloatTensor<Self>, input: FloatTensor<Self>, slot: Slot) -> FloatTensor<Self> {
        let (token, token_node) = token.into_parts();
        let (_, input_node) = input.into_parts();
        let nodes = [token_node, input_node];
        match Backward::<B, 2>::prepare::<C>(Anchor, nodes)
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish(slot, token),
            OpsKind::UnTracked(prep) => prep.finish(token),
        }
    }

    fn beside(
        second: FloatTensor<Self>,
        first: FloatTensor<Self>,
        slot: Slot,
    ) -> FloatTensor<Self> {
        let second = second.into_primitive();
        let (first, node) = first.into_parts();
        let nodes = [node];
        match Backward::<B, 1>::prepare::<C>(Beside, nodes)
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish((slot, first.shape(), first.dtype()), second),
            OpsKind::UnTracked(prep) => prep.finish(second),
        }
    }

    fn hang(value: FloatTensor<Self>, token: FloatTensor<Self>, vjp: Vjp) -> FloatTensor<Self> {
        let value = value.into_primitive();
        let (token, node) = token.into_parts();
        match Backward::<B, 1>::prepare::<C>(Hang, [node])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish((vjp, token), value),
            OpsKind::UnTracked(prep) => prep.finish(value),
        }
    }
}

/// The inputs of a function with a hand-written gradient, collected one by one.
pub(crate) struct Inputs {
    token: Tensor<1>,
    slots: Vec<Slot>,
}

impl Inputs {
    /// No inputs yet; all will live on `device`.
    pub(crate) fn new(device: &Device) -> Self {
        Self {
            token: Tensor::zeros([1], device),
            slots: Vec::new(),
        }
    }

    /// Adds an input.
    pub(crate) fn push<const D: usize>(&mut self, input: Tensor<D>) {
        let slot = Slot::default();
        let token = self.token.clone().into_dispatch();
        let token = <Dispatch as VjpOps>::anchor(token, input.into_dispatch(), slot.clone());
        self.token = Tensor::from_dispatch(token);
        self.slots.push(slot);
    }

    /// Whether any input needs a gradient.
    pub(crate) fn is_tracked(&self) -> bool {
        self.token.is_tracked()
    }

    /// `value` as a function of the inputs.
    ///
    /// `vjp` takes the gradient of the value and returns those of the inputs, in the order in which
    /// they were pushed, all without autodiff. Only an input that is a leaf may go without one.
    pub(crate) fn finish<const D: usize>(
        self,
        value: Tensor<D>,
        vjp: impl FnOnce(Tensor<D>) -> Vec<Option<DispatchTensor>> + Send + 'static,
    ) -> Tensor<D> {
        let slots = self.slots;
        let product = move |gradient: DispatchTensor| {
            let gradients = vjp(Tensor::from_dispatch(gradient));
            assert_eq!(gradients.len(), slots.len(), "one gradient an input");
            for (slot, gradient) in slots.iter().zip(gradients) {
                *slot.lock().expect("no panic under this lock") = gradient;
            }
        };
        let vjp = Vjp(Arc::new(Mutex::new(Some(Box::new(product)))));
        let (value, token) = (value.into_dispatch(), self.token.into_dispatch());
        Tensor::from_dispatch(<Dispatch as VjpOps>::hang(value, token, vjp))
    }

    /// As [`finish`](Self::finish), for two values; the gradient of the second is `None` where it is not used.
    pub(crate) fn finish_pair<const D: usize, const E: usize>(
        self,
        [first, second]: [DispatchTensor; 2],
        vjp: impl FnOnce(Tensor<D>, Option<Tensor<E>>) -> Vec<Option<DispatchTensor>> + Send + 'static,
    ) -> (Tensor<D>, Tensor<E>) {
        let slot = Slot::default();
        let left = slot.clone();
        let first = self.finish(Tensor::from_dispatch(first), move |gradient| {
            let other = left.lock().expect("no panic under this lock").take();
            vjp(gradient, other.map(Tensor::from_dispatch))
        });
        let second = <Dispatch as VjpOps>::beside(second, first.clone().into_dispatch(), slot);
        (first, Tensor::from_dispatch(second))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tracked_input_gets_its_gradient_and_shared_ones_get_the_sum() {
        let device = Device::default().autodiff();
        let a = Tensor::<2>::from_data([[1.0, 2.0]], &device).require_grad();
        let b = Tensor::<1>::from_data([3.0], &device).require_grad();
        let constant = Tensor::<1>::from_data([5.0], &device);
        let deep = a.clone().mul_scalar(2.0);
        let mut inputs = Inputs::new(&device);
        inputs.push(deep.clone());
        inputs.push(constant);
        inputs.push(b.clone());
        inputs.push(b.clone());
        assert!(inputs.is_tracked());
        let value = Tensor::<1>::from_data([7.0], &Device::default());
        let y = inputs.finish(value, |dy| {
            vec![
                Some(dy.clone().unsqueeze::<2>().expand([1, 2]).into_dispatch()),
                None,
                Some(dy.clone().mul_scalar(10.0).into_dispatch()),
                Some(dy.into_dispatch()),
            ]
        });
        let grads = (y.mul_scalar(3.0) + deep.sum()).sum().backward();
        a.grad(&grads)
            .unwrap()
            .to_data()
            .assert_eq(&burn::tensor::TensorData::from([[8.0f32, 8.0]]), true);
        b.grad(&grads)
            .unwrap()
            .to_data()
            .assert_eq(&burn::tensor::TensorData::from([33.0f32]), true);
    }

    #[test]
    fn of_two_values_either_may_be_used() {
        let device = Device::default().autodiff();
        for used in [[true, true], [true, false], [false, true]] {
            let a = Tensor::<1>::from_data([2.0, 3.0], &device).require_grad();
            let mut inputs = Inputs::new(&device);
            inputs.push(a.clone().mul_scalar(1.0));
            let plain = |x: [f32; 2]| Tensor::<1>::from_data(x, &Device::default()).into_dispatch();
            let values = [plain([20.0, 30.0]), plain([1.0, 1.0])];
            let (ten, one) = inputs.finish_pair::<1, 1>(values, |d_ten, d_one| {
                let both = d_ten.mul_scalar(10.0);
                let both = match d_one {
                    Some(d_one) => both + d_one,
                    None => both,
                };
                vec![Some(both.into_dispatch())]
            });
            let parts = [ten.sum().mul_scalar(2.0), one.sum().mul_scalar(3.0)];
            let sum = parts.into_iter().zip(used).filter(|(_, used)| *used);
            let sum = sum.map(|(part, _)| part).reduce(|a, b| a + b).unwrap();
            let gradient = a.grad(&sum.backward()).unwrap();
            let want = 20.0 * f32::from(used[0]) + 3.0 * f32::from(used[1]);
            assert_eq!(
                gradient.into_data().iter::<f32>().collect::<Vec<_>>(),
                [want; 2]
            );
        }
    }

    #[test]
    fn without_a_tracked_input_the_value_passes_through() {
        let device = Device::default();
        let mut inputs = Inputs::new(&device);
        inputs.push(Tensor::<1>::from_data([5.0], &device));
        assert!(!inputs.is_tracked());
        let y = inputs.finish(Tensor::<1>::from_data([7.0], &device), |_| unreachable!());
        assert_eq!(y.into_scalar::<f32>(), 7.0);
    }
}
