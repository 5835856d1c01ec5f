/* Words of floats to doubles, exactly. Private to CKernels. */
#ifndef CK_FLOATS_H
#define CK_FLOATS_H

#include <stdint.h>
#include <string.h>

static inline double ck_bf16_value(uint16_t word) {
    uint32_t bits = (uint32_t)word << 16;
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

static inline double ck_f32_value(uint32_t word) {
    float value;
    memcpy(&value, &word, 4);
    return value;
}

static inline double ck_f64_value(uint64_t word) {
    double value;
    memcpy(&value, &word, 8);
    return value;
}

/* Finite halves only: 5 bits of exponent (bias 15), 10 of mantissa. */
static inline double ck_f16_value(uint16_t word) {
    uint32_t exponent = word >> 10 & 0x1F, mantissa = word & 0x3FF;
    double size;
    if (exponent == 0) {
        size = (double)mantissa * 0x1p-24;
    } else {
        uint32_t bits = (exponent + 112) << 23 | mantissa << 13;
        float value;
        memcpy(&value, &bits, 4);
        size = value;
    }
    return word & 0x8000 ? -size : size;
}

#endif
