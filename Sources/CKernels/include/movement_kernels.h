#ifndef CK_MOVEMENT_KERNELS_H
#define CK_MOVEMENT_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#include "diff_kernels.h"

/* Distances in units in the last place: 0, 1, 2 to 3, 4 to 7, ... */
enum { ck_ulp_classes = 65 };

/* What diff_kernels.h counts and adds up, all in double precision, and how many representable numbers lie between the words of a pair:
   words are put in the order of the numbers they stand for, both zeros at the same place. Pairs that are not finite are in neither. */
typedef struct ck_movement {
    ck_comparison sums;
    double ulps;                         /* sum of the distances */
    uint64_t ulp_counts[ck_ulp_classes]; /* pairs at a distance of 0, and of 2^(k-1) to 2^k - 1 */
} ck_movement;

/* Adds `words` pairs of a matrix to *out: rows of `row_words` words, of which the first is in column `first_column`. The squares of d
   are added to rows[0], rows[1], ... by row, and, where `columns` is not null, to its `row_words` entries by column. */
typedef void ck_move_fn(
    const void *a, const void *b, size_t words, size_t row_words, size_t first_column, ck_movement *out, double *rows, double *columns);

/* Sums over words of four versions of one run of words, the first, the one before the last, the last and the one now: of d = now - last,
   e = last - before, and f = now - first. A sum leaves out words that are not finite in one of the versions that it is about. */
typedef struct ck_trace {
    uint64_t changed;   /* words of which now and last differ in bits */
    uint64_t nonfinite; /* of which now or last is not finite */
    double sum_dd, sum_de, sum_ff;
} ck_trace;

/* Adds `words` words to *out. */
typedef void ck_trace_fn(const void *first, const void *before, const void *last, const void *now, size_t words, ck_trace *out);

/* d[i] = (b[i] - a[i]) * scale, rounded once; 0 where one of the two is not finite. */
typedef void ck_difference_fn(const void *a, const void *b, size_t words, double scale, float *d);

typedef struct ck_movement_kernels {
    const char *name;
    ck_move_fn *bf16;
    ck_move_fn *f16;
    ck_move_fn *f32;
    ck_move_fn *f64;
    ck_trace_fn *trace_bf16;
    ck_trace_fn *trace_f16;
    ck_trace_fn *trace_f32;
    ck_trace_fn *trace_f64;
    ck_difference_fn *difference_bf16;
    ck_difference_fn *difference_f16;
    ck_difference_fn *difference_f32;
    ck_difference_fn *difference_f64;
} ck_movement_kernels;

/* The same for words of one byte, by a table of their values (those that are not finite: NaN) and of their places in the order of values. */
void ck_move_bytes(
    const void *a, const void *b, size_t words, size_t row_words, size_t first_column, const double *values, const int16_t *places,
    ck_movement *out, double *rows, double *columns);

/* Sums over words of one byte, by a table of their values. */
void ck_trace_bytes(
    const void *first, const void *before, const void *last, const void *now, size_t words, const double *values, ck_trace *out);

const ck_movement_kernels *ck_portable_movement_kernels(void);
/* Null where the processor does not run them. */
const ck_movement_kernels *ck_avx2_movement_kernels(void);
const ck_movement_kernels *ck_avx512_movement_kernels(void);
const ck_movement_kernels *ck_active_movement_kernels(void);

#endif
