#ifndef CK_INSTRUCTION_SETS_H
#define CK_INSTRUCTION_SETS_H

/* What this processor runs beside the portable kernels, as the targets of forward.c and product.c name it. */
#if defined(__x86_64__)
static inline int ck_has_avx2(void) {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
}

static inline int ck_has_avx512(void) {
    return ck_has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")
        && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}
#endif

#endif
