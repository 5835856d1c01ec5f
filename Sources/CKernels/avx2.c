/* Kernels for x86-64 with AVX2, FMA and F16C. Compiled into every x86-64 build; run only where the processor
   has them. */
#if defined(__x86_64__)

#pragma clang attribute push(__attribute__((target("avx2,fma,f16c,bmi,bmi2"))), apply_to = function)

#include <immintrin.h>
#include <string.h>

#include "avx2.h"
#include "delta_bits.h"
#include "rans.h"

#define CK_NAME(name) avx2_##name
#include "planes.inc"

/* A shuffle for each half of the 32 classes. */
static void avx2_look_up_classes(const uint8_t *classes, uint8_t *keys, size_t words) {
    __m256i low = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)classes));
    __m256i high = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(classes + 16)));
    size_t i = 0;
    for (; i + 32 <= words; i += 32) {
        __m256i key = _mm256_loadu_si256((const __m256i *)(keys + i));
        __m256i found = _mm256_blendv_epi8(
            _mm256_shuffle_epi8(low, key), _mm256_shuffle_epi8(high, _mm256_and_si256(key, _mm256_set1_epi8(15))),
            _mm256_cmpgt_epi8(key, _mm256_set1_epi8(15)));
        _mm256_storeu_si256((__m256i *)(keys + i), found);
    }
    for (; i < words; i++) keys[i] = classes[keys[i]];
}

/* In one pass, what the portable form does in three. */
static int avx2_all_contexts16(
    const ck_delta_layout *layout, const uint8_t *classes, const uint8_t *base, const uint8_t *previous, size_t words,
    uint8_t *contexts) {
    __m256i low = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)classes));
    __m256i high = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(classes + 16)));
    __m256i mask = _mm256_set1_epi16((short)((1 << layout->exponent_bits) - 1));
    __m256i top = _mm256_set1_epi16((short)layout->top), most = _mm256_set1_epi8(31);
    __m128i shift = _mm_cvtsi32_si128(layout->exponent_low + layout->shift), whole = _mm_cvtsi32_si128(layout->shift);
    size_t i = 0;
    for (; i + 32 <= words; i += 32) {
        __m256i first = _mm256_loadu_si256((const __m256i *)(base + 2 * i));
        __m256i second = _mm256_loadu_si256((const __m256i *)(base + 2 * i + 32));
        __m256i under = _mm256_packus_epi16(
            _mm256_subs_epu16(top, _mm256_and_si256(_mm256_srl_epi16(first, shift), mask)),
            _mm256_subs_epu16(top, _mm256_and_si256(_mm256_srl_epi16(second, shift), mask)));
        __m256i key = _mm256_min_epu8(under, most);
        __m256i context = _mm256_blendv_epi8(
            _mm256_shuffle_epi8(low, key), _mm256_shuffle_epi8(high, _mm256_and_si256(key, _mm256_set1_epi8(15))),
            _mm256_cmpgt_epi8(key, _mm256_set1_epi8(15)));
        if (previous) {
            __m256i one = _mm256_loadu_si256((const __m256i *)(previous + 2 * i));
            __m256i two = _mm256_loadu_si256((const __m256i *)(previous + 2 * i + 32));
            __m256i same = _mm256_packs_epi16(
                _mm256_cmpeq_epi16(_mm256_srl_epi16(first, whole), _mm256_srl_epi16(one, whole)),
                _mm256_cmpeq_epi16(_mm256_srl_epi16(second, whole), _mm256_srl_epi16(two, whole)));
            /* 2 x class + 1, and -1 where nothing moved. */
            context = _mm256_add_epi8(_mm256_add_epi8(context, context), _mm256_add_epi8(same, _mm256_set1_epi8(1)));
        }
        _mm256_storeu_si256((__m256i *)(contexts + i), _mm256_permute4x64_epi64(context, 0xD8));
    }
    for (; i < words; i++) {
        uint16_t word, before = 0;
        memcpy(&word, base + 2 * i, 2);
        if (previous) memcpy(&before, previous + 2 * i, 2);
        int exponent = word >> (layout->exponent_low + layout->shift) & ((1 << layout->exponent_bits) - 1);
        int under = exponent > layout->top ? 0 : layout->top - exponent;
        uint8_t class = classes[under > 31 ? 31 : under];
        contexts[i] = previous ? (uint8_t)(class << 1 | (word >> layout->shift != before >> layout->shift)) : class;
    }
    return 1;
}

