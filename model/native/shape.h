/* A 3x3 convolution with stride 1, padded by 1: of `into` channels to `out`. */

#pragma once

#include "memory.h"
#include "vector.h"

typedef struct {
    long height, width, into, out;
} Shape;

/* From a pixel to the one below it, where a pixel of zeros lies behind each row. */
static inline long pitch(Shape s) { return s.width + 1; }
