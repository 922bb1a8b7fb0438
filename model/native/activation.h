/* Activations of 16 numbers, and their slopes. */

#pragma once

#include "common.h"

enum { NONE, RELU, GELU };

#define ALWAYS static inline __attribute__((always_inline))
#define NUMBER _mm512_set1_ps

#define BEYOND 4.5f /* from there on the normal distribution is taken for all or nothing */

/* 0.5 + z times a polynomial of z^2, which runs from -1 to 1; factors are for 0 <= |z| <= 4.5. */
ALWAYS __m512 odd_polynomial(__m512 z, const float factors[10]) {
    z = _mm512_max_ps(NUMBER(-BEYOND), _mm512_min_ps(NUMBER(BEYOND), z)); /* NaN passes */
    __m512 t = _mm512_fmsub_ps(_mm512_mul_ps(z, z), NUMBER(2 / (BEYOND * BEYOND)), NUMBER(1));
    __m512 sum = NUMBER(factors[0]);
    for (int i = 1; i < 10; i++) sum = _mm512_fmadd_ps(sum, t, NUMBER(factors[i]));
    return _mm512_fmadd_ps(sum, z, NUMBER(0.5f));
}

/* The normal distribution's share below z, to 4e-6: fitted so that the largest error is least. */
ALWAYS __m512 share_below(__m512 z) {
    static const float factors[] = {
        -1.930533192e-03f, 4.962705973e-03f, -6.070191332e-03f, 9.653218255e-03f,
        -1.848397648e-02f, 2.885765452e-02f, -4.023697494e-02f, 5.463748977e-02f,
        -7.718588312e-02f, 1.569060443e-01f};
    return odd_polynomial(z, factors);
}

/* The slope of GELU, the share below z plus z times its density, to 6e-5. */
ALWAYS __m512 gelu_slope(__m512 z) {
    static const float factors[] = {
        -2.472344513e-02f, 5.596707743e-02f, -4.548345959e-02f, 4.773264939e-02f,
        -8.775819251e-02f, 1.050389785e-01f, -9.536765145e-02f, 8.618592642e-02f,
        -8.992300133e-02f, 1.594457562e-01f};
    return odd_polynomial(z, factors);
}

ALWAYS __m512 activate(__m512 z, int kind) {
    if (kind == GELU) return _mm512_mul_ps(z, share_below(z));
    /* This order of the two lets what is no number pass. */
    return kind == RELU ? _mm512_max_ps(_mm512_setzero_ps(), z) : z;
}

/* `gradient` of the activation's output as that of its input, z. */
ALWAYS __m512 slope(__m512 z, __m512 gradient, int kind) {
    if (kind == GELU) return _mm512_mul_ps(gradient, gelu_slope(z));
    __mmask16 positive = _mm512_cmp_ps_mask(z, _mm512_setzero_ps(), _CMP_GT_OQ);
    return kind == RELU ? _mm512_maskz_mov_ps(positive, gradient) : gradient;
}
