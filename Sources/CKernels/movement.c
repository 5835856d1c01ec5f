/* The kernels that tell all of how words moved. */
#include <string.h>

#include "ckernels.h"

#define CK_QUOTE(name) #name
#define CK_TEXT(name) CK_QUOTE(name)

/* Words whose distances are counted together. */
enum { ck_movement_tile = 2048 };

#define CK_SOURCE "movement.inc"
#define CK_PORTABLE_LANES 4
#include "each_instruction_set.inc"

CK_CHOOSE(movement)

void ck_move_bytes(
    const void *a, const void *b, size_t words, size_t row_words, size_t first_column, const double *values, const int16_t *places,
    ck_movement *out, double *rows, double *columns) {
    const uint8_t *left = a, *right = b;
    ck_movement sums = *out;
    size_t column = first_column;
    for (size_t i = 0; i < words; i++) {
        uint8_t x = left[i], y = right[i];
        double u = values[x], v = values[y], d = v - u;
        sums.sums.changed += x != y;
        if (d != d) {
            sums.sums.nonfinite++;
        } else {
            sums.sums.sum_aa += u * u;
            sums.sums.sum_bb += v * v;
            sums.sums.sum_ab += u * v;
            sums.sums.sum_dd += d * d;
            double size = d < 0 ? -d : d;
            if (size > sums.sums.max_abs) sums.sums.max_abs = size;
            sums.sums.sign_flips += u * v < 0;
            unsigned distance = (unsigned)(places[y] < places[x] ? places[x] - places[y] : places[y] - places[x]);
            sums.ulps += distance;
            sums.ulp_counts[distance ? 32 - __builtin_clz(distance) : 0]++;
            *rows += d * d;
            if (columns) columns[column] += d * d;
        }
        if (++column == row_words) {
            column = 0;
            rows++;
        }
    }
    *out = sums;
}

void ck_trace_bytes(
    const void *first, const void *before, const void *last, const void *now, size_t words, const double *values, ck_trace *out) {
    const uint8_t *a = first, *b = before, *c = last, *d = now;
    for (size_t i = 0; i < words; i++) {
        double u = values[d[i]] - values[c[i]], v = values[c[i]] - values[b[i]], w = values[d[i]] - values[a[i]];
        out->changed += d[i] != c[i];
        out->nonfinite += u != u;
        if (u == u) out->sum_dd += u * u;
        if (u == u && v == v) out->sum_de += u * v;
        if (w == w) out->sum_ff += w * w;
    }
}
