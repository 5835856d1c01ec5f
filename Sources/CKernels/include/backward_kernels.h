#ifndef CK_BACKWARD_KERNELS_H
#define CK_BACKWARD_KERNELS_H

#include <stddef.h>

/* What a backward pass and an optimizer do beside dense products. Matrices are row-major; `stride` counts floats from row to
   row. A gradient "of x" is that of the loss by x, and is written dx. */

/* Of ck_rms_norm: dx[r] (rows, n), added to what is there with `adding`; gain_gradient (n) += the sum over the rows. dy may be
   dx. */
typedef void ck_rms_norm_backward_fn(
    const float *x, size_t stride, const float *gain, const float *dy, size_t dy_stride, size_t rows, size_t n, float epsilon,
    float *dx, size_t dx_stride, int adding, float *gain_gradient);

/* Of ck_layer_norm: the same, and bias_gradient (n) += the sum over the rows. */
typedef void ck_layer_norm_backward_fn(
    const float *x, size_t stride, const float *gain, const float *dy, size_t dy_stride, size_t rows, size_t n, float epsilon,
    float *dx, size_t dx_stride, int adding, float *gain_gradient, float *bias_gradient);

/* Turns back what ck_rotate turned: by the negative of the angle. The gradient of a turn is the turn back. Both parts are scaled
   as the table's cosines and sines are. */
typedef void ck_rotate_back_fn(
    float *row, size_t heads, size_t head_stride, size_t half, const float *cosines, const float *sines);

/* With inner = activation(gate) * up: takes gate, up and d inner; leaves d gate, d up and inner in their places. Without `up`
   (NULL): inner = activation(gate). */
typedef void ck_activate_backward_fn(float *gate, float *up, float *d_inner, size_t count);

/* Of ck_softmax: dp = scale * p * (dp - sum(p dp)) for row[first ..< end], zeros elsewhere in row[0 ..< count]. */
typedef void ck_softmax_backward_fn(const float *p, float *dp, size_t first, size_t end, size_t count, float scale);

/* z = factor * exp(z - log_sum) - shift: the gradient of cross-entropy by logits, but for the target's own term. */
typedef void ck_probability_gradient_fn(float *z, size_t count, float log_sum, float factor, float shift);

/* x = share x + other y */
typedef void ck_mix_fn(float *x, const float *y, size_t count, float share, float other);

/* out[i] += the sum of column i of x (rows, n). */
typedef void ck_add_rows_fn(const float *x, size_t stride, size_t rows, size_t n, float *out);

/* Sum of squares, in double over pieces of 512. */
typedef double ck_square_sum_fn(const float *x, size_t count);

/* A step of AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101), as torch.optim.AdamW takes it. */
typedef struct ck_adamw {
    float clip;         /* gradients are taken times this */
    float rate;         /* learning rate over 1 - beta1^t */
    float keep;         /* 1 - learning rate * decay */
    float beta1, beta2;
    float root;         /* 1 / sqrt(1 - beta2^t) */
    float epsilon;
} ck_adamw;

/* Weights, first and second moments go one step; the gradient is set to zero for the next sum. */
typedef void ck_adamw_fn(float *weight, float *gradient, float *first, float *second, size_t count, const ck_adamw *step);

typedef struct ck_backward_kernels {
    ck_rms_norm_backward_fn *rms_norm;
    ck_layer_norm_backward_fn *layer_norm;
    ck_rotate_back_fn *rotate_back;
    ck_activate_backward_fn *silu;
    ck_activate_backward_fn *gelu;
    ck_activate_backward_fn *gelu_tanh;
    ck_activate_backward_fn *relu;
    ck_softmax_backward_fn *softmax;
    ck_probability_gradient_fn *probability_gradient;
    ck_mix_fn *mix;
    ck_add_rows_fn *add_rows;
    ck_square_sum_fn *square_sum;
    ck_adamw_fn *adamw;
} ck_backward_kernels;

const ck_backward_kernels *ck_portable_backward_kernels(void);
/* NULL where this processor does not run them. */
const ck_backward_kernels *ck_avx2_backward_kernels(void);
const ck_backward_kernels *ck_avx512_backward_kernels(void);
/* The fastest this processor runs. */
const ck_backward_kernels *ck_active_backward_kernels(void);

#endif
