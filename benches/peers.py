#!/usr/bin/env python3
"""What: the cases of `tilewright bench` through other implementations: torch eager, torch.compile, torch's fused attention
(flash, cuDNN), cuBLAS (what torch multiplies matrices with), Triton, transformers with a static cache; FlashInfer and the
Hazy Research Llama-1B megakernel where their sources or wheels are given by path.
Why here: a time means something beside others of the same run: same shapes, same inputs, same rule, same file format.
Pre: Python 3.9 or newer. Every peer is optional; one that cannot be imported is a row that says so.
Post: a result file as benches/schema.json describes it. Nothing is reported for a result that is wrong.

With --smoke it runs small sizes on the CPU, to see whether the plumbing holds; without torch, even that is rows that say
what is missing. Nothing is installed or fetched.
"""

import argparse
import datetime
import itertools
import json
import math
import os
import platform
import statistics
import sys
import time

import given

HERE = os.path.dirname(os.path.abspath(__file__))
FORMAT, VERSION = "tilewright-bench", 1
BOUND = 3e-2


# ---- the table and the inputs: the same as src/bench/suite.rs and src/bench/inputs.rs

def suites():
    with open(os.path.join(HERE, "suites.json")) as f:
        return json.load(f)


def cases(extent):
    """Families with a value for each name; the name of the case is what rows are matched by."""
    out = []
    for family in suites()["kernels"]:
        if extent == "full":
            sizes = [{k: v for part in combo for k, v in part.items()} for combo in itertools.product(*family["sizes"])]
        else:
            sizes = family[extent]
        for size in sizes:
            name = family["name"]
            for key, value in size.items():
                name = name.replace("{%s}" % key, str(value))
            product = lambda factors: math.prod(f if isinstance(f, int) else size[f] for f in factors)
            total = lambda sums: sum(product(f) for f in sums)
            out.append({
                "family": family["family"], "case": name.strip(), "size": size, "flops": total(family["flops"]),
                "bytes": total(family["bytes"]) if family.get("bytes") else None,
                "integers": {k: (size[v["below"]], v["distinct"]) for k, v in family.get("integers", {}).items()},
            })
    return out


def mix(x):
    x &= 0xFFFFFFFF
    x = ((x ^ (x >> 16)) * 0x7FEB352D) & 0xFFFFFFFF
    x = ((x ^ (x >> 15)) * 0x846CA68B) & 0xFFFFFFFF
    return x ^ (x >> 16)


def seed_of(run, case, array):
    h = 0x811C9DC5 ^ run
    for b in ("%s/%s" % (case, array)).encode():
        h = ((h ^ b) * 0x01000193) & 0xFFFFFFFF
    return h


def point(k):
    u, v = (k >> 8) + 0.5, (k & 255) + 0.5
    return math.sqrt(-2 * math.log(u / 256)) * math.cos(2 * math.pi * v / 256)


class Inputs:
    """Arrays of a case, made where they are used."""

    def __init__(self, torch, device, seed):
        self.torch, self.device, self.seed = torch, device, seed
        self.table = torch.tensor([point(k) for k in range(1 << 16)], dtype=torch.float64)

    def normal(self, case, name, dims, dtype):
        t = self.torch
        table = self.table.to(dtype).to(self.device)
        out = t.empty(math.prod(dims), dtype=dtype, device=self.device)
        seed = seed_of(self.seed, case, name)
        piece = 1 << 24
        for at in range(0, out.numel(), piece):
            x = t.arange(at, min(at + piece, out.numel()), dtype=t.int64, device=self.device) & 0xFFFFFFFF
            x = x ^ seed
            x = ((x ^ (x >> 16)) * 0x7FEB352D) & 0xFFFFFFFF
            x = ((x ^ (x >> 15)) * 0x846CA68B) & 0xFFFFFFFF
            x = x ^ (x >> 16)
            out[at:at + piece] = table[x >> 16]
        return out.reshape(dims)

    def integers(self, case, name, dims, below, distinct):
        seed, count = seed_of(self.seed, case, name), math.prod(dims)
        start, stride = mix(seed) % below, mix(seed ^ 1) % below
        while math.gcd(stride, below) != 1:
            stride += 1
        value = (lambda i: (start + i % below * stride) % below) if distinct else (lambda i: mix(i ^ seed) % below)
        return self.torch.tensor([value(i) for i in range(count)], dtype=self.torch.int32, device=self.device).reshape(dims)


