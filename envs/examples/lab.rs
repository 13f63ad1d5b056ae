#![allow(clippy::all, clippy::pedantic, clippy::unwrap_used, missing_docs)]
use std::time::Instant;
use rayon::prelude::*;
fn main() {
    let what = std::env::args().nth(1).unwrap_or_default();
    if what == "speed" { return speed(); }
    if what == "maze" { return maze(); }
    let n: u64 = std::env::args().nth(2).and_then(|x| x.parse().ok()).unwrap_or(200);
    let spec = telic_envs::spec("block-push").unwrap();
    let runs: Vec<_> = (0..n).into_par_iter().map(|seed| {
        let mut d = (spec.demonstrators[0].make)(1.0).unwrap();
        d.reset(seed, None).unwrap();
        let mut a = [0.0f32; 2];
        let mut acts = vec![];
        let (mut q, mut v) = (vec![], vec![]);
        let mut zmax = 0f32; let mut tilt = 0f32; let mut lag = 0f32; let mut lagsum = 0f32;
        let mut ok = false;
        let verbose = std::env::args().nth(3).and_then(|x| x.parse().ok()) == Some(seed);
        while !d.finished() {
            d.act(&mut a); acts.push(a);
            let s = d.step(&a).unwrap(); ok = s.success;
            q.clear(); v.clear();
            d.env().state(&mut q, &mut v);
            for b in 0..2 { zmax = zmax.max(q[7*b+2]); let (x,y)=(q[7*b+4],q[7*b+5]); tilt = tilt.max(2.0*(x*x+y*y).sqrt()); }
            let o = d.env().observation();
            let l = ((o[6]-o[8]).powi(2)+(o[7]-o[9]).powi(2)).sqrt(); lag = lag.max(l); lagsum += l;
            if verbose { println!("{} cmd {:.3} {:.3} b0 {:.3} {:.3} {:.2} b1 {:.3} {:.3} {:.2} t0 {:.2} a {:.3} {:.3} z {:.4} {:.4}", d.env().elapsed_steps(), o[8],o[9],o[0],o[1],o[2],o[3],o[4],o[5],o[10],a[0]*0.05,a[1]*0.05,q[2],q[9]); }
        }
        let m = d.env().metrics();
        (ok, acts, zmax, tilt, lag, lagsum, m, seed)
    }).collect();
    let mut lens: Vec<usize> = runs.iter().filter(|r| r.0).map(|r| r.1.len()).collect(); lens.sort();
    println!("success {} / {n}; lens min {:?} median {} mean {:.1} p90 {} max {:?}", lens.len(), lens.first(), lens[lens.len()/2], lens.iter().sum::<usize>() as f64 / lens.len() as f64, lens[lens.len()*9/10], lens.last());
    println!("over 201: {}", lens.iter().filter(|l| **l > 201).count());
    println!("failed seeds {:?}", runs.iter().filter(|r| !r.0).map(|r| (r.7, r.1.len(), r.6[0].1, r.6[1].1)).collect::<Vec<_>>());
    println!("zmax {:.4} tilt max {:.3} runs with tilt>0.2: {}", runs.iter().map(|r| r.2).fold(0.0, f32::max), runs.iter().map(|r| r.3).fold(0.0, f32::max), runs.iter().filter(|r| r.3 > 0.2).count());
    println!("lag max {:.4} mean {:.4}", runs.iter().map(|r| r.4).fold(0.0, f32::max), runs.iter().map(|r| r.5).sum::<f32>() / runs.iter().map(|r| r.1.len()).sum::<usize>() as f32);
    let acts: Vec<[f64;2]> = runs.iter().filter(|r| r.0).flat_map(|r| r.1.iter().map(|a| [a[0] as f64*0.05, a[1] as f64*0.05])).collect();
    let k = acts.len() as f64;
    for i in 0..2 { let m = acts.iter().map(|a| a[i]).sum::<f64>()/k; let s = (acts.iter().map(|a| (a[i]-m).powi(2)).sum::<f64>()/k).sqrt();
        println!("a{i} mean {m:.5} std {s:.4} min {:.4} max {:.4}", acts.iter().map(|a| a[i]).fold(1.0, f64::min), acts.iter().map(|a| a[i]).fold(-1.0, f64::max)); }
    let mut norms: Vec<f64> = acts.iter().map(|a| (a[0]*a[0]+a[1]*a[1]).sqrt()).collect(); norms.sort_by(f64::total_cmp);
    println!("norm median {:.4} max {:.4} frac .030 {:.3} frac zero {:.4}", norms[norms.len()/2], norms.last().unwrap(), norms.iter().filter(|x| (**x-0.03).abs()<1e-6).count() as f64/k, norms.iter().filter(|x| **x<1e-4).count() as f64/k);
}
fn speed() {
    for id in std::env::args().skip(2) {
        let spec = telic_envs::spec(&id).unwrap();
        let mut env = (spec.make)().unwrap();
        let mut a = vec![0.0f32; spec.action_dim()];
        for rep in 0..3 {
            env.reset(rep, &Default::default()).unwrap();
            let t = Instant::now(); let c0 = cpu(); let mut n = 0u64; let mut x = 1u64;
            while t.elapsed().as_secs_f64() < 1.5 {
                for _ in 0..100 { for v in &mut a { x = x.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407); *v = (x >> 40) as f32 / (1u64<<23) as f32 - 1.0; }
                    env.step(&a).unwrap(); n += 1; }
                if n % 1000 == 0 { env.reset(n, &Default::default()).unwrap(); }
            }
            println!("{id} {:.0} steps/s wall, {:.0} per cpu s", n as f64 / t.elapsed().as_secs_f64(), n as f64 / (cpu()-c0));
        }
        let t = Instant::now(); for s in 0..200 { env.reset(s, &Default::default()).unwrap(); } println!("reset {:.3} ms", t.elapsed().as_secs_f64()*5.0);
        let t = Instant::now(); for _ in 0..20 { let s = env.snapshot(); env.restore(&s).unwrap(); } println!("snapshot+restore {:.3} ms, {} bytes", t.elapsed().as_secs_f64()*50.0, env.snapshot().len());
    }
}
fn maze() {
    let spec = telic_envs::spec("point-maze-arena").unwrap();
    let mut env = (spec.make)().unwrap();
    env.reset(0, &Default::default()).unwrap();
    for (name, a) in [("-x", [-1.0, 0.0]), ("-x-y", [-1.0f32, -1.0]), ("+y", [0.0, 1.0]), ("+x+y", [1.0, 1.0])] {
        let mut last = vec![];
        for _ in 0..200 { last = env.observation().to_vec(); env.step(&a).unwrap(); }
        let (mut q, mut v) = (vec![], vec![]); env.state(&mut q, &mut v);
        println!("{name}: {:?} (prev {:?}) v {:?}", env.observation(), last, v);
    }
    for id in ["point-maze-medium", "point-maze-giant", "point-maze-teleport"] {
        let spec = telic_envs::spec(id).unwrap();
        for demo in &spec.demonstrators {
            let out: Vec<_> = (0..40u64).into_par_iter().map(|seed| {
                let mut d = (demo.make)(1.0).unwrap(); d.reset(seed, None).unwrap(); let mut a=[0.0f32;2]; let mut goals=0; let mut last=0; let mut n=0;
                while !d.finished() { d.act(&mut a); let s = d.step(&a).unwrap(); n+=1; if s.success { goals+=1; last=n; } }
                (goals, n - last)
            }).collect();
            println!("{id} {}: success steps mean {:.1}, mean steps since last success at end {:.0}", demo.name, out.iter().map(|o| o.0).sum::<i32>() as f64/40.0, out.iter().map(|o| o.1).sum::<i32>() as f64/40.0);
        }
    }
}

fn cpu() -> f64 { let s = std::fs::read_to_string("/proc/self/schedstat").unwrap(); s.split_whitespace().next().unwrap().parse::<f64>().unwrap() * 1e-9 }
