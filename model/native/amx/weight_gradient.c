/* The gradient of the weight of a 3x3 convolution with stride 1, padded by 1, on tiles of AMX.
 *
 * Images (N, H, W, C) are copied with one row and one column of zeros behind them, which are at the
 * same time those before the next row and image. There a tap of the kernel is one constant distance
 * in memory, and no windows are laid down. A sum runs over pixels, so a tile of gradients has an
 * output in each row and 32 pixels along it, one of images 16 pairs of neighbouring pixels; two
 * copies, one begins a pixel later, serve odd distances.
 */

#include "shape.h"
#include "tiles.h"

#include <sys/syscall.h>
#include <unistd.h>

#define DEPTH 32 /* pixels that a tile multiplies */
#define TAPS 9
#define BLOCK 256 /* places of a block: it and its gradients fit into the nearest cache */
#define SUMS (4 * TILE * TILE)

static inline long places(Shape s) { return (s.height + 1) * pitch(s); }
static inline long distance(int tap, Shape s) { return (tap / 3 - 1) * pitch(s) + tap % 3 - 1; }
static inline long margin(Shape s) { return round_up(pitch(s) + 2, 2); }

/* Ask the system for the tiles, once for the process; return 0 if it gives them. */
int refused(void) { return (int)syscall(SYS_arch_prctl, 0x1023, 18); }

/* Copy `count` images, or gradients, of `channels` to `padded`, whose zeros stay as they are. */
static void lay_down(const number *images, number *padded, long count, Shape s, long channels) {
    size_t bytes = sizeof(number) * (size_t)channels;
    long wide = round_up(channels, 32);
    for (long i = 0; i < count; i++)
        for (long row = 0; row < s.height; row++) {
            const number *from = images + (i * s.height + row) * s.width * channels;
            number *to = padded + (i * places(s) + row * pitch(s)) * wide;
            if (wide == channels)
                memcpy(to, from, bytes * (size_t)s.width);
            else
                for (long column = 0; column < s.width; column++)
                    memcpy(to + column * wide, from + column * channels, bytes);
        }
}

/* Pairs [C / 32][count][32][2] of neighbouring pixels of `padded`. */
static void pair_up(const number *padded, number *pairs, long count, long wide) {
    __m512i low = _mm512_set1_epi32(0x00200000), high;
    const __m512i steps = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    low = _mm512_add_epi16(low, _mm512_mullo_epi32(steps, _mm512_set1_epi32(0x00010001)));
    high = _mm512_add_epi16(low, _mm512_set1_epi16(16));
    for (long c = 0; c < wide; c += 32)
        for (long i = 0; i < count; i++, pairs += 64) {
            __m512i first = _mm512_loadu_si512(padded + 2 * i * wide + c);
            __m512i second = _mm512_loadu_si512(padded + (2 * i + 1) * wide + c);
            _mm512_store_si512(pairs, _mm512_permutex2var_epi16(first, low, second));
            _mm512_store_si512(pairs + 32, _mm512_permutex2var_epi16(first, high, second));
        }
}

static inline __m512i numbers(const number *from) {
    return _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)from));
}

/* Tiles [D / 32][all / 32][2][16 outputs][32 pixels] of the gradients in `padded`. */
static void turn(const number *padded, number *tiles, long all, long wide) {
    __m512i rows[16];
    for (long d = 0; d < wide; d += 32)
        for (long place = 0; place < all; place += DEPTH)
            for (long half = 0; half < 32; half += TILE, tiles += TILE_NUMBERS) {
                for (long i = 0; i < 16; i++) {
                    const number *from = padded + (place + 2 * i) * wide + d + half;
                    rows[i] = _mm512_or_si512(numbers(from),
                                              _mm512_slli_epi32(numbers(from + wide), 16));
                }
                transpose(rows);
                for (long i = 0; i < 16; i++) _mm512_store_si512(tiles + 32 * i, rows[i]);
            }
}

/* Add to `sums` (32 outputs, 32 channels, as four tiles) what `steps` times 32 pixels give. */
static inline void add_products(const number *tiles, const number *pairs, long steps, float *sums) {
    _tile_loadd(0, sums, 64);
    _tile_loadd(1, sums + 256, 64);
    _tile_loadd(2, sums + 512, 64);
    _tile_loadd(3, sums + 768, 64);
    for (long i = 0; i < steps; i++, tiles += 2 * TILE_NUMBERS, pairs += 64 * TILE) {
        _tile_loadd(4, tiles, 64);
        _tile_loadd(6, pairs, 128);
        _tile_loadd(7, pairs + 32, 128);
        _tile_loadd(5, tiles + TILE_NUMBERS, 64);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, sums, 64);
    _tile_stored(1, sums + 256, 64);
    _tile_stored(2, sums + 512, 64);
    _tile_stored(3, sums + 768, 64);
}

