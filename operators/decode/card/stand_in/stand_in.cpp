// The kernels as plain C++, for the tests: the same text, with loops where a card has threads.

#define DEVICE static inline
#define KERNEL static
#define BLOCK_SIZE 128u
#define BLOCK_X at.block[0]
#define BLOCK_Y at.block[1]
#define BLOCK_Z at.block[2]
#define THREAD_X at.thread

static thread_local struct {
    unsigned block[3], thread;
} at;

#include "../kernels.cu"

// Runs kernel 0 (colour), 1 (rows) or 2 (columns) over a grid of blocks.
extern "C" void trommel_stand_in(int kernel, u8 *arena, u64 descriptors, const unsigned grid[3]) {
    void (*const kernels[])(u8 *, const u64) = {trommel_colour, trommel_rows, trommel_columns};
    for (at.block[2] = 0; at.block[2] < grid[2]; at.block[2]++)
        for (at.block[1] = 0; at.block[1] < grid[1]; at.block[1]++)
            for (at.block[0] = 0; at.block[0] < grid[0]; at.block[0]++)
                for (at.thread = 0; at.thread < BLOCK_SIZE; at.thread++) kernels[kernel](arena, descriptors);
}