static inline uint64_t avx2_tokens_from(unsigned least, const uint8_t *tokens) {
    __m256i bound = _mm256_set1_epi8((char)least);
    __m256i low = _mm256_loadu_si256((const __m256i *)tokens), high = _mm256_loadu_si256((const __m256i *)(tokens + 32));
    unsigned first = (unsigned)_mm256_movemask_epi8(_mm256_cmpeq_epi8(_mm256_max_epu8(low, bound), low));
    unsigned second = (unsigned)_mm256_movemask_epi8(_mm256_cmpeq_epi8(_mm256_max_epu8(high, bound), high));
    return first | (uint64_t)second << 32;
}

#include "delta.inc"
#include "rans_portable.inc"
#include "rans_avx2.inc"

static inline double lanes_sum(__m256d x) {
    double lanes[4];
    _mm256_storeu_pd(lanes, x);
    return (lanes[0] + lanes[1]) + (lanes[2] + lanes[3]);
}

static inline unsigned lanes_sum32(__m256i x) {
    unsigned lanes[8], sum = 0;
    _mm256_storeu_si256((__m256i *)lanes, x);
    for (int i = 0; i < 8; i++) sum += lanes[i];
    return sum;
}

/* A chunk of pairs is summed in single precision, then added to double. At most `rounds` products meet in a lane, so
   the sum is right to rounds * 2^-24 < 1e-6 at the very worst. */
enum { rounds = 16 };

/* Two accumulators each, for the low and the high half of a vector of 16-bit words. */
typedef struct {
    __m256 aa[2], bb[2], ab[2], dd[2], max;
} chunk;

static inline void chunk_add(chunk *c, int half, __m256 u, __m256 v) {
    __m256 d = _mm256_sub_ps(v, u);
    c->aa[half] = _mm256_fmadd_ps(u, u, c->aa[half]);
    c->bb[half] = _mm256_fmadd_ps(v, v, c->bb[half]);
    c->ab[half] = _mm256_fmadd_ps(u, v, c->ab[half]);
    c->dd[half] = _mm256_fmadd_ps(d, d, c->dd[half]);
    c->max = _mm256_max_ps(c->max, _mm256_andnot_ps(_mm256_set1_ps(-0.0f), d));
}

static inline double chunk_sum(const __m256 halves[2]) {
    __m256d low = _mm256_add_pd(
        _mm256_cvtps_pd(_mm256_castps256_ps128(halves[0])), _mm256_cvtps_pd(_mm256_extractf128_ps(halves[0], 1)));
    __m256d high = _mm256_add_pd(
        _mm256_cvtps_pd(_mm256_castps256_ps128(halves[1])), _mm256_cvtps_pd(_mm256_extractf128_ps(halves[1], 1)));
    return lanes_sum(_mm256_add_pd(low, high));
}

/* Whether single precision held a sum: neither overflowed (as it also does when a word is NaN or infinite) nor so
   small that squares were lost below the smallest float. */
static inline int is_held(double sum, int is_zero_fine) { return (sum >= 1e-30 && sum < 1e38) || (sum == 0 && is_zero_fine); }

/* Adds a chunk to *out; false, with nothing added, when it needs the portable kernel. A sum of zero is trusted only
   for unchanged words. */
