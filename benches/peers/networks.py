"""Training steps and actions of Telic beside JAX and PyTorch, in one run.

    python3 benches/peers/networks.py --telic target/release/telic [--repeats 3] [--seconds 5] [--only gciql] [--precision bf16]
    python3 networks.py --telic ./telic --device cuda          (on a machine with a GPU, see benches/gpu.sh)

Makes a virtual environment with the peers on its first call; with `--device cuda` it takes the JAX and PyTorch that are
installed, and trains at the published sizes. On a GPU steps are timed in blocks of 20, up to where a loss is read, and large
products in f32 take TF32 on all sides. The other side of each row is the same computation, written for this script: JAX jitted as
one step with donated buffers, PyTorch with its fused attention and fused Adam. Every figure is the median over the repeats of
medians over steps; the sides take turns, so that a drift of the machine's speed hits both. `--precision bf16` gives updates mixed
precision on all sides: Telic's, the same casts in JAX, PyTorch's autocast.
"""

import argparse
import json
import statistics
import subprocess
import time

import virtual_environment

PACKAGES = ["jax[cpu]==0.10.2", "torch==2.15.0", "numpy"]
# Where PyTorch computes; JAX takes a GPU where it finds one.
DEVICE = "cpu"
# How updates multiply: f32 or bf16.
PRECISION = "f32"


def median_ms(step, seconds, warm_up=5):
    """Median milliseconds of a step; its result, where it has one, is read at the end of every block."""
    block = 20 if DEVICE == "cuda" else 1

    def steps():
        for _ in range(block):
            value = step()
        if value is not None:
            float(value)

    for _ in range(-(-warm_up // block)):
        steps()
    times, start = [], time.perf_counter()
    while time.perf_counter() - start < seconds or len(times) < 5:
        begin = time.perf_counter()
        steps()
        times.append((time.perf_counter() - begin) * 1e3 / block)
    return statistics.median(times)


# --- JAX -----------------------------------------------------------------------------------------------------------------


def jax_mlp(key, widths, norm):
    """Weights of a perceptron: linear, GELU, optional layer norm."""
    import jax
    import jax.numpy as jnp

    layers = []
    for index, (inputs, outputs) in enumerate(zip(widths[:-1], widths[1:])):
        key, draw = jax.random.split(key)
        limit = (6 / (inputs + outputs)) ** 0.5
        layer = {"w": jax.random.uniform(draw, (inputs, outputs), minval=-limit, maxval=limit), "b": jnp.zeros(outputs)}
        if norm and index < len(widths) - 2:
            layer |= {"scale": jnp.ones(outputs), "shift": jnp.zeros(outputs)}
        layers.append(layer)
    return layers


def jax_forward(layers, x):
    import jax
    import jax.numpy as jnp

    for layer in layers[:-1]:
        if PRECISION == "bf16":
            product = (x.astype(jnp.bfloat16) @ layer["w"].astype(jnp.bfloat16)).astype(jnp.float32)
        else:
            product = x @ layer["w"]
        x = jax.nn.gelu(product + layer["b"], approximate=True)
        if "scale" in layer:
            mean = x.mean(-1, keepdims=True)
            variance = jnp.square(x - mean).mean(-1, keepdims=True)
            x = (x - mean) * jax.lax.rsqrt(variance + 1e-6) * layer["scale"] + layer["shift"]
    return x @ layers[-1]["w"] + layers[-1]["b"]


def jax_adam(loss):
    """The part of a step that learns, to be jitted: gradient of `loss(params, constants, batch)` and Adam."""
    import jax
    import jax.numpy as jnp

    def step(state, constants, batch):
        params, first, second, count = state
        value, gradient = jax.value_and_grad(loss)(params, constants, batch)
        count = count + 1
        first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, gradient)
        second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, second, gradient)
        rate, root = 3e-4 / (1 - 0.9**count), 1 / (1 - 0.999**count)
        params = jax.tree.map(lambda p, m, v: p - rate * m / (jnp.sqrt(v * root) + 1e-8), params, first, second)
        return (params, first, second, count), value

    return step


def jax_state(params):
    import jax
    import jax.numpy as jnp

    zeros = lambda: jax.tree.map(jnp.zeros_like, params)
    return (params, zeros(), zeros(), jnp.float32(0))