/* Add a block of `all` places to sums [D / 32][C / 32][tap]. `pairs`: the even ones, then the odd,
 * each from `margin` places before the first image on. */
static void add_block(const number *tiles, const number *pairs, long all, Shape s, float *sums) {
    long length = (all + 2 * margin(s)) / 2 * 64, blocks = round_up(s.into, 32) / 32;
    long parts = (all + BLOCK - 1) / BLOCK, part = round_up((all + parts - 1) / parts, DEPTH);
    for (long d = 0; d < s.out; d += 32, tiles += 32 * all)
        for (long c = 0; c < blocks; c++, sums += TAPS * SUMS)
            for (long place = 0; place < all; place += part)
                for (int tap = 0; tap < TAPS; tap++) {
                    long from = margin(s) + place + distance(tap, s);
                    long steps = (all - place < part ? all - place : part) / DEPTH;
                    add_products(tiles + 32 * place,
                                 pairs + (from % 2 * blocks + c) * length + from / 2 * 64, steps,
                                 sums + tap * SUMS);
                }
}

/* One thread's images from `first` to `last`, added to `sums`. */
static void add_images(const number *images, const number *gradients, long first, long last,
                       Shape s, float *sums) {
    long group = BLOCK / places(s) < 1 ? 1 : BLOCK / places(s);
    long all = round_up(group * places(s), DEPTH), before = margin(s), length = all + 2 * before;
    long into = round_up(s.into, 32), out = round_up(s.out, 32);
    size_t images_size = sizeof(number) * (size_t)(into * (length + 2));
    size_t gradients_size = sizeof(number) * (size_t)(out * all);
    number *padded = memset(scratch(0, images_size), 0, images_size);
    number *slopes = memset(scratch(1, gradients_size), 0, gradients_size);
    number *pairs = scratch(2, 2 * images_size), *tiles = scratch(5, gradients_size);
    for (long n = first; n < last; n += group) {
        long count = last - n < group ? last - n : group;
        if (count < group) {
            memset(padded, 0, images_size);
            memset(slopes, 0, gradients_size);
        }
        lay_down(images + n * s.height * s.width * s.into, padded + before * into, count, s,
                 s.into);
        lay_down(gradients + n * s.height * s.width * s.out, slopes, count, s, s.out);
        pair_up(padded, pairs, length / 2, into);
        pair_up(padded + into, pairs + length * into, length / 2, into);
        turn(slopes, tiles, all, out);
        add_block(tiles, pairs, all, s, sums);
    }
}

/* Add up the threads' sums, and lay them down as (D, 3, 3, C). */
static void collect(const float *sums, float *weight, Shape s, long threads, size_t size) {
    long blocks = round_up(s.into, 32) / 32;
#pragma omp parallel for num_threads((int)threads)
    for (long d = 0; d < s.out; d++)
        for (int tap = 0; tap < TAPS; tap++)
            for (long c = 0; c < s.into; c += TILE) {
                lanes mask = lanes_left(s.into - c);
                const float *from = sums + ((d / 32 * blocks + c / 32) * TAPS + tap) * SUMS +
                                    (d % 32 / 16 * 2 + c % 32 / 16) * 256 + d % 16 * 16;
                __m512 sum = _mm512_loadu_ps(from);
                for (long i = 1; i < threads; i++)
                    sum = _mm512_add_ps(sum, _mm512_loadu_ps(from + (size_t)i * size));
                _mm512_mask_storeu_ps(weight + (d * TAPS + tap) * s.into + c, mask, sum);
            }
}

/* Images (N, H, W, C) and gradients (N, H, W, D) in bf16, to the weight's (D, 3, 3, C) in fp32. */
void weight_gradient(const number *images, const number *gradients, float *weight, long count,
                     long height, long width, long into, long out, long threads) {
    Shape s = {height, width, into, out};
    size_t size = (size_t)(round_up(into, 32) * round_up(out, 32) * TAPS);
    if (threads > count) threads = count;
    float *sums = scratch(3, sizeof(float) * size * (size_t)threads);
#pragma omp parallel for num_threads((int)threads)
    for (long i = 0; i < threads; i++) {
        Tiles before;
        begin_tiles(&before);
        memset(sums + size * (size_t)i, 0, sizeof(float) * size);
        add_images(images, gradients, count * i / threads, count * (i + 1) / threads, s,
                   sums + size * (size_t)i);
        end_tiles(&before);
    }
    collect(sums, weight, s, threads, size);
}