static inline int chunk_finish(const chunk *c, unsigned changed, unsigned flips, ck_comparison *out) {
    double aa = chunk_sum(c->aa), bb = chunk_sum(c->bb), dd = chunk_sum(c->dd);
    if (!is_held(aa, 0) || !is_held(bb, 0) || !is_held(dd, changed == 0)) return 0;
    float lanes[8];
    _mm256_storeu_ps(lanes, c->max);
    for (int i = 0; i < 8; i++) {
        if (lanes[i] > out->max_abs) out->max_abs = lanes[i];
    }
    out->sum_aa += aa;
    out->sum_bb += bb;
    out->sum_ab += chunk_sum(c->ab);
    out->sum_dd += dd;
    out->changed += changed;
    out->sign_flips += flips;
    return 1;
}

/* Counts of 16-bit words, as sums of masks of ones: minus one a word. */
typedef struct {
    __m256i same, flips;
} counts16;

static inline void counts16_add(counts16 *c, __m256i x, __m256i y) {
    const __m256i zero = _mm256_setzero_si256(), sizes = _mm256_set1_epi16(0x7FFF);
    c->same = _mm256_add_epi16(c->same, _mm256_cmpeq_epi16(x, y));
    /* Sign bits that differ, where neither word is a zero of either sign. */
    __m256i is_zero = _mm256_or_si256(
        _mm256_cmpeq_epi16(_mm256_and_si256(x, sizes), zero), _mm256_cmpeq_epi16(_mm256_and_si256(y, sizes), zero));
    __m256i flipped = _mm256_srai_epi16(_mm256_xor_si256(x, y), 15);
    c->flips = _mm256_add_epi16(c->flips, _mm256_andnot_si256(is_zero, flipped));
}

static inline unsigned count_masks16(__m256i sums) {
    return lanes_sum32(_mm256_madd_epi16(sums, _mm256_set1_epi16(-1)));
}

static inline __m256 bf16_values(const uint8_t *words) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)words)), 16));
}

static inline __m256 f16_values(const uint8_t *words) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)words)); }

/* The kernels of the two 16-bit floats differ in how words become values. */
#define CK_COMPARE16(name, values, portable)                                                                     \
    static void name(const void *a, const void *b, size_t words, ck_comparison *out) {                           \
        const uint8_t *left = a, *right = b;                                                                     \
        const size_t step = 16 * rounds;                                                                         \
        size_t i = 0;                                                                                            \
        for (; i + step <= words; i += step) {                                                                   \
            const uint8_t *l = left + 2 * i, *r = right + 2 * i;                                                 \
            chunk sums = {0};                                                                                    \
            counts16 counts = {0};                                                                               \
            for (int round = 0; round < rounds; round++, l += 32, r += 32) {                                     \
                counts16_add(                                                                                    \
                    &counts, _mm256_loadu_si256((const __m256i *)l), _mm256_loadu_si256((const __m256i *)r));    \
                chunk_add(&sums, 0, values(l), values(r));                                                       \
                chunk_add(&sums, 1, values(l + 16), values(r + 16));                                             \
            }                                                                                                    \
            unsigned changed = (unsigned)step - count_masks16(counts.same);                                      \
            if (!chunk_finish(&sums, changed, count_masks16(counts.flips), out))                                 \
                ck_portable_kernels()->portable(left + 2 * i, right + 2 * i, step, out);                         \
        }                                                                                                        \
        ck_portable_kernels()->portable(left + 2 * i, right + 2 * i, words - i, out);                            \
    }

CK_COMPARE16(compare_bf16, bf16_values, compare_bf16)
CK_COMPARE16(compare_f16, f16_values, compare_f16)

