#ifndef CK_FORWARD_KERNELS_H
#define CK_FORWARD_KERNELS_H

#include <stddef.h>
#include <stdint.h>

/* What a forward pass does beside dense products. Matrices are row-major; `stride` counts floats from row to row.
   exp is good to 2 ulp, sums are single precision over the lanes of a vector, or double where it says so. */

/* Words of 16 bits to floats, exactly. */
typedef void ck_widen_fn(const void *words, size_t count, float *out);

/* out[r] = x[r] / sqrt(mean(x[r]^2) + epsilon) * gain; (rows, n). out may be x. */
typedef void ck_rms_norm_fn(
    const float *x, size_t stride, const float *gain, size_t rows, size_t n, float epsilon, float *out,
    size_t out_stride);

/* out[r] = (x[r] - mean) / sqrt(variance + epsilon) * gain + bias; (rows, n). */
typedef void ck_layer_norm_fn(
    const float *x, size_t stride, const float *gain, const float *bias, size_t rows, size_t n, float epsilon, float *out,
    size_t out_stride);

/* Turns pairs (x[i], x[i + half]) by the angle whose cosine and sine are given, in `heads` heads `head_stride` apart. */
typedef void ck_rotate_fn(
    float *row, size_t heads, size_t head_stride, size_t half, const float *cosines, const float *sines);

/* gate[i] = activation(gate[i]) * up[i], or without `up` (NULL) activation(gate[i]). */
typedef void ck_activate_fn(float *gate, const float *up, size_t count);

/* x[i] = cap * tanh(x[i] / cap) */
typedef void ck_soft_cap_fn(float *x, size_t count, float cap);

/* Softmax of scale * row[first ..< end]; zeros elsewhere in row[0 ..< count]. A scale is positive. */
typedef void ck_softmax_fn(float *row, size_t first, size_t end, size_t count, float scale);

/* x[i] += y[i] */
typedef void ck_add_fn(float *x, const float *y, size_t count);

/* What is known of one distribution after some of its logits: with m the largest so far. */
typedef struct ck_distribution {
    float largest;     /* m; start at -INFINITY */
    int32_t top;       /* where it is: the first of equals */
    double sum;        /* sum of exp(z - m) */
    double weighted;   /* sum of (z - m) exp(z - m) */
} ck_distribution;

/* Takes in `count` more logits, which stand for tokens `first` on. */
typedef void ck_observe_fn(const float *logits, size_t count, int32_t first, ck_distribution *state);

/* What is known of two distributions against each other. The logits of one token are a (strong) and b (weak). */
typedef struct ck_pair {
    double strong_difference; /* sum of exp(a - ma) (a - b) */
    double weak_difference;   /* sum of exp(b - mb) (b - a) */
    float largest_mix;        /* largest of lambda a + (1 - lambda) b */
    double mix;               /* sum of exp of that less the largest */
    uint64_t hard_negatives;  /* tokens k with b[y] - b[k] < a[y] - a[k]; y itself never counts */
} ck_pair;

/* Takes in `count` more pairs. The largest logits ma and mb are those of all tokens up to these (`strong` and `weak`
   already observed them); `strong_before` and `weak_before` those before. */
typedef void ck_observe_pair_fn(
    const float *a, const float *b, size_t count, const ck_distribution *strong, const ck_distribution *weak,
    float strong_before, float weak_before, float lambda, float target_difference, ck_pair *state);

typedef struct ck_forward_kernels {
    ck_widen_fn *widen_bf16;
    ck_widen_fn *widen_f16;
    ck_rms_norm_fn *rms_norm;
    ck_layer_norm_fn *layer_norm;
    ck_rotate_fn *rotate;
    ck_activate_fn *silu;
    ck_activate_fn *gelu;      /* x/2 (1 + erf(x / sqrt 2)) */
    ck_activate_fn *gelu_tanh; /* x/2 (1 + tanh(sqrt(2/pi) (x + .044715 x^3))) */
    ck_activate_fn *relu;
    ck_soft_cap_fn *soft_cap;
    ck_softmax_fn *softmax;
    ck_add_fn *add;
    ck_observe_fn *observe;
    ck_observe_pair_fn *observe_pair;
} ck_forward_kernels;

const ck_forward_kernels *ck_portable_forward_kernels(void);
/* NULL where this processor does not run them. */
const ck_forward_kernels *ck_avx2_forward_kernels(void);
const ck_forward_kernels *ck_avx512_forward_kernels(void);
/* The fastest this processor runs. */
const ck_forward_kernels *ck_active_forward_kernels(void);

#endif
