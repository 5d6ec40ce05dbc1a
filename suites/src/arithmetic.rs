//! The papers' energy model: what the additions and multiplications of a model's matrix products cost, and nothing else. No
//! memory, no control, no leakage: a figure by which formats can be compared on paper. Never a measurement.
//!
//! For `m x n` times `n x p`: `m (n - 1) p` additions and `m n p` multiplications, taken as `m n p` of both; with ternary
//! weights additions alone, and a multiplication for each input and output to scale it (arXiv 2310.11453, section 3.3).
//! Attention (scores, and values weighted by them) is in 16-bit floating point, not causal, for every format. Embedding and
//! output head are left out. Costs: 2310.11453, table 2, after Horowitz (2014) and Zhang (2022). So arXiv 2504.12285's table 1
//! is found again to three decimals, and table 1 of 2310.11453 to its two.

use crate::model::{Shape, WeightFormat};

/// A manufacturing process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Process {
    /// 45 nm.
    Nm45,
    /// 7 nm.
    Nm7,
}

/// What is added or multiplied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Number {
    /// 32-bit floating point.
    Fp32,
    /// 16-bit floating point.
    Fp16,
    /// 8-bit integers.
    Int8,
}

/// Picojoules of an addition and of a multiplication.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    /// Of an addition.
    pub add: f64,
    /// Of a multiplication.
    pub mul: f64,
}

impl Process {
    /// Both, the newer last.
    pub const ALL: [Process; 2] = [Process::Nm45, Process::Nm7];

    /// The name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Process::Nm45 => "45 nm",
            Process::Nm7 => "7 nm",
        }
    }

    /// 2310.11453, table 2.
    pub fn cost(self, number: Number) -> Cost {
        let (add, mul) = match (self, number) {
            (Process::Nm45, Number::Fp32) => (0.9, 3.7),
            (Process::Nm45, Number::Fp16) => (0.4, 1.1),
            (Process::Nm45, Number::Int8) => (0.03, 0.2),
            (Process::Nm7, Number::Fp32) => (0.38, 1.31),
            (Process::Nm7, Number::Fp16) => (0.16, 0.34),
            (Process::Nm7, Number::Int8) => (0.007, 0.07),
        };
        Cost { add, mul }
    }
}

/// How the linear layers are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layers {
    /// Ternary weights, int8 activations: additions.
    Ternary,
    /// Multiply-adds in floating point.
    Float(Number),
}

impl Layers {
    /// Of an engine's format; the reference computes in f32. bf16 is priced as fp16, for want of another figure.
    pub fn of(format: WeightFormat) -> Layers {
        match format {
            format if format.is_ternary() => Layers::Ternary,
            WeightFormat::F16 | WeightFormat::Bf16 => Layers::Float(Number::Fp16),
            _ => Layers::Float(Number::Fp32),
        }
    }
}

/// What the model counts of a transformer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    /// Blocks.
    pub layers: u64,
    /// Query heads times the width of one.
    pub attention: u64,
    /// Rows and columns of the linear layers of a block.
    pub linears: Vec<(u64, u64)>,
}

/// Joules for additions and multiplications.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Split {
    /// Additions.
    pub add: f64,
    /// Multiplications.
    pub mul: f64,
}

impl Split {
    /// Both.
    pub fn total(self) -> f64 {
        self.add + self.mul
    }
}

/// Modelled joules of a sequence, by part.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Breakdown {
    /// Products of the linear layers.
    pub linear: Split,
    /// Scaling of ternary layers' inputs and outputs.
    pub scales: Split,
    /// Scores and weighted values.
    pub attention: Split,
}

impl Breakdown {
    /// All parts.
    pub fn total(self) -> f64 {
        self.linear.total() + self.scales.total() + self.attention.total()
    }
}

impl From<&Shape> for Counted {
    fn from(shape: &Shape) -> Counted {
        Counted {
            layers: shape.layers.into(),
            attention: u64::from(shape.heads) * u64::from(shape.head_dim()),
            linears: shape.block_linears().to_vec(),
        }
    }
}

impl Counted {
    /// A block of seven linear layers: queries, keys, values, output, gate, up, down.
    pub fn gated(layers: u64, hidden: u64, ffn: u64, heads: u64, kv_heads: u64, head: u64) -> Counted {
        let (q, kv) = (heads * head, kv_heads * head);
        let linears =
            vec![(q, hidden), (kv, hidden), (kv, hidden), (hidden, q), (ffn, hidden), (ffn, hidden), (hidden, ffn)];
        Counted { layers, attention: q, linears }
    }

    /// Weights in the linear layers of all blocks.
    pub fn weights(&self) -> u64 {
        self.layers * self.linears.iter().map(|(rows, cols)| rows * cols).sum::<u64>()
    }

