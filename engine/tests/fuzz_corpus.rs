//! The corpus of the fuzz targets, run as tests: every input that was ever worth keeping, the minimised finds among them.
//! `UPDATE_SEEDS=1` writes the seeds (inputs that are whole and right) anew.

#[path = "../fuzz/src/lib.rs"]
#[allow(unreachable_pub)]
mod targets;

mod common;

use std::path::{Path, PathBuf};

use common::Stream;
use half::f16;
use targets::writer::{Meta, Writer};

fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target)
}

fn run_all(target: &str, run: fn(&[u8]) -> bool) {
    let mut ran = 0;
    for entry in std::fs::read_dir(corpus(target)).unwrap() {
        let path = entry.unwrap().path();
        // Shown when the test fails.
        println!("{}", path.display());
        run(&std::fs::read(path).unwrap());
        ran += 1;
    }
    assert!(ran > 0, "{target} has no corpus");
}

#[test]
fn chat_template() {
    run_all("chat_template", targets::chat_template::run);
}

#[test]
fn gguf() {
    run_all("gguf", targets::gguf::run);
}

#[test]
fn gguf_model() {
    run_all("gguf_model", targets::gguf_model::run);
}

#[test]
fn model_cache() {
    run_all("model_cache", targets::model_cache::run);
}

#[test]
fn safetensors() {
    run_all("safetensors", targets::safetensors::run);
}

#[test]
fn tokenizer_gguf() {
    run_all("tokenizer_gguf", targets::tokenizer_gguf::run);
}

#[test]
fn tokenizer_json() {
    run_all("tokenizer_json", targets::tokenizer_json::run);
}

/// A seed is an input that is taken: otherwise fuzzing would start at a refusal.
#[test]
fn seeds_are_as_the_writers_write_them() {
    for (target, name, bytes) in seeds() {
        let path = corpus(target).join(format!("seed-{name}"));
        if std::env::var_os("UPDATE_SEEDS").is_some() {
            std::fs::create_dir_all(corpus(target)).unwrap();
            std::fs::write(&path, &bytes).unwrap();
        }
        assert!(std::fs::read(&path).is_ok_and(|found| found == bytes), "{}", path.display());
        match target {
            "gguf_model" => {
                let file = engine::formats::GgufFile::from_bytes("seed.gguf", bytes).unwrap();
                engine::model::load_gguf(&file, engine::Format::F16).unwrap_or_else(|e| panic!("{name}: {e}"));
            }
            "gguf" => assert!(targets::gguf::run(&bytes), "{name}"),
            "chat_template" => assert!(targets::chat_template::run(&bytes), "{name}"),
            "model_cache" => assert!(targets::model_cache::run(&bytes), "{name}"),
            "safetensors" => assert!(targets::safetensors::run(&bytes), "{name}"),
            "tokenizer_gguf" => assert!(targets::tokenizer_gguf::run(&bytes), "{name}"),
            _ => assert!(targets::tokenizer_json::run(&bytes), "{name}"),
        }
    }
}

fn seeds() -> Vec<(&'static str, String, Vec<u8>)> {
    let mut seeds = Vec::new();
    for (name, writer) in models() {
        seeds.push(("gguf_model", name.to_owned(), writer.bytes()));
    }
    for (name, source) in engine::chat::BUILT_IN.into_iter().chain([("features", FEATURES)]) {
        seeds.push(("chat_template", name.to_owned(), source.as_bytes().to_vec()));
    }
    seeds.push(("gguf", "types".to_owned(), every_type().bytes()));
    let (ternary, base3) = (engine::Format::Ternary, engine::Format::Base3);
    for (name, model, format) in [
        ("ternary", "i2s", ternary),
        ("base3", "i2s", base3),
        ("q6_k", "tq1", ternary),
        ("q8_0", "llama-ternary", base3),
    ] {
        seeds.push(("model_cache", name.to_owned(), cache(model, format)));
    }
    for (name, bytes) in folders() {
        seeds.push(("safetensors", name.to_owned(), bytes));
    }
    for (name, text) in vocabularies() {
        seeds.push(("tokenizer_gguf", name.to_owned(), text.as_bytes().to_vec()));
    }
    for (name, text) in jsons() {
        seeds.push(("tokenizer_json", name.to_owned(), text.into_bytes()));
    }
    seeds
}

