//! scratch
use engine::kernels::isa::Kernels;
use engine::model::*;
use engine::synthetic::*;
use engine::threads::Pool;
use std::time::Instant;
fn main() {
    let a: Vec<String> = std::env::args().skip(1).collect();
    let format = if a[0] == "f16" { Format::F16 } else { Format::Ternary };
    let n: Vec<usize> = a[1..].iter().filter_map(|x| x.parse().ok()).collect();
    let (hidden, ffn, layers, heads, kv_heads, vocab, threads, pp, tg) =
        (n[0], n[1], n[2], n[3], n[4], n[5], n[6], n[7], n[8]);
    let config = Config {
        arch: Architecture::BitNet,
        hidden,
        ffn,
        layers,
        heads,
        kv_heads,
        head_dim: hidden / heads,
        vocab,
        norm_eps: 1e-5,
        rope_theta: 1e4,
        rope: RopeStyle::Neox,
        activation: Activation::Relu2,
        sub_norms: true,
        context: 8192,
        tied: true,
    };
    let rss = || {
        std::fs::read_to_string("/proc/self/status")
            .unwrap()
            .lines()
            .filter(|l| l.starts_with("VmHWM") || l.starts_with("VmRSS"))
            .collect::<Vec<_>>()
            .join(" ")
    };
    let t = Instant::now();
    let model = build(&SyntheticSpec { config, seed: 1, head: HeadType::F16 }, format).unwrap();
    println!("build {:.2}s total {} MB  {}", t.elapsed().as_secs_f64(), model.footprint().total() >> 20, rss());
    let isa = a.iter().find_map(|x| x.parse().ok());
    let isa = if isa == Some(engine::kernels::isa::Isa::Scalar)
        || a.iter().any(|x| x.parse::<engine::kernels::isa::Isa>().is_ok())
    {
        isa
    } else {
        None
    };
    let pool = Pool::new(threads, true).unwrap();
    let mut s = Session::new(&model, &pool, Kernels::new(isa).unwrap(), SessionOptions::new(pp.max(16) + tg)).unwrap();
    let ids: Vec<u32> = (0..pp as u32).map(|i| i * 37 % 1000).collect();
    if pp > 0 {
        for _ in 0..2 {
            s.truncate(0);
            let t = Instant::now();
            let l = s.prefill(&ids).unwrap();
            let e = t.elapsed().as_secs_f64();
            println!("pp{pp} {:.3}s {:.1} t/s  {:?}", e, pp as f64 / e, l[0]);
        }
    }
    if tg > 0 {
        if pp == 0 {
            s.prefill(&[1; 16]).unwrap();
        }
        let mut best = f64::MAX;
        let t = Instant::now();
        for i in 0..tg {
            let t = Instant::now();
            s.decode(i as u32 * 31 % 1000).unwrap();
            best = best.min(t.elapsed().as_secs_f64());
        }
        let e = t.elapsed().as_secs_f64();
        println!(
            "tg{tg} {:.1} t/s  best {:.3} ms  {:.1} GB/s",
            tg as f64 / e,
            best * 1e3,
            model.footprint().read_per_token as f64 / best / 1e9
        );
    }
    println!("{}", rss());
}
