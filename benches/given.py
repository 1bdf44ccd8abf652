"""What: implementations whose sources or wheels are given by path: FlashInfer, and the Llama-1B megakernel of Hazy Research.
Why here: what they want of their callers is their own; the rest of the comparison knows only functions that do one run.
Pre: torch, which the caller hands over; a checkout, an unpacked wheel or a wheel.
Post: functions that do one run, or `Absent` or `Incompatible`, which say what is missing or other than expected.

Written from the public interfaces of flashinfer 0.5 and 0.6 (https://docs.flashinfer.ai) and of
https://github.com/HazyResearch/Megakernels at commit 7309cec.
"""

import atexit
import importlib
import importlib.util
import os
import shutil
import sys
import tempfile
import zipfile


class Absent(Exception):
    """It is not there."""


class Incompatible(Exception):
    """It is there, and is not what it is expected to be."""


def folder_of(path, package):
    """The folder in which Python finds a package: of a checkout, an unpacked wheel, or a wheel, which is unpacked."""
    if os.path.isfile(path):
        if not zipfile.is_zipfile(path):
            raise Incompatible("`%s` is no wheel" % path)
        folder = tempfile.mkdtemp(prefix="wheel-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        with zipfile.ZipFile(path) as wheel:
            wheel.extractall(folder)
        path = folder
    if not os.path.isdir(path):
        raise Absent("there is no folder or wheel `%s`" % path)
    if not os.path.isfile(os.path.join(path, package, "__init__.py")):
        raise Absent("`%s` holds no package `%s`" % (path, package))
    return os.path.abspath(path)


def module_of(path, package, name=None):
    """A module of a package that lies under a path; with no path, of one that is installed."""
    name = name or package
    if path:
        folder = folder_of(path, package)
        if folder not in sys.path:
            sys.path.insert(0, folder)
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as e:
        if e.name and e.name.split(".")[0] == package and not path:
            raise Absent("%s is not installed, and no path was given" % package) from e
        raise Absent("`%s` needs `%s`, which is not installed" % (name, e.name)) from e
    except Exception as e:
        raise Incompatible("importing `%s`: %s: %s" % (name, type(e).__name__, first_line(e))) from e
    if path and not os.path.abspath(module.__file__ or "").startswith(folder + os.sep):
        raise Incompatible("`%s` came from `%s`, not from the path that was given" % (name, module.__file__))
    return module


def first_line(error):
    return (str(error).split("\n")[0] or type(error).__name__)[:200]


def need(module, *names):
    """That a module has these."""
    missing = [n for n in names if not hasattr(module, n)]
    if missing:
        raise Incompatible("`%s` has no `%s`" % (module.__name__, "`, `".join(missing)))


def called(what, function, *args, **more):
    """A call of an interface that may have changed."""
    try:
        return function(*args, **more)
    except (TypeError, AttributeError) as e:
        raise Incompatible("%s: %s" % (what, first_line(e))) from e


# ---- FlashInfer: (arrange inputs, run) by family; arranging is no part of the time

def flashinfer(torch, path, case, args, device):
    """What arranges inputs as FlashInfer wants them, and what runs on those."""
    return FLASHINFER[case["family"]](torch, module_of(path, "flashinfer"), case["size"], args, device)


WORKSPACE = 128 << 20


def flashinfer_decode(torch, fi, s, args, device):
    need(fi, "BatchDecodeWithPagedKVCacheWrapper")
    b, h, d, p = s["B"], s["H"], s["D"], s.get("P", 16)
    ints = lambda values: torch.tensor(values, dtype=torch.int32, device=device)
    pages = s["C"] // p
    # Without a table of pages, those of a sequence lie one after the other.
    table = args[1].reshape(-1) if "P" in s else ints(range(b * pages))
    wrapper = called("the decode wrapper", fi.BatchDecodeWithPagedKVCacheWrapper,
                     torch.zeros(WORKSPACE, dtype=torch.uint8, device=device), "NHD", use_tensor_cores=True)
    called("`plan` of the decode wrapper", wrapper.plan, ints(range(0, (b + 1) * pages, pages)), table, ints([p] * b),
           4 * h, h, d, p, q_data_type=torch.bfloat16, kv_data_type=torch.bfloat16, sm_scale=d ** -0.5)
    shape = (-1, p, h, d)
    arrange = lambda a: (a[0].reshape(b, 4 * h, d), a[-2].reshape(shape), a[-1].reshape(shape))
    return arrange, lambda q, k, v: wrapper.run(q, (k, v)).reshape(b, h, 4, d)


def flashinfer_prefill(causal):
    def make(torch, fi, s, args, device):
        need(fi, "BatchPrefillWithRaggedKVCacheWrapper")
        b, h, i, j, d = s["B"], s["H"], s["I"], s["S"], s["D"]
        ints = lambda values: torch.tensor(values, dtype=torch.int32, device=device)
        wrapper = called("the prefill wrapper", fi.BatchPrefillWithRaggedKVCacheWrapper,
                         torch.zeros(WORKSPACE, dtype=torch.uint8, device=device), "NHD")
        called("`plan` of the prefill wrapper", wrapper.plan, ints(range(0, (b + 1) * i, i)), ints(range(0, (b + 1) * j, j)),
               4 * h, h, d, causal=causal, sm_scale=float(s["scale"]), q_data_type=torch.bfloat16)
        rows = lambda x, n: x.reshape(b, -1, n, d).transpose(1, 2).reshape(b * n, -1, d).contiguous()
        arrange = lambda a: (rows(a[0], i), rows(a[1], j), rows(a[2], j))
        # Results lie as FlashInfer leaves them; who compares looks at them as ours lie.
        back = lambda o: o.reshape(b, i, h, 4, d).permute(0, 2, 3, 1, 4)
        return arrange, lambda q, k, v: back(wrapper.run(q, k, v))
    return make


def flashinfer_norm(torch, fi, s, args, device):
    need(fi, "rmsnorm")
    return lambda a: a, lambda x, w: called("`rmsnorm`", fi.rmsnorm, x, w, eps=1e-6)


def flashinfer_swiglu(torch, fi, s, args, device):
    need(fi, "silu_and_mul")
    return lambda a: (torch.cat(a, -1),), lambda x: called("`silu_and_mul`", fi.silu_and_mul, x)


FLASHINFER = {
    "attention decode": flashinfer_decode, "attention paged": flashinfer_decode, "norm": flashinfer_norm,
    "attention full": flashinfer_prefill(False), "attention causal": flashinfer_prefill(True), "swiglu": flashinfer_swiglu,
}


# ---- the megakernel of Hazy Research: one decode step of Llama-3.2-1B, a batch of 1, as its generator runs it

HAZY_MODEL = "Llama-3.2-1B"
HAZY_BUILT = os.path.join("demos", "low-latency-llama")
HAZY_ROOM = 16384


def hazy(torch, path, config_folder, context, device, settings=None):
    """A function that does one step after `context` tokens, and the relative difference of its logits from those of the
    checkout's own model in torch, in the same type. Weights and state are made up; times do not depend on them."""
    if not path:
        raise Absent("no checkout was given (--hazy PATH)")
    folder = folder_of(path, "megakernels")
    part = lambda name: module_of(path, "megakernels", "megakernels." + name)
    dispatch, generators, llama, types, scheduler = map(
        part, ["dispatch", "generators", "llama", "model_types", "scheduler"])
    need(dispatch, "make_schedule_builder", "make_mk_interpreter")
    need(generators, "MK_Generator")
    need(llama, "LlamaForCausalLM")
    need(types, "BatchState", "ExtraModelConfig")
    need(scheduler, "assign_to_sms", "tensorize_instructions")
    try:
        from pathlib import Path
        interpreter = dispatch.make_mk_interpreter("latency", Path(folder) / HAZY_BUILT)
    except ImportError as e:
        raise Absent("the kernel was not built for this Python: run `make` in %s (%s)" % (HAZY_BUILT, first_line(e))) from e
    try:
        from transformers import LlamaConfig
    except ImportError as e:
        raise Absent("`transformers` is not installed") from e
    config = LlamaConfig.from_pretrained(config_folder)
    for name, value in (settings or {}).items():
        setattr(config, name, value)
    extra = called("`ExtraModelConfig`", types.ExtraModelConfig, interleave_rope=True, max_batch_size=1,
                   max_len_override=min(HAZY_ROOM, config.max_position_embeddings))
    if context + 1 > extra.max_len_override:
        raise Incompatible("it has room for %d tokens" % extra.max_len_override)
    usual = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(device):
            model = called("`LlamaForCausalLM`", llama.LlamaForCausalLM, config, extra)
    finally:
        torch.set_default_dtype(usual)
    model.device, model.dtype = torch.device(device), torch.bfloat16
    model.requires_grad_(False)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() == 2:
                weight.normal_(std=weight.shape[1] ** -0.5)
        called("`interleave_rope`", model.model.interleave_rope)
        called("`stack_params`", model.stack_params)
        called("`setup_caches`", model.setup_caches)
        for cache in model.stacked_kv_cache:
            cache[:, :, :context].normal_()
    schedule = called("the schedule", dispatch.make_schedule_builder("latency").build, model)
    queues = called("`assign_to_sms`", scheduler.assign_to_sms, "rr", schedule=schedule)
    called("`tensorize_instructions`", scheduler.tensorize_instructions, schedule.globs, queues)
    generator = called("`MK_Generator`", generators.MK_Generator, model, interpreter, schedule)
    token = torch.full((1, 1), 17, dtype=torch.long, device=device)

    def step():
        return generator.run(token, pos_id=context)

    called("`MK_Generator.run`", step)
    found = schedule.globs.logits.double().reshape(-1).clone()
    seen = []
    hook = model.lm_head.lm_head.register_forward_hook(lambda m, i, o: seen.append(o))
    try:
        place = torch.full((1, 1), context, dtype=torch.long, device=device)
        state = types.BatchState(input_ids=token, position_ids=place, seq_len=context + 1)
        called("the model in torch", model, state)
    finally:
        hook.remove()
    expected = seen[-1].double().reshape(-1)
    return step, float((found - expected).norm() / expected.norm())
