#include <string.h>

#include "ckernels.h"
#include "delta_bits.h"
#include "floats.h"
#include "rans.h"

#define CK_NAME(name) portable_##name
#include "planes.inc"

static void portable_look_up_classes(const uint8_t *classes, uint8_t *keys, size_t words) {
    for (size_t i = 0; i < words; i++) keys[i] = classes[keys[i]];
}

static int portable_all_contexts16(
    const ck_delta_layout *layout, const uint8_t *classes, const uint8_t *base, const uint8_t *previous, size_t words,
    uint8_t *contexts) {
    (void)layout, (void)classes, (void)base, (void)previous, (void)words, (void)contexts;
    return 0;
}

static uint64_t portable_tokens_from(unsigned least, const uint8_t *tokens) {
    uint64_t mask = 0;
    for (int i = 0; i < 64; i++) mask |= (uint64_t)(tokens[i] >= least) << i;
    return mask;
}

#include "delta.inc"
#include "rans_portable.inc"

#define CK_COMPARE portable_compare_bf16
#define CK_WORD uint16_t
#define CK_SIGN 0x8000u
#define CK_EXPONENT 0x7F80u
#define CK_VALUE ck_bf16_value
#include "compare.inc"

#define CK_COMPARE portable_compare_f16
#define CK_WORD uint16_t
#define CK_SIGN 0x8000u
#define CK_EXPONENT 0x7C00u
#define CK_VALUE ck_f16_value
#include "compare.inc"

#define CK_COMPARE portable_compare_f32
#define CK_WORD uint32_t
#define CK_SIGN 0x80000000u
#define CK_EXPONENT 0x7F800000u
#define CK_VALUE ck_f32_value
#include "compare.inc"

#define CK_COMPARE portable_compare_f64
#define CK_WORD uint64_t
#define CK_SIGN 0x8000000000000000u
#define CK_EXPONENT 0x7FF0000000000000u
#define CK_VALUE ck_f64_value
#include "compare.inc"

const ck_kernels *ck_portable_kernels(void) {
    static const ck_kernels kernels = {
        .name = "portable",
        .split_planes = portable_split_planes,
        .join_planes = portable_join_planes,
        .compare_bf16 = portable_compare_bf16,
        .compare_f16 = portable_compare_f16,
        .compare_f32 = portable_compare_f32,
        .compare_f64 = portable_compare_f64,
        .delta_top = portable_delta_top,
        .delta_model = portable_delta_model,
        .delta_contexts = portable_delta_contexts,
        .delta_restore = portable_delta_restore,
        .delta_put_extra = portable_delta_put_extra,
        .delta_take_extra = portable_delta_take_extra,
        .rans_encode = portable_rans_encode,
        .rans_decode = portable_rans_decode,
    };
    return &kernels;
}
