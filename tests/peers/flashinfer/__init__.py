"""A stand-in for FlashInfer: the interface that benches/given.py uses, in plain torch."""

import torch

__version__ = "0.0-stand-in"


def attention(q, k, v, scale, causal):
    """q: [n, hq, d]; k, v: [m, hk, d]."""
    group = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
    s = torch.einsum("ihd,jhd->hij", q.float(), k.float()) * scale
    if causal:
        n, m = s.shape[1:]
        s = s.masked_fill(torch.ones(n, m, dtype=torch.bool).triu(m - n + 1), float("-inf"))
    return torch.einsum("hij,jhd->ihd", s.softmax(-1), v.float()).to(q.dtype)


class BatchDecodeWithPagedKVCacheWrapper:
    def __init__(self, float_workspace_buffer, kv_layout="NHD", use_cuda_graph=False, use_tensor_cores=False):
        assert kv_layout == "NHD"

    def plan(self, indptr, indices, last_page_len, num_qo_heads, num_kv_heads, head_dim, page_size, *, q_data_type="float16",
             kv_data_type=None, sm_scale=None):
        self.starts, self.pages, self.last, self.page, self.scale = indptr, indices, last_page_len, page_size, sm_scale

    def run(self, q, paged_kv_cache):
        out = []
        for b in range(q.shape[0]):
            pages = self.pages[self.starts[b]:self.starts[b + 1]].long()
            count = (len(pages) - 1) * self.page + int(self.last[b])
            k, v = (x[pages].reshape(-1, *x.shape[2:])[:count] for x in paged_kv_cache)
            out.append(attention(q[b:b + 1], k, v, self.scale, False))
        return torch.cat(out)


class BatchPrefillWithRaggedKVCacheWrapper:
    def __init__(self, float_workspace_buffer, kv_layout="NHD"):
        assert kv_layout == "NHD"

    def plan(self, qo_indptr, kv_indptr, num_qo_heads, num_kv_heads, head_dim_qk, causal=False, sm_scale=None,
             q_data_type="float16"):
        self.q, self.kv, self.causal, self.scale = qo_indptr, kv_indptr, causal, sm_scale

    def run(self, q, k, v):
        out = []
        for b in range(len(self.q) - 1):
            i, j = slice(self.q[b], self.q[b + 1]), slice(self.kv[b], self.kv[b + 1])
            out.append(attention(q[i], k[j], v[j], self.scale, self.causal))
        return torch.cat(out)


def rmsnorm(input, weight, eps=1e-6):
    x = input.float()
    return (x * torch.rsqrt((x * x).mean(-1, keepdim=True) + eps) * weight.float()).to(input.dtype)


def silu_and_mul(input):
    half = input.shape[-1] // 2
    return torch.nn.functional.silu(input[..., :half]) * input[..., half:]
