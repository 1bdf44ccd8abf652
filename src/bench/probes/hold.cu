// Keeps the device busy for p[0] microseconds, so that what follows is in the queue before it can begin.
extern "C" __global__ void hold(const int* p) {
    unsigned long long begin, now;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(begin));
    do {
        asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
    } while (now - begin < 1000ull * (unsigned long long)p[0]);
}
