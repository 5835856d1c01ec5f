#ifndef CK_SHA256_H
#define CK_SHA256_H

#include <stddef.h>
#include <stdint.h>

/* The SHA-256 (FIPS 180-4) of two messages at once, 32 bytes each, into a_digest and b_digest.

   The instructions that x86 processors have for SHA-256 wait for each other inside one message; two messages side by
   side take hardly longer than one. Returns 0, with nothing written, where the processor lacks them. */
int ck_sha256_pair(
    const void *a, size_t a_count, uint8_t *a_digest, const void *b, size_t b_count, uint8_t *b_digest);

#endif
