// Two blocks hand a word back and forth p[0] times by release and acquire: block 0 and block p[1]; the others end at once.
// The flags are p[2] words apart from the beginning. out: nanoseconds of all rounds, rounds of either side, their SMs.
extern "C" __global__ void flag(unsigned* flags, unsigned* out, const int* p) {
    const unsigned rounds = p[0], partner = p[1];
    if (threadIdx.x != 0 || (blockIdx.x != 0 && blockIdx.x != partner)) return;
    const unsigned side = blockIdx.x != 0;
    unsigned* mine = flags + p[2] + 32 * side;
    unsigned* other = flags + p[2] + 32 * (1 - side);
    unsigned sm, seen, r;
    unsigned long long begin, end;
    asm volatile("mov.u32 %0, %%smid;" : "=r"(sm));
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(begin));
    for (r = 1; r <= rounds; ++r) {
        if (side == 0) asm volatile("st.release.gpu.global.u32 [%0], %1;" ::"l"(mine), "r"(r) : "memory");
        do {
            asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(seen) : "l"(other) : "memory");
        } while (seen < r);
        if (side == 1) asm volatile("st.release.gpu.global.u32 [%0], %1;" ::"l"(mine), "r"(r) : "memory");
    }
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(end));
    if (side == 0) out[0] = (unsigned)(end - begin);
    out[1 + side] = r - 1;
    out[3 + side] = sm;
}
