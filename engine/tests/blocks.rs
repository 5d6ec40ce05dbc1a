//! Block decoding against the `gguf` package's (fixture made by `scripts/oracle/blocks.py`): the same bits.

use engine::formats::gguf::TensorType;
use engine::quant::blocks;
use serde_json::Value;

fn numbers(value: &Value) -> impl Iterator<Item = u32> + '_ {
    value.as_array().unwrap().iter().map(|v| u32::try_from(v.as_u64().unwrap()).unwrap())
}

#[test]
fn blocks_decode_to_the_same_bits() {
    let cases: Value = serde_json::from_str(include_str!("golden/blocks.json")).unwrap();
    let cases = cases.as_array().unwrap();
    assert_eq!(cases.len(), 10);
    for case in cases {
        let kind = TensorType::from_id(case["type"].as_u64().unwrap() as u32).unwrap();
        let bytes: Vec<u8> = numbers(&case["bytes"]).map(|b| b as u8).collect();
        let expected: Vec<u32> = numbers(&case["bits"]).collect();
        let mut out = vec![f32::NAN; expected.len()];
        assert!(blocks::dequantise(kind, &bytes, &mut out));
        let bits: Vec<u32> = out.iter().map(|v| v.to_bits()).collect();
        assert_eq!(bits, expected, "{kind}");
    }
}