static void compare_f32(const void *a, const void *b, size_t words, ck_comparison *out) {
    const uint8_t *left = a, *right = b;
    const __m256i zero = _mm256_setzero_si256(), sizes = _mm256_set1_epi32(0x7FFFFFFF);
    const size_t step = 16 * rounds;
    size_t i = 0;
    for (; i + step <= words; i += step) {
        const uint8_t *l = left + 4 * i, *r = right + 4 * i;
        chunk sums = {0};
        __m256i same = zero, flips = zero;
        for (int round = 0; round < 2 * rounds; round++, l += 32, r += 32) {
            __m256i x = _mm256_loadu_si256((const __m256i *)l), y = _mm256_loadu_si256((const __m256i *)r);
            same = _mm256_add_epi32(same, _mm256_cmpeq_epi32(x, y));
            __m256i is_zero = _mm256_or_si256(
                _mm256_cmpeq_epi32(_mm256_and_si256(x, sizes), zero), _mm256_cmpeq_epi32(_mm256_and_si256(y, sizes), zero));
            flips = _mm256_add_epi32(flips, _mm256_andnot_si256(is_zero, _mm256_srai_epi32(_mm256_xor_si256(x, y), 31)));
            chunk_add(&sums, round & 1, _mm256_castsi256_ps(x), _mm256_castsi256_ps(y));
        }
        /* The lanes hold minus the counts. */
        unsigned changed = (unsigned)step + lanes_sum32(same);
        if (!chunk_finish(&sums, changed, 0u - lanes_sum32(flips), out))
            ck_portable_kernels()->compare_f32(left + 4 * i, right + 4 * i, step, out);
    }
    ck_portable_kernels()->compare_f32(left + 4 * i, right + 4 * i, words - i, out);
}

static void compare_f64(const void *a, const void *b, size_t words, ck_comparison *out) {
    const uint8_t *left = a, *right = b;
    const __m256i exponent = _mm256_set1_epi64x(0x7FF0000000000000);
    const __m256d none = _mm256_setzero_pd();
    __m256d aa = none, bb = none, ab = none, dd = none, max = none;
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
        __m256d u = _mm256_castsi256_pd(x), v = _mm256_castsi256_pd(y), d = _mm256_sub_pd(v, u);
        aa = _mm256_fmadd_pd(u, u, aa);
        bb = _mm256_fmadd_pd(v, v, bb);
        ab = _mm256_fmadd_pd(u, v, ab);
        dd = _mm256_fmadd_pd(d, d, dd);
        max = _mm256_max_pd(max, _mm256_andnot_pd(_mm256_set1_pd(-0.0), d));
        unsigned same = (unsigned)_mm256_movemask_pd(_mm256_castsi256_pd(_mm256_cmpeq_epi64(x, y)));
        __m256d is_zero = _mm256_or_pd(_mm256_cmp_pd(u, none, _CMP_EQ_OQ), _mm256_cmp_pd(v, none, _CMP_EQ_OQ));
        unsigned flipped = (unsigned)_mm256_movemask_pd(_mm256_andnot_pd(is_zero, _mm256_xor_pd(u, v)));
        out->changed += 4 - (unsigned)__builtin_popcount(same);
        out->sign_flips += (unsigned)__builtin_popcount(flipped);
    }
    out->sum_aa += lanes_sum(aa);
    out->sum_bb += lanes_sum(bb);
    out->sum_ab += lanes_sum(ab);
    out->sum_dd += lanes_sum(dd);
    double lanes[4];
    _mm256_storeu_pd(lanes, max);
    for (int lane = 0; lane < 4; lane++) {
        if (lanes[lane] > out->max_abs) out->max_abs = lanes[lane];
    }
    ck_portable_kernels()->compare_f64(left + 8 * i, right + 8 * i, words - i, out);
}

const ck_kernels *ck_avx2_kernels(void) {
    make_rans_orders();
    static const ck_kernels kernels = {
        .name = "avx2",
        .split_planes = avx2_split_planes,
        .join_planes = avx2_join_planes,
        .compare_bf16 = compare_bf16,
        .compare_f16 = compare_f16,
        .compare_f32 = compare_f32,
        .compare_f64 = compare_f64,
        .delta_top = avx2_delta_top,
        .delta_model = avx2_delta_model,
        .delta_contexts = avx2_delta_contexts,
        .delta_restore = avx2_delta_restore,
        .delta_put_extra = avx2_delta_put_extra,
        .delta_take_extra = avx2_delta_take_extra,
        .rans_encode = rans_encode,
        .rans_decode = rans_decode,
    };
    return &kernels;
}

#pragma clang attribute pop
#endif
