//! What sparse engines left unread: kept apart from the dense figures, as it depends on the weights' values.

use crate::analysis::Analysis;
use crate::sections::{Column, apart};
use crate::text::percent;

/// The section, or nothing where no sparse engine was measured.
pub(crate) fn section(analysis: &Analysis) -> String {
    let columns: [Column; 5] = [
        ("zero gates", "zero_gate_share", percent),
        ("zero activations of down", "zero_activation_share", percent),
        ("layers that read up by rows", "up_by_rows_share", percent),
        ("layers that read down by columns", "down_by_columns_share", percent),
        ("bytes of up and down read", "ffn_read_share", percent),
    ];
    apart(analysis, ("Exact sparsity", NOTE), &columns, "speed-up over dense")
}

/// Said wherever a sparse engine ran.
pub(crate) const NOTE: &str = "Sparse engines read less where gates are zero. Of synthetic weights that share was set, or is \
    chance: it says nothing of a trained model's, and neither does a speed that comes of it.";
