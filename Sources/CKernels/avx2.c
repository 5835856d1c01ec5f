/* Kernels for x86-64 with AVX2, FMA and F16C. Compiled into every x86-64 build; run only where the processor
   has them. */
#if defined(__x86_64__)

#pragma clang attribute push(__attribute__((target("avx2,fma,f16c,bmi,bmi2"))), apply_to = function)

#include <immintrin.h>
#include <string.h>

#include "avx2.h"

#define CK_NAME(name) avx2_##name
#include "planes.inc"

/* Sums of eight pairs at a time, four lanes of doubles each. */
typedef struct {
    __m256d aa[2], bb[2], dd[2], max;
} sums;

static inline sums sums_zero(void) {
    __m256d zero = _mm256_setzero_pd();
    return (sums){{zero, zero}, {zero, zero}, {zero, zero}, zero};
}

static inline void sums_add4(sums *s, int half, __m256d u, __m256d v) {
    __m256d d = _mm256_sub_pd(v, u);
    s->aa[half] = _mm256_fmadd_pd(u, u, s->aa[half]);
    s->bb[half] = _mm256_fmadd_pd(v, v, s->bb[half]);
    s->dd[half] = _mm256_fmadd_pd(d, d, s->dd[half]);
    __m256d size = _mm256_andnot_pd(_mm256_set1_pd(-0.0), d);
    s->max = _mm256_max_pd(s->max, size);
}

static inline void sums_add8(sums *s, __m256 u, __m256 v) {
    sums_add4(s, 0, _mm256_cvtps_pd(_mm256_castps256_ps128(u)), _mm256_cvtps_pd(_mm256_castps256_ps128(v)));
    sums_add4(s, 1, _mm256_cvtps_pd(_mm256_extractf128_ps(u, 1)), _mm256_cvtps_pd(_mm256_extractf128_ps(v, 1)));
}

static inline double lanes_sum(__m256d x, __m256d y) {
    double lanes[4];
    _mm256_storeu_pd(lanes, _mm256_add_pd(x, y));
    return (lanes[0] + lanes[1]) + (lanes[2] + lanes[3]);
}

static inline void sums_finish(const sums *s, ck_comparison *out) {
    out->sum_aa += lanes_sum(s->aa[0], s->aa[1]);
    out->sum_bb += lanes_sum(s->bb[0], s->bb[1]);
    out->sum_dd += lanes_sum(s->dd[0], s->dd[1]);
    double lanes[4];
    _mm256_storeu_pd(lanes, s->max);
    for (int i = 0; i < 4; i++) {
        if (lanes[i] > out->max_abs) out->max_abs = lanes[i];
    }
}

static inline unsigned count16(__m256i mask) { return (unsigned)__builtin_popcount((unsigned)_mm256_movemask_epi8(mask)) / 2; }
static inline unsigned count32(__m256i mask) { return (unsigned)__builtin_popcount((unsigned)_mm256_movemask_ps(_mm256_castsi256_ps(mask))); }

/* Sixteen pairs of 16-bit floats. False, with nothing counted, when one of them is not finite. */
static inline int counts16(__m256i x, __m256i y, __m256i exponent, ck_comparison *out) {
    __m256i bad = _mm256_or_si256(
        _mm256_cmpeq_epi16(_mm256_and_si256(x, exponent), exponent),
        _mm256_cmpeq_epi16(_mm256_and_si256(y, exponent), exponent));
    if (!_mm256_testz_si256(bad, bad)) return 0;
    __m256i zero = _mm256_setzero_si256(), sizes = _mm256_set1_epi16(0x7FFF);
    __m256i differ = _mm256_xor_si256(x, y);
    out->changed += 16 - count16(_mm256_cmpeq_epi16(differ, zero));
    /* Sign bits that differ, where neither word is a zero of either sign. */
    __m256i flipped = _mm256_srai_epi16(differ, 15);
    __m256i is_zero = _mm256_or_si256(
        _mm256_cmpeq_epi16(_mm256_and_si256(x, sizes), zero), _mm256_cmpeq_epi16(_mm256_and_si256(y, sizes), zero));
    out->sign_flips += count16(_mm256_andnot_si256(is_zero, flipped));
    return 1;
}

static inline __m256 bf16_low(__m256i x) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm256_castsi256_si128(x)), 16));
}

static inline __m256 bf16_high(__m256i x) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm256_extracti128_si256(x, 1)), 16));
}

static void compare_bf16(const void *a, const void *b, size_t words, ck_comparison *out) {
    const uint8_t *left = a, *right = b;
    const __m256i exponent = _mm256_set1_epi16(0x7F80);
    sums s = sums_zero();
    size_t i = 0;
    for (; i + 16 <= words; i += 16) {
        __m256i x = _mm256_loadu_si256((const __m256i *)(left + 2 * i));
        __m256i y = _mm256_loadu_si256((const __m256i *)(right + 2 * i));
        if (!counts16(x, y, exponent, out)) {
            ck_portable_kernels()->compare_bf16(left + 2 * i, right + 2 * i, 16, out);
            continue;
        }
        sums_add8(&s, bf16_low(x), bf16_low(y));
        sums_add8(&s, bf16_high(x), bf16_high(y));
    }
    sums_finish(&s, out);
    ck_portable_kernels()->compare_bf16(left + 2 * i, right + 2 * i, words - i, out);
}

