#ifndef CK_DIFF_KERNELS_H
#define CK_DIFF_KERNELS_H

#include <stddef.h>
#include <stdint.h>

/* Sums over pairs of words (a, b) of one dtype, with d = b - a. Counts are exact. The portable kernels work in double
   precision; the others may take differences and add up to 512 words in single precision first, where its range allows,
   for a relative error under 1e-6 (sum_ab: of the sum of magnitudes; max_abs: 2^-24).
   A pair in which either word is NaN or infinite counts in `nonfinite` and enters no sum and no maximum. */
typedef struct ck_comparison {
    uint64_t changed;    /* words whose bits differ */
    uint64_t sign_flips; /* both finite and non-zero, of opposite sign */
    uint64_t nonfinite;
    double sum_aa;       /* sum of a * a */
    double sum_bb;       /* sum of b * b */
    double sum_ab;       /* sum of a * b */
    double sum_dd;       /* sum of d * d */
    double max_abs;      /* largest |d| */
} ck_comparison;

/* Adds `words` pairs to *out. */
typedef void ck_compare_fn(const void *a, const void *b, size_t words, ck_comparison *out);

#endif
