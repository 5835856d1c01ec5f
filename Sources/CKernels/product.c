/* Dense products, for every processor, for x86-64 with AVX2 and FMA, and for x86-64 with AVX-512. */
#include <string.h>

#include "ckernels.h"
#include "instruction_sets.h"

/* Vectors are handed only to static functions of this file: there is no ABI to keep. */
#pragma clang diagnostic ignored "-Wpsabi"

/* Of k, what the rows of A in use hold in the first-level cache, and how far those rows are apart. */
enum { inner_block = 384, inner_stride = inner_block + 16 };

/* Rows: as many as leave registers for a row of B and an element of A beside their sums. */
#define CK_NAME(name) portable_##name
#define CK_LANES 4
#if defined(__aarch64__)
#define CK_ROWS 12
#else
#define CK_ROWS 6
#endif
#include "product.inc"
#undef CK_NAME
#undef CK_LANES
#undef CK_ROWS

#if defined(__x86_64__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#define CK_NAME(name) avx2_##name
#define CK_LANES 8
#define CK_ROWS 6
#include "product.inc"
#undef CK_NAME
#undef CK_LANES
#undef CK_ROWS
#pragma clang attribute pop

#pragma clang attribute push( \
    __attribute__((target("avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq"))), apply_to = function)
#define CK_NAME(name) avx512_##name
#define CK_LANES 16
#define CK_ROWS 14
#include "product.inc"
#undef CK_NAME
#undef CK_LANES
#undef CK_ROWS
#pragma clang attribute pop
#endif

const ck_product_kernels *ck_portable_product_kernels(void) { return &portable_product_kernels; }

const ck_product_kernels *ck_avx2_product_kernels(void) {
#if defined(__x86_64__)
    if (ck_has_avx2()) return &avx2_product_kernels;
#endif
    return NULL;
}

const ck_product_kernels *ck_avx512_product_kernels(void) {
#if defined(__x86_64__)
    if (ck_has_avx512()) return &avx512_product_kernels;
#endif
    return NULL;
}

const ck_product_kernels *ck_active_product_kernels(void) {
    const ck_product_kernels *kernels = ck_avx512_product_kernels();
    if (!kernels) kernels = ck_avx2_product_kernels();
    return kernels ? kernels : ck_portable_product_kernels();
}
