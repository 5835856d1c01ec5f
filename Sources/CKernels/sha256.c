#include "sha256.h"

#if defined(__x86_64__)

#include <cpuid.h>
#include <string.h>

#pragma clang attribute push(__attribute__((target("sha,sse4.1,ssse3"))), apply_to = function)
#include <immintrin.h>

static const uint32_t round_constants[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

/* The eight words of a state in the order the instructions want them: A B E F and C D G H, the first uppermost. */
typedef struct {
    __m128i abef, cdgh;
} state;

/* The sixteen words of the message that the next four rounds depend on. */
typedef struct {
    __m128i w[4];
} schedule;

static inline state initial_state(void) {
    return (state){
        _mm_set_epi32(0x6a09e667, (int)0xbb67ae85, 0x510e527f, (int)0x9b05688c),
        _mm_set_epi32(0x3c6ef372, (int)0xa54ff53a, 0x1f83d9ab, 0x5be0cd19)};
}

/* Words 4 * group to 4 * group + 3 of the message schedule. */
static inline __m128i next_words(schedule *s, int group, const uint8_t *block) {
    const __m128i big_endian = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
    if (group < 4) {
        s->w[group] = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(block + 16 * group)), big_endian);
    } else {
        __m128i before16 = s->w[group & 3], before12 = s->w[(group + 1) & 3];
        __m128i before8 = s->w[(group + 2) & 3], before4 = s->w[(group + 3) & 3];
        __m128i sum = _mm_add_epi32(_mm_sha256msg1_epu32(before16, before12), _mm_alignr_epi8(before4, before8, 4));
        s->w[group & 3] = _mm_sha256msg2_epu32(sum, before4);
    }
    return s->w[group & 3];
}

static inline void four_rounds(state *s, __m128i words, int group) {
    __m128i added = _mm_add_epi32(words, _mm_loadu_si128((const __m128i *)(round_constants + 4 * group)));
    s->cdgh = _mm_sha256rnds2_epu32(s->cdgh, s->abef, added);
    s->abef = _mm_sha256rnds2_epu32(s->abef, s->cdgh, _mm_shuffle_epi32(added, 0x0E));
}

static inline void add_state(state *s, state before) {
    s->abef = _mm_add_epi32(s->abef, before.abef);
    s->cdgh = _mm_add_epi32(s->cdgh, before.cdgh);
}

static void compress(state *s, const uint8_t *bytes, size_t blocks) {
    for (; blocks > 0; blocks--, bytes += 64) {
        state before = *s;
        schedule words;
#pragma clang loop unroll(full)
        for (int group = 0; group < 16; group++) four_rounds(s, next_words(&words, group, bytes), group);
        add_state(s, before);
    }
}

static void compress_pair(state *a, const uint8_t *a_bytes, state *b, const uint8_t *b_bytes, size_t blocks) {
    state x = *a, y = *b;
    for (; blocks > 0; blocks--, a_bytes += 64, b_bytes += 64) {
        state x_before = x, y_before = y;
        schedule x_words, y_words;
#pragma clang loop unroll(full)
        for (int group = 0; group < 16; group++) {
            four_rounds(&x, next_words(&x_words, group, a_bytes), group);
            four_rounds(&y, next_words(&y_words, group, b_bytes), group);
        }
        add_state(&x, x_before);
        add_state(&y, y_before);
    }
    *a = x;
    *b = y;
}

/* The blocks of a message from `done` on, its padding and length, and the digest. */
static void finish(state *s, const uint8_t *bytes, size_t count, size_t done, uint8_t *digest) {
    compress(s, bytes + done, (count - done) / 64);
    size_t rest = count % 64;
    uint8_t last[128] = {0};
    if (rest > 0) memcpy(last, bytes + count - rest, rest);
    last[rest] = 0x80;
    size_t length = rest < 56 ? 64 : 128;
    uint64_t bits = (uint64_t)count * 8;
    for (int i = 0; i < 8; i++) last[length - 1 - (size_t)i] = (uint8_t)(bits >> (8 * i));
    compress(s, last, length / 64);

    uint32_t abef[4], cdgh[4];
    _mm_storeu_si128((__m128i *)abef, s->abef);
    _mm_storeu_si128((__m128i *)cdgh, s->cdgh);
    const uint32_t words[8] = {abef[3], abef[2], cdgh[3], cdgh[2], abef[1], abef[0], cdgh[1], cdgh[0]};
    for (int i = 0; i < 8; i++) {
        for (int j = 0; j < 4; j++) digest[4 * i + j] = (uint8_t)(words[i] >> (24 - 8 * j));
    }
}

static void hash_pair(
    const uint8_t *a, size_t a_count, uint8_t *a_digest, const uint8_t *b, size_t b_count, uint8_t *b_digest) {
    state x = initial_state(), y = initial_state();
    size_t common = (a_count < b_count ? a_count : b_count) / 64;
    compress_pair(&x, a, &y, b, common);
    finish(&x, a, a_count, common * 64, a_digest);
    finish(&y, b, b_count, common * 64, b_digest);
}

#pragma clang attribute pop

/* Leaf 7 of CPUID: bit 29 of EBX is the SHA extension. */
static int has_sha_instructions(void) {
    unsigned eax, ebx, ecx, edx;
    if (!__builtin_cpu_supports("sse4.1") || !__builtin_cpu_supports("ssse3")) return 0;
    return __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) && (ebx >> 29 & 1);
}

int ck_sha256_pair(
    const void *a, size_t a_count, uint8_t *a_digest, const void *b, size_t b_count, uint8_t *b_digest) {
    /* -1: not asked yet. Threads that ask at once find the same answer. */
    static int is_available = -1;
    int available = __atomic_load_n(&is_available, __ATOMIC_RELAXED);
    if (available < 0) {
        available = has_sha_instructions();
        __atomic_store_n(&is_available, available, __ATOMIC_RELAXED);
    }
    if (available) hash_pair(a, a_count, a_digest, b, b_count, b_digest);
    return available;
}

#else

int ck_sha256_pair(
    const void *a, size_t a_count, uint8_t *a_digest, const void *b, size_t b_count, uint8_t *b_digest) {
    (void)a, (void)a_count, (void)a_digest, (void)b, (void)b_count, (void)b_digest;
    return 0;
}

#endif
