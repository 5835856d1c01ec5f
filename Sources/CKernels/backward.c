/* The kernels of backward passes and optimizers: for every processor, for x86-64 with AVX2 and FMA, and for x86-64 with AVX-512. */
#include <math.h>
#include <string.h>

#include "ckernels.h"
#include "instruction_sets.h"

/* Vectors are handed only to static functions of this file: there is no ABI to keep. */
#pragma clang diagnostic ignored "-Wpsabi"

#define CK_NAME(name) portable_##name
#define CK_LANES 8
#include "backward.inc"
#undef CK_NAME

#if defined(__x86_64__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#define CK_NAME(name) avx2_##name
#include "backward.inc"
#undef CK_NAME
#undef CK_LANES
#pragma clang attribute pop

#pragma clang attribute push( \
    __attribute__((target("avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq"))), apply_to = function)
#define CK_NAME(name) avx512_##name
#define CK_LANES 16
#include "backward.inc"
#undef CK_NAME
#undef CK_LANES
#pragma clang attribute pop
#endif

const ck_backward_kernels *ck_portable_backward_kernels(void) { return &portable_backward_kernels; }

const ck_backward_kernels *ck_avx2_backward_kernels(void) {
#if defined(__x86_64__)
    if (ck_has_avx2()) return &avx2_backward_kernels;
#endif
    return NULL;
}

const ck_backward_kernels *ck_avx512_backward_kernels(void) {
#if defined(__x86_64__)
    if (ck_has_avx512()) return &avx512_backward_kernels;
#endif
    return NULL;
}

const ck_backward_kernels *ck_active_backward_kernels(void) {
    const ck_backward_kernels *kernels = ck_avx512_backward_kernels();
    if (!kernels) kernels = ck_avx2_backward_kernels();
    return kernels ? kernels : ck_portable_backward_kernels();
}