# ---- what each family computes, in torch: inputs as name -> extents, and a function of them

def formulas(torch):
    F = torch.nn.functional

    def linear(s):
        return {"X": (s["M"], s["K"]), "W": (s["N"], s["K"])}, lambda X, W: X @ W.t()

    def attention(causal):
        def make(s):
            b, h, i, j, d = s["B"], s["H"], s["I"], s["S"], s["D"]
            def run(Q, K, V):
                return F.scaled_dot_product_attention(
                    Q.reshape(b, h * 4, i, d), K.repeat_interleave(4, 1), V.repeat_interleave(4, 1),
                    is_causal=causal, scale=float(s["scale"])).reshape(b, h, 4, i, d)
            return {"Q": (b, h, 4, i, d), "K": (b, h, j, d), "V": (b, h, j, d)}, run
        return make

    def decode(s):
        b, h, c, d = s["B"], s["H"], s["C"], s["D"]
        def run(Q, K, V):
            return F.scaled_dot_product_attention(Q, K.transpose(1, 2), V.transpose(1, 2), scale=d ** -0.5)
        return {"Q": (b, h, 4, d), "K": (b, c, h, d), "V": (b, c, h, d)}, run

    def paged(s):
        b, h, c, d, p = s["B"], s["H"], s["C"], s["D"], s["P"]
        def run(Q, T, K, V):
            at = T.long()
            k = K[at].reshape(b, c, h, d).transpose(1, 2)
            v = V[at].reshape(b, c, h, d).transpose(1, 2)
            return F.scaled_dot_product_attention(Q, k, v, scale=d ** -0.5)
        return {"Q": (b, h, 4, d), "T": (b, s["NS"]), "K": (s["NP"], p, h, d), "V": (s["NP"], p, h, d)}, run

    def rms(x, eps=1e-6):
        return x * torch.rsqrt((x.float() ** 2).mean(-1, keepdim=True) + eps).to(x.dtype)

    def norm(s):
        def run(X, W):
            x = X.float() if X.dtype != torch.float64 else X
            return (x * torch.rsqrt((x * x).mean(-1, keepdim=True) + 1e-6) * W).to(X.dtype)
        return {"X": (s["R"], s["C"]), "W": (s["C"],)}, run

    def swiglu(s):
        return {"A": (s["R"], s["C"]), "B": (s["R"], s["C"])}, lambda A, B: F.silu(A) * B

    def softmax(s):
        return {"X": (s["R"], s["C"])}, lambda X: torch.softmax(X, -1)

    def mirage_attention(normed):
        def make(s):
            h, i, c = s["H"], s["I"], s["C"]
            def run(Q, K, V):
                q, k = (rms(Q), rms(K)) if normed else (Q, K)
                return F.scaled_dot_product_attention(q[None], k[None], V[None], scale=0.125)[0]
            return {"Q": (h, i, 64), "K": (h, c, 64), "V": (h, c, 64)}, run
        return make

    def rms_matmul(s):
        return ({"X": (s["M"], s["K"]), "G": (s["K"],), "W": (s["N"], s["K"])},
                lambda X, G, W: (rms(X) * G) @ W.t())

    def lora(s):
        return ({"X": (s["M"], 256), "W": (s["N"], 256), "A": (16, 256), "B": (s["N"], 16)},
                lambda X, W, A, B: X @ W.t() + (X @ A.t()) @ B.t())

    def gated(s):
        return ({"X": (s["M"], s["K"]), "W": (s["N"], s["K"]), "U": (s["N"], s["K"])},
                lambda X, W, U: F.silu(X @ W.t()) * (X @ U.t()))

    def ntrans(s):
        unit = lambda x: x * torch.rsqrt((x * x).sum(-1, keepdim=True))
        def run(X, H, A):
            x, h, a = (t if t.dtype == torch.float64 else t.float() for t in (X, H, A))
            return unit(x + a * (unit(h) - x)).to(X.dtype)
        return {"X": (s["R"], s["C"]), "H": (s["R"], s["C"]), "A": (s["C"],)}, run

    def moe(s):
        m, e, f, c = s["M"], s["E"], s["F"], s["C"]
        def run(X, ids, R, W1, W3, W2):
            at = ids.long()
            a = F.silu(torch.einsum("mc,mkfc->mkf", X, W1[at])) * torch.einsum("mc,mkfc->mkf", X, W3[at])
            return torch.einsum("mk,mkf,mkof->mo", R.to(X.dtype), a, W2[at])
        return {"X": (m, c), "ids": (m, 8), "R": (m, 8), "W1": (e, f, c), "W3": (e, f, c), "W2": (e, c, f)}, run

    return {
        "linear": linear, "square": linear, "attention full": attention(False), "attention causal": attention(True),
        "attention decode": decode, "attention paged": paged, "norm": norm, "swiglu": swiglu, "softmax": softmax,
        "mirage gqa": mirage_attention(False), "mirage qknorm": mirage_attention(True), "mirage rmsnorm matmul": rms_matmul,
        "mirage lora": lora, "mirage gated mlp": gated, "mirage ntrans": ntrans, "moe": moe,
    }


