//! Self-attention by the kernels of a device.

use candle_core::{Result, Tensor};
use kernels::cuda;

use super::{Heads, SelfAttention};
use crate::ops::{
    device::{self, Machine},
    sequences::{Sequences, TokenSelection},
};

impl SelfAttention {
    /// The weighted values of every selected token, `[selected, query⋅width]`.
    pub(super) fn device_contexts(
        &self,
        machine: &mut dyn Machine,
        x: &Tensor,
        sequences: &Sequences,
        selected: TokenSelection,
    ) -> Result<Tensor> {
        let Heads { query, key_value, width } = self.heads;
        let qkv = if self.head_norms.is_none() && self.rotary.is_none() {
            self.qkv.forward(x)?
        } else {
            let (qkv, bias) = self.qkv.product_and_bias(machine, x)?;
            self.place_on_device(machine, qkv, bias, sequences)?
        };
        let bias = match &self.bias {
            Some(bias) => {
                Some(cuda::attention::Bias { table: machine.input(bias.on(x.device())?)?, positions: bias.positions })
            }
            None => None,
        };
        let attention = cuda::attention::Attention {
            element: device::element(x.dtype())?,
            query_heads: query,
            key_value_heads: key_value,
            width,
            scale: self.scale,
            span: self.span.on_device(),
            bias,
            selection: selected.on_device(),
        };
        let out = machine.output(&[selected.sequences(sequences).tokens(), query * width], x.dtype())?;
        let sequences = sequences.on(x.device(), machine)?;
        let qkv = machine.input(&qkv)?;
        machine.launch(attention.launch(qkv, sequences, out))?;
        machine.take(out)
    }

    /// Adds the bias to the product, then normalises and rotates the heads of queries and keys, in place.
    fn place_on_device(
        &self,
        machine: &mut dyn Machine,
        qkv: Tensor,
        bias: Option<&Tensor>,
        sequences: &Sequences,
    ) -> Result<Tensor> {
        let Heads { query, key_value, width } = self.heads;
        let device = qkv.device().clone();
        let norms = match &self.head_norms {
            None => None,
            Some((of_queries, of_keys)) => Some(cuda::rotary::HeadNorms {
                query: of_queries.described(machine)?,
                key: of_keys.described(machine)?,
                together: of_queries.width()? != width,
            }),
        };
        let preparation = cuda::rotary::HeadPreparation {
            element: device::element(qkv.dtype())?,
            query_heads: query,
            key_value_heads: key_value,
            width,
            bias: machine.optional(bias)?,
            norms,
            rotation: match &self.rotary {
                Some(rotary) => Some(rotary.on(&device, machine, sequences)?),
                None => None,
            },
        };
        let qkv = machine.changed(qkv)?;
        machine.launch(preparation.launch(qkv, sequences.tokens()))?;
        machine.take(qkv)
    }
}
