#ifndef CK_DELTA_KERNELS_H
#define CK_DELTA_KERNELS_H

#include <stddef.h>
#include <stdint.h>

/* A block as its difference from a base block, word by word.

   Words are mapped to integers that sort like the numbers they stand for (floats: sign and magnitude to offset binary;
   integers: as they are), the base's integer is subtracted, and the signed difference d is folded to
   z = 0, -1, 1, -2, ... -> 0, 1, 2, 3, ... With a previous block (the base's own base) the change that led to the base,
   g = base - previous, predicts half as much again: (|g| + 1) / 2 in the direction of g is added to the base first, and the
   difference is taken along g.

   Each z is a token, which is entropy-coded in a context, and extra bits. Tokens below D = 2^s are z itself; above, a token
   is the position n of z's top bit, the bit below it and z's lowest bit (the sign of d), D + 4 (n - s) + 2 x the one + the
   other, and the n - 2 bits between are extra. s is 8 for words of one byte (no extra bits), 5 for two, 4 for four and eight.
   The context is the class of the base word's exponent and, with a previous block, whether g is not 0. */
typedef struct ck_delta_layout {
    int width;         /* bytes a word: 1, 2, 4 or 8 */
    int shift;         /* low bits that are zero in every word and left out; below the exponent */
    int is_float;      /* sign and magnitude */
    int exponent_low;  /* of words that are shifted: the lowest bit of the exponent */
    int exponent_bits; /* 0: one class for all */
    int top;           /* the exponent that the keys count down from */
} ck_delta_layout;

enum {
    ck_delta_keys = 32,            /* how far an exponent lies under the top, at most 31 */
    ck_delta_tokens = 256,         /* 16 + 4 x 60 for words of 64 bits */
    ck_delta_maximum_contexts = 64 /* keys x 2 */
};

/* Bits that are set in any of `count` bytes' words: told as the number of low bits that are zero in all (8 x width
   when all words are zero). */
int ck_zero_bits(const void *words, size_t count, int width);

/* The greatest exponent among `words` words, shift applied. */
typedef int ck_delta_top_fn(const ck_delta_layout *layout, const void *base, size_t words);

/* The encoder's view: tokens, contexts and folded differences (words of the layout's width) of a block.
   `previous` may be null. `classes` has ck_delta_keys entries, each below 32. */
typedef void ck_delta_model_fn(
    const ck_delta_layout *layout, const uint8_t *classes, const void *target, const void *base, const void *previous,
    size_t words, uint8_t *tokens, uint8_t *contexts, void *folded);

/* The decoder's contexts. */
typedef void ck_delta_contexts_fn(
    const ck_delta_layout *layout, const uint8_t *classes, const void *base, const void *previous, size_t words,
    uint8_t *contexts);

/* The target from folded differences. */
typedef void ck_delta_restore_fn(
    const ck_delta_layout *layout, const void *base, const void *previous, const void *folded, size_t words, void *target);

/* Writes the extra bits of `folded` after each other, lowest first. `bits` has room for words x (width + 1) + 16 bytes.
   Returns bytes written. */
typedef size_t ck_delta_put_extra_fn(int width, const uint8_t *tokens, const void *folded, size_t words, uint8_t *bits);

/* Folded differences from tokens and extra bits. Any bytes are safe. Returns 0 when the bits end exactly with `count`
   bytes and pad with zeros, else -1. */
typedef int ck_delta_take_extra_fn(
    int width, const uint8_t *tokens, size_t words, const uint8_t *bits, size_t count, void *folded);

/* Asymmetric numeral systems (rANS: J. Duda, arXiv 1311.2540; F. Giesen, arXiv 1402.3392), `lanes` coders taking turns, each
   with a state of 31 bits that 16-bit words flow into and out of. */
enum { ck_rans_lanes = 32, ck_rans_few_lanes = 4 };

/* A token's share of 1 << precision: `frequency` of at least 1, from `start` on. */
typedef struct ck_rans_share {
    uint16_t frequency, start;
} ck_rans_share;

/* counts[context * stride + token] += occurrences, for `entries` of them, all zero before like three times as many behind them:
   four counters take turns, since one that is counted up again and again waits for itself. A stride that is no multiple of 64 keeps the contexts' entries out of each
   other's cache lines. */
void ck_count_tokens(const uint8_t *tokens, const uint8_t *contexts, size_t count, size_t stride, uint32_t *counts, size_t entries);

/* Writes the stream of `lanes` lanes, one of the two numbers above, so that it ends at `end`; `shares` as `counts` above.
   Room: 4 x lanes + 2 x count + 16 bytes.
   Returns bytes written. */
typedef size_t ck_rans_encode_fn(
    const uint8_t *tokens, const uint8_t *contexts, size_t count, size_t stride, const ck_rans_share *shares,
    int precision, int lanes, uint8_t *end);

/* The decoder's table of one context, 1 << precision entries of token, frequency - 1 << 8 and offset << 20;
   frequencies of `tokens` tokens add up to 1 << precision. */
void ck_rans_decoding_make(const uint16_t *frequencies, int tokens, int precision, uint32_t *table);

/* Decodes `count` tokens. `table` has 1 << precision entries for each context that occurs in `contexts`. Any stream is
   safe. Returns 0, or -1 when the stream is not one that the encoder could have written. */
typedef int ck_rans_decode_fn(
    const uint8_t *stream, size_t bytes, int lanes, const uint32_t *table, int precision, const uint8_t *contexts, size_t count,
    uint8_t *tokens);

#endif