def jax_gcbc(row, seconds):
    """Imitation with a perceptron of observation and goal."""
    import jax
    import jax.numpy as jnp

    width, batch = row["width"], row["batch"]
    key = jax.random.PRNGKey(0)
    state = jax_state(jax_mlp(key, [2 * row["observation"], *[width] * 3, row["action"]], True))
    x = jax.random.normal(key, (batch, 2 * row["observation"]))
    y = jax.random.normal(key, (batch, row["action"]))
    loss = lambda params, _, batch: 0.5 * batch[1].shape[1] * jnp.square(jax_forward(params, batch[0]) - batch[1]).mean()
    step = jax.jit(jax_adam(loss), donate_argnums=0)
    held = [state]

    def one():
        held[0], value = step(held[0], None, (x, y))
        return value

    return median_ms(one, seconds)


def jax_gciql(row, seconds):
    """Value, two critics, their slow copies and the actor, all in one step."""
    import jax
    import jax.numpy as jnp

    width, batch, s, a = row["width"], row["batch"], row["observation"], row["action"]
    keys = jax.random.split(jax.random.PRNGKey(0), 8)
    hidden = [width] * 3
    params = {
        "value": jax_mlp(keys[0], [2 * s, *hidden, 1], True),
        "critics": [jax_mlp(keys[1], [2 * s + a, *hidden, 1], True), jax_mlp(keys[2], [2 * s + a, *hidden, 1], True)],
        "actor": jax_mlp(keys[3], [2 * s, *hidden, a], False),
    }
    slow = jax.tree.map(jnp.copy, params["critics"])

    def loss(params, slow, batch):
        fixed = jax.lax.stop_gradient(params)
        at = jnp.concatenate([batch["s"], batch["g"]], 1)
        acted = jnp.concatenate([at, batch["a"]], 1)
        q_slow = jnp.minimum(*(jax_forward(critic, acted) for critic in slow))
        difference = q_slow - jax_forward(params["value"], at)
        value_loss = (jnp.where(difference >= 0, 0.9, 0.1) * jnp.square(difference)).mean()
        next_v = jax_forward(fixed["value"], jnp.concatenate([batch["n"], batch["g"]], 1))
        target = batch["r"] + 0.99 * batch["m"] * next_v
        critic_loss = sum(jnp.square(jax_forward(critic, acted) - target).mean() for critic in params["critics"])
        seen = jnp.concatenate([batch["s"], batch["ga"]], 1)
        mean = jax_forward(params["actor"], seen)
        chosen = jnp.concatenate([seen, jnp.clip(mean, -1, 1)], 1)
        q = jnp.minimum(*(jax_forward(critic, chosen) for critic in fixed["critics"]))
        q_loss = -q.mean() / jax.lax.stop_gradient(jnp.abs(q).mean() + 1e-6)
        imitation = 0.5 * a * jnp.square(mean - batch["a"]).mean()
        return value_loss + critic_loss + q_loss + 0.3 * imitation

    draw = lambda index, columns: jax.random.normal(keys[index], (batch, columns))
    data = {"s": draw(4, s), "n": draw(5, s), "g": draw(6, s), "ga": draw(7, s), "a": draw(4, a), "r": draw(5, 1), "m": draw(6, 1)}
    learn = jax_adam(loss)

    def update(state, slow, batch):
        followed = jax.tree.map(lambda t, p: 0.995 * t + 0.005 * p, slow, state[0]["critics"])
        state, value = learn(state, slow, batch)
        return state, followed, value

    step = jax.jit(update, donate_argnums=(0, 1))
    held = [jax_state(params), slow]

    def one():
        held[0], held[1], value = step(*held, data)
        return value

    return median_ms(one, seconds)


def jax_actor(row, seconds):
    """One action from numpy to numpy."""
    import jax
    import numpy

    params = jax_mlp(jax.random.PRNGKey(0), [2 * row["observation"], *[row["width"]] * 3, row["action"]], False)
    act = jax.jit(jax_forward)
    x = numpy.zeros((1, 2 * row["observation"]), numpy.float32)

    def one():
        numpy.asarray(act(params, x))

    return median_ms(one, seconds)


# --- PyTorch -------------------------------------------------------------------------------------------------------------