FLOAT32 = {"R"}  # of the mixture of experts: the weights of the experts


# ---- time

class Clock:
    """Median and 99th percentile of runs whose inputs take turns, after runs that do not count."""

    def __init__(self, torch, device, quick):
        self.torch, self.cuda = torch, device == "cuda"
        self.warmup, self.samples, self.budget = 10, 50 if quick else 200, 0.1 if quick else 0.4
        properties = torch.cuda.get_device_properties(0) if self.cuda else None
        self.rotated = 4 * properties.L2_cache_size if self.cuda else 0
        # Clock cycles of a second.
        self.rate = getattr(properties, "clock_rate", 2_000_000) * 1e3

    def sets(self, size):
        if not self.cuda:
            return 1
        free = self.torch.cuda.mem_get_info()[0]
        return max(1, min(-(-self.rotated // max(1, size)) + 1, 256, free * 3 // 4 // max(1, size)))

    def time(self, run):
        """`run(i)` does run i. None of it waits for the device."""
        for i in range(self.warmup if self.cuda else 1):
            begin = time.perf_counter()
            run(i)
            queueing = time.perf_counter() - begin
        times, spent, at = [], 0.0, 0
        while len(times) < self.samples and (len(times) < 10 or spent < self.budget):
            count = min(50 if times else 10, self.samples - len(times)) if self.cuda else 1
            if self.cuda:
                events = [self.torch.cuda.Event(enable_timing=True) for _ in range(count + 1)]
                # Keeps the device busy while runs are put into its queue, as long as ours at most.
                self.torch.cuda._sleep(int(min(max(1e-3, 1.5 * queueing * count), 50e-3) * self.rate))
                events[0].record()
                for i in range(count):
                    run(at + i)
                    events[i + 1].record()
                self.torch.cuda.synchronize()
                round_ = [a.elapsed_time(b) * 1e3 for a, b in zip(events, events[1:])]
            else:
                begin = time.perf_counter()
                run(at)
                round_ = [(time.perf_counter() - begin) * 1e6]
            at += count
            times += round_
            spent += sum(round_) / 1e6
        times.sort()
        return {"median_us": statistics.median(times), "p99_us": times[-(-len(times) * 99 // 100) - 1], "samples": len(times)}


# ---- rows

def row(case, implementation, mode, **more):
    r = {
        "suite": "kernels", "family": case["family"], "case": case["case"], "size": case["size"],
        "implementation": implementation, "mode": mode, "status": "ok", "reason": None, "floor_bytes": None,
        "flops": case.get("flops"), "time": None, "fraction": None, "error": None, "kernels": None, "compile": None,
        "counts": None,
    }
    r.update(more)
    return r


def why_not(error):
    """What to say of a peer that did not run: what is not there is no failure."""
    if isinstance(error, ImportError):
        return {"status": "not_available", "reason": "%s is not installed" % (error.name or error)}
    if isinstance(error, (given.Absent, given.Incompatible)):
        return {"status": "not_available", "reason": ("%s: %s" % (type(error).__name__.lower(), error))[:300]}
    return {"status": "failed", "reason": ("%s: %s" % (type(error).__name__, error)).split("\n")[0][:300]}


def fraction(t, floor, flops, ceilings):
    share = lambda n, unit, name: n / (t["median_us"] * 1e-6) / unit / ceilings[name] if ceilings[name] and n else None
    return {"of_read": share(floor, 1e9, "read_gb_s"), "of_copy": share(floor, 1e9, "copy_gb_s"),
            "of_matmul": share(flops, 1e12, "matmul_tflops")}


def measure_ceilings(torch, clock):
    """Read, copy and a bf16 product of 8192 cubed, with torch's own kernels."""
    out = {"read_gb_s": None, "copy_gb_s": None, "matmul_tflops": None}
    if not clock.cuda:
        return out
    x = torch.randn(1 << 28, device="cuda")
    y = torch.empty(1 << 27, device="cuda")
    out["read_gb_s"] = x.numel() * 4 / clock.time(lambda i: x.sum())["median_us"] / 1e3
    out["copy_gb_s"] = y.numel() * 8 / clock.time(lambda i: y.copy_(x[:1 << 27]))["median_us"] / 1e3
    del x, y
    a = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
    b = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
    out["matmul_tflops"] = 2 * 8192 ** 3 / clock.time(lambda i: a @ b)["median_us"] / 1e6
    return out


# ---- peers: (name, mode, families or None for all, how a function is made)

def eager(torch, f, args):
    return f


def compiled(mode):
    def make(torch, f, args):
        torch._dynamo.reset()
        return torch.compile(f, mode=mode, dynamic=False)
    return make


# Graphs that torch.compile makes itself copy inputs that are no parameters, weights too, before every replay. So kernels
# are compiled without, and each copy of the inputs has a graph of its own, as ours has.
GRAPHED = {"reduce-overhead": None, "max-autotune": "max-autotune-no-cudagraphs"}


def replays(torch, run, sets):
    """A graph for each copy of the inputs."""
    graphs, keep = [], []
    for args in sets:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=graphs[0].pool() if graphs else None):
            keep.append(run(*args))
        graphs.append(graph)
    return lambda i: graphs[i % len(graphs)].replay()


def fused(backend):
    def make(torch, f, args):
        from torch.nn.attention import SDPBackend, sdpa_kernel
        def run(*a):
            with sdpa_kernel(getattr(SDPBackend, backend)):
                return f(*a)
        return run
    return make


def triton_rows(torch, family):
    """A plain Triton kernel per family of rows, and one for products."""
    import triton
    import triton.language as tl

    if family == "linear":
        @triton.jit
        def product(x, w, y, M, N, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
            m = tl.program_id(0) * BM + tl.arange(0, BM)
            n = tl.program_id(1) * BN + tl.arange(0, BN)
            k = tl.arange(0, BK)
            acc = tl.zeros((BM, BN), tl.float32)
            for at in range(0, K, BK):
                a = tl.load(x + m[:, None] * K + (at + k)[None, :], mask=(m < M)[:, None], other=0.0)
                b = tl.load(w + n[None, :] * K + (at + k)[:, None], mask=(n < N)[None, :], other=0.0)
                acc = tl.dot(a, b, acc)
            tl.store(y + m[:, None] * N + n[None, :], acc.to(y.dtype.element_ty), mask=(m < M)[:, None] & (n < N)[None, :])

        def run(X, W):
            (M, K), N = X.shape, W.shape[0]
            Y = torch.empty(M, N, dtype=X.dtype, device=X.device)
            BM = max(16, min(128, triton.next_power_of_2(M)))
            BN = 64 if BM <= 32 else 128
            product[(triton.cdiv(M, BM), triton.cdiv(N, BN))](X, W, Y, M, N, K, BM, BN, 64, num_warps=8 if BM == 128 else 4)
            return Y
        return run

    @triton.jit
    def rows(x, w, y, C, KIND: tl.constexpr, BC: tl.constexpr):
        r = tl.program_id(0).to(tl.int64)
        c = tl.arange(0, BC)
        ok = c < C
        if KIND == 0:
            v = tl.load(x + r * C + c, mask=ok, other=0.0).to(tl.float32)
            g = tl.load(w + c, mask=ok, other=0.0).to(tl.float32)
            out = v * tl.rsqrt(tl.sum(v * v, 0) / C + 1e-6) * g
        elif KIND == 1:
            v = tl.load(x + r * C + c, mask=ok, other=0.0).to(tl.float32)
            g = tl.load(w + r * C + c, mask=ok, other=0.0).to(tl.float32)
            out = v / (1.0 + tl.exp(-v)) * g
        else:
            v = tl.load(x + r * C + c, mask=ok, other=float("-inf")).to(tl.float32)
            e = tl.exp(v - tl.max(v, 0))
            out = e / tl.sum(e, 0)
        tl.store(y + r * C + c, out.to(y.dtype.element_ty), mask=ok)

    kind = {"norm": 0, "swiglu": 1, "softmax": 2}[family]

    def run(*a):
        X = a[0]
        R, C = X.shape
        Y = torch.empty_like(X)
        BC = triton.next_power_of_2(C)
        rows[(R,)](X, a[-1], Y, C, kind, BC, num_warps=max(4, min(32, BC // 512)))
        return Y
    return run


TRITON = {"linear": "linear", "square": "linear", "norm": "norm", "swiglu": "swiglu", "softmax": "softmax"}
ATTENTION = {"attention full", "attention causal", "mirage gqa"}


def triton_peer(family):
    def make(torch, f, args):
        return triton_rows(torch, TRITON[family])
    return make


def peers_of(family, options, cuda):
    """Peers that compute a family."""
    out = [("torch", "eager", eager)]
    if not options.no_compile:
        modes = [] if not cuda else ["reduce-overhead"] if options.quick else list(GRAPHED)
        out += [("torch.compile", mode, compiled(GRAPHED[mode])) for mode in modes]
        if not cuda:
            out.append(("torch.compile", "default", compiled(None)))
    if family in ATTENTION and cuda:
        out += [("torch sdpa", "flash", fused("FLASH_ATTENTION")), ("torch sdpa", "cudnn", fused("CUDNN_ATTENTION"))]
    if family in TRITON and cuda:
        out.append(("triton", "", triton_peer(family)))
    if family in given.FLASHINFER and (cuda or options.flashinfer):
        out.append(("flashinfer", "", None))
    return out


def run_case(torch, case, options, clock, inputs, ceilings, rows):
    dims, f = formulas(torch)[case["family"]](case["size"])
    dtype = torch.bfloat16
    args = []
    for name, extents in dims.items():
        if name in case["integers"]:
            below, distinct = case["integers"][name]
            args.append(inputs.integers(case["case"], name, extents, below, distinct))
        else:
            args.append(inputs.normal(case["case"], name, extents, torch.float32 if name in FLOAT32 else dtype))
    size = sum(a.numel() * a.element_size() for a in args)
    # Float64 on the device where it fits; else what is compared is said to be nothing.
    reference = None
    try:
        wide = [a.double() if a.is_floating_point() else a for a in args]
        reference = f(*wide).double()
        del wide
    except Exception:
        reference = None
    out_bytes = reference.numel() * 2 if reference is not None else 0
    floor = case["bytes"] or size + out_bytes
    sets = [args] + [[a.clone() for a in args] for _ in range(clock.sets(size) - 1)]
    for name, mode, make in peers_of(case["family"], options, clock.cuda):
        begin = time.perf_counter()
        try:
            mine = sets
            if name == "flashinfer":
                arrange, run = given.flashinfer(torch, options.flashinfer, case, args, options.device)
                mine = [arrange(a) for a in sets]
            else:
                run = make(torch, f, args)
            found = run(*mine[0])
            if clock.cuda:
                torch.cuda.synchronize()
            setup = time.perf_counter() - begin
            error = None
            if reference is not None:
                difference = (found.double() - reference).norm() / reference.norm()
                error = float(difference)
                if not error <= BOUND:
                    rows.append(row(case, name, mode, status="failed", reason="differs from float64 by %.2e" % error,
                                    error=error if math.isfinite(error) else None))
                    continue
            del found
            graphed = clock.cuda and name == "torch.compile"
            t = clock.time(replays(torch, run, mine) if graphed else lambda i: run(*mine[i % len(mine)]))
            rows.append(row(case, name, mode, time=t, floor_bytes=floor, error=error,
                            fraction=fraction(t, floor, case["flops"], ceilings),
                            compile={"passes_s": 0.0, "emit_s": 0.0, "nvrtc_s": 0.0, "total_s": setup, "compiled": 0, "cached": 0}
                            if name == "torch.compile" else None))
        except Exception as e:  # a peer that fails must not end the others
            rows.append(row(case, name, mode, **why_not(e)))


# ---- whole steps

def step_cases(extent):
    s = suites()["steps"]
    quick = s["quick"]
    models = quick["models"] if extent != "full" else s["models"]
    sizes = {"batch": quick["batch"], "context": quick["context"]} if extent != "full" else s["decode"]
    return [{"family": "decode", "case": "%s decode b%d c%d" % (m, b, c), "size": {"batch": b, "context": c, "new": 1}, "model": m}
            for m in models for b in sizes["batch"] for c in sizes["context"]]


def run_steps(torch, options, clock, rows):
    for case in step_cases("quick" if options.quick or options.smoke else "full"):
        if options.filter and options.filter not in case["case"]:
            continue
        base = dict(suite="steps")
        try:
            import transformers
            from transformers import AutoConfig, AutoModelForCausalLM, StaticCache
        except ImportError as e:
            rows.append(row(case, "transformers", "static cache", status="not_available",
                            reason="%s is not installed" % (e.name or e), **base))
            continue
        try:
            folder = os.path.join(HERE, "..", "tests", "models", case["model"])
            config = AutoConfig.from_pretrained(folder)
            if options.smoke:
                config.num_hidden_layers, config.vocab_size = 1, 1024
            size = case["size"] if not options.smoke else {"batch": 1, "context": 8, "new": 1}
            torch.manual_seed(options.seed)
            with torch.device(options.device):
                model = AutoModelForCausalLM.from_config(config, torch_dtype=torch.bfloat16).eval()
            b, c = size["batch"], size["context"]
            cache = StaticCache(config=config, max_batch_size=b, max_cache_len=c + 1, device=options.device, dtype=torch.bfloat16)
            ids = torch.randint(0, config.vocab_size, (b, c), device=options.device)
            with torch.inference_mode():
                model(ids, past_key_values=cache, cache_position=torch.arange(c, device=options.device), use_cache=True)
                token = ids[:, :1].clone()
                place = torch.tensor([c], device=options.device)
                # Newer versions count tokens in the cache itself: every step begins at the same place (one small launch).
                counters = [x.cumulative_length for x in getattr(cache, "layers", [])
                            if torch.is_tensor(getattr(x, "cumulative_length", None))]
                starts = [x.clone() for x in counters]

                def stepper(forward):
                    def step(i):
                        if counters:
                            torch._foreach_copy_(counters, starts)
                        return forward(token, past_key_values=cache, cache_position=place, use_cache=True)
                    return step

                t = clock.time(stepper(model))
                rows.append(row(case, "transformers", "static cache", time=t, **base))
                if not options.no_compile:
                    forward = torch.compile(model.forward, mode="reduce-overhead" if clock.cuda else None)
                    t = clock.time(stepper(forward))
                    rows.append(row(case, "transformers", "static cache, compiled", time=t, **base))
            del model, cache
        except Exception as e:
            rows.append(row(case, "transformers", "static cache", status="failed",
                            reason=("%s: %s" % (type(e).__name__, e)).split("\n")[0][:300], **base))


def run_hazy(torch, options, clock, rows):
    """The Llama-1B megakernel of Hazy Research, from a checkout that was built."""
    folder = os.path.join(HERE, "..", "tests", "models", given.HAZY_MODEL)
    cases = [c for c in step_cases("quick" if options.quick or options.smoke else "full")
             if c["model"] == given.HAZY_MODEL and c["size"]["batch"] == 1]
    for case in cases:
        if options.filter and options.filter not in case["case"]:
            continue
        context, small = case["size"]["context"], None
        if options.smoke:
            context, small = 8, SMALL_LLAMA
        more = dict(suite="steps", implementation="hazy megakernel", mode="")
        try:
            step, error = given.hazy(torch, options.hazy, folder, context, options.device, small)
            if not error <= HAZY_BOUND:
                rows.append(row(case, status="failed", reason="logits differ from its own model in torch by %.2e" % error,
                                error=error if math.isfinite(error) else None, error_of=HAZY_ERROR, **more))
                continue
            rows.append(row(case, time=clock.time(lambda i: step()), error=error, error_of=HAZY_ERROR, **more))
        except Exception as e:
            rows.append(row(case, **more, **why_not(e)))
        if clock.cuda:
            torch.cuda.empty_cache()


# Both sides are in bf16, and the megakernel adds in bf16 in an order that changes.
HAZY_BOUND, HAZY_ERROR = 2 * BOUND, "its own model in torch, in bf16"
SMALL_LLAMA = {"num_hidden_layers": 1, "vocab_size": 512, "hidden_size": 256, "intermediate_size": 512,
               "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64, "max_position_embeddings": 64}


# ---- the run

def versions(torch):
    out = {"python": platform.python_version()}
    if torch is None:
        return out
    out["torch"] = torch.__version__
    if torch.version.cuda:
        out["cuda"] = torch.version.cuda
    if torch.backends.cudnn.is_available():
        out["cudnn"] = str(torch.backends.cudnn.version())
    for name in ("triton", "transformers", "flashinfer"):
        try:
            out[name] = str(__import__(name).__version__)
        except Exception:
            out[name] = "not installed"
    return out


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("suite", nargs="?", choices=["kernels", "steps", "all"], default="all")
    p.add_argument("--json", required=True, help="where the results go")
    p.add_argument("--filter", help="only cases whose name contains this")
    p.add_argument("--quick", action="store_true", help="only the essentials, with fewer samples")
    p.add_argument("--smoke", action="store_true", help="small sizes on the CPU, to see whether the plumbing holds")
    p.add_argument("--no-compile", action="store_true", help="without torch.compile, which takes its time")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--session", help="a name that runs in the same place at the same time share")
    p.add_argument("--seconds", type=float, help="begin no further case after so many seconds")
    p.add_argument("--flashinfer", help="FlashInfer's sources, its wheel, or that unpacked; else what is installed")
    p.add_argument("--hazy", help="a checkout of HazyResearch/Megakernels whose low-latency-llama was built")
    options = p.parse_args()
    begin = time.monotonic()
    try:
        open(options.json, "a").close()
    except OSError as e:
        p.exit(3, "`%s`: %s\n" % (options.json, e.strerror))
    rows, ceilings, method, device = [], {"read_gb_s": None, "copy_gb_s": None, "matmul_tflops": None}, None, None
    try:
        import torch
    except ImportError:
        torch = None
    wanted = [c for c in cases("small" if options.smoke else "quick" if options.quick else "full")
              if not options.filter or options.filter in c["case"]]
    steps = [c for c in step_cases("quick" if options.smoke or options.quick else "full")
             if not options.filter or options.filter in c["case"]]
    if options.suite == "steps":
        wanted = []
    if not wanted and (options.suite == "kernels" or not steps):
        p.error("`--filter %s` leaves no case" % options.filter)
    options.device = "cuda" if torch is not None and torch.cuda.is_available() and not options.smoke else "cpu"
    if torch is None or (options.device == "cpu" and not options.smoke):
        why = "torch is not installed" if torch is None else "torch sees no GPU (--smoke runs on the CPU)"
        rows = [row(c, "torch", "eager", status="not_available", reason=why) for c in wanted]
        method = {"clock": "none", "warmup": 0, "samples": 0, "rotated_bytes": 0}
    else:
        torch.manual_seed(options.seed)
        clock = Clock(torch, options.device, options.quick or options.smoke)
        if options.smoke:
            clock.samples, clock.budget = 3, 0.0
        inputs = Inputs(torch, options.device, options.seed)
        ceilings = measure_ceilings(torch, clock)
        with torch.inference_mode():
            for case in wanted:
                if options.seconds and time.monotonic() - begin > options.seconds:
                    rows.append(row(case, "torch", "eager", status="not_available", reason="no time was left"))
                    continue
                print(case["case"], file=sys.stderr)
                try:
                    run_case(torch, case, options, clock, inputs, ceilings, rows)
                except Exception as e:
                    rows.append(row(case, "torch", "eager", status="failed", reason=("%s: %s" % (type(e).__name__, e))[:300]))
                if options.device == "cuda":
                    torch.cuda.empty_cache()
        if options.suite != "kernels":
            run_steps(torch, options, clock, rows)
            run_hazy(torch, options, clock, rows)
        method = {"clock": "events" if clock.cuda else "host", "warmup": clock.warmup if clock.cuda else 1,
                  "samples": clock.samples, "rotated_bytes": clock.rotated}
    cuda = options.device == "cuda"
    name = torch.cuda.get_device_name(0) if cuda else platform.processor() or platform.machine()
    arch = "sm_%d%d" % torch.cuda.get_device_capability(0) if cuda else None
    results = {
        "format": FORMAT, "version": VERSION, "producer": "peers",
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "session": options.session, "versions": versions(torch),
        "device": {"kind": "cuda:0" if cuda else "cpu", "name": name or "unknown", "arch": arch},
        "method": {**method, "poisoned": False, "inputs": "normal", "seed": options.seed},
        "ceilings": ceilings, "rows": rows,
    }
    with open(options.json, "w") as f:
        json.dump(results, f, indent=1)
        f.write("\n")
    count = lambda s: sum(r["status"] == s for r in rows)
    print("%d rows: %d ok, %d not available, %d failed" % (len(rows), count("ok"), count("not_available"), count("failed")))


if __name__ == "__main__":
    main()
