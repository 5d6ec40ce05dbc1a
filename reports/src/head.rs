//! What bounded heads read: kept apart from the whole heads' figures, as it depends on the values of weights and activations.

use crate::analysis::Analysis;
use crate::sections::{Column, apart};
use crate::text::{bytes, percent, short};

/// The section, or nothing where no bounded head was measured.
pub(crate) fn section(analysis: &Analysis) -> String {
    let columns: [Column; 5] = [
        ("rows open after 4 bits", "head_open_share", percent),
        ("rows of f16 a token", "head_rescored_rows", short),
        ("tokens that read the whole head", "head_full_share", percent),
        ("head bytes a token", "head_read_bytes", bytes),
        ("of the f16 head's", "head_read_share", percent),
    ];
    apart(analysis, ("Bounded head", NOTE), &columns, "speed-up over the pair")
}

/// Said wherever a bounded head ran.
pub(crate) const NOTE: &str = "Bounded heads choose the f16 head's own token and read less of it. How much less depends on the \
    values of weights and activations: the logits of synthetic weights are random, and theirs is no trained model's share.";
