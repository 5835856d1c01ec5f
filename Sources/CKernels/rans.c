/* rANS, portable. States are in [2^15, 2^31); see delta_kernels.h for the papers. */
#include "rans.h"

#include <string.h>

void ck_count_tokens(
    const uint8_t *tokens, const uint8_t *contexts, size_t count, size_t stride, uint32_t *counts, size_t entries) {
    uint32_t *second = counts + entries, *third = second + entries, *fourth = third + entries;
    size_t i = 0;
    for (; i + 64 <= count; i += 64) {
        /* By themselves these become vectors. */
        uint16_t index[64];
        for (size_t j = 0; j < 64; j++) index[j] = (uint16_t)(contexts[i + j] * (uint16_t)stride + tokens[i + j]);
        for (size_t j = 0; j < 64; j += 4) {
            counts[index[j]]++;
            second[index[j + 1]]++;
            third[index[j + 2]]++;
            fourth[index[j + 3]]++;
        }
    }
    for (; i < count; i++) counts[contexts[i] * stride + tokens[i]]++;
    for (size_t entry = 0; entry < entries; entry++) counts[entry] += second[entry] + third[entry] + fourth[entry];
}

uint8_t *ck_rans_encode_back(
    size_t first, uint32_t *states, size_t lanes, const uint8_t *tokens, const uint8_t *contexts, size_t count,
    size_t stride, const ck_rans_share *shares, int precision, uint8_t *at) {
    for (size_t i = count; i-- > first;) {
        ck_rans_share share = shares[contexts[i] * stride + tokens[i]];
        uint32_t x = states[i & (lanes - 1)];
        /* Shifts and sums in place of branches: whether a word flows out is anybody's guess. */
        unsigned bits = (unsigned)(x >> (31 - precision) >= share.frequency) << 4;
        uint16_t low = (uint16_t)x;
        memcpy(at - 2, &low, 2);
        at -= bits / 8;
        x >>= bits;
        states[i & (lanes - 1)] = (x / share.frequency << precision) + x % share.frequency + share.start;
    }
    return at;
}

uint8_t *ck_rans_put_states(const uint32_t *states, size_t lanes, uint8_t *at) {
    at -= 4 * lanes;
    memcpy(at, states, 4 * lanes);
    return at;
}

void ck_rans_decoding_make(const uint16_t *frequencies, int tokens, int precision, uint32_t *table) {
    uint32_t *entry = table;
    for (int token = 0; token < tokens; token++) {
        uint32_t frequency = frequencies[token];
        for (uint32_t offset = 0; offset < frequency; offset++)
            *entry++ = (uint32_t)token | (frequency - 1) << 8 | offset << 20;
    }
    /* A context that no token has. */
    if (entry == table) memset(table, 0, sizeof(uint32_t) << precision);
}

int ck_rans_decode_from(
    size_t first, uint32_t *states, int lanes, const uint8_t *at, const uint8_t *end, const uint32_t *table, int precision,
    const uint8_t *contexts, size_t count, uint8_t *tokens) {
    uint32_t mask = (1u << precision) - 1;
    for (size_t i = first; i < count; i++) {
        uint32_t x = states[i & (size_t)(lanes - 1)];
        uint32_t entry = table[(size_t)contexts[i] << precision | (x & mask)];
        tokens[i] = (uint8_t)entry;
        x = ((entry >> 8 & 0xFFF) + 1) * (x >> precision) + (entry >> 20);
        if (x < ck_rans_low) {
            if (end - at < 2) return -1;
            uint16_t low;
            memcpy(&low, at, 2);
            at += 2;
            x = x << 16 | low;
        }
        states[i & (size_t)(lanes - 1)] = x;
    }
    for (int lane = 0; lane < lanes; lane++) {
        if (states[lane] != ck_rans_low) return -1;
    }
    return at == end ? 0 : -1;
}
