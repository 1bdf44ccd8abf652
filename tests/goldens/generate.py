#!/usr/bin/env python3
"""Makes the golden models in this folder: small random models of every family with reference logits in true float64.

    python3 -m venv v && v/bin/pip install torch transformers safetensors numpy
    v/bin/python tests/goldens/generate.py [NAME ...]

Tests read what this writes and never need torch. Each folder holds config.json and weights as `save_pretrained`
writes them (config.json in an older form where the entry says so) and golden.json + .npy files:

    ids, rope_form, moved   tokens; form of the config; relative change of the logits per breakage
    logits.npy              float64 [tokens, vocab]
    broken_NAME.npy         float32 [tokens, vocab], logits of a model that is broken on purpose

The reference library computes norms, softmax and rotation angles in float32 whatever type is asked for, and rounds
rotation frequencies when a model in memory is converted. Here float32 is made an alias of float64 after the weights
are saved, and every run loads the saved folder afresh.

A golden that does not notice a breakage is worthless: the script fails unless each moves the logits by ten times the
tolerance (1e-5 for all, 3e-2 for all but the masks), and unless plain bfloat16 arithmetic stays well below 3e-2.
"""
import importlib, json, pathlib, shutil, sys

import numpy as np
import torch
import transformers as T
from safetensors.torch import load_file

HERE = pathlib.Path(__file__).parent
FAMILY = {
    "llama": (T.LlamaConfig, T.LlamaForCausalLM),
    "mistral": (T.MistralConfig, T.MistralForCausalLM),
    "qwen2": (T.Qwen2Config, T.Qwen2ForCausalLM),
    "qwen3": (T.Qwen3Config, T.Qwen3ForCausalLM),
}
T.utils.logging.disable_progress_bar()
F32, F16, BF16 = torch.float32, torch.float16, torch.bfloat16


def sizes(hidden, heads, kv, inter, layers, vocab, **more):
    return dict(hidden_size=hidden, num_attention_heads=heads, num_key_value_heads=kv, intermediate_size=inter,
                num_hidden_layers=layers, vocab_size=vocab, max_position_embeddings=64, **more)


LLAMA3 = dict(rope_type="llama3", rope_theta=1000.0, factor=4.0, low_freq_factor=1.0, high_freq_factor=3.0,
              original_max_position_embeddings=24)
# name: (family, dtype of the weights, config, tokens, options)
MODELS = {
    "llama_llama3": ("llama", BF16, sizes(60, 6, 2, 97, 2, 113, rope_parameters=LLAMA3), 17, {}),
    "llama_llama3_old": ("llama", F16, sizes(60, 6, 2, 61, 1, 89, head_dim=18, rope_parameters=LLAMA3,
                                             rms_norm_eps=1e-5, eos_token_id=[3, 5]), 13, dict(old=True)),
    "llama_linear_bias": ("llama", BF16, sizes(54, 6, 2, 75, 2, 101, head_dim=18, attention_bias=True, mlp_bias=True,
                                               tie_word_embeddings=True,
                                               rope_parameters=dict(rope_type="linear", rope_theta=500.0, factor=2.5)),
                          19, dict(old=True)),
    "llama_sharded": ("llama", F32, sizes(40, 4, 4, 53, 3, 67), 12, dict(shard="20KB")),
    "mistral_window": ("mistral", F16, sizes(84, 6, 2, 83, 2, 97, sliding_window=5, head_dim=10,
                                             rms_norm_eps=1e-5), 23, {}),
    "mistral_full": ("mistral", BF16, sizes(66, 6, 2, 71, 2, 103, sliding_window=None, head_dim=20), 15,
                     dict(old=True)),
    "qwen2_bias": ("qwen2", BF16, sizes(72, 6, 2, 91, 2, 131, tie_word_embeddings=True), 16, dict(old=True)),
    "qwen2_window": ("qwen2", BF16, sizes(60, 6, 2, 67, 3, 79, use_sliding_window=True, sliding_window=4,
                                          max_window_layers=1), 18, {}),
    "qwen3_norm": ("qwen3", BF16, sizes(68, 6, 2, 99, 2, 127, head_dim=20), 16, dict(old=True)),
    "qwen3_alternating": ("qwen3", BF16, sizes(52, 9, 3, 59, 3, 83, head_dim=10, tie_word_embeddings=True,
                                               attention_bias=True, use_sliding_window=True, sliding_window=6,
                                               layer_types=["sliding_attention", "full_attention",
                                                            "sliding_attention"]), 20, {}),
}


