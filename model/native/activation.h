/* Activations of a vector of numbers, and their slopes. */

#pragma once

#include "vector.h"

enum { NONE, RELU, GELU };

/* 0.5 + z times a polynomial of z^2 (which is brought to -1 to 1) from -BEYOND to BEYOND, 0 below,
 * and above what it is at the end. */
ALWAYS vector odd_polynomial(vector z, const float factors[FACTORS]) {
    vector near = upper(all(-BEYOND), lower(all(BEYOND), z)); /* what is no number passes */
    vector t = times_less(times(near, near), all(2 / (BEYOND * BEYOND)), all(1));
    vector sum = all(factors[0]);
    for (int i = 1; i < FACTORS; i++) sum = times_add(sum, t, all(factors[i]));
    return where_above(-BEYOND, z, times_add(sum, near, all(0.5f)));
}

/* The slope of GELU is the share below z plus z times its density. */
ALWAYS vector activate(vector z, int kind) {
    if (kind == GELU) return times(z, odd_polynomial(z, SHARE));
    /* This order of the two lets what is no number pass. */
    return kind == RELU ? upper(zero(), z) : z;
}

/* `gradient` of the activation's output as that of its input, z. */
ALWAYS vector slope(vector z, vector gradient, int kind) {
    if (kind == GELU) return times(gradient, odd_polynomial(z, SLOPE));
    return kind == RELU ? where_above(0, z, gradient) : gradient;
}
