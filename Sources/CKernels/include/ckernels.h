/* Hot loops of ckpt. Each has one portable form and, on x86-64, one compiled for AVX2 and FMA; which runs is
   decided once, at run time (`ck_active_kernels`). No function here allocates, keeps a pointer or needs
   alignment: everything that comes from LMDB is read unaligned. */
#ifndef CKERNELS_H
#define CKERNELS_H

#include <stddef.h>
#include <stdint.h>

#include "delta_kernels.h"
#include "diff_kernels.h"
#include "gram_kernels.h"
#include "movement_kernels.h"
#include "backward_kernels.h"
#include "forward_kernels.h"
#include "product_kernels.h"
#include "platform.h"
#include "processes.h"
#include "sha256.h"

/* Splits `words` little-endian words of `width` bytes (1, 2, 4 or 8) into byte planes, the most significant
   first: plane p is at planes + p * words. With `rotate`, each word is first rotated left by one bit, which
   puts a float's exponent at the top and its sign at the bottom. */
typedef void ck_split_planes_fn(const void *source, size_t words, int width, int rotate, uint8_t *planes);

/* Undoes `ck_split_planes_fn`: planes[p] points to plane p, `words` bytes. */
typedef void ck_join_planes_fn(const uint8_t *const *planes, size_t words, int width, int rotate, void *target);

/* One set of kernels. */
typedef struct ck_kernels {
    const char *name;
    ck_split_planes_fn *split_planes;
    ck_join_planes_fn *join_planes;
    ck_compare_fn *compare_bf16;
    ck_compare_fn *compare_f16;
    ck_compare_fn *compare_f32;
    ck_compare_fn *compare_f64;
    ck_delta_top_fn *delta_top;
    ck_delta_model_fn *delta_model;
    ck_delta_contexts_fn *delta_contexts;
    ck_delta_restore_fn *delta_restore;
    ck_delta_put_extra_fn *delta_put_extra;
    ck_delta_take_extra_fn *delta_take_extra;
    ck_rans_encode_fn *rans_encode;
    ck_rans_decode_fn *rans_decode;
} ck_kernels;

/* The portable kernels: the reference that the others are tested against. */
const ck_kernels *ck_portable_kernels(void);
/* The fastest kernels this processor runs. */
const ck_kernels *ck_active_kernels(void);

/* Order-0 entropy in bits a byte of an evenly spread sample of `count` bytes (at most 4,096 of them). */
double ck_sampled_entropy(const uint8_t *bytes, size_t count);

/* Whether all `count` bytes are equal. */
int ck_is_constant(const uint8_t *bytes, size_t count);

#endif