def initialise(model, cfg, gen):
    """Scales that keep activations of order one and attention sharp, so that every part matters."""
    hidden = cfg["hidden_size"]
    for name, p in model.named_parameters():
        if "norm" in name:
            p.uniform_(0.5, 1.5, generator=gen)
        elif "embed" in name:
            p.normal_(0, 0.4, generator=gen)
        elif p.dim() == 1:
            p.normal_(0, 0.2, generator=gen)
        else:
            gain = 1.5 if "q_proj" in name or "k_proj" in name else 1.6 if "v_proj" in name or "o_proj" in name else 0.8
            p.normal_(0, gain / p.shape[1] ** 0.5, generator=gen)


def old_form(path):
    """Rewrites config.json as releases before `rope_parameters` wrote it."""
    c = json.loads(path.read_text())
    rope = c.pop("rope_parameters")
    c["rope_theta"] = rope.pop("rope_theta")
    kind = rope.pop("rope_type")
    if kind == "default":
        c["rope_scaling"] = None
    else:
        # Both spellings of the kind were in use.
        c["rope_scaling"] = {("rope_type" if kind == "llama3" else "type"): kind, **rope}
    c["torch_dtype"] = c.pop("dtype")
    c.pop("layer_types", None)
    path.write_text(json.dumps(c, indent=2, sort_keys=True) + "\n")


def tensors(folder):
    """The saved weights as float64. Files are read before float32 is an alias: the reader looks up types by name."""
    files = sorted(folder.glob("*.safetensors"))
    return {k: v.double() for f in files for k, v in load_file(f).items()}


def load(folder, state):
    """The saved model, built anew where float32 means float64, so that its rotation frequencies are float64 too."""
    config = T.AutoConfig.from_pretrained(folder)
    model = T.AutoModelForCausalLM.from_config(config, attn_implementation="eager").double().eval()
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected and set(missing) <= ({"lm_head.weight"} if config.tie_word_embeddings else set())
    model.tie_weights()
    return model


def plain_bf16(folder, ids):
    model = T.AutoModelForCausalLM.from_pretrained(folder, dtype=BF16, attn_implementation="eager").eval()
    return logits(model, ids)


def logits(model, ids):
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0].double().numpy()


