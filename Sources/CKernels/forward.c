/* The kernels of forward passes, once for every processor and once for x86-64 with AVX2 and FMA. */
#include <math.h>
#include <string.h>

#include "ckernels.h"

/* Vectors are handed only to static functions of this file: there is no ABI to keep. */
#pragma clang diagnostic ignored "-Wpsabi"

#define CK_NAME(name) portable_##name
#include "forward.inc"
#undef CK_NAME

#if defined(__x86_64__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#define CK_NAME(name) avx2_##name
#include "forward.inc"
#undef CK_NAME
#pragma clang attribute pop
#endif

const ck_forward_kernels *ck_portable_forward_kernels(void) { return &portable_forward_kernels; }

const ck_forward_kernels *ck_active_forward_kernels(void) {
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c"))
        return &avx2_forward_kernels;
#endif
    return &portable_forward_kernels;
}
