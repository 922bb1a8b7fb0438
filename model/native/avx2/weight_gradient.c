/* The gradient of the weight of a 3x3 convolution with stride 1, padded by 1, in fp32.
 *
 * Gradients are copied to panels of four outputs, images to panels of eight channels, with one
 * column of zeros between rows; there the three taps of a row of the kernel are neighbours, and no
 * windows are laid down. A sum goes pixel by pixel in their order, as that of PyTorch's does.
 */

#include "shape.h"

#define ROWS 4   /* outputs of a panel */
#define COLUMNS 8 /* channels of a panel: half a vector */
#define TAPS 3   /* of a row of the kernel */
#define SUMS (TAPS * ROWS * COLUMNS)
#define BLOCK 256 /* pixels: two panels of them fit into the nearest cache */

static inline long panels(long channels, long wide) { return round_up(channels, wide) / wide; }

/* The processor must have what this is made of; return 0 if it does. */
int refused(void) { return !(__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")); }

/* Copy `rows` of pixels to panels [channels / wide][length][wide]; what lies between stays 0. */
ALWAYS void lay_down(const float *pixels, float *to, long rows, long width, long between,
                     long channels, long wide, long length) {
    for (long row = 0; row < rows; row++, to += between * wide)
        for (long column = 0; column < width; column++, pixels += channels, to += wide) {
            float *panel = to;
            long c = 0;
            for (; c + wide <= channels; c += wide, panel += length * wide)
                memcpy(panel, pixels + c, sizeof(float) * (size_t)wide);
            if (c < channels) memcpy(panel, pixels + c, sizeof(float) * (size_t)(channels - c));
        }
}

/* Add the products of rows `first` to `last` (counted over all images of a group) to `sums`
 * [tap][output][channel]; `down` is the kernel's row, from -1 to 1. */
static void add_products(const float *gradients, const float *images, long first, long last,
                         long down, Shape s, float *sums) {
    __m256 sum[TAPS][ROWS];
    for (int tap = 0; tap < TAPS; tap++)
        for (int k = 0; k < ROWS; k++)
            sum[tap][k] = _mm256_loadu_ps(sums + (tap * ROWS + k) * COLUMNS);
    for (long row = first, y = first % s.height; row < last; row++, y = (y + 1) % s.height) {
        if (y + down < 0 || y + down >= s.height) continue; /* there the image is 0 */
        const float *gradient = gradients + row * s.width * ROWS;
        const float *pixel = images + (row + down) * pitch(s) * COLUMNS;
        for (long i = 0; i < s.width; i++, gradient += ROWS, pixel += COLUMNS) {
            __m256 left = _mm256_loadu_ps(pixel - COLUMNS), here = _mm256_loadu_ps(pixel);
            __m256 right = _mm256_loadu_ps(pixel + COLUMNS);
#pragma GCC unroll 4 /* else the sums are not kept in registers */
            for (int k = 0; k < ROWS; k++) {
                __m256 factor = _mm256_broadcast_ss(gradient + k);
                sum[0][k] = _mm256_fmadd_ps(factor, left, sum[0][k]);
                sum[1][k] = _mm256_fmadd_ps(factor, here, sum[1][k]);
                sum[2][k] = _mm256_fmadd_ps(factor, right, sum[2][k]);
            }
        }
    }
    for (int tap = 0; tap < TAPS; tap++)
        for (int k = 0; k < ROWS; k++)
            _mm256_storeu_ps(sums + (tap * ROWS + k) * COLUMNS, sum[tap][k]);
}

/* One thread's images from `first` to `last`, added to sums [C / 8][kernel's row][D / 4]. */
static void add_images(const float *images, const float *gradients, long first, long last, Shape s,
                       float *sums) {
    long pixels = s.height * s.width, group = BLOCK / pixels < 1 ? 1 : BLOCK / pixels;
    long rows = group * s.height, length = 1 + rows * pitch(s) + 1;
    long blocks = panels(s.into, COLUMNS), parts = panels(s.out, ROWS);
    size_t images_size = sizeof(float) * (size_t)(blocks * COLUMNS * length);
    size_t gradients_size = sizeof(float) * (size_t)(parts * ROWS * rows * s.width);
    float *laid = memset(scratch(0, images_size), 0, images_size);
    float *slopes = memset(scratch(1, gradients_size), 0, gradients_size);
    long step = panels(rows, panels(group * pixels, BLOCK));
    for (long n = first; n < last; n += group) {
        long here = (last - n < group ? last - n : group) * s.height;
        lay_down(images + n * pixels * s.into, laid + COLUMNS, here, s.width, 1, s.into, COLUMNS,
                 length);
        lay_down(gradients + n * pixels * s.out, slopes, here, s.width, 0, s.out, ROWS,
                 rows * s.width);
        for (long from = 0; from < here; from += step) {
            long to = from + step < here ? from + step : here;
            float *sum = sums;
            for (long c = 0; c < blocks; c++)
                for (int down = -1; down <= 1; down++)
                    for (long d = 0; d < parts; d++, sum += SUMS)
                        add_products(slopes + d * rows * s.width * ROWS,
                                     laid + (c * length + 1) * COLUMNS, from, to, down, s, sum);
        }
    }
}

/* Add up the threads' sums, and lay them down as (D, 3, 3, C). */
static void collect(const float *sums, float *weight, Shape s, long threads, long size) {
    long parts = panels(s.out, ROWS);
#pragma omp parallel for num_threads((int)threads)
    for (long d = 0; d < s.out; d++)
        for (long tap = 0; tap < TAPS * TAPS; tap++)
            for (long c = 0; c < s.into; c++) {
                long block = (c / COLUMNS * TAPS + tap / TAPS) * parts + d / ROWS;
                const float *from = sums + block * SUMS;
                from += (tap % TAPS * ROWS + d % ROWS) * COLUMNS + c % COLUMNS;
                float sum = from[0];
                for (long i = 1; i < threads; i++) sum += from[i * size];
                weight[(d * TAPS * TAPS + tap) * s.into + c] = sum;
            }
}

/* Images (N, H, W, C) and gradients (N, H, W, D), to the weight's (D, 3, 3, C). */
void weight_gradient(const float *images, const float *gradients, float *weight, long count,
                     long height, long width, long into, long out, long threads) {
    Shape s = {height, width, into, out};
    long size = panels(into, COLUMNS) * TAPS * panels(out, ROWS) * SUMS;
    if (threads > count) threads = count;
    float *sums = scratch(3, sizeof(float) * (size_t)(size * threads));
#pragma omp parallel for num_threads((int)threads)
    for (long i = 0; i < threads; i++) {
        memset(sums + size * i, 0, sizeof(float) * (size_t)size);
        add_images(images, gradients, count * i / threads, count * (i + 1) / threads, s,
                   sums + size * i);
    }
    collect(sums, weight, s, threads, size);
}