class Broken:
    """Breakages; each changes a loaded model or its module, and is undone by restoring the module."""

    def __init__(self, family):
        self.module = importlib.import_module(f"transformers.models.{family}.modeling_{family}")
        self.saved = {n: getattr(self.module, n) for n in ("apply_rotary_pos_emb", "repeat_kv", "eager_attention_forward")}

    def restore(self):
        for n, f in self.saved.items():
            setattr(self.module, n, f)

    def no_rope(self, model):
        self.module.apply_rotary_pos_emb = lambda q, k, cos, sin, *a, **kw: (q, k)

    def wrong_pairing(self, model):
        def turn(q, k, cos, sin, *a, **kw):
            cos, sin = (x[..., : x.shape[-1] // 2].repeat_interleave(2, -1).unsqueeze(1) for x in (cos, sin))
            def swap(x):
                return torch.stack((-x[..., 1::2], x[..., ::2]), -1).flatten(-2)
            return q * cos + swap(q) * sin, k * cos + swap(k) * sin
        self.module.apply_rotary_pos_emb = turn

    def uniform_softmax(self, model):
        for layer in model.model.layers:
            layer.self_attn.scaling = 0.0

    def wrong_group(self, model):
        # Heads are dealt out to groups one by one instead of in runs; with one head per group, to the next group.
        self.module.repeat_kv = lambda x, n: x.repeat(1, n, 1, 1) if n > 1 else x.roll(1, 1)

    def masks(self, model, future, past):
        plain = self.saved["eager_attention_forward"]
        def forward(module, query, key, value, attention_mask, *a, **kw):
            i = torch.arange(query.shape[2])[:, None]
            j = torch.arange(key.shape[2])[None, :]
            window = getattr(module, "sliding_window", None) or getattr(module.config, "sliding_window", None)
            kind = getattr(module, "layer_type", None)
            seen = j <= i + future
            if window is not None and kind != "full_attention":
                seen &= j > i - window - past
            mask = torch.zeros(seen.shape, dtype=query.dtype).masked_fill(~seen, torch.finfo(query.dtype).min)[None, None]
            return plain(module, query, key, value, mask, *a, **kw)
        self.module.eager_attention_forward = forward

    def mask_future(self, model):
        self.masks(model, 1, 0)

    def mask_window(self, model):
        self.masks(model, 0, 1)

    def mask_same(self, model):
        """No breakage: the mask as above with the right bounds, to show that the two above break only the bound."""
        self.masks(model, 0, 0)


STRONG = ("no_rope", "wrong_pairing", "uniform_softmax", "wrong_group")


def make(name, seed):
    family, dtype, cfg, tokens, options = MODELS[name]
    C, M = FAMILY[family]
    gen = torch.Generator().manual_seed(seed)
    model = M(C(**cfg)).eval()
    with torch.no_grad():
        initialise(model, cfg, gen)
    out = HERE / name
    shutil.rmtree(out, ignore_errors=True)
    model.to(dtype).save_pretrained(out, max_shard_size=options.get("shard", "50GB"))
    (out / "generation_config.json").unlink(missing_ok=True)
    if options.get("old"):
        old_form(out / "config.json")
    return np.random.default_rng(seed).integers(0, cfg["vocab_size"], tokens).tolist()


def judge(name, ids, bf16, state):
    family, _, cfg, _, options = MODELS[name]
    out, broken = HERE / name, Broken(family)
    want = logits(load(out, state), ids)
    relative = lambda x: float(np.linalg.norm(x - want) / np.linalg.norm(want))
    names = [*STRONG, "mask_future"]
    if any(t == "sliding_attention" for t in (cfg.get("layer_types") or [])) or cfg.get("sliding_window"):
        names.append("mask_window")
    moved = {}
    for b in [*names, "mask_same"]:
        model = load(out, state)
        getattr(broken, b)(model)
        got = logits(model, ids)
        broken.restore()
        moved[b] = relative(got)
        if b != "mask_same":
            np.save(out / f"broken_{b}.npy", got.astype(np.float32))
    same = moved.pop("mask_same")
    error = relative(bf16)
    print(f"{name:20} bf16 {error:.4f}", {k: round(v, 3) for k, v in moved.items()}, f"same {same:.1e}")
    assert same < 1e-12, "the rebuilt mask differs from the library's"
    np.save(out / "logits.npy", want)
    golden = dict(ids=ids, rope_form="old" if options.get("old") else "new", moved=moved)
    (out / "golden.json").write_text(json.dumps(golden) + "\n")
    return error < 0.012 and all(v >= (0.3 if k in STRONG else 1e-4) * 1.2 for k, v in moved.items())


def main():
    names = sys.argv[1:] or list(MODELS)
    todo = {n: 0 for n in names}
    while todo:
        # Everything in real bfloat16 first: afterwards float32 is not float32 any more.
        ids = {n: make(n, 100 * s + sum(n.encode())) for n, s in todo.items()}
        bf16 = {n: plain_bf16(HERE / n, ids[n]) for n in todo}
        states = {n: tensors(HERE / n) for n in todo}
        saved = torch.float32, torch.float, torch.Tensor.float
        torch.float32 = torch.float = torch.float64
        torch.Tensor.float = torch.Tensor.double
        good = {n: judge(n, ids[n], bf16[n], states[n]) for n in todo}
        torch.float32, torch.float, torch.Tensor.float = saved
        todo = {n: s + 1 for n, s in todo.items() if not good[n]}
        assert all(s < 12 for s in todo.values()), f"no good seed for {list(todo)}"


if __name__ == "__main__":
    main()