static void compare_f16(const void *a, const void *b, size_t words, ck_comparison *out) {
    const uint8_t *left = a, *right = b;
    const __m256i exponent = _mm256_set1_epi16(0x7C00);
    sums s = sums_zero();
    size_t i = 0;
    for (; i + 16 <= words; i += 16) {
        __m256i x = _mm256_loadu_si256((const __m256i *)(left + 2 * i));
        __m256i y = _mm256_loadu_si256((const __m256i *)(right + 2 * i));
        if (!counts16(x, y, exponent, out)) {
            ck_portable_kernels()->compare_f16(left + 2 * i, right + 2 * i, 16, out);
            continue;
        }
        sums_add8(&s, _mm256_cvtph_ps(_mm256_castsi256_si128(x)), _mm256_cvtph_ps(_mm256_castsi256_si128(y)));
        sums_add8(&s, _mm256_cvtph_ps(_mm256_extracti128_si256(x, 1)), _mm256_cvtph_ps(_mm256_extracti128_si256(y, 1)));
    }
    sums_finish(&s, out);
    ck_portable_kernels()->compare_f16(left + 2 * i, right + 2 * i, words - i, out);
}

static void compare_f32(const void *a, const void *b, size_t words, ck_comparison *out) {
    const uint8_t *left = a, *right = b;
    const __m256i exponent = _mm256_set1_epi32(0x7F800000), sizes = _mm256_set1_epi32(0x7FFFFFFF);
    const __m256i zero = _mm256_setzero_si256();
    sums s = sums_zero();
    size_t i = 0;
    for (; i + 8 <= words; i += 8) {
        __m256i x = _mm256_loadu_si256((const __m256i *)(left + 4 * i));
        __m256i y = _mm256_loadu_si256((const __m256i *)(right + 4 * i));
        __m256i bad = _mm256_or_si256(
            _mm256_cmpeq_epi32(_mm256_and_si256(x, exponent), exponent),
            _mm256_cmpeq_epi32(_mm256_and_si256(y, exponent), exponent));
        if (!_mm256_testz_si256(bad, bad)) {
            ck_portable_kernels()->compare_f32(left + 4 * i, right + 4 * i, 8, out);
            continue;
        }
        __m256i differ = _mm256_xor_si256(x, y);
        out->changed += 8 - count32(_mm256_cmpeq_epi32(differ, zero));
        __m256i is_zero = _mm256_or_si256(
            _mm256_cmpeq_epi32(_mm256_and_si256(x, sizes), zero), _mm256_cmpeq_epi32(_mm256_and_si256(y, sizes), zero));
        out->sign_flips += count32(_mm256_andnot_si256(is_zero, differ));
        sums_add8(&s, _mm256_castsi256_ps(x), _mm256_castsi256_ps(y));
    }
    sums_finish(&s, out);
    ck_portable_kernels()->compare_f32(left + 4 * i, right + 4 * i, words - i, out);
}

static void compare_f64(const void *a, const void *b, size_t words, ck_comparison *out) {
    const uint8_t *left = a, *right = b;
    const __m256i exponent = _mm256_set1_epi64x(0x7FF0000000000000), zero = _mm256_setzero_si256();
    sums s = sums_zero();
    size_t i = 0;
    for (; i + 4 <= words; i += 4) {
        __m256i x = _mm256_loadu_si256((const __m256i *)(left + 8 * i));
        __m256i y = _mm256_loadu_si256((const __m256i *)(right + 8 * i));
        __m256i bad = _mm256_or_si256(
            _mm256_cmpeq_epi64(_mm256_and_si256(x, exponent), exponent),
            _mm256_cmpeq_epi64(_mm256_and_si256(y, exponent), exponent));
        if (!_mm256_testz_si256(bad, bad)) {
            ck_portable_kernels()->compare_f64(left + 8 * i, right + 8 * i, 4, out);
            continue;
        }
        __m256i differ = _mm256_xor_si256(x, y);
        __m256d u = _mm256_castsi256_pd(x), v = _mm256_castsi256_pd(y), none = _mm256_setzero_pd();
        unsigned same = (unsigned)_mm256_movemask_pd(_mm256_castsi256_pd(_mm256_cmpeq_epi64(differ, zero)));
        __m256d is_zero = _mm256_or_pd(_mm256_cmp_pd(u, none, _CMP_EQ_OQ), _mm256_cmp_pd(v, none, _CMP_EQ_OQ));
        unsigned flipped = (unsigned)_mm256_movemask_pd(_mm256_andnot_pd(is_zero, _mm256_castsi256_pd(differ)));
        out->changed += 4 - (unsigned)__builtin_popcount(same);
        out->sign_flips += (unsigned)__builtin_popcount(flipped);
        sums_add4(&s, (int)(i >> 2 & 1), u, v);
    }
    sums_finish(&s, out);
    ck_portable_kernels()->compare_f64(left + 8 * i, right + 8 * i, words - i, out);
}

const ck_kernels *ck_avx2_kernels(void) {
    static const ck_kernels kernels = {
        .name = "avx2",
        .split_planes = avx2_split_planes,
        .join_planes = avx2_join_planes,
        .compare_bf16 = compare_bf16,
        .compare_f16 = compare_f16,
        .compare_f32 = compare_f32,
        .compare_f64 = compare_f64,
    };
    return &kernels;
}

#pragma clang attribute pop
#endif