/// What templates of files use.
const FEATURES: &str = "{%- set ns = namespace(system=none, n=0) -%}{%- macro show(m, n=1) -%}{{ m.role | upper }}: \
{{ m['content'].strip().split(' ')[-1] or '-' }}{%- endmacro -%}{% for m in messages if m.role != 'system' %}\
{% set ns.n = ns.n + loop.index0 %}{{ show(m) ~ loop.last }}{% if m.content is string and 'a' in m.content %}\
{{ {'a': [1, 2.5, none], 'b': m.content[::-1]} | tojson(indent=2) }}{% elif loop.first %}{{ strftime_now('%d %b') }}{% else %}\
{{ raise_exception('no') if tools is defined and tools | length > 3 }}{% endif %}{% endfor %}\
{{ messages | selectattr('role', 'equalto', 'user') | map(attribute='content') | list | join(', ') }}\
{{ range(3) | list | reverse | first }}{% generation %}{{ eos_token.replace('s', 't').title() }}{% endgeneration %}\
\0{\"messages\":[{\"role\":\"user\",\"content\":\"a b\"}],\"tools\":[{\"name\":\"f\"}],\"bos_token\":\"<s>\",\"eos_token\":\"</s>\"}";

/// Type ids with values and bytes of a block, where the f16 scales lie in it, and bytes after the blocks.
const TYPES: [(u32, usize, usize, &[usize], usize); 12] = [
    (0, 1, 4, &[], 0),
    (1, 1, 2, &[0], 0),
    (2, 32, 18, &[0], 0),
    (3, 32, 20, &[0, 2], 0),
    (6, 32, 22, &[0], 0),
    (8, 32, 34, &[0], 0),
    (12, 256, 144, &[0, 2], 0),
    (14, 256, 210, &[208], 0),
    (30, 1, 2, &[], 0),
    (34, 256, 54, &[52], 0),
    (35, 256, 66, &[64], 0),
    (36, 4, 1, &[], 32),
];

/// Data of a tensor of a type, each value readable.
fn data(kind: u32, values: usize, stream: &mut Stream) -> Vec<u8> {
    let (_, len, bytes, scales, tail) = *TYPES.iter().find(|t| t.0 == kind).unwrap();
    let codes = [0x12, 0x49, 0x86, 0x64];
    let mut data = Vec::new();
    for _ in 0..values / len {
        let mut block: Vec<u8> = (0..bytes).map(|_| if kind >= 34 { codes[stream.below(4)] } else { 7 }).collect();
        match kind {
            0 => block.copy_from_slice(&stream.unit().to_le_bytes()),
            30 => block.copy_from_slice(&[0, 0x3f]),
            _ => {}
        }
        scales.iter().for_each(|&at| block[at..at + 2].copy_from_slice(&f16::from_f32(0.125).to_le_bytes()));
        data.extend(block);
    }
    if tail > 0 {
        data.extend(0.125f32.to_le_bytes());
        data.extend([0; 28]);
    }
    data
}

/// A tensor of every type and a key of every kind.
fn every_type() -> Writer {
    let mut stream = Stream(1);
    let mut writer = Writer::default();
    for (kind, len, ..) in TYPES {
        let dims = [len.max(32) as u64, 4];
        writer.raw(&format!("t{kind}"), &dims, kind, data(kind, 4 * len.max(32), &mut stream));
    }
    writer.set("u8", Meta::U8(1)).set("u32", Meta::U32(2)).set("i32", Meta::I32(-3)).set("u64", Meta::U64(4));
    writer.set("f32", Meta::F32(0.5)).set("bool", Meta::Bool(true)).set("text", "some");
    writer.set("texts", Meta::Texts(vec!["a".into(), "bc".into()])).set("floats", Meta::Floats(vec![1.0, 2.0]));
    writer.set("integers", Meta::Integers(vec![1, 2])).set("nested", Meta::Raw(9, nested()));
    writer
}

/// An array of two arrays of one u8.
fn nested() -> Vec<u8> {
    let inner = [&0u32.to_le_bytes()[..], &1u64.to_le_bytes(), &[5]].concat();
    [&9u32.to_le_bytes()[..], &2u64.to_le_bytes(), &inner, &inner].concat()
}

