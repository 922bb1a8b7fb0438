/* Tiles of AMX: 16 rows of 64 bytes. */

#pragma once

#include "common.h"

#define TILE 16
#define TILE_NUMBERS 512 /* of 16 bits */

typedef struct {
    uint8_t palette, start_row, unused[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} Tiles;

static inline void begin_tiles(Tiles *before) {
    Tiles tiles = {.palette = 1};
    for (int i = 0; i < 8; i++) tiles.row_bytes[i] = 64, tiles.rows[i] = TILE;
    _tile_storeconfig(before);
    _tile_loadconfig(&tiles);
}

/* PyTorch's library has a setting of its own, and may trust that it stays. */
static inline void end_tiles(const Tiles *before) {
    if (before->palette)
        _tile_loadconfig(before);
    else
        _tile_release();
}
