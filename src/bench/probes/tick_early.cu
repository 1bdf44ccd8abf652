// The same for a kernel that may begin before the one ahead of it has ended: it lets the next one begin, then waits.
extern "C" __global__ void tick_early(unsigned* n) {
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
    asm volatile("griddepcontrol.wait;" ::: "memory");
    n[0] += 1;
}
