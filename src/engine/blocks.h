/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */

/*
 * Blocks: an address-range allocator that never looks at the memory it hands out. The managed range
 * is shared with other processes, so nothing is kept in it: descriptors and indexes are private to
 * the orchestrator, the only process and thread that runs this code; there are no locks. A block's
 * memory is neither zeroed nor given back to the system here. The caller owns struct blocks; what
 * hangs off it belongs to blocks.c and goes with blocks_fini.
 */

#ifndef TRANSOM_ENGINE_BLOCKS_H
#define TRANSOM_ENGINE_BLOCKS_H

#include <stdint.h>

#define BLOCKS_UNIT 64u          /* bytes; every block is a whole number of units */
#define BLOCKS_ROW_COUNT 55u     /* powers of two of a size in units; the lowest five are one row */
#define BLOCKS_CLASS_PER_ROW 32u /* linear steps within a row */

struct block;       /* descriptor of one block, live or free */
struct block_slot;  /* one cell of the range -> the first live block that starts in it */
struct block_chunk; /* in which cells of one stretch of the range live blocks start */

/* All fields are private, save meta_bytes_max. */
struct blocks {
    uint64_t base;
    uint64_t bytes;
    uint64_t held; /* bytes in live blocks, whole units */
    uint64_t held_max;
    uint64_t live_count;
    uint64_t meta_bytes;
    uint64_t meta_bytes_max; /* may be set after init: metadata beyond it is -ENOMEM; 0: no limit */

    struct block *pool; /* descriptors, named by index; number 0 means none */
    uint32_t pool_count;
    uint32_t pool_used; /* those from here on have never been in use */
    uint32_t spare;     /* chain of those that were, and are not now */
    uint32_t spare_count;
    uint32_t first;  /* the block at base */
    uint32_t recent; /* found last: most addresses that are asked for lie in it */

    uint32_t slot_bits; /* 2^slot_bits slots, at most half of them used */
    uint64_t slot_used;
    struct block_slot *slots;
    struct block_chunk **chunks; /* NULL where no block has started yet */
    uint64_t *chunks_used;       /* a bit per chunk: some live block starts in it */

    uint64_t rows_used;
    uint32_t classes_used[BLOCKS_ROW_COUNT];
    uint32_t heads[BLOCKS_ROW_COUNT * BLOCKS_CLASS_PER_ROW]; /* free blocks by size class */
};

struct block_info {
    uint64_t base;
    uint64_t bytes; /* as asked */
    uint32_t owner;
};

struct blocks_stat {
    uint64_t held; /* bytes in live blocks, each rounded up to whole units */
    uint64_t free; /* held + free is the range, trimmed to whole units */
    uint64_t largest_free;
    uint64_t live_count;
    uint64_t held_max; /* the most that was ever held */
    uint64_t meta_bytes;
};

/*
 * Takes charge of [base, base + bytes), trimmed to whole units at both ends. The cost does not
 * depend on bytes, but for a table of 64 KiB a TiB. What b held before is overwritten; after a
 * failure it is zeroed.
 * Returns: 0, -ENOMEM, -EINVAL when the range wraps around.
 */
int blocks_init(struct blocks *b, uint64_t base, uint64_t bytes);

/* Forgets all blocks and frees the metadata. Accepts NULL, zeroed, half-built; leaves b zeroed. */
void blocks_fini(struct blocks *b);

/*
 * Takes a block of at least bytes, rounded up to whole units, at a multiple of align. owner is the
 * caller's own and comes back from blocks_find. Constant time, but for the growth of the metadata
 * and for the look at every block that could do before -ENOSPC is said. A failure changes nothing.
 * Returns: 0; -ENOSPC when no free block is large enough at that alignment; -ENOMEM; -EINVAL when
 * bytes is 0 or align is not a power of two of at least BLOCKS_UNIT.
 */
int blocks_alloc(struct blocks *b, uint64_t bytes, uint64_t align, uint32_t owner,
                 uint64_t *ret_addr);

/*
 * Returns the block that starts at addr and joins it with free neighbours. Needs no memory.
 * Returns: 0; -ENOENT when no live block starts there (freed before, interior, foreign).
 */
int blocks_free(struct blocks *b, uint64_t addr);

/*
 * Tells which live block holds the byte at addr; what rounding added to a block is nobody's.
 * Returns: 0; -ENOENT.
 */
int blocks_find(struct blocks *b, uint64_t addr, struct block_info *ret);

/* Another owner for the block that starts at addr. Returns: 0, -ENOENT. */
int blocks_set_owner(struct blocks *b, uint64_t addr, uint32_t owner);

/* The counters; looks at each free block in the highest size class for the largest. */
void blocks_stat(const struct blocks *b, struct blocks_stat *ret);

/*
 * Looks at all metadata, for tests. Returns: 0; -EUCLEAN when something contradicts something else.
 */
int blocks_check(const struct blocks *b);

#endif
