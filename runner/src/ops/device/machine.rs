//! The interface between an operation and the device that its kernels run on.

use candle_core::{DType, Result, Tensor};
use kernels::cuda::{Address, Launch};

/// Runs the kernels of one operation.
pub(in crate::ops) trait Machine {
    /// The address of the first value of a tensor that launches only read.
    ///
    /// # Errors
    /// If it is not contiguous, or not on the device.
    fn input(&mut self, x: &Tensor) -> Result<Address>;

    /// A new tensor whose values launches write completely; [`Machine::take`] returns it.
    fn output(&mut self, shape: &[usize], dtype: DType) -> Result<Address>;

    /// A tensor that launches change in place; [`Machine::take`] returns it. It must have no other owner.
    fn changed(&mut self, x: Tensor) -> Result<Address>;

    /// Queues a launch behind the earlier ones; `None` does nothing.
    fn launch(&mut self, launch: Option<Launch>) -> Result<()>;

    /// The tensor of an address of [`Machine::output`] or [`Machine::changed`].
    fn take(&mut self, address: Address) -> Result<Tensor>;

    /// x⋅Wᵀ, plus the `bias` (`[outputs]`) and the `residual` (`[rows, outputs]`): `x` is `[rows, inputs]`, the `weight`
    /// `[outputs, inputs]`. Sums are f32.
    fn product(
        &mut self,
        x: &Tensor,
        weight: &Tensor,
        bias: Option<&Tensor>,
        residual: Option<&Tensor>,
    ) -> Result<Tensor>;

    /// The address of a tensor that may be absent.
    fn optional(&mut self, x: Option<&Tensor>) -> Result<Address> {
        x.map_or(Ok(Address::ABSENT), |x| self.input(x))
    }
}
