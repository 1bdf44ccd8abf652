#!/usr/bin/env python3
"""Kernels compiled by Triton, with inputs and expectations, as test data of the emulator.

    python generate.py [OUT] [NAME ...]     needs: triton 3.9, numpy; no GPU and no torch

Writes one folder per kernel: sm_80.ptx and sm_90.ptx as Triton made them (paths of the build host excepted),
sm_80.json and sm_90.json (launch descriptions of `tilewright emulate`), the arrays, and check.json, which names
for every output the array that numpy computed in f64 and the tolerance: |got - want| <= atol + rtol * |want|.

Where Triton makes the same text for both targets, only that of sm_80 is kept. With 4 warps a dot on sm_90 becomes wgmma, so kernels with dots use at most 2 warps there.
"""
import json
import os
import re
import sys

os.environ["TRITON_DISABLE_LINE_INFO"] = "1"
os.environ.setdefault("TRITON_DEFAULT_FP_FUSION", "1")

import numpy as np
import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.language.extra import libdevice

HERE = os.path.dirname(os.path.abspath(__file__))
OUT = HERE
ONLY = []
KERNELS = []


def kernel(f):
    """Registers a function that emits one kernel."""
    KERNELS.append(f)
    return f


def bf16(x):
    """Rounds to bf16 (nearest even); the bits as uint16."""
    b = np.asarray(x, np.float32).view(np.uint32).astype(np.uint64)
    return ((b + 0x7FFF + ((b >> 16) & 1)) >> 16).astype(np.uint16)


def from_bf16(u):
    return (u.astype(np.uint32) << 16).view(np.float32)


def fp8_table(mant, bias, finite):
    """The values of all 256 codes; e4m3 has no infinity and one NaN, e5m2 is IEEE-like."""
    t = np.zeros(256)
    for v in range(256):
        e, m = (v & 127) >> mant, v & ((1 << mant) - 1)
        x = m * 2.0 ** (1 - bias - mant) if e == 0 else (1 + m / 2**mant) * 2.0 ** (e - bias)
        if finite and (v & 127) == 127:
            x = np.nan
        if not finite and e == 31:
            x = np.nan if m else np.inf
        t[v] = -x if v & 128 else x
    return t


E4M3, E5M2 = fp8_table(3, 7, True), fp8_table(2, 15, False)


def emit(fn, signature, constants, grid, arrays, scalars, want, tol, warps=4, stages=3, name=None, caps=(80, 90), aligned=True, lines=False, debug=False):
    """arrays: parameter -> (array, "in" | "inout"); want: output -> f64 array; tol: output -> (atol, rtol)."""
    name = name or fn.__name__
    if ONLY and name not in ONLY:
        return
    d = os.path.join(OUT, name)
    os.makedirs(d, exist_ok=True)
    os.environ["TRITON_DISABLE_LINE_INFO"] = "0" if lines else "1"
    triton.knobs.compilation.disable_line_info = not lines
    bodies = []
    for cap in caps:
        sig = {k: ("constexpr" if k in constants else t) for k, t in signature.items()}
        wide = lambda a: a in arrays or (a in scalars and isinstance(scalars[a], int) and scalars[a] % 16 == 0)
        hints = {(i,): [["tt.divisibility", 16]] for i, a in enumerate(sig) if aligned and wide(a)}
        w = warps[cap] if isinstance(warps, dict) else warps
        k = triton.compile(
            ASTSource(fn=fn, signature=sig, constexprs=constants, attrs=hints),
            target=GPUTarget("cuda", cap, 32),
            options={"num_warps": w, "num_stages": stages, "debug": debug},
        )
        ptx = k.asm["ptx"]
        assert "wgmma" not in ptx and "cp.async.bulk" not in ptx, name
        # Paths of the build host say nothing to a reader.
        for p in set(re.findall(r'"(/[^"]*)"', ptx)):
            ptx = ptx.replace(p, os.path.basename(p))
        ptx = re.sub(r"[ \t]+\n", "\n", ptx)
        if lines:
            # The debugger's sections hold the same paths byte by byte.
            ptx = re.sub(r"\n\t\.section\t\.debug_\w+\n?\s*\{.*?\n\t\}", "", ptx, flags=re.S)
        # Where both targets give one text, the first stands for both.
        body = re.sub(r"\.(target|version) .*", "", ptx)
        if body in bodies:
            print(f"{name} sm_{cap}: as before")
            continue
        bodies.append(body)
        with open(f"{d}/sm_{cap}.ptx", "w") as f:
            f.write(ptx)
        head = re.search(r"\.entry\s+(\w+)\s*\((.*?)\)\s*\n", ptx, re.S)
        args = []
        for a, t in sig.items():
            if a in constants:
                continue
            if a in arrays:
                args.append({arrays[a][1]: f"{a}.npy"})
            else:
                args.append({"f32" if t == "fp32" else t: scalars[a]})
        args += [{"u64": 0}] * (len(re.findall(r"\.param", head.group(2))) - len(args))
        launch = {
            "ptx": f"sm_{cap}.ptx",
            "entry": head.group(1),
            "grid": list(grid),
            "block": [32 * w, 1, 1],
            "shared_bytes": k.metadata.shared,
            "args": args,
        }
        with open(f"{d}/sm_{cap}.json", "w") as f:
            f.write(json.dumps(launch, separators=(", ", ": ")) + "\n")
        ops = sorted(set(re.findall(r"\b(mma\.sync\S*|ldmatrix\S*|cp\.async\S*|atom\S*|red\.\S*|shfl\S*|bar\S*|barrier\S*)", ptx)))
        print(f"{name} sm_{cap}: {len(ptx) // 1024} KiB, {len(ptx.splitlines())} lines, shared {k.metadata.shared}")
        print("   ", " ".join(ops))
    for a, (v, _) in arrays.items():
        np.save(f"{d}/{a}.npy", v)
    check = {}
    for a, v in want.items():
        np.save(f"{d}/want_{a}.npy", np.ascontiguousarray(v, np.float64))
        check[a] = {"want": f"want_{a}.npy", "atol": tol[a][0], "rtol": tol[a][1]}
        if arrays[a][0].dtype == np.uint16:
            check[a]["as"] = "bf16"
        if arrays[a][0].dtype == np.uint8 and len(tol[a]) > 2:
            check[a]["as"] = tol[a][2]
    with open(f"{d}/check.json", "w") as f:
        f.write(json.dumps(check, separators=(", ", ": ")) + "\n")


