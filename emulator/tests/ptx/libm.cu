// Device libm, one kernel per function, with its slow paths.
#define U(name, T, e) extern "C" __global__ void name(const T* x, const T* y, T* o, int n) { int i = blockIdx.x * blockDim.x + threadIdx.x; if (i < n) { T a = x[i]; T b = y[i]; o[i] = (T)(e); (void)b; } }
U(k_expf, float, expf(a)) U(k_exp2f, float, exp2f(a)) U(k_logf, float, logf(a)) U(k_log2f, float, log2f(a))
U(k_sqrtf, float, sqrtf(a)) U(k_rsqrtf, float, rsqrtf(a)) U(k_tanhf, float, tanhf(a)) U(k_sinf, float, sinf(a)) U(k_cosf, float, cosf(a))
U(k_powf, float, powf(a, b)) U(k_erff, float, erff(a)) U(k_log1pf, float, log1pf(a)) U(k_expm1f, float, expm1f(a)) U(k_fmodf, float, fmodf(a, b))
U(k_divf, float, a / b) U(k_floorf, float, floorf(a)) U(k_roundf, float, roundf(a)) U(k_rintf, float, rintf(a)) U(k_truncf, float, truncf(a)) U(k_ceilf, float, ceilf(a))
U(k_fminf, float, fminf(a, b)) U(k_fmaxf, float, fmaxf(a, b)) U(k_copysignf, float, copysignf(a, b)) U(k_atan2f, float, atan2f(a, b)) U(k_cbrtf, float, cbrtf(a))
U(k_fast_expf, float, __expf(a)) U(k_fast_logf, float, __logf(a)) U(k_fast_sinf, float, __sinf(a)) U(k_fast_divf, float, __fdividef(a, b))
U(k_exp, double, exp(a)) U(k_exp2, double, exp2(a)) U(k_log, double, log(a)) U(k_log2, double, log2(a)) U(k_sqrt, double, sqrt(a)) U(k_rsqrt, double, rsqrt(a))
U(k_tanh, double, tanh(a)) U(k_sin, double, sin(a)) U(k_cos, double, cos(a)) U(k_pow, double, pow(a, b)) U(k_div, double, a / b) U(k_erf, double, erf(a)) U(k_fmod, double, fmod(a, b))
U(k_expf_rz, float, __fadd_rz(a, b)) U(k_fmul_rd, float, __fmul_rd(a, b)) U(k_fadd_ru, float, __fadd_ru(a, b)) U(k_fdiv_rd, float, __fdiv_rd(a, b)) U(k_dadd_rd, double, __dadd_rd(a, b)) U(k_dmul_ru, double, __dmul_ru(a, b))
