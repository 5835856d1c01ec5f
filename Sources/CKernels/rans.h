/* The scalar coder, which does the last tokens of the vector ones too. Private to CKernels. */
#ifndef CK_RANS_H
#define CK_RANS_H

#include "ckernels.h"

enum { ck_rans_low = 1 << 15 };

/* Encodes tokens count - 1 down to `first`. Returns where the stream now begins. */
uint8_t *ck_rans_encode_back(
    size_t first, uint32_t *states, size_t lanes, const uint8_t *tokens, const uint8_t *contexts, size_t count,
    size_t stride, const ck_rans_share *shares, int precision, uint8_t *at);

uint8_t *ck_rans_put_states(const uint32_t *states, size_t lanes, uint8_t *at);

/* Goes on at token `first` with the states as they are; words are left from `*at` to `end`. Returns 0 when all is right at the
   last token. */
int ck_rans_decode_from(
    size_t first, uint32_t *states, int lanes, const uint8_t *at, const uint8_t *end, const uint32_t *table, int precision,
    const uint8_t *contexts, size_t count, uint8_t *tokens);

#endif
