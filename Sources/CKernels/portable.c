#include <string.h>

#include "ckernels.h"
#include "floats.h"

#define CK_NAME(name) portable_##name
#include "planes.inc"

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
    };
    return &kernels;
}
