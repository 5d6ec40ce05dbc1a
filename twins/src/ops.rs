//! The operations of the model that are more than a matrix product, each with its gradient.
//!
//! All work on contiguous f32 tensors on the CPU, rows in parallel.

pub mod attention;
pub mod elementwise;
pub mod loss;
pub mod norm;
pub mod quant;
pub mod rope;

use candle_core::{CpuStorage, Layout, Result, Shape, Storage, Tensor, bail};

/// Values of a contiguous f32 tensor, as an operation gets them.
fn values<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let Some((from, to)) = layout.contiguous_offsets() else { bail!("a contiguous tensor is needed") };
    Ok(&storage.as_slice::<f32>()?[from..to])
}

/// The same of a tensor outside an operation.
fn with<R>(tensor: &Tensor, read: impl FnOnce(&[f32]) -> Result<R>) -> Result<R> {
    let tensor = tensor.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cpu(storage) => read(values(storage, layout)?),
        _ => bail!("a tensor on the CPU is needed"),
    }
}

/// What an operation gives back.
fn made(values: Vec<f32>, layout: &Layout) -> (CpuStorage, Shape) {
    (CpuStorage::F32(values), layout.shape().clone())
}

/// Length of the last dimension.
fn width(layout: &Layout) -> Result<usize> {
    match layout.dims().last() {
        Some(&width) if width > 0 => Ok(width),
        _ => bail!("a tensor with values is needed"),
    }
}

/// Sum of products, in eight sums side by side.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let (mut sums, a, b) = ([0.0f32; 8], a.as_chunks::<8>(), b.as_chunks::<8>());
    for (a, b) in a.0.iter().zip(b.0) {
        for lane in 0..8 {
            sums[lane] += a[lane] * b[lane];
        }
    }
    let rest: f32 = a.1.iter().zip(b.1).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}

/// `out += factor * x`.
fn add_scaled(out: &mut [f32], factor: f32, x: &[f32]) {
    for (out, x) in out.iter_mut().zip(x) {
        *out += factor * x;
    }
}

#[cfg(test)]
pub(crate) mod testing {
    //! Gradients against differences.

    use crate::random::Random;
    use candle_core::{Device, Result, Tensor, Var};

    /// A tensor of normal draws.
    pub(crate) fn normal(shape: &[usize], seed: u64) -> Result<Var> {
        let mut random = Random::new(seed, "test");
        let values: Vec<f32> = (0..shape.iter().product()).map(|_| random.normal()).collect();
        Var::from_tensor(&Tensor::from_vec(values, shape, &Device::Cpu)?)
    }

    /// Holds the gradient of a weighted sum of `f`'s values by each of `vars` against central differences.
    pub(crate) fn check_gradient(vars: &[Var], f: impl Fn() -> Result<Tensor>) -> Result<()> {
        let weights = normal(f()?.dims(), 99)?;
        let loss = || f()?.mul(weights.as_tensor())?.sum_all();
        let grads = loss()?.backward()?;
        for (nth, var) in vars.iter().enumerate() {
            let analytic = grads.get(var).expect("a gradient").flatten_all()?.to_vec1::<f32>()?;
            let values = var.flatten_all()?.to_vec1::<f32>()?;
            for at in (0..values.len()).step_by(values.len().div_ceil(25)) {
                let at_shifted = |by: f32| {
                    let mut moved = values.clone();
                    moved[at] += by;
                    var.set(&Tensor::from_vec(moved, var.shape(), &Device::Cpu)?)?;
                    loss()?.to_scalar::<f32>()
                };
                let numeric = (at_shifted(5e-3)? - at_shifted(-5e-3)?) / 1e-2;
                let bound = 2e-2 * (1.0 + numeric.abs());
                assert!((analytic[at] - numeric).abs() < bound, "var {nth} at {at}: {} and {numeric}", analytic[at]);
            }
            var.set(&Tensor::from_vec(values, var.shape(), &Device::Cpu)?)?;
        }
        Ok(())
    }
}