    /// Modelled joules of `tokens` tokens in one sequence.
    pub fn energy(&self, layers: Layers, process: Process, tokens: u64) -> Breakdown {
        let joules = |count: f64, cost: Cost| Split { add: count * cost.add * 1e-12, mul: count * cost.mul * 1e-12 };
        let sequence = tokens as f64;
        let products = sequence * self.weights() as f64;
        let scored = 2.0 * self.layers as f64 * sequence * sequence * self.attention as f64;
        let (linear, scales) = match layers {
            Layers::Ternary => {
                let int8 = process.cost(Number::Int8);
                let ends = self.layers * self.linears.iter().map(|(rows, cols)| rows + cols).sum::<u64>();
                let scaled = joules(sequence * ends as f64, Cost { add: 0.0, ..int8 });
                (joules(products, Cost { mul: 0.0, ..int8 }), scaled)
            }
            Layers::Float(number) => (joules(products, process.cost(number)), Split::default()),
        };
        Breakdown { linear, scales, attention: joules(scored, process.cost(Number::Fp16)) }
    }
}

/// A model of arXiv 2504.12285's table 1, with the energy that is printed there.
#[derive(Clone, Debug, PartialEq)]
pub struct Published {
    /// Its name there.
    pub name: &'static str,
    /// Its shape, by its configuration file.
    pub counted: Counted,
    /// Ternary or 16-bit.
    pub layers: Layers,
    /// Joules for 512 tokens.
    pub joules: f64,
}

/// arXiv 2504.12285, table 1, "Energy (estimated)".
pub fn published() -> [Published; 6] {
    let half = Layers::Float(Number::Fp16);
    let row = |name, counted, layers, joules| Published { name, counted, layers, joules };
    [
        row("LLaMA 3.2 1B", Counted::gated(16, 2048, 8192, 32, 8, 64), half, 0.258),
        row("Gemma-3 1B", Counted::gated(26, 1152, 6912, 4, 1, 256), half, 0.186),
        row("Qwen2.5 1.5B", Counted::gated(28, 1536, 8960, 12, 2, 128), half, 0.347),
        row("SmolLM2 1.7B", Counted::gated(24, 2048, 8192, 32, 32, 64), half, 0.425),
        row("MiniCPM 2B", Counted::gated(40, 2304, 5760, 36, 36, 64), half, 0.649),
        row("BitNet b1.58 2B4T", Counted::gated(30, 2560, 6912, 20, 5, 128), Layers::Ternary, 0.028),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounded(value: f64, decimals: i32) -> f64 {
        let factor = 10f64.powi(decimals);
        (value * factor).round() / factor
    }

    #[test]
    fn table_1_of_2504_12285_to_three_decimals() {
        for model in published() {
            let found = model.counted.energy(model.layers, Process::Nm7, 512).total();
            assert_eq!(rounded(found, 3), model.joules, "{}: {found}", model.name);
        }
    }

    #[test]
    fn where_the_ternary_models_joules_are() {
        let [.., model] = published();
        let found = model.counted.energy(model.layers, Process::Nm7, 512);
        let parts = [found.linear.total(), found.scales.total(), found.attention.total()].map(|part| rounded(part, 5));
        assert_eq!(parts, [0.00747, 0.00005, 0.02013]);
        assert_eq!(model.counted.weights(), 2_084_044_800);
    }

    /// Table 1 of 2310.11453: additions and multiplications of 6.7B, 13B and 30B, 512 tokens, 7 nm.
    #[test]
    fn table_1_of_2310_11453_to_its_decimals() {
        let shapes = [(4096, 32), (5120, 40), (7168, 48)].map(|(hidden, layers)| {
            let linears = vec![(hidden, hidden); 4].into_iter().chain([(4 * hidden, hidden), (hidden, 4 * hidden)]);
            Counted { layers, attention: hidden, linears: linears.collect() }
        });
        let of = |layers: Layers| {
            shapes.each_ref().map(|shape| {
                let found = shape.energy(layers, Process::Nm7, 512);
                let add = found.linear.add + found.scales.add + found.attention.add;
                let mul = found.linear.mul + found.scales.mul + found.attention.mul;
                (add, mul)
            })
        };
        let near = |found: [(f64, f64); 3], want: [(f64, f64); 3], by: f64| {
            for (found, want) in found.into_iter().zip(want) {
                assert!(
                    (found.0 - want.0).abs() <= by && (found.1 - want.1).abs() <= by,
                    "{found:?}, printed {want:?}"
                );
            }
        };
        near(of(Layers::Float(Number::Fp16)), [(0.54, 1.14), (1.05, 2.23), (2.45, 5.21)], 0.0055);
        // 6.7B's additions are printed as 0.04, and come to 0.034.
        near(of(Layers::Ternary), [(0.034, 0.02), (0.06, 0.04), (0.14, 0.06)], 0.0055);
    }

    #[test]
    fn the_ratio_of_2402_17764_is_one_of_costs() {
        let (half, int8) = (Process::Nm7.cost(Number::Fp16), Process::Nm7.cost(Number::Int8));
        assert_eq!(rounded((half.add + half.mul) / int8.add, 1), 71.4);
        assert_eq!(Process::ALL.map(Process::name), ["45 nm", "7 nm"]);
    }
}