def torch_beso(row):
    """The score transformer: σ, goals, and states and actions in turn, causal; the outputs at the actions."""
    import torch
    from torch import nn
    from torch.nn import functional

    d, heads, window, goals = row["embed"], row["heads"], row["window"], row["goals"]

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm_1, self.norm_2 = nn.LayerNorm(d), nn.LayerNorm(d)
            self.joint, self.out = nn.Linear(d, 3 * d), nn.Linear(d, d)
            self.up, self.down = nn.Linear(d, 4 * d), nn.Linear(4 * d, d)
            self.drop = nn.Dropout(row["dropout"])

        def forward(self, x):
            rows, tokens, _ = x.shape
            q, k, v = self.joint(self.norm_1(x)).view(rows, tokens, 3, heads, d // heads).permute(2, 0, 3, 1, 4)
            p = row["dropout"] if self.training else 0.0
            y = functional.scaled_dot_product_attention(q, k, v, dropout_p=p, is_causal=True)
            x = x + self.drop(self.out(y.transpose(1, 2).reshape(rows, tokens, d)))
            return x + self.drop(self.down(functional.gelu(self.up(self.norm_2(x)))))

    class Score(nn.Module):
        def __init__(self):
            super().__init__()
            self.state, self.action = nn.Linear(row["observation"], d), nn.Linear(row["action"], d)
            self.sigma, self.head = nn.Linear(1, d), nn.Linear(d, row["action"])
            self.position = nn.Parameter(0.02 * torch.randn(goals + window + 1, d))
            self.blocks = nn.Sequential(*[Block() for _ in range(row["layers"])])
            self.norm = nn.LayerNorm(d)

        def forward(self, states, actions, goal, sigma):
            rows = states.shape[0]
            places = self.position[goals : goals + window]
            pairs = torch.stack([self.state(states) + places, self.action(actions) + places], 2).flatten(1, 2)
            tokens = [self.sigma(sigma.log() / 4)[:, None], self.state(goal) + self.position[:goals], pairs]
            x = self.norm(self.blocks(torch.cat(tokens, 1)))
            return self.head(x[:, 1 + goals :].view(rows, window, 2, d)[:, :, 1])

    return Score()


def torch_beso_train(row, seconds):
    """One update of the preconditioned denoising loss, with the average of the weights."""
    import torch

    torch.manual_seed(0)
    torch.set_float32_matmul_precision("high" if DEVICE == "cuda" else "highest")
    batch, window, a = row["batch"], row["window"], row["action"]
    torch.set_default_device(DEVICE)
    score = torch_beso(row).train()
    optimizer = torch.optim.Adam(score.parameters(), lr=1e-4, fused=True)
    average = [p.detach().clone() for p in score.parameters()]
    states, goal = torch.randn(batch, window, row["observation"]), torch.randn(batch, row["goals"], row["observation"])
    actions = torch.randn(batch, window, a)

    def one():
        sigma = torch.empty(batch, 1).uniform_(0.05, 1.0)
        total = (sigma**2 + 0.25).sqrt()[:, None]
        noisy = actions + torch.randn_like(actions) * sigma[:, None]
        skip, out = 0.25 / total**2, sigma[:, None] * 0.5 / total
        target = (actions - skip * noisy) / out
        with torch.autocast(DEVICE, torch.bfloat16, enabled=PRECISION == "bf16"):
            predicted = score(states, noisy / total, goal, sigma)
        loss = (predicted - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(average, list(score.parameters()), 0.001)
        return loss.detach()

    return median_ms(one, seconds, warm_up=3)


def torch_beso_act(row, seconds):
    """Three DDIM steps at batch 1, with a full window."""
    import torch

    torch.manual_seed(0)
    score = torch_beso(row).eval()
    states, goal = torch.randn(1, row["window"], row["observation"]), torch.randn(1, row["goals"], row["observation"])
    sigmas = [1.0, 0.55, 0.1, 0.0]

    def one():
        with torch.inference_mode():
            x = torch.randn(1, row["window"], row["action"])
            for sigma, lower in zip(sigmas[:-1], sigmas[1:]):
                total = (sigma**2 + 0.25) ** 0.5
                raw = score(states, x / total, goal, torch.tensor([[sigma]]))
                denoised = 0.25 / total**2 * x + sigma * 0.5 / total * raw
                x = denoised + (x - denoised) * (lower / sigma)
            x[0, -1].numpy()

    return median_ms(one, seconds)


# --- the table -----------------------------------------------------------------------------------------------------------

CUBE = {"observation": 28, "action": 5}
BLOCK_PUSH = {"observation": 10, "action": 2, "window": 5, "goals": 1, "embed": 240, "heads": 12, "layers": 4, "dropout": 0.05}
KITCHEN = {"observation": 30, "action": 9, "window": 4, "goals": 2, "embed": 360, "heads": 6, "layers": 6, "dropout": 0.3}


def hidden(keys, width):
    return [f"{key}=[{width},{width},{width}]" for key in keys]


def beso(row):
    """Settings of Telic for the size of a row."""
    keys = {"window": "window", "goals": "goal_length"}
    network = {"embed": "embed_dim", "heads": "heads", "layers": "layers", "dropout": "attention_dropout"}
    settings = [f"{theirs}={row[ours]}" for ours, theirs in keys.items()]
    settings += [f"network.{theirs}={row[ours]}" for ours, theirs in network.items()]
    return settings + [f"network.residual_dropout={row['dropout'] if row is BLOCK_PUSH else 0.0}"]


def rows():
    """Name, `telic bench` command, policy, settings, peer, peer's function, its row."""
    for width, batch in ((512, 1024), (256, 256)):
        row = CUBE | {"width": width, "batch": batch}
        settings = hidden(["actor.network.hidden"], width) + ["actor.network.layer_norm=true"]
        yield f"MLP step, 3×{width}, batch {batch}", "train", "gcbc", settings, "JAX", jax_gcbc, row
        settings = hidden(["value.hidden", "actor.network.hidden"], width)
        yield f"GCIQL update, 3×{width}, batch {batch}", "train", "gciql", settings, "JAX", jax_gciql, row
    row = BLOCK_PUSH | {"batch": 256}
    yield "BESO update, block-push size, batch 256", "train", "beso", beso(BLOCK_PUSH), "PyTorch", torch_beso_train, row
    yield "BESO action, 3 steps, block-push size", "act", "beso", beso(BLOCK_PUSH), "PyTorch", torch_beso_act, BLOCK_PUSH
    yield "BESO action, 3 steps, kitchen size", "act", "beso", beso(KITCHEN), "PyTorch", torch_beso_act, KITCHEN
    settings = hidden(["actor.network.hidden"], 256)
    yield "MLP action, 3×256", "act", "gcbc", settings, "JAX", jax_actor, CUBE | {"width": 256}


def gpu_rows():
    """Updates at the published sizes."""
    row = CUBE | {"width": 512, "batch": 1024}
    settings = hidden(["value.hidden", "actor.network.hidden"], 512)
    yield "GCIQL update, 3×512, batch 1024", "train", "gciql", settings, "JAX", jax_gciql, row
    for name, size in (("block-push", BLOCK_PUSH), ("kitchen", KITCHEN)):
        row = size | {"batch": 1024}
        yield f"BESO update, {name} size, batch 1024", "train", "beso", beso(size), "PyTorch", torch_beso_train, row


def telic(binary, what, policy, settings, row, seconds):
    """Milliseconds of Telic."""
    command = [binary, "bench", what, "--policy", policy, "--dims", f"{row['observation']},{row['action']}"]
    command += ["--seconds", str(seconds), "--device", DEVICE, "--json"]
    if what == "train":
        command += ["--batch", str(row["batch"]), "--precision", PRECISION]
    for setting in settings:
        command += ["--set", setting]
    report = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return (report["ms_per_update"], None) if what == "train" else (report["p50_us"] / 1e3, report["p99_us"] / 1e3)


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--telic", default="target/release/telic")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--only", default="", help="rows whose name has this in it")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--precision", default="f32", choices=["f32", "bf16"])
    return parser.parse_args()


def main(arguments):
    print("| what | Telic, ms | 99 % within | peer | ms | Telic / peer |")
    print("|---|---|---|---|---|---|")
    for name, what, policy, settings, peer, function, row in gpu_rows() if DEVICE == "cuda" else rows():
        if arguments.only.lower() not in name.lower():
            continue
        ours, tails, theirs = [], [], []
        for _ in range(arguments.repeats):
            figure, tail = telic(arguments.telic, what, policy, settings, row, arguments.seconds)
            ours.append(figure)
            tails.append(tail)
            theirs.append(function(row, arguments.seconds))
        left, right = statistics.median(ours), statistics.median(theirs)
        tail = "" if what == "train" else f"{statistics.median(tails):.3f}"
        print(f"| {name} | {left:.3f} | {tail} | {peer} | {right:.3f} | {left / right:.2f} |", flush=True)


if __name__ == "__main__":
    ARGUMENTS = parse()
    DEVICE, PRECISION = ARGUMENTS.device, ARGUMENTS.precision
    if DEVICE == "cpu":
        virtual_environment.enter("networks", PACKAGES)
    main(ARGUMENTS)
