use std::time::Instant;
use super::*;
use super::demonstrator::*;
use crate::Start;
fn var<T: std::str::FromStr>(name: &str, default: T) -> T {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}
fn config() -> PhysicsConfig {
    let p = physics();
    PhysicsConfig {
        timestep_secs: var("DT", p.timestep_secs),
        solver_iterations: var("IT", p.solver_iterations),
        internal_iterations: var("PGS", p.internal_iterations),
        stabilization_iterations: var("STAB", p.stabilization_iterations),
        contact_natural_frequency_hz: var("FREQ", p.contact_natural_frequency_hz),
        contact_damping_ratio: var("ZETA", p.contact_damping_ratio),
        contact_prediction_m: var("PRED", p.contact_prediction_m),
        contact_recycle_m: var("RECYCLE", p.contact_recycle_m),
        friction_in_bias_pass: var("FBIAS", p.friction_in_bias_pass),
        ..p
    }
}
fn variant() -> &'static Variant { if var("N", 1) == 1 { &SINGLE } else { &DOUBLE } }
#[test]
#[ignore]
fn table() {
    let mut env = CubeEnv::with_physics(variant(), &config()).unwrap();
    for (name, a) in [("zero",[0.0f32;5]),("+x",[1.,0.,0.,0.,0.]),("-x",[-1.,0.,0.,0.,0.]),("+y",[0.,1.,0.,0.,0.]),("+z",[0.,0.,1.,0.,0.]),("-z",[0.,0.,-1.,0.,0.]),("yaw",[0.,0.,0.,1.,0.])] {
        env.place(&arm::ToolPose{position:[0.425,0.0,0.25],yaw:0.0}, &[([0.35,0.3,0.02],0.0),([0.35,-0.3,0.02],0.0)][..env.cubes.len()]);
        println!("{name}");
        for _ in 0..5 {
            let before = env.arm.tool_pose();
            env.arm.step(&a);
            let after = env.arm.tool_pose();
            let d: Vec<f64> = (0..3).map(|i| 1000.0*(after.position[i]-before.position[i])).collect();
            println!("   {:8.3} {:8.3} {:8.3} yaw {:8.5} opening {:.4}", d[0], d[1], d[2], after.yaw-before.yaw, env.arm.opening());
        }
    }
    env.place(&arm::ToolPose{position:[0.425,0.0,0.25],yaw:0.0}, &[([0.35,0.3,0.02],0.0),([0.35,-0.3,0.02],0.0)][..env.cubes.len()]);
    for _ in 0..12 { env.arm.step(&[0.,0.,0.,0.,1.]); print!(" {:.4}", env.arm.opening()); }
    println!(" contact {}", env.arm.contact());
    for _ in 0..8 { env.arm.step(&[0.,0.,0.,0.,-1.]); print!(" {:.4}", env.arm.opening()); }
    println!();
}
#[test]
#[ignore]
fn grasp() {
    let mut env = CubeEnv::with_physics(variant(), &config()).unwrap();
    env.place(&arm::ToolPose{position:[0.425,0.0,0.06],yaw:0.0}, &[([0.425,0.0,0.02],0.0),([0.35,-0.3,0.02],0.0)][..env.cubes.len()]);
    let show = |env: &mut CubeEnv, a: &[f32;5], n: usize, what: &str| {
        for i in 0..n {
            env.arm.step(a); env.observe();
            let c = observed_cube(&env.observation, 0);
            let q = &env.observation[22..26];
            let p = env.arm.tool_pose();
            println!("{what}{i:3} pinch {:.4} {:.4} {:.4} cube {:.5} {:.5} {:.5} q {:.4} {:.4} {:.4} {:.4} open {:.4} contact {:.3} n {}", p.position[0],p.position[1],p.position[2], c[0],c[1],c[2], q[0],q[1],q[2],q[3], env.arm.opening(), env.arm.contact(), env.arm.world.contacts().count());
        }
    };
    show(&mut env, &[0.,0.,-1.,0.,-1.], 3, "down");
    show(&mut env, &[0.,0.,0.,0.,1.], 10, "close");
    show(&mut env, &[0.,0.,1.,0.,1.], 8, "lift");
    show(&mut env, &[0.,1.,0.2,0.5,1.], 12, "move");
    show(&mut env, &[0.,0.,0.05,0.,1.], var("HOLD", 20), "hold");
}
#[test]
#[ignore]
fn success() {
    let episodes: u64 = var("EP", 100);
    for kind in [Kind::Plan, Kind::Markov { random_percent: 0 }] {
        for task in 0..5 {
            let mut expert = Expert::with_env(CubeEnv::with_physics(variant(), &config()).unwrap(), kind, var("NOISE", 0.0)).unwrap();
            let mut ok = 0; let mut steps = 0; let mut bad = vec![];
            let t = Instant::now();
            for seed in 0..episodes {
                expert.reset(seed, Some(task)).unwrap();
                let mut last = Step::default();
                while !expert.finished() { let mut a = [0.0;5]; expert.act(&mut a); last = expert.step(&a).unwrap(); steps += 1; }
                if last.success { ok += 1 } else { bad.push(seed) }
            }
            println!("{kind:?} task {task}: {ok}/{episodes} mean steps {:.1} bad {bad:?}  {:.0} steps/s", steps as f64/episodes as f64, steps as f64/t.elapsed().as_secs_f64());
        }
    }
}
#[test]
#[ignore]
fn play() {
    let episodes: u64 = var("EP", 10);
    for (kind, noise) in [(Kind::Plan, 0.0), (Kind::Plan, 1.0), (Kind::Markov { random_percent: 0 }, 0.0), (Kind::Markov { random_percent: 0 }, 1.0), (Kind::Markov { random_percent: 10 }, 1.0)] {
        let mut expert = Expert::with_env(CubeEnv::with_physics(variant(), &config()).unwrap(), kind, noise).unwrap();
        let (mut targets, mut placed) = (0, 0);
        let mut wrist: f32 = 0.0; let mut far: f64 = 0.0; let mut low: f64 = 1.0;
        for seed in 0..episodes {
            expert.reset(seed, None).unwrap();
            while !expert.finished() { let mut a = [0.0;5]; expert.act(&mut a); expert.step(&a).unwrap();
              let o = expert.env().observation(); wrist = wrist.max(o[5].abs());
              for c in 0..expert.cubes_len() { let p = observed_cube(o, c); far = far.max((p[0]-0.425).abs()-0.205).max(p[1].abs()-0.38); low = low.min(p[2]); }
            }
            targets += expert.tally.targets; placed += expert.tally.placed;
        }
        println!("{kind:?} noise {noise}: targets {targets} placed {placed} ({:.1}%) per episode {:.1} wrist {wrist:.2} outside {far:.4} low {low:.4}", 100.0*placed as f64/targets as f64, targets as f64/episodes as f64);
    }
}
#[test]
#[ignore]
fn speed() {
    let mut env = CubeEnv::with_physics(variant(), &config()).unwrap();
    let mut rng = Seed::new(1).rng();
    for (name, options) in [("random", ResetOptions::default())] {
        let n = 4000; let t = Instant::now();
        for i in 0..n {
            if i % 200 == 0 { env.reset(i, &options).unwrap(); }
            let a: [f32;5] = std::array::from_fn(|_| rng.random_range(-1.0..1.0));
            env.step(&a).unwrap();
        }
        println!("{name} {:.0} steps/s", n as f64 / t.elapsed().as_secs_f64());
    }
    let t = Instant::now(); for i in 0..200 { env.reset(i, &ResetOptions::default()).unwrap(); } println!("reset {:.1} us", t.elapsed().as_secs_f64()*1e6/200.0);
    let start = arm::HOME; let t = Instant::now(); let mut s = 0.0;
    for i in 0..2000 { let pose = arm::ToolPose{position:[0.46, 0.1+0.00001*i as f64, 0.3], yaw: 0.1}; s += env.arm.solve(&pose, &start)[0]; }
    println!("ik {:.2} us {s}", t.elapsed().as_secs_f64()*1e6/2000.0);
    let mut expert = Expert::with_env(CubeEnv::with_physics(variant(), &config()).unwrap(), Kind::Plan, 1.0).unwrap();
    let t = Instant::now(); let mut n = 0;
    for seed in 0..4 { expert.reset(seed, None).unwrap(); while !expert.finished() { let mut a=[0.0;5]; expert.act(&mut a); expert.step(&a).unwrap(); n += 1; } }
    println!("play {:.0} steps/s", n as f64 / t.elapsed().as_secs_f64());
    let _ = Start::Collection;
}
#[test]
#[ignore]
fn quality() {
    let mut env = CubeEnv::with_physics(variant(), &config()).unwrap();
    let mut rng = Seed::new(5).rng();
    let (mut held, mut pen, mut slip, mut tilt, mut contact_sum, mut cmin) = (0, 0.0f64, 0.0f64, 0.0f64, 0.0f64, 1.0f64);
    let n = var("EP", 30);
    let t = Instant::now(); let mut steps = 0;
    for _ in 0..n {
        let yaw = rng.random_range(-0.7..0.7);
        let off: [f64; 3] = std::array::from_fn(|_| rng.random_range(-0.008..0.008));
        let at = [rng.random_range(0.35..0.5), rng.random_range(-0.2..0.2), 0.02];
        env.place(&arm::ToolPose{position:[at[0]+off[0],at[1]+off[1],at[2]+off[2].abs()+0.004],yaw}, &[(at,yaw+0.2*off[2]/0.008),([0.35,-0.3,0.02],0.0)][..env.cubes.len()]);
        let mut rel = |env: &mut CubeEnv, a: &[f32;5], n: usize| { let mut r=[0.0;3]; for _ in 0..n { env.arm.step(a); steps += 1; } env.observe();
            let c = observed_cube(&env.observation, 0); let p = env.arm.tool_pose().position; for i in 0..3 { r[i]=c[i]-p[i]; } r };
        rel(&mut env, &[0.,0.,0.,0.,1.], 8);
        let r0 = rel(&mut env, &[0.,0.,1.,0.,1.], 8);
        let a1: [f32;5] = [rng.random_range(-1.0..1.0), rng.random_range(-1.0..1.0), 0.1, rng.random_range(-1.0..1.0), 1.0];
        rel(&mut env, &a1, 8);
        let a2: [f32;5] = [-a1[0], -a1[1], 0.1, -a1[3], 1.0];
        rel(&mut env, &a2, 8);
        let r1 = rel(&mut env, &[0.,0.,0.06,0.,1.], 40);
        let d = (0..3).map(|i| (r1[i]-r0[i]).powi(2)).sum::<f64>().sqrt();
        if d < 0.02 { held += 1; slip = slip.max(d); pen += env.arm.opening()*43.5-22.73; contact_sum += env.arm.contact() as f64; cmin = cmin.min(env.arm.contact() as f64);
          let q: Vec<f64> = env.observation[22..26].iter().map(|x| *x as f64).collect(); let up = 1.0-2.0*(q[1]*q[1]+q[2]*q[2]); tilt = tilt.max(up.min(1.0).acos()); }
    }
    let h = held.max(1) as f64;
    println!("held {held}/{n} penetration {:.2} mm max slip {:.1} mm max tilt {:.3} contact {:.2} min {:.2} {:.0} steps/s", pen/h/2.0*1.0, slip*1000.0, tilt, contact_sum/h, cmin, steps as f64/t.elapsed().as_secs_f64());
}
#[test]
#[ignore]
fn failures() {
    let kind = if var("KIND", 0) == 0 { Kind::Plan } else { Kind::Markov { random_percent: var("RP", 0) } };
    let mut expert = Expert::with_env(CubeEnv::with_physics(variant(), &config()).unwrap(), kind, var("NOISE", 0.0)).unwrap();
    let (mut targets, mut placed) = (0, 0);
    for seed in 0..var("EP", 20) {
        expert.reset(seed, None).unwrap();
        let mut trace = vec![]; let (mut t0, mut p0) = (0, 0);
        while !expert.finished() {
            let target = expert.target();
            let mut a = [0.0;5]; expert.act(&mut a); 
            let o = expert.env().observation().to_vec();
            expert.step(&a).unwrap();
            let p = unscaled_position(&o[12..15]); let c = observed_cube(&o, target.cube);
            trace.push(format!("pinch {:.3} {:.3} {:.3} yaw {:.2} cube {:.3} {:.3} {:.3} up {:.2} cyaw {:.2} open {:.2} con {:.2} | a {:.2} {:.2} {:.2} {:.2} {:.2} w {:.2}", p[0],p[1],p[2], o[16].atan2(o[15]), c[0],c[1],c[2], 1.0-2.0*(o[cube_offset(target.cube)+4].powi(2)+o[cube_offset(target.cube)+5].powi(2)), observed_cube_yaw(&o, target.cube), o[17]/3.0, o[18], a[0],a[1],a[2],a[3],a[4], o[5]));
            if expert.tally.targets > t0 {
                if expert.tally.placed == p0 && targets < 100000 {
                    println!("--- seed {seed} target {target:?} steps {}", trace.len());
                    if var("TRACE", 0) == 1 { for l in &trace { println!("{l}"); } }
                }
                t0 = expert.tally.targets; p0 = expert.tally.placed; trace.clear();
            }
        }
        targets += expert.tally.targets; placed += expert.tally.placed;
    }
    println!("{placed}/{targets}");
}
