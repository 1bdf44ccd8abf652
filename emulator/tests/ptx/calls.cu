// Calls: by name with structs, through tables of functions, through virtual functions, and nested pointers.

struct Five {
    float v[5];
};

__device__ __noinline__ Five shifted(Five a, int by) {
    Five r;
    for (int i = 0; i < 5; i++) r.v[i] = a.v[(i + by) % 5] + by;
    return r;
}

extern "C" __global__ void structs(const Five *x, Five *y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = shifted(shifted(x[i], i % 5), 1);
}

typedef int (*Fn)(int, int);
__device__ __noinline__ int plus(int a, int b) { return a + b; }
__device__ __noinline__ int minus(int a, int b) { return a - b; }
__device__ __noinline__ int times(int a, int b) { return a * b; }
__device__ Fn table[3] = {plus, minus, times};

extern "C" __global__ void pointers(const int *x, int *y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    Fn f = table[i % 3];
    if (x[i] < 0) f = times;
    y[i] = f(x[i], 7 * i) + (i & 1 ? f(i, 2) : 0);
}

struct Shape {
    __device__ virtual int area(int s) = 0;
    __device__ virtual int edges() { return 1; }
};
struct Square : Shape {
    int grow;
    __device__ int area(int s) override { return s * s + grow; }
    __device__ int edges() override { return 4; }
};
// A virtual function that calls another of the same signature.
struct Twice : Shape {
    Shape *inner;
    __device__ int area(int s) override { return 2 * inner->area(s + 1); }
};

extern "C" __global__ void virtuals(const int *x, int *y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    Square square;
    square.grow = i;
    Twice twice;
    twice.inner = &square;
    Shape *s = x[i] & 1 ? (Shape *)&twice : (Shape *)&square;
    y[i] = s->area(x[i]) * 10 + s->edges();
}

// Twice within Twice: a function that is entered again before it has left.
extern "C" __global__ void endless(const int *deep, int *y) {
    Square square;
    square.grow = 0;
    Twice a, b;
    a.inner = &square;
    b.inner = &a;
    Shape *s = deep[0] ? (Shape *)&b : (Shape *)&a;
    y[threadIdx.x] = s->area(3);
}

// A pointer to no function of the module.
extern "C" __global__ void wild(int *y, Fn f) { y[threadIdx.x] = f(1, 2); }
