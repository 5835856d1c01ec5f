#ifndef CK_PRODUCT_KERNELS_H
#define CK_PRODUCT_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#include "forward_kernels.h"

/* Dense products in single precision, C = A B, by the scheme of Goto and van de Geijn (2008): B is packed into strips of
   columns that lie as they are read, A is taken a few rows at a time, and the sums stay in registers.

   Why not BLAS: B may have 16-bit words, which are widened while they are packed; what is packed once serves many
   products (the keys and values of attention); and a library's choice of kernels for a processor it does not know is
   not left to chance.

   A panel of n columns and k rows is ceil(n / strip) strips one behind the other, each (k, strip), row-major:
   `strip * k` floats, of which those past the nth column are read and of no account. */
typedef struct ck_product_kernels {
    /* Columns of a strip. */
    size_t strip;

    /* Columns first ..< first + rows of a panel of k rows are the rows of `from`, (rows, k), `row_bytes` apart. Words of
       16 bits are widened by `widen`; NULL: they are floats. Reads each byte once; needs no alignment. */
    void (*pack_rows)(
        const void *from, size_t row_bytes, ck_widen_fn *widen, size_t rows, size_t k, size_t first, float *panel);

    /* Rows first ..< first + rows of a panel of k rows are the rows of `from`, (rows, n). */
    void (*pack_columns)(
        const void *from, size_t row_bytes, ck_widen_fn *widen, size_t rows, size_t n, size_t first, size_t k, float *panel);

    /* c (m, n) = a (m, k) panel, or += it. Strides count floats: from row to row of a and c, and from strip to strip of
       the panel. c overlaps neither. Sums over blocks of up to 384 of k, each in order. k = 0 gives zeros. */
    void (*multiply)(
        const float *a, size_t a_stride, size_t m, const float *panel, size_t strip_stride, size_t n, size_t k, float *c,
        size_t c_stride, int adding);

    /* The same with A given the other way round: a is (k, m), and c (m, n) = a^T panel. */
    void (*multiply_transposed)(
        const float *a, size_t a_stride, size_t m, const float *panel, size_t strip_stride, size_t n, size_t k, float *c,
        size_t c_stride, int adding);

    /* c (m, n) = a (m, k) from^T, or += it, `from` (n, k) read where it lies: for few rows of a, where packing would cost more
       than the product. Bit for bit what `pack_rows` and `multiply` give. */
    void (*multiply_rows)(
        const float *a, size_t a_stride, size_t m, const void *from, size_t row_bytes, ck_widen_fn *widen, size_t n, size_t k,
        float *c, size_t c_stride, int adding);

    /* sums (m, n) += a (m, rows) from (rows, n), `from` read where it lies, its rows in order. From zeros, over a block of up
       to 384 rows, bit for bit what `pack_columns` and `multiply` give. */
    void (*accumulate_columns)(
        const float *a, size_t a_stride, size_t m, const void *from, size_t row_bytes, ck_widen_fn *widen, size_t rows,
        size_t n, float *sums, size_t sums_stride);
} ck_product_kernels;

const ck_product_kernels *ck_portable_product_kernels(void);
/* NULL where this processor does not run them. */
const ck_product_kernels *ck_avx2_product_kernels(void);
const ck_product_kernels *ck_avx512_product_kernels(void);
/* The fastest this processor runs. */
const ck_product_kernels *ck_active_product_kernels(void);

#endif
