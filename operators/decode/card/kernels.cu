// From a JPEG's planes to the squares that models see, to the bit as libjpeg-turbo and Pillow make them.
//
//   planes Y, Cb, Cr --trommel_colour--> RGB u8[height, width, 3] --trommel_rows--> u8[rows, size, 3] --trommel_columns--> u8[size, size, 3]
//
// One text, two compilers: NVRTC on a machine with a card, and the C++ compiler for the tests, where `stand_in.cpp` says what
// a thread's number is. All is integer arithmetic, so that both give the same bits. Everything lies in one arena; the
// descriptors hold offsets into it, and are written by `layout.rs`, field by field as they stand here.

typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long long u64;

// A decoded picture. `across` and `down` say how many columns and rows of luma share a sample of chroma.
struct Picture {
    u64 plane[3], pitch[3];
    u64 width, height;
    u64 across, down, chroma_width, chroma_height;
    u64 grey;
    // The part that some view looks at: nothing else is converted.
    u64 left, top, right, bottom;
    u64 rgb;
};

// A view of it. A run is the first input position and the number of taps of an output position.
struct View {
    u64 rgb, stride;
    u64 rows, first_row, size;
    u64 along_runs, along_taps, along_width;
    u64 down_runs, down_taps, down_width;
    u64 between, out;
};

// libjpeg-turbo's jdsample.c: the triangle filter where chroma has half of the columns or rows, replication elsewhere, and where
// a row has two samples or fewer.
DEVICE u32 chroma_at(const u8 *plane, u64 pitch, const Picture *p, u32 x, u32 y) {
    const u32 across = (u32)p->across, down = (u32)p->down;
    const u32 width = (u32)p->chroma_width, height = (u32)p->chroma_height;
    const bool halves_columns = across == 2, halves_rows = down == 2;
    const bool smooth = halves_columns ? width > 2 && down <= 2 : halves_rows && across == 1;
    const u32 column = x / across, row = y / down;
    const u8 *near = plane + row * pitch;
    if (!smooth) return near[column];
    // The row that lies nearest after this one; the outermost rows stand for those beyond.
    const bool below = (y & 1) != 0;
    const u32 other = below ? (row + 1 < height ? row + 1 : row) : (row > 0 ? row - 1 : 0);
    const u8 *far = plane + other * pitch;
    if (!halves_columns) return (near[column] * 3u + far[column] + (below ? 2u : 1u)) >> 2;
    const bool right = (x & 1) != 0;
    const bool outermost = right ? column + 1 == width : column == 0;
    const u32 beside = right ? column + 1 : column - 1;
    if (!halves_rows) {
        const u32 here = near[column];
        return outermost ? here : (here * 3u + near[beside] + (right ? 2u : 1u)) >> 2;
    }
    const u32 here = near[column] * 3u + far[column];
    const u32 there = outermost ? here : near[beside] * 3u + far[beside];
    return (here * 3u + there + (right ? 7u : 8u)) >> 4;
}

DEVICE u8 clamp8(int value) { return (u8)(value < 0 ? 0 : value > 255 ? 255 : value); }

// libjpeg-turbo's jdcolor.c: 16 fractional bits, rounded.
KERNEL void trommel_colour(u8 *arena, const u64 pictures) {
    const Picture *p = (const Picture *)(arena + pictures) + BLOCK_Z;
    const u32 x = (u32)p->left + BLOCK_X * BLOCK_SIZE + THREAD_X, y = (u32)p->top + BLOCK_Y;
    if (x >= (u32)p->right || y >= (u32)p->bottom) return;
    u8 *rgb = arena + p->rgb + ((u64)y * (u32)p->width + x) * 3;
    const int luma = arena[p->plane[0] + y * p->pitch[0] + x];
    if (p->grey) {
        rgb[0] = rgb[1] = rgb[2] = (u8)luma;
        return;
    }
    const int cb = (int)chroma_at(arena + p->plane[1], p->pitch[1], p, x, y) - 128;
    const int cr = (int)chroma_at(arena + p->plane[2], p->pitch[2], p, x, y) - 128;
    const int half = 1 << 15;
    rgb[0] = clamp8(luma + ((91881 * cr + half) >> 16));
    rgb[1] = clamp8(luma + ((-22554 * cb - 46802 * cr + half) >> 16));
    rgb[2] = clamp8(luma + ((116130 * cb + half) >> 16));
}

// Pillow's Resample.c: coefficients with 22 fractional bits, sums that wrap as its ints do.
DEVICE u8 rounded(u32 sum) { return clamp8((int)(sum + (1u << 21)) >> 22); }

KERNEL void trommel_rows(u8 *arena, const u64 views) {
    const View *v = (const View *)(arena + views) + BLOCK_Z;
    const u32 x = BLOCK_X * BLOCK_SIZE + THREAD_X, row = BLOCK_Y;
    if (x >= (u32)v->size || row >= (u32)v->rows) return;
    const u32 *run = (const u32 *)(arena + v->along_runs) + 2 * x;
    const int *taps = (const int *)(arena + v->along_taps) + (u64)x * v->along_width;
    const u8 *line = arena + v->rgb + (v->first_row + row) * v->stride + (u64)run[0] * 3;
    u32 red = 0, green = 0, blue = 0;
    for (u32 tap = 0; tap < run[1]; tap++, line += 3) {
        const u32 weight = (u32)taps[tap];
        red += line[0] * weight;
        green += line[1] * weight;
        blue += line[2] * weight;
    }
    u8 *out = arena + v->between + ((u64)row * v->size + x) * 3;
    out[0] = rounded(red);
    out[1] = rounded(green);
    out[2] = rounded(blue);
}

KERNEL void trommel_columns(u8 *arena, const u64 views) {
    const View *v = (const View *)(arena + views) + BLOCK_Z;
    const u32 bytes = (u32)v->size * 3, byte = BLOCK_X * BLOCK_SIZE + THREAD_X, y = BLOCK_Y;
    if (byte >= bytes || y >= (u32)v->size) return;
    const u32 *run = (const u32 *)(arena + v->down_runs) + 2 * y;
    const int *taps = (const int *)(arena + v->down_taps) + (u64)y * v->down_width;
    const u8 *column = arena + v->between + (run[0] - v->first_row) * bytes + byte;
    u32 sum = 0;
    for (u32 tap = 0; tap < run[1]; tap++, column += bytes) sum += *column * (u32)taps[tap];
    arena[v->out + (u64)y * bytes + byte] = rounded(sum);
}
