#ifndef CK_GRAM_KERNELS_H
#define CK_GRAM_KERNELS_H

#include <stddef.h>

/* Columns of the block of vectors, and rows of a panel. */
enum { ck_gram_width = 8, ck_gram_rows = 8 };

/* A matrix d in panels: ck_gram_rows rows each, column by column, the last filled up with rows of zeros. */
typedef struct ck_gram_kernels {
    const char *name;
    /* Puts rows (rows, columns), ck_gram_rows at most, into a panel. */
    void (*pack)(const float *rows_of_d, size_t rows, size_t columns, float *panel);
    /* z += d^T (d v) for v and z (columns, ck_gram_width), in double precision: one step of a power or Lanczos method for the singular
       values of d, with one look at d. `room` has ck_gram_rows x columns doubles. */
    void (*multiply)(const float *panels, size_t count, size_t columns, const double *v, double *z, double *room);
    /* h = k^T w for k and w (rows, ck_gram_width), h (ck_gram_width, ck_gram_width). */
    void (*inner)(const double *k, const double *w, size_t rows, double *h);
    /* w = scale w + k h; k may be w itself when the scale is 0. */
    void (*combine)(const double *k, const double *h, size_t rows, double scale, double *w);
} ck_gram_kernels;

const ck_gram_kernels *ck_portable_gram_kernels(void);
/* Null where the processor does not run them. */
const ck_gram_kernels *ck_avx2_gram_kernels(void);
const ck_gram_kernels *ck_avx512_gram_kernels(void);
const ck_gram_kernels *ck_active_gram_kernels(void);

#endif