def rng(seed):
    return np.random.default_rng(seed)


# --- Matrix products -----------------------------------------------------------------------------------------------


@triton.jit
def matmul(a, b, c, M, N, K, sa, sb, sc, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, ACC: tl.constexpr):
    rm = tl.program_id(0) * BM + tl.arange(0, BM)
    rn = tl.program_id(1) * BN + tl.arange(0, BN)
    rk = tl.arange(0, BK)
    pa = a + rm[:, None] * sa + rk[None, :]
    pb = b + rk[:, None] * sb + rn[None, :]
    acc = tl.zeros((BM, BN), dtype=ACC)
    for k in range(0, K, BK):
        x = tl.load(pa, mask=(rm[:, None] < M) & (rk[None, :] < K - k), other=0)
        y = tl.load(pb, mask=(rk[:, None] < K - k) & (rn[None, :] < N), other=0)
        acc = tl.dot(x, y, acc, out_dtype=ACC)
        pa += BK
        pb += BK * sb
    tl.store(c + rm[:, None] * sc + rn[None, :], acc, mask=(rm[:, None] < M) & (rn[None, :] < N))


def product(name, ty, m, n, k, tile, seed, tol, make, value, stages=3, warps=None, aligned=True, caps=(80, 90), acc=tl.float32):
    g = rng(seed)
    a, b = make(g, (m, k)), make(g, (k, n))
    c = np.zeros((m, n), np.int32 if acc == tl.int32 else np.float32)
    want = value(a).astype(np.float64) @ value(b).astype(np.float64)
    bm, bn, bk = tile
    emit(
        matmul,
        {"a": ty, "b": ty, "c": "*i32" if acc == tl.int32 else "*fp32", "M": "i32", "N": "i32", "K": "i32", "sa": "i32", "sb": "i32", "sc": "i32", "BM": "c", "BN": "c", "BK": "c", "ACC": "c"},
        {"BM": bm, "BN": bn, "BK": bk, "ACC": acc},
        (-(-m // bm), -(-n // bn), 1),
        {"a": (a, "in"), "b": (b, "in"), "c": (c, "inout")},
        {"M": m, "N": n, "K": k, "sa": k, "sb": n, "sc": n},
        {"c": want},
        {"c": tol},
        warps=warps or {80: 4, 90: 2},
        stages=stages,
        name=name,
        caps=caps,
        aligned=aligned,
    )


def normal(dtype):
    return lambda g, s: g.standard_normal(s).astype(dtype)


@kernel
def products():
    ident = lambda x: x
    product("matmul_f16", "*fp16", 37, 48, 112, (32, 32, 32), 1, (2e-4, 1e-5), normal(np.float16), ident)
    product("matmul_bf16", "*bf16", 45, 64, 80, (16, 32, 16), 2, (2e-4, 1e-5), lambda g, s: bf16(g.standard_normal(s)), from_bf16, stages=4, warps={80: 2, 90: 2})
    # tf32 keeps 10 bits of each factor.
    product("matmul_tf32", "*fp32", 33, 48, 80, (32, 32, 16), 3, (3e-2, 1e-3), normal(np.float32), ident, stages=3)
    # Odd extents: no hint of divisibility, so no wide copies.
    product("matmul_odd", "*fp16", 29, 31, 43, (32, 32, 16), 4, (2e-4, 1e-5), normal(np.float16), ident, aligned=False, warps={80: 2, 90: 1})
    product("matmul_s8", "*i8", 33, 48, 96, (32, 32, 32), 5, (0, 0), lambda g, s: g.integers(-128, 128, s).astype(np.int8), ident, acc=tl.int32)
    # f64 on tensor cores (m8n8k4) and on the FMA pipe.
    product("matmul_f64", "*fp64", 20, 16, 24, (16, 16, 16), 6, (1e-4, 1e-6), normal(np.float64), ident, acc=tl.float64, warps=1)


@triton.jit
def matmul_fp8(a, b, c, sa, sb, sc, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    rm, rn, rk = tl.arange(0, BM), tl.program_id(0) * BN + tl.arange(0, BN), tl.arange(0, BK)
    acc = tl.zeros((BM, BN), dtype=tl.float32)
    for k in range(0, K, BK):
        x = tl.load(a + rm[:, None] * sa + (k + rk)[None, :]).to(tl.float8e4nv, bitcast=True)
        y = tl.load(b + rn[None, :] * sb + (k + rk)[:, None]).to(tl.float8e5, bitcast=True)
        acc = tl.dot(x, y.to(tl.float16).to(tl.float8e4nv), acc)
    tl.store(c + rm[:, None] * sc + rn[None, :], acc)


@kernel
def products_fp8():
    g = rng(7)
    # Codes of moderate values, whose products are exact in f32; those of b lie in both formats.
    a = (g.integers(0x28, 0x48, (16, 64)) | g.integers(0, 2, (16, 64)) << 7).astype(np.uint8)
    b = (g.integers(0x34, 0x44, (32, 64)) | g.integers(0, 2, (32, 64)) << 7).astype(np.uint8)
    emit(
        matmul_fp8,
        {"a": "*u8", "b": "*u8", "c": "*fp32", "sa": "i32", "sb": "i32", "sc": "i32", "K": "i32", "BM": "c", "BN": "c", "BK": "c"},
        {"BM": 16, "BN": 16, "BK": 32},
        (2, 1, 1),
        {"a": (a, "in"), "b": (b, "in"), "c": (np.zeros((16, 32), np.float32), "inout")},
        {"sa": 64, "sb": 64, "sc": 32, "K": 64},
        {"c": E4M3[a] @ E5M2[b].T},
        {"c": (1e-4, 1e-5)},
        warps=2,
        caps=(90,),
    )


@triton.jit
def matmul_split(a, b, c, M, N, K, sa, sb, sc, PER, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    rm = tl.program_id(0) * BM + tl.arange(0, BM)
    rn = tl.program_id(1) * BN + tl.arange(0, BN)
    lo = tl.program_id(2) * PER
    acc = tl.zeros((BM, BN), dtype=tl.float32)
    for k in range(lo, min(lo + PER, K), BK):
        rk = k + tl.arange(0, BK)
        x = tl.load(a + rm[:, None] * sa + rk[None, :], mask=(rm[:, None] < M) & (rk[None, :] < K), other=0)
        y = tl.load(b + rk[:, None] * sb + rn[None, :], mask=(rk[:, None] < K) & (rn[None, :] < N), other=0)
        acc = tl.dot(x, y, acc)
    tl.atomic_add(c + rm[:, None] * sc + rn[None, :], acc, mask=(rm[:, None] < M) & (rn[None, :] < N), sem="relaxed")


@kernel
def split_k():
    g = rng(8)
    m, n, k = 19, 32, 144
    a, b = g.standard_normal((m, k)).astype(np.float16), g.standard_normal((k, n)).astype(np.float16)
    emit(
        matmul_split,
        {"a": "*fp16", "b": "*fp16", "c": "*fp32", "M": "i32", "N": "i32", "K": "i32", "sa": "i32", "sb": "i32", "sc": "i32", "PER": "i32", "BM": "c", "BN": "c", "BK": "c"},
        {"BM": 16, "BN": 32, "BK": 16},
        (2, 1, 3),
        {"a": (a, "in"), "b": (b, "in"), "c": (np.zeros((m, n), np.float32), "inout")},
        {"M": m, "N": n, "K": k, "sa": k, "sb": n, "sc": n, "PER": 48},
        {"c": a.astype(np.float64) @ b.astype(np.float64)},
        {"c": (2e-4, 1e-5)},
        warps=2,
        stages=2,
    )


@triton.jit
def matmul_persistent(a, b, c, M, N, K, sa, sb, sc, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, PROGRAMS: tl.constexpr):
    across = tl.cdiv(N, BN)
    tiles = tl.cdiv(M, BM) * across
    for t in tl.range(tl.program_id(0), tiles, PROGRAMS, flatten=True):
        rm = t // across * BM + tl.arange(0, BM)
        rn = t % across * BN + tl.arange(0, BN)
        acc = tl.zeros((BM, BN), dtype=tl.float32)
        for k in range(0, tl.cdiv(K, BK)):
            rk = k * BK + tl.arange(0, BK)
            x = tl.load(a + rm[:, None] * sa + rk[None, :], mask=(rm[:, None] < M) & (rk[None, :] < K), other=0)
            y = tl.load(b + rk[:, None] * sb + rn[None, :], mask=(rk[:, None] < K) & (rn[None, :] < N), other=0)
            acc = tl.dot(x, y, acc)
        tl.store(c + rm[:, None] * sc + rn[None, :], acc.to(tl.float16), mask=(rm[:, None] < M) & (rn[None, :] < N))


@kernel
def persistent():
    g = rng(9)
    m, n, k = 70, 48, 48
    a, b = g.standard_normal((m, k)).astype(np.float16), g.standard_normal((k, n)).astype(np.float16)
    emit(
        matmul_persistent,
        {"a": "*fp16", "b": "*fp16", "c": "*fp16", "M": "i32", "N": "i32", "K": "i32", "sa": "i32", "sb": "i32", "sc": "i32", "BM": "c", "BN": "c", "BK": "c", "PROGRAMS": "c"},
        {"BM": 32, "BN": 32, "BK": 16, "PROGRAMS": 2},
        (2, 1, 1),
        {"a": (a, "in"), "b": (b, "in"), "c": (np.zeros((m, n), np.float16), "inout")},
        {"M": m, "N": n, "K": k, "sa": k, "sb": n, "sc": n},
        {"c": a.astype(np.float64) @ b.astype(np.float64)},
        {"c": (1e-2, 1e-3)},
        warps={80: 4, 90: 2},
        stages=3,
    )


# --- Attention -----------------------------------------------------------------------------------------------------


@triton.jit
def flash(q, k, v, o, T, scale, BT: tl.constexpr, BS: tl.constexpr, D: tl.constexpr, CAUSAL: tl.constexpr):
    first = tl.program_id(0) * BT
    head = tl.program_id(1) * T * D
    rt, rd = first + tl.arange(0, BT), tl.arange(0, D)
    x = tl.load(q + head + rt[:, None] * D + rd[None, :], mask=rt[:, None] < T, other=0)
    top = tl.full((BT,), -float("inf"), dtype=tl.float32)
    total = tl.zeros((BT,), dtype=tl.float32)
    acc = tl.zeros((BT, D), dtype=tl.float32)
    end = min(first + BT, T) if CAUSAL else T
    for s in range(0, end, BS):
        rs = s + tl.arange(0, BS)
        y = tl.load(k + head + rs[None, :] * D + rd[:, None], mask=rs[None, :] < T, other=0)
        z = tl.load(v + head + rs[:, None] * D + rd[None, :], mask=rs[:, None] < T, other=0)
        sc = tl.dot(x, y) * (scale * 1.4426950408889634)
        ok = rs[None, :] < T
        if CAUSAL:
            ok = ok & (rs[None, :] <= rt[:, None])
        sc = tl.where(ok, sc, -float("inf"))
        new = tl.maximum(top, tl.max(sc, 1))
        p = tl.exp2(sc - new[:, None])
        r = tl.exp2(top - new)
        total = total * r + tl.sum(p, 1)
        acc = tl.dot(p.to(z.dtype), z, acc * r[:, None])
        top = new
    tl.store(o + head + rt[:, None] * D + rd[None, :], acc / total[:, None], mask=rt[:, None] < T)


@kernel
def attention():
    for name, causal, make, value, ty, t, seed in [
        ("flash_f16", False, lambda g, s: g.standard_normal(s).astype(np.float16), lambda x: x, "*fp16", 41, 10),
        ("flash_causal_bf16", True, lambda g, s: bf16(g.standard_normal(s)), from_bf16, "*bf16", 53, 11),
    ]:
        g = rng(seed)
        h, d = 2, 32
        q, k, v = (make(g, (h, t, d)) for _ in range(3))
        scale = 0.1767766952966369
        s = np.einsum("htd,hsd->hts", value(q).astype(np.float64), value(k).astype(np.float64)) * scale
        if causal:
            s = np.where(np.tril(np.ones((t, t), bool)), s, -np.inf)
        p = np.exp(s - s.max(-1, keepdims=True))
        want = (p / p.sum(-1, keepdims=True)) @ value(v).astype(np.float64)
        emit(
            flash,
            {"q": ty, "k": ty, "v": ty, "o": "*fp32", "T": "i32", "scale": "fp32", "BT": "c", "BS": "c", "D": "c", "CAUSAL": "c"},
            {"BT": 32, "BS": 16, "D": d, "CAUSAL": causal},
            (-(-t // 32), h, 1),
            {"q": (q, "in"), "k": (k, "in"), "v": (v, "in"), "o": (np.zeros((h, t, d), np.float32), "inout")},
            {"T": t, "scale": scale},
            {"o": want},
            # The weights are rounded to the input type before the second product.
            {"o": (2e-3, 1e-3) if ty == "*fp16" else (1.5e-2, 1e-2)},
            warps=2,
            stages=3,
            name=name,
        )


# --- Rows ----------------------------------------------------------------------------------------------------------


@triton.jit
def layer_norm(x, w, b, y, stats, n, eps, BLOCK: tl.constexpr):
    r = tl.program_id(0)
    mean = tl.zeros((BLOCK,), dtype=tl.float32)
    for i in range(0, n, BLOCK):
        o = i + tl.arange(0, BLOCK)
        mean += tl.load(x + r * n + o, mask=o < n, other=0)
    mu = tl.sum(mean, 0) / n
    var = tl.zeros((BLOCK,), dtype=tl.float32)
    for i in range(0, n, BLOCK):
        o = i + tl.arange(0, BLOCK)
        d = tl.where(o < n, tl.load(x + r * n + o, mask=o < n, other=0) - mu, 0)
        var += d * d
    rstd = 1 / tl.sqrt(tl.sum(var, 0) / n + eps)
    tl.store(stats + 2 * r, mu)
    tl.store(stats + 2 * r + 1, rstd)
    for i in range(0, n, BLOCK):
        o = i + tl.arange(0, BLOCK)
        v = (tl.load(x + r * n + o, mask=o < n, other=0) - mu) * rstd
        v = v * tl.load(w + o, mask=o < n) + tl.load(b + o, mask=o < n)
        tl.store(y + r * n + o, v, mask=o < n)


@kernel
def norms():
    g = rng(12)
    rows, n = 3, 397
    x = (g.standard_normal((rows, n)) * 3 + 5).astype(np.float32)
    w, b = g.standard_normal(n).astype(np.float32), g.standard_normal(n).astype(np.float32)
    v = x.astype(np.float64)
    mu, var = v.mean(1, keepdims=True), v.var(1, keepdims=True)
    r = 1 / np.sqrt(var + 1e-5)
    emit(
        layer_norm,
        {"x": "*fp32", "w": "*fp32", "b": "*fp32", "y": "*fp32", "stats": "*fp32", "n": "i32", "eps": "fp32", "BLOCK": "c"},
        {"BLOCK": 128},
        (rows, 1, 1),
        {"x": (x, "in"), "w": (w, "in"), "b": (b, "in"), "y": (np.zeros_like(x), "inout"), "stats": (np.zeros((rows, 2), np.float32), "inout")},
        {"n": n, "eps": 1e-5},
        {"y": (v - mu) * r * w + b, "stats": np.concatenate([mu, r], 1)},
        {"y": (2e-5, 1e-5), "stats": (1e-5, 1e-5)},
        warps=4,
        lines=True,
    )


@triton.jit
def softmax(x, y, n, BLOCK: tl.constexpr):
    r, o = tl.program_id(0), tl.arange(0, BLOCK)
    v = tl.load(x + r * n + o, mask=o < n, other=-float("inf")).to(tl.float32)
    e = tl.exp(v - tl.max(v, 0))
    tl.store(y + r * n + o, e / tl.sum(e, 0), mask=o < n)


@kernel
def softmaxes():
    g = rng(13)
    x = g.standard_normal((4, 229)) * 8
    # Extremes: a row of one large logit, a row of -inf but for one.
    x[1, 17] = 6e4
    x[2, :] = -np.inf
    x[2, 228] = -3
    x = x.astype(np.float16)
    v = x.astype(np.float64)
    e = np.exp(v - v.max(1, keepdims=True))
    emit(
        softmax,
        {"x": "*fp16", "y": "*fp32", "n": "i32", "BLOCK": "c"},
        {"BLOCK": 256},
        (4, 1, 1),
        {"x": (x, "in"), "y": (np.zeros(x.shape, np.float32), "inout")},
        {"n": 229},
        {"y": e / e.sum(1, keepdims=True)},
        {"y": (1e-7, 5e-5)},
        warps=4,
        aligned=False,
    )


@triton.jit
def reduce_rows(x, s, m, am, an, n, BLOCK: tl.constexpr):
    r, o = tl.program_id(0), tl.arange(0, BLOCK)
    v = tl.load(x + r * n + o, mask=o < n, other=0)
    tl.store(s + r, tl.sum(v, 0))
    low = tl.where(o < n, v, -float("inf"))
    tl.store(m + 2 * r, tl.max(low, 0))
    tl.store(m + 2 * r + 1, tl.min(tl.where(o < n, v, float("inf")), 0))
    tl.store(am + r, tl.argmax(low, 0, tie_break_left=True))
    tl.store(an + r, tl.argmin(tl.where(o < n, v, float("inf")), 0, tie_break_left=True))


@kernel
def reductions():
    g = rng(14)
    # Few distinct values, so that ties are many.
    x = g.integers(-9, 10, (5, 300)).astype(np.float32)
    z = lambda t: np.zeros(5, t)
    emit(
        reduce_rows,
        {"x": "*fp32", "s": "*fp32", "m": "*fp32", "am": "*i32", "an": "*i32", "n": "i32", "BLOCK": "c"},
        {"BLOCK": 512},
        (5, 1, 1),
        {"x": (x, "in"), "s": (z(np.float32), "inout"), "m": (np.zeros((5, 2), np.float32), "inout"), "am": (z(np.int32), "inout"), "an": (z(np.int32), "inout")},
        {"n": 300},
        {"s": x.sum(1), "m": np.stack([x.max(1), x.min(1)], 1), "am": x.argmax(1), "an": x.argmin(1)},
        {"s": (0, 0), "m": (0, 0), "am": (0, 0), "an": (0, 0)},
    )


# --- Scans, sorting, counting --------------------------------------------------------------------------------------


@triton.jit
def affine(a1, b1, a2, b2):
    return a1 * a2, b1 * a2 + b2


@triton.jit
def scans(x, sums, rev, decay, state, n, BLOCK: tl.constexpr):
    r, o = tl.program_id(0), tl.arange(0, BLOCK)
    v = tl.load(x + r * n + o, mask=o < n, other=0)
    tl.store(sums + r * n + o, tl.cumsum(v, 0), mask=o < n)
    tl.store(rev + r * n + o, tl.cumsum(v, 0, reverse=True), mask=o < n)
    d = tl.load(decay + r * n + o, mask=o < n, other=1)
    _, h = tl.associative_scan((d, v), 0, affine)
    tl.store(state + r * n + o, h, mask=o < n)


@kernel
def scanning():
    g = rng(15)
    n = 211
    x = g.standard_normal((3, n)).astype(np.float32)
    d = g.uniform(0.7, 1, (3, n)).astype(np.float32)
    h, state = np.zeros(3), np.zeros((3, n))
    for i in range(n):
        h = h * d[:, i] + x[:, i]
        state[:, i] = h
    v = x.astype(np.float64)
    z = lambda: (np.zeros_like(x), "inout")
    emit(
        scans,
        {"x": "*fp32", "sums": "*fp32", "rev": "*fp32", "decay": "*fp32", "state": "*fp32", "n": "i32", "BLOCK": "c"},
        {"BLOCK": 256},
        (3, 1, 1),
        {"x": (x, "in"), "sums": z(), "rev": z(), "decay": (d, "in"), "state": z()},
        {"n": n},
        {"sums": v.cumsum(1), "rev": v[:, ::-1].cumsum(1)[:, ::-1], "state": state},
        {a: (2e-5, 1e-5) for a in ("sums", "rev", "state")},
        warps=4,
    )


@triton.jit
def sort_count(x, y, hist, n, BLOCK: tl.constexpr, BINS: tl.constexpr):
    r, o = tl.program_id(0), tl.arange(0, BLOCK)
    v = tl.load(x + r * n + o, mask=o < n, other=2147483647)
    tl.store(y + r * n + o, tl.sort(v), mask=o < n)
    tl.store(hist + r * BINS + tl.arange(0, BINS), tl.histogram(v & (BINS - 1), BINS, mask=o < n))


@kernel
def sorting():
    g = rng(16)
    n = 53
    x = g.integers(-(2**31), 2**31 - 1, (2, n)).astype(np.int32)
    x[0, :9] = x[0, 9]
    emit(
        sort_count,
        {"x": "*i32", "y": "*i32", "hist": "*i32", "n": "i32", "BLOCK": "c", "BINS": "c"},
        {"BLOCK": 64, "BINS": 16},
        (2, 1, 1),
        {"x": (x, "in"), "y": (np.zeros_like(x), "inout"), "hist": (np.zeros((2, 16), np.int32), "inout")},
        {"n": n},
        {"y": np.sort(x, 1), "hist": np.stack([np.bincount(row & 15, minlength=16) for row in x])},
        {"y": (0, 0), "hist": (0, 0)},
        warps=1,
    )


# --- Atomics -------------------------------------------------------------------------------------------------------


@triton.jit
def atomics(x, f, i, u, old, n, BLOCK: tl.constexpr):
    o = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    ok = o < n
    v = tl.load(x + o, mask=ok, other=0)
    tl.atomic_add(f + o % 7, v.to(tl.float32), mask=ok)
    tl.atomic_max(f + 7 + o % 3, v.to(tl.float32), mask=ok)
    tl.atomic_min(f + 10 + o % 3, v.to(tl.float32), mask=ok)
    z = o * 0
    tl.atomic_add(i + z, v, mask=ok)
    tl.atomic_max(i + 1 + z, v, mask=ok, sem="relaxed")
    tl.atomic_min(i + 2 + z, v, mask=ok, sem="release")
    w = v.to(tl.uint32, bitcast=True)
    tl.atomic_and(u + z, w, mask=ok)
    tl.atomic_or(u + 1 + z, w, mask=ok)
    tl.atomic_xor(u + 2 + z, w, mask=ok)
    # Each slot is taken once: the earlier value tells who came first.
    t = tl.atomic_cas(i + 3 + tl.where(ok, o % 5, 6), z, z + 1)
    tl.atomic_add(old + o % 5, t, mask=ok)
    tl.atomic_xchg(i + 8, 77)


@kernel
def atomic():
    g = rng(17)
    n = 150
    x = g.integers(-1000, 1000, n).astype(np.int32)
    o = np.arange(n)
    f0 = np.zeros(13, np.float32)
    f = f0.astype(np.float64)
    np.add.at(f, o % 7, x)
    np.maximum.at(f, 7 + o % 3, x)
    np.minimum.at(f, 10 + o % 3, x)
    u0 = np.array([0xFFFFFFFF, 0, 0], np.uint32)
    w = x.view(np.uint32)
    u = [np.bitwise_and.reduce(w), np.bitwise_or.reduce(w), np.bitwise_xor.reduce(w)]
    taken = np.bincount(o % 5, minlength=5) - 1
    emit(
        atomics,
        {"x": "*i32", "f": "*fp32", "i": "*i32", "u": "*u32", "old": "*i32", "n": "i32", "BLOCK": "c"},
        {"BLOCK": 64},
        (3, 1, 1),
        {"x": (x, "in"), "f": (f0, "inout"), "i": (np.zeros(10, np.int32), "inout"), "u": (u0, "inout"), "old": (np.zeros(5, np.int32), "inout")},
        {"n": n},
        {"f": f, "i": [x.sum(), max(x.max(), 0), min(x.min(), 0), 1, 1, 1, 1, 1, 77, 1], "u": u, "old": taken},
        {"f": (0, 0), "i": (0, 0), "u": (0, 0), "old": (0, 0)},
        warps=2,
    )


@triton.jit
def last_block(x, part, count, y, n, BLOCK: tl.constexpr, BLOCKS: tl.constexpr):
    b = tl.program_id(0)
    o = b * BLOCK + tl.arange(0, BLOCK)
    tl.store(part + b, tl.sum(tl.load(x + o, mask=o < n, other=0), 0))
    # The block that arrives last sums the parts of all.
    tl.debug_barrier()
    if tl.atomic_add(count, 1, sem="acq_rel") == BLOCKS - 1:
        p = tl.load(part + tl.arange(0, BLOCKS))
        tl.store(y, tl.sum(p, 0))


@kernel
def last():
    g = rng(18)
    n = 1000
    x = g.standard_normal(n).astype(np.float32)
    part = np.concatenate([x, np.zeros(24)]).astype(np.float64).reshape(8, 128).sum(1)
    emit(
        last_block,
        {"x": "*fp32", "part": "*fp32", "count": "*i32", "y": "*fp32", "n": "i32", "BLOCK": "c", "BLOCKS": "c"},
        {"BLOCK": 128, "BLOCKS": 8},
        (8, 1, 1),
        {"x": (x, "in"), "part": (np.zeros(8, np.float32), "inout"), "count": (np.zeros(1, np.int32), "inout"), "y": (np.zeros(1, np.float32), "inout")},
        {"n": n},
        {"part": part, "count": [8], "y": [part.sum()]},
        {"part": (1e-5, 1e-5), "count": (0, 0), "y": (1e-4, 1e-5)},
        warps=2,
    )


@triton.jit
def locked_sum(x, lock, y, n, BLOCK: tl.constexpr):
    o = tl.arange(0, BLOCK)
    v = tl.load(x + tl.program_id(0) * n + o, mask=o < n, other=0)
    while tl.atomic_cas(lock, 0, 1) == 1:
        pass
    s = tl.load(y + o, mask=o < n, other=0)
    tl.store(y + o, s + v, mask=o < n)
    # All threads have stored before one of them opens the lock.
    tl.debug_barrier()
    tl.atomic_xchg(lock, 0)


@kernel
def locks():
    g = rng(19)
    n = 90
    x = g.integers(-50, 50, (6, n)).astype(np.float32)
    emit(
        locked_sum,
        {"x": "*fp32", "lock": "*i32", "y": "*fp32", "n": "i32", "BLOCK": "c"},
        {"BLOCK": 128},
        (6, 1, 1),
        {"x": (x, "in"), "lock": (np.zeros(1, np.int32), "inout"), "y": (np.zeros(n, np.float32), "inout")},
        {"n": n},
        {"y": x.sum(0), "lock": [0]},
        {"y": (0, 0), "lock": (0, 0)},
        warps=2,
    )


# --- Conversions and functions -------------------------------------------------------------------------------------


@triton.jit
def fp8_round(x, y, z, h, n, BLOCK: tl.constexpr):
    o = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    v = tl.load(x + o, mask=o < n, other=0)
    e = v.to(tl.float8e4nv)
    tl.store(y + o, e.to(tl.uint8, bitcast=True), mask=o < n)
    f = v.to(tl.float8e5)
    tl.store(z + o, f.to(tl.uint8, bitcast=True), mask=o < n)
    tl.store(h + o, e.to(tl.float32) + f.to(tl.float32), mask=o < n)


def nearest(x, table, top):
    """The code of the nearest finite value, ties to the even code; saturating."""
    codes = np.arange(top + 1)
    out = []
    for v in x.astype(np.float64):
        d = np.abs(table[codes] - abs(v))
        best = codes[d == d.min()]
        c = best[0] if len(best) == 1 else best[best % 2 == 0][0]
        out.append(c | (128 if np.signbit(v) else 0))
    return np.array(out)


@kernel
def conversions():
    g = rng(20)
    x = np.concatenate([g.standard_normal(90) * 10.0 ** g.integers(-4, 3, 90), E4M3[:127], (E4M3[:100] + E4M3[1:101]) / 2, [-0.0, 0.0, 448, -449, 463]]).astype(np.float32)
    n = len(x)
    y, z = nearest(x, E4M3, 0x7E), nearest(x, E5M2, 0x7B)
    u = lambda: (np.zeros(n, np.uint8), "inout")
    emit(
        fp8_round,
        {"x": "*fp32", "y": "*u8", "z": "*u8", "h": "*fp32", "n": "i32", "BLOCK": "c"},
        {"BLOCK": 128},
        (-(-n // 128), 1, 1),
        {"x": (x, "in"), "y": u(), "z": u(), "h": (np.zeros(n, np.float32), "inout")},
        {"n": n},
        {"y": y, "z": z, "h": E4M3[y] + E5M2[z]},
        {"y": (0, 0), "z": (0, 0), "h": (0, 0)},
        warps=2,
        caps=(90,),
    )


@triton.jit
def functions(x, y, n, BLOCK: tl.constexpr):
    o = tl.arange(0, BLOCK)
    v = tl.load(x + o, mask=o < n, other=1)
    tl.store(y + 0 * n + o, tl.exp(v), mask=o < n)
    tl.store(y + 1 * n + o, tl.log(tl.abs(v)), mask=o < n)
    tl.store(y + 2 * n + o, tl.sin(v), mask=o < n)
    tl.store(y + 3 * n + o, tl.cos(v), mask=o < n)
    tl.store(y + 4 * n + o, tl.erf(v), mask=o < n)
    tl.store(y + 5 * n + o, libdevice.tanh(v), mask=o < n)
    tl.store(y + 6 * n + o, tl.rsqrt(tl.abs(v)), mask=o < n)
    tl.store(y + 7 * n + o, tl.sqrt_rn(tl.abs(v)), mask=o < n)
    tl.store(y + 8 * n + o, tl.div_rn(v, v * v + 3), mask=o < n)
    tl.store(y + 9 * n + o, tl.floor(v) + tl.ceil(v * 3), mask=o < n)
    tl.store(y + 10 * n + o, libdevice.pow(tl.abs(v), 1.7), mask=o < n)
    tl.store(y + 11 * n + o, tl.sigmoid(v), mask=o < n)


@kernel
def maths():
    g = rng(21)
    x = np.concatenate([g.standard_normal(40) * 5, [1e-6, -1e-6, 0.5, -7.25, 20, 88]]).astype(np.float32)
    n = len(x)
    v = x.astype(np.float64)
    import math

    want = [
        np.exp(v), np.log(np.abs(v)), np.sin(v), np.cos(v), np.array([math.erf(t) for t in v]), np.tanh(v),
        1 / np.sqrt(np.abs(v)), np.sqrt(np.abs(v)), v / (v * v + 3), np.floor(v) + np.ceil(v * 3),
        np.abs(v) ** np.float64(np.float32(1.7)), 1 / (1 + np.exp(-v)),
    ]
    emit(
        functions,
        {"x": "*fp32", "y": "*fp32", "n": "i32", "BLOCK": "c"},
        {"BLOCK": 64},
        (1, 1, 1),
        {"x": (x, "in"), "y": (np.zeros((12, n), np.float32), "inout")},
        {"n": n},
        {"y": np.stack(want)},
        {"y": (2e-6, 2e-5)},
        warps=2,
        stages=1,
        caps=(80,),
    )


@triton.jit
def dropout(x, y, n, p, seed, BLOCK: tl.constexpr):
    o = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    v = tl.load(x + o, mask=o < n, other=0)
    keep = tl.rand(seed, o) > p
    tl.store(y + o, tl.where(keep, v / (1 - p), 0.0), mask=o < n)


def philox(seed, counter):
    """Philox4x32-10 of one counter word, as Random123 defines it; the first output word."""
    m0, m1, w0, w1 = 0xD2511F53, 0xCD9E8D57, 0x9E3779B9, 0xBB67AE85
    c = [counter, 0, 0, 0]
    k0, k1 = seed & 0xFFFFFFFF, seed >> 32
    for _ in range(10):
        a, b = m1 * c[2], m0 * c[0]
        c = [(a >> 32) ^ c[1] ^ k0, a & 0xFFFFFFFF, (b >> 32) ^ c[3] ^ k1, b & 0xFFFFFFFF]
        k0, k1 = (k0 + w0) & 0xFFFFFFFF, (k1 + w1) & 0xFFFFFFFF
    return c[0]


@kernel
def random():
    g = rng(22)
    n, p, seed = 200, 0.35, 987654321
    x = g.standard_normal(n).astype(np.float32)
    bits = np.array([philox(seed, i) for i in range(n)], np.uint32).view(np.int32).astype(np.int64)
    u = np.where(bits < 0, -bits - 1, bits) * 4.6566127342e-10
    assert np.abs(u - p).min() > 1e-6
    emit(
        dropout,
        {"x": "*fp32", "y": "*fp32", "n": "i32", "p": "fp32", "seed": "i32", "BLOCK": "c"},
        {"BLOCK": 128},
        (2, 1, 1),
        {"x": (x, "in"), "y": (np.zeros(n, np.float32), "inout")},
        {"n": n, "p": p, "seed": seed},
        {"y": np.where(u > p, x.astype(np.float64) / (1 - p), 0)},
        {"y": (1e-6, 1e-6)},
        warps=2,
        caps=(90,),
    )


# --- Rarer features ------------------------------------------------------------------------------------------------


@triton.jit
def hints(x, y, z, n, BLOCK: tl.constexpr):
    o = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    a = tl.load(x + o, mask=o < n, other=0, eviction_policy="evict_first")
    b = tl.load(y + o, mask=o < n, other=0, eviction_policy="evict_last")
    c = tl.load(y + o, mask=o < n, other=0, cache_modifier=".cg") + 0 * tl.load(y + o, mask=o < n, other=0, volatile=True)
    tl.store(z + o, a * b - c, mask=o < n, eviction_policy="evict_first")


@kernel
def hinted():
    g = rng(23)
    n = 333
    x, y = (g.integers(-99, 99, n).astype(np.float32) for _ in range(2))
    emit(
        hints,
        {"x": "*fp32", "y": "*fp32", "z": "*fp32", "n": "i32", "BLOCK": "c"},
        {"BLOCK": 256},
        (2, 1, 1),
        {"x": (x, "in"), "y": (y, "in"), "z": (np.zeros(n, np.float32), "inout")},
        {"n": n},
        {"z": x.astype(np.float64) * y - y},
        {"z": (0, 0)},
        warps=2,
    )


@triton.jit
def layouts(x, i, y, w, M: tl.constexpr, N: tl.constexpr):
    m, n = tl.arange(0, M), tl.arange(0, N)
    v = tl.load(x + m[:, None] * N + n[None, :])
    # Rows in another order, transposed, and interleaved with their neighbours.
    k = tl.load(i + m[:, None] * N + n[None, :])
    picked = tl.gather(v, k, 1)
    t = tl.trans(picked)
    tl.store(y + n[:, None] * M + m[None, :], t + tl.sum(v, 0)[:, None])
    pairs = tl.interleave(tl.max(v, 1), tl.min(v, 1))
    tl.store(w + tl.arange(0, 2 * M), tl.flip(pairs))


@kernel
def shuffled():
    g = rng(24)
    m, n = 16, 32
    x = g.integers(-99, 99, (m, n)).astype(np.float32)
    i = g.integers(0, n, (m, n)).astype(np.int32)
    v = x.astype(np.float64)
    y = np.take_along_axis(v, i, 1).T + v.sum(0)[:, None]
    w = np.stack([v.max(1), v.min(1)], 1).reshape(-1)[::-1]
    emit(
        layouts,
        {"x": "*fp32", "i": "*i32", "y": "*fp32", "w": "*fp32", "M": "c", "N": "c"},
        {"M": m, "N": n},
        (1, 1, 1),
        {"x": (x, "in"), "i": (i, "in"), "y": (np.zeros((n, m), np.float32), "inout"), "w": (np.zeros(2 * m, np.float32), "inout")},
        {},
        {"y": y, "w": w},
        {"y": (0, 0), "w": (0, 0)},
        warps=4,
    )


@triton.jit
def narrow_atomics(x, h, d, q, n, BLOCK: tl.constexpr):
    o = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    ok = o < n
    v = tl.load(x + o, mask=ok, other=0)
    tl.atomic_add(h + o % 16, v.to(tl.float16), mask=ok)
    tl.atomic_add(d + o % 3, v.to(tl.float64), mask=ok)
    tl.atomic_max(q + o % 5, v.to(tl.int64) << 33, mask=ok)
    tl.atomic_add(q + 5 + o % 2, v.to(tl.int64), mask=ok, sem="relaxed", scope="cta")


@kernel
def narrow():
    g = rng(25)
    n = 120
    # Sums below 2048 are exact in f16, whatever their order.
    x = g.integers(-30, 30, n).astype(np.float32)
    o, v = np.arange(n), x.astype(np.int64)
    h, d, q = np.zeros(16), np.zeros(3), np.zeros(7, np.int64)
    np.add.at(h, o % 16, x)
    np.add.at(d, o % 3, x)
    np.maximum.at(q, o % 5, v << 33)
    np.add.at(q, 5 + o % 2, v)
    emit(
        narrow_atomics,
        {"x": "*fp32", "h": "*fp16", "d": "*fp64", "q": "*i64", "n": "i32", "BLOCK": "c"},
        {"BLOCK": 128},
        (1, 1, 1),
        {"x": (x, "in"), "h": (np.zeros(16, np.float16), "inout"), "d": (np.zeros(3), "inout"), "q": (np.zeros(7, np.int64), "inout")},
        {"n": n},
        {"h": h, "d": d, "q": q},
        {"h": (0, 0), "d": (0, 0), "q": (0, 0)},
        warps=2,
    )


@triton.jit
def chained_scan(x, y, sums, flags, n, BLOCK: tl.constexpr):
    b = tl.program_id(0)
    o = b * BLOCK + tl.arange(0, BLOCK)
    v = tl.load(x + o, mask=o < n, other=0)
    # The block before passes on the sum of all that precedes.
    if b > 0:
        while tl.atomic_add(flags + b - 1, 0, sem="acquire") == 0:
            pass
    before = tl.load(sums + b)
    tl.store(y + o, tl.cumsum(v, 0) + before, mask=o < n)
    tl.store(sums + b + 1, before + tl.sum(v, 0))
    tl.debug_barrier()
    tl.atomic_xchg(flags + b, 1, sem="release")


@kernel
def chained():
    g = rng(26)
    n, blocks = 600, 5
    x = g.integers(-50, 50, n).astype(np.int32)
    ends = np.concatenate([[0], x.cumsum()[127::128], [x.sum()]])[: blocks + 1]
    emit(
        chained_scan,
        {"x": "*i32", "y": "*i32", "sums": "*i32", "flags": "*i32", "n": "i32", "BLOCK": "c"},
        {"BLOCK": 128},
        (blocks, 1, 1),
        {"x": (x, "in"), "y": (np.zeros(n, np.int32), "inout"), "sums": (np.zeros(blocks + 1, np.int32), "inout"), "flags": (np.zeros(blocks, np.int32), "inout")},
        {"n": n},
        {"y": x.cumsum(), "sums": ends, "flags": np.ones(blocks)},
        {"y": (0, 0), "sums": (0, 0), "flags": (0, 0)},
        warps=2,
    )


@triton.jit
def matmul_halves(a, b, c, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, ACC: tl.constexpr):
    rm, rn = tl.arange(0, BM), tl.arange(0, BN)
    acc = tl.zeros((BM, BN), dtype=ACC)
    for k in range(0, K, BK):
        rk = k + tl.arange(0, BK)
        acc = tl.dot(tl.load(a + rm[:, None] * K + rk[None, :]), tl.load(b + rn[None, :] * K + rk[:, None]), acc, out_dtype=ACC)
    tl.store(c + rm[:, None] * BN + rn[None, :], acc)


@kernel
def accumulators():
    g = rng(27)
    for name, ty, code, table, cap, acc in [
        ("matmul_acc16", "*fp16", lambda v: v.astype(np.float16), lambda x: x, (80,), tl.float16),
        ("matmul_e4m3", "*fp8e4nv", lambda v: nearest(v.reshape(-1), E4M3, 0x7E).reshape(v.shape).astype(np.uint8), lambda x: E4M3[x], (89,), tl.float32),
        ("matmul_e5m2", "*fp8e5", lambda v: nearest(v.reshape(-1), E5M2, 0x7B).reshape(v.shape).astype(np.uint8), lambda x: E5M2[x], (89,), tl.float32),
    ]:
        # Small integers: every sum is exact.
        a, b = (code(g.integers(-4, 5, s).astype(np.float32)) for s in [(16, 64), (32, 64)])
        c = np.zeros((16, 32), np.float16 if acc == tl.float16 else np.float32)
        emit(
            matmul_halves,
            {"a": ty, "b": ty, "c": "*fp16" if acc == tl.float16 else "*fp32", "K": "i32", "BM": "c", "BN": "c", "BK": "c", "ACC": "c"},
            {"BM": 16, "BN": 32, "BK": 32, "ACC": acc},
            (1, 1, 1),
            {"a": (a, "in"), "b": (b, "in"), "c": (c, "inout")},
            {"K": 64},
            {"c": table(a).astype(np.float64) @ table(b).astype(np.float64).T},
            {"c": (0, 0)},
            warps=2,
            stages=2,
            name=name,
            caps=cap,
        )


@triton.jit
def speaks(x, y, n, BLOCK: tl.constexpr):
    o = tl.arange(0, BLOCK)
    v = tl.load(x + o, mask=o < n, other=0)
    tl.device_assert(v < 1000, "values are small")
    tl.device_print("got ", v, n)
    tl.store(y + o, v + 1, mask=o < n)


@kernel
def speaking():
    x = np.arange(40, dtype=np.int32) - 7
    emit(
        speaks,
        {"x": "*i32", "y": "*i32", "n": "i32", "BLOCK": "c"},
        {"BLOCK": 64},
        (1, 1, 1),
        {"x": (x, "in"), "y": (np.zeros_like(x), "inout")},
        {"n": 40},
        {"y": x + 1},
        {"y": (0, 0)},
        warps=1,
        caps=(80,),
        debug=True,
    )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        OUT, ONLY = sys.argv[1], sys.argv[2:]
    for f in KERNELS:
        f()
