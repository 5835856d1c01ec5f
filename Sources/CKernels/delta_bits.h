/* Extra bits, lowest first. Private to CKernels. */
#ifndef CK_DELTA_BITS_H
#define CK_DELTA_BITS_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct ck_bit_writer {
    uint8_t *at;
    uint64_t pending;
    unsigned held; /* bits pending, 0 to 7 between calls */
} ck_bit_writer;

/* At most 32 bits. Writes up to 8 bytes beyond what it has been given. */
static inline void ck_put_bits(ck_bit_writer *writer, uint64_t value, unsigned count) {
    writer->pending |= value << writer->held;
    writer->held += count;
    memcpy(writer->at, &writer->pending, 8);
    writer->at += writer->held / 8;
    writer->pending >>= writer->held & ~7u;
    writer->held &= 7;
}

/* Eight bytes at `offset`, zeros where there are none left. */
static inline uint64_t ck_load_eight(const uint8_t *bits, size_t count, size_t offset) {
    uint64_t word = 0;
    if (offset + 8 <= count) memcpy(&word, bits + offset, 8);
    else if (offset < count) memcpy(&word, bits + offset, count - offset);
    return word;
}

/* `n` bits from bit `at` on, at most 62; beyond `count` bytes they are zeros. */
static inline uint64_t ck_bits_at(const uint8_t *bits, size_t count, size_t at, unsigned n) {
    uint64_t low = ck_load_eight(bits, count, at / 8) >> at % 8;
    if (n <= 56) return low & (((uint64_t)1 << n) - 1);
    uint64_t high = ck_load_eight(bits, count, (at + 32) / 8) >> at % 8;
    return (low & 0xFFFFFFFFu) | (high & (((uint64_t)1 << (n - 32)) - 1)) << 32;
}

#endif