/// A cache of a model that `targets::model_cache` has.
fn cache(model: &str, format: engine::Format) -> Vec<u8> {
    let (_, writer) = models().into_iter().find(|(name, _)| *name == model).unwrap();
    let file = engine::formats::GgufFile::from_bytes("seed.gguf", writer.bytes()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cache");
    let cached = engine::model::load_gguf_cached(&file, format, &path).unwrap();
    assert_eq!(cached.notes, Vec::<String>::new());
    std::fs::read(path).unwrap()
}

/// Small models of every architecture; types of embedding, of the matrices whose rows are `hidden` long, and of the
/// others.
fn models() -> Vec<(&'static str, Writer)> {
    vec![
        ("i2s", model("bitnet-b1.58", 32, 64, [0, 36, 36])),
        ("tq1", model("bitnet-25", 256, 4, [14, 34, 36])),
        ("tq2", model("bitnet", 256, 4, [12, 35, 36])),
        ("llama-ternary", model("llama", 32, 64, [8, 36, 36])),
        ("llama-q4_0", model("llama", 32, 32, [2, 2, 0])),
        ("llama-q5_0", model("llama", 32, 32, [3, 6, 30])),
    ]
}

fn model(arch: &str, hidden: u64, ffn: u64, [embedding, wide, narrow]: [u32; 3]) -> Writer {
    let (heads, head_dim) = (2, if hidden == 32 { 16 } else { 2 });
    let (q_width, kv_width) = (heads * head_dim, head_dim);
    let mut writer = Writer::default();
    writer.set("general.architecture", arch);
    let counts = [
        ("context_length", 8),
        ("embedding_length", hidden),
        ("block_count", 1),
        ("feed_forward_length", ffn),
        ("attention.head_count", heads),
        ("attention.head_count_kv", 1),
        ("attention.key_length", head_dim),
    ];
    for (key, value) in counts {
        writer.set(&format!("{arch}.{key}"), Meta::U32(value as u32));
    }
    writer.set(&format!("{arch}.attention.layer_norm_rms_epsilon"), Meta::F32(1e-5));
    writer.set(&format!("{arch}.rope.freq_base"), Meta::F32(10_000.0));
    let mut stream = Stream(2);
    let mut tensor = |name: &str, dims: &[u64], kind: u32| {
        let data = data(kind, dims.iter().product::<u64>() as usize, &mut stream);
        writer.raw(&format!("{name}.weight"), dims, kind, data);
    };
    tensor("token_embd", &[hidden, 4], embedding);
    tensor("output_norm", &[hidden], 0);
    tensor("blk.0.attn_norm", &[hidden], 0);
    tensor("blk.0.ffn_norm", &[hidden], 1);
    if arch != "llama" {
        tensor("blk.0.attn_sub_norm", &[q_width], 0);
        tensor("blk.0.ffn_sub_norm", &[ffn], 30);
    }
    for (name, rows) in
        [("attn_q", q_width), ("attn_k", kv_width), ("attn_v", kv_width), ("ffn_gate", ffn), ("ffn_up", ffn)]
    {
        tensor(&format!("blk.0.{name}"), &[hidden, rows], wide);
    }
    tensor("blk.0.attn_output", &[q_width, hidden], narrow);
    tensor("blk.0.ffn_down", &[ffn, hidden], narrow);
    writer
}

/// Folders as `targets::safetensors` has them: packed with a scale that multiplies or divides, master weights, and LLaMA's.
fn folders() -> Vec<(&'static str, Vec<u8>)> {
    let ternary = |keys: &[(&str, &str)]| {
        let pairs = keys.iter().map(|&(key, value)| (key.to_owned(), value.into()));
        serde_json::Value::Object(pairs.chain([("quant_method".to_owned(), "bitnet".into())]).collect())
    };
    let offline = ternary(&[("linear_class", "autobitlinear"), ("quantization_mode", "offline")]);
    let online = ternary(&[("linear_class", "autobitlinear"), ("quantization_mode", "online")]);
    vec![
        ("multiplies", folder("bitnet", offline, true)),
        ("divides", folder("bitnet", ternary(&[]), true)),
        ("online", folder("bitnet", online, false)),
        ("llama", folder("llama", serde_json::Value::Null, false)),
    ]
}

fn folder(kind: &str, quantisation: serde_json::Value, packed: bool) -> Vec<u8> {
    use ::safetensors::tensor::Dtype;
    use common::folder::{Folder, Tensor};
    let mut stream = Stream(3);
    let mut values = |count: usize| (0..count).map(|_| stream.unit()).collect::<Vec<_>>();
    let mut tensors = std::collections::BTreeMap::new();
    tensors.insert("model.embed_tokens.weight".to_owned(), Tensor::floats(Dtype::F16, &[4, 16], &values(64)));
    tensors.insert("model.norm.weight".to_owned(), Tensor::floats(Dtype::F32, &[16], &values(16)));
    let sub_norms = ["self_attn.attn_sub_norm", "mlp.ffn_sub_norm"];
    for name in ["input_layernorm", "post_attention_layernorm"].into_iter().chain(sub_norms) {
        if kind == "bitnet" || !sub_norms.contains(&name) {
            tensors.insert(format!("model.layers.0.{name}.weight"), Tensor::floats(Dtype::BF16, &[16], &values(16)));
        }
    }
    let linears = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"];
    for name in linears.into_iter().chain(["mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"]) {
        let rows = if name.contains("k_proj") || name.contains("v_proj") { 8 } else { 16 };
        let floats = values(rows * 16);
        let trits: Vec<i8> = floats.iter().map(|v| (v * 1.5).round() as i8).collect();
        let name = format!("model.layers.0.{name}.weight");
        if packed {
            tensors.insert(format!("{name}_scale"), Tensor::floats(Dtype::BF16, &[1], &[0.5]));
            tensors.insert(name, Tensor::packed(rows, 16, &trits));
        } else {
            tensors.insert(name, Tensor::floats(Dtype::BF16, &[rows, 16], &floats));
        }
    }
    let config = serde_json::json!({
        "architectures": [if kind == "bitnet" { "BitNetForCausalLM" } else { "LlamaForCausalLM" }], "model_type": kind,
        "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
        "num_key_value_heads": 1, "vocab_size": 4, "max_position_embeddings": 8, "rms_norm_eps": 1e-5,
        "rope_theta": 10_000.0, "tie_word_embeddings": true, "torch_dtype": "bfloat16",
        "quantization_config": quantisation,
    });
    let files = Folder { config, tensors }.files();
    [&files["config.json"], &b"\0"[..], &files["model.safetensors"]].concat()
}

/// Vocabularies as `targets::tokenizer_gguf` has them.
fn vocabularies() -> [(&'static str, &'static str); 3] {
    let bpe = "gpt2\npgpt-2\nt1a\nt1b\nt1c\nt1ab\nt1bc\nt1abc\nt3<s>\nt3<|im_end|>\nt4Ġ\nt1Ġa\nt1Ċ\nmb c\nma b\nma bc\nmĠ a\nkbos_token_id 6\nkadd_bos_token true\nabcab <s>";
    let llama3 =
        "gpt2\npllama-bpe\nt11\nt12\nt112\nt1'\nt1s\nt3<|begin_of_text|>\nt3<|eot_id|>\nm1 2\nkeos_token_id 6\n12's";
    let spm = "llama\nt2<unk>\nt3<s>\nt3</s>\nt6<0x0A>\nt6<0xE9>\nt1a\nt1b\nt1ab\nt1▁\nt1▁a\nt5x\nkadd_space_prefix true\nkunknown_token_id 0\nkadd_eos_token true\nab ab";
    [("bpe", bpe), ("llama3", llama3), ("spm", spm)]
}

fn jsons() -> Vec<(&'static str, String)> {
    let whole = |model: &str, pre: &str, decoder: &str, more: &str| {
        format!(
            r#"{{"version":"1.0","truncation":null,"padding":null,"added_tokens":[{{"id":0,"content":"<s>","single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":true}}],"normalizer":null,"pre_tokenizer":{pre},"post_processor":{more},"decoder":{decoder},"model":{model}}}"#
        )
    };
    let bpe = r#"{"type":"BPE","dropout":null,"unk_token":null,"continuing_subword_prefix":null,"end_of_word_suffix":null,"fuse_unk":false,"byte_fallback":false,"ignore_merges":false,"vocab":{"<s>":0,"a":1,"b":2,"c":3,"ab":4,"Ġ":5},"merges":["a b"]}"#;
    let spm = r#"{"type":"BPE","unk_token":"<s>","fuse_unk":true,"byte_fallback":true,"vocab":{"<s>":0,"▁":1,"a":2,"b":3,"ab":4,"<0x0A>":5},"merges":[["a","b"]]}"#;
    let unigram = r#"{"type":"Unigram","unk_id":0,"vocab":[["<s>",0.0],["▁",-1.0],["a",-2.0],["ab",-2.5]],"byte_fallback":false}"#;
    let byte_level = r#"{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":true}"#;
    let split = r#"{"type":"Sequence","pretokenizers":[{"type":"Split","pattern":{"Regex":"\\p{N}{1,3}|\\s+(?!\\S)"},"behavior":"Isolated","invert":false},{"type":"Digits","individual_digits":true},{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":false}]}"#;
    let metaspace = r#"{"type":"Metaspace","replacement":"▁","prepend_scheme":"always","split":true}"#;
    let fallback = r#"{"type":"Sequence","decoders":[{"type":"Replace","pattern":{"String":"▁"},"content":" "},{"type":"ByteFallback"},{"type":"Fuse"},{"type":"Strip","content":" ","start":1,"stop":0}]}"#;
    let template = r#"{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<s>","type_id":0}},{"Sequence":{"id":"A","type_id":0}}],"pair":[{"Sequence":{"id":"A","type_id":0}},{"Sequence":{"id":"B","type_id":1}}],"special_tokens":{"<s>":{"id":"<s>","ids":[0],"tokens":["<s>"]}}}"#;
    let config =
        "\0{\"bos_token\":\"<s>\",\"eos_token\":{\"content\":\"<s>\"},\"add_bos_token\":true,\"add_eos_token\":false}";
    vec![
        ("bpe", whole(bpe, byte_level, byte_level, "null")),
        ("bpe-config", whole(bpe, split, byte_level, byte_level) + config),
        ("spm", whole(spm, "null", fallback, template)),
        ("unigram", whole(unigram, metaspace, metaspace, template)),
    ]
}
