// Adds one to a word: as little as a kernel can do that shows whether all launches ran in order.
extern "C" __global__ void tick(unsigned* n) {
    n[0] += 1;
}
