/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */

/*
 * Blocks: who has which part of an address range. Runs in the orchestrator, one thread, no locks;
 * owns the metadata only and never touches the managed memory, which other processes share. The
 * search is TLSF's good fit over two levels of bitmaps (M. Masmano, I. Ripoll, A. Crespo, J. Real:
 * "TLSF: a new dynamic memory allocator for real-time systems", ECRTS 2004), with the headers moved
 * out of the blocks: descriptors come from a pool and are chained in address order, so that
 * neighbours can be joined. To find a block by an address there are small cells of the range: a
 * tree of bitmaps says in which of them live blocks start, a hash leads from such a cell to its
 * first block. The tree has only those parts in which a block ever started, and they are small: a
 * first large block is not to pay for a map of many small ones. Whatever must grow grows before the
 * first change: -ENOMEM changes nothing.
 */

#include "engine/blocks.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define CLASS_COUNT (BLOCKS_ROW_COUNT * BLOCKS_CLASS_PER_ROW)
#define CLASS_NONE UINT32_MAX
#define POOL_COUNT_MIN 64u
#define SLOT_BITS_MIN 7u
#define CELL_BYTES 512u /* at most 8 starts: what a search may have to step over */
#define PAGE_WORDS 64u
#define PAGE_BYTES (PAGE_WORDS * sizeof(uint64_t))
#define CHUNK_CELLS (64u * PAGE_WORDS * 64u) /* 128 MiB of the range; a page is 2 MiB of it */

/* Free blocks never touch each other; together all blocks tile the range. */
struct block {
    uint64_t addr;
    uint64_t live : 1;
    uint64_t bytes : 63; /* of a live block as asked; of a free one all there is */
    uint32_t prev;       /* by address */
    uint32_t next;
    union {
        struct {
            uint32_t prev; /* in the list of its class */
            uint32_t next; /* there, or in the chain of spare descriptors */
        } free;
        uint32_t owner;
    } u;
};

/*
 * A cell in which live blocks start. Open addressing, linear probing; a removal closes the gap, so
 * there are no tombstones.
 */
struct block_slot {
    uint32_t key;   /* low bits of the cell's number: places the slot without its descriptor */
    uint32_t block; /* the first of these blocks; 0: empty */
};

/*
 * Cells in which live blocks start. A bit of a page is for a cell, one of row for a word of its
 * page, one of top for a row.
 */
struct block_chunk {
    uint64_t top;
    uint64_t row[64];
    uint64_t *pages[64]; /* NULL where no block has started yet */
};

static int reserve(struct blocks *b, uint64_t cell);
static uint32_t find_fit(const struct blocks *b, uint64_t need, uint64_t align);
static uint32_t carve(struct blocks *b, uint32_t id, uint64_t addr, uint64_t need);
static void put_free(struct blocks *b, uint32_t id);
static void drop_free(struct blocks *b, uint32_t id);
static void absorb_next(struct blocks *b, uint32_t id);
static uint32_t take_descriptor(struct blocks *b);
static uint32_t class_from(const struct blocks *b, uint32_t class_idx);
static int grow_pool(struct blocks *b);
static int grow_slots(struct blocks *b);
static int make_chunks(struct blocks *b);
static void *make_zeroed(struct blocks *b, uint64_t bytes);
static void free_chunk(struct block_chunk *chunk);
static void add_slot(struct blocks *b, uint32_t key, uint32_t id);
static void add_start(struct blocks *b, uint32_t id);
static uint32_t remove_start(struct blocks *b, uint64_t addr);
static uint32_t find_block(const struct blocks *b, uint64_t addr);

static inline uint32_t lowest(uint64_t bits)
{
    return (uint32_t)__builtin_ctzll(bits);
}

static inline uint32_t highest(uint64_t bits)
{
    return 63u - (uint32_t)__builtin_clzll(bits);
}

static inline uint64_t round_up(uint64_t bytes)
{
    return (bytes + BLOCKS_UNIT - 1) & ~(uint64_t)(BLOCKS_UNIT - 1);
}

static inline uint64_t cell_of(const struct blocks *b, uint64_t addr)
{
    return (addr - b->base) / CELL_BYTES;
}

/* How many chunks the range has. */
static inline uint64_t chunk_count(const struct blocks *b)
{
    return b->bytes / CELL_BYTES / CHUNK_CELLS + 1;
}

int blocks_init(struct blocks *b, uint64_t base, uint64_t bytes)
{
    int rc;

    memset(b, 0, sizeof(*b));
    if (bytes > UINT64_MAX - base || base > UINT64_MAX - (BLOCKS_UNIT - 1))
        return -EINVAL;
    b->base = round_up(base);
    if (bytes >= b->base - base)
        b->bytes = (bytes - (b->base - base)) & ~(uint64_t)(BLOCKS_UNIT - 1);
    if (b->bytes > UINT64_MAX / 2) { /* a descriptor has 63 bits for it */
        memset(b, 0, sizeof(*b));
        return -EINVAL;
    }
    if ((rc = grow_pool(b)) < 0 || (rc = grow_slots(b)) < 0 || (rc = make_chunks(b)) < 0) {
        blocks_fini(b);
        return rc;
    }
    if (b->bytes > 0) {
        b->first = take_descriptor(b);
        b->pool[b->first] = (struct block){.addr = b->base, .bytes = b->bytes};
        put_free(b, b->first);
    }
    return 0;
}

void blocks_fini(struct blocks *b)
{
    uint64_t i;

    if (b == NULL)
        return;
    for (i = 0; b->chunks != NULL && i < chunk_count(b); i++)
        free_chunk(b->chunks[i]);
    free(b->chunks);
    free(b->chunks_used);
    free(b->slots);
    free(b->pool);
    memset(b, 0, sizeof(*b));
}

int blocks_alloc(struct blocks *b, uint64_t bytes, uint64_t align, uint32_t owner,
                 uint64_t *ret_addr)
{
    uint64_t need, addr;
    uint32_t id;
    int rc;

    if (bytes == 0 || align < BLOCKS_UNIT || (align & (align - 1)) != 0)
        return -EINVAL;
    if (bytes > b->bytes)
        return -ENOSPC;
    need = round_up(bytes);
    id = find_fit(b, need, align);
    if (id == 0)
        return -ENOSPC;
    addr = (b->pool[id].addr + align - 1) & ~(align - 1);
    rc = reserve(b, cell_of(b, addr));
    if (rc < 0)
        return rc;

    id = carve(b, id, addr, need);
    b->pool[id].live = 1;
    b->pool[id].bytes = bytes;
    b->pool[id].u.owner = owner;
    add_start(b, id);
    b->live_count++;
    b->held += need;
    if (b->held > b->held_max)
        b->held_max = b->held;
    *ret_addr = addr;
    return 0;
}

int blocks_free(struct blocks *b, uint64_t addr)
{
    struct block *blk;
    uint32_t id;

    if (addr - b->base >= b->bytes)
        return -ENOENT;
    id = remove_start(b, addr);
    if (id == 0)
        return -ENOENT;
    blk = &b->pool[id];
    blk->live = 0;
    blk->bytes = round_up(blk->bytes);
    b->live_count--;
    b->held -= blk->bytes;

    if (blk->next != 0 && !b->pool[blk->next].live) {
        drop_free(b, blk->next);
        absorb_next(b, id);
    }
    if (blk->prev != 0 && !b->pool[blk->prev].live) {
        id = blk->prev;
        drop_free(b, id);
        absorb_next(b, id);
    }
    put_free(b, id);
    return 0;
}

int blocks_find(struct blocks *b, uint64_t addr, struct block_info *ret)
{
    const struct block *blk = &b->pool[b->recent];

    if (addr - b->base >= b->bytes)
        return -ENOENT;
    if (!blk->live || addr - blk->addr >= blk->bytes) {
        b->recent = find_block(b, addr);
        blk = &b->pool[b->recent];
        if (b->recent == 0 || !blk->live || addr - blk->addr >= blk->bytes)
            return -ENOENT;
    }
    *ret = (struct block_info){.base = blk->addr, .bytes = blk->bytes, .owner = blk->u.owner};
    return 0;
}

int blocks_set_owner(struct blocks *b, uint64_t addr, uint32_t owner)
{
    uint32_t id = addr - b->base < b->bytes ? find_block(b, addr) : 0;

    if (id == 0 || !b->pool[id].live || b->pool[id].addr != addr)
        return -ENOENT;
    b->pool[id].u.owner = owner;
    return 0;
}

void blocks_stat(const struct blocks *b, struct blocks_stat *ret)
{
    uint64_t largest = 0;
    uint32_t row, id;

    if (b->rows_used != 0) {
        row = highest(b->rows_used);
        id = b->heads[row * BLOCKS_CLASS_PER_ROW + highest(b->classes_used[row])];
        for (; id != 0; id = b->pool[id].u.free.next) {
            if (b->pool[id].bytes > largest)
                largest = b->pool[id].bytes;
        }
    }
    *ret = (struct blocks_stat){
        .held = b->held,
        .free = b->bytes - b->held,
        .largest_free = largest,
        .live_count = b->live_count,
        .held_max = b->held_max,
        .meta_bytes = b->meta_bytes,
    };
}

/*
 * Size classes. Sizes below 64 units have a class each; above, each power of two has 32. The class
 * numbers grow with the size, and a row of classes is one word of the second-level bitmap.
 */

/* The class that a free block of so many units stands in. */
static uint32_t class_of(uint64_t units)
{
    uint32_t top;

    if (units < BLOCKS_CLASS_PER_ROW)
        return (uint32_t)units;
    top = highest(units);
    return (top - 4) * BLOCKS_CLASS_PER_ROW +
           (uint32_t)((units >> (top - 5)) & (BLOCKS_CLASS_PER_ROW - 1));
}

/* The lowest class all of whose blocks have at least so many units. */
static uint32_t class_above(uint64_t units)
{
    if (units < BLOCKS_CLASS_PER_ROW)
        return (uint32_t)units;
    return class_of(units + ((uint64_t)1 << (highest(units) - 5)) - 1);
}

/* The lowest class from class_idx on that has a free block, or CLASS_NONE. */
static uint32_t class_from(const struct blocks *b, uint32_t class_idx)
{
    uint32_t row = class_idx / BLOCKS_CLASS_PER_ROW, classes;
    uint64_t rows;

    if (class_idx >= CLASS_COUNT)
        return CLASS_NONE;
    classes = b->classes_used[row] & (UINT32_MAX << class_idx % BLOCKS_CLASS_PER_ROW);
    if (classes == 0) {
        rows = b->rows_used & (UINT64_MAX << row << 1);
        if (rows == 0)
            return CLASS_NONE;
        row = lowest(rows);
        classes = b->classes_used[row];
    }
    return row * BLOCKS_CLASS_PER_ROW + lowest(classes);
}

static uint32_t head_from(const struct blocks *b, uint32_t class_idx)
{
    uint32_t found = class_from(b, class_idx);

    return found == CLASS_NONE ? 0 : b->heads[found];
}

static bool fits(const struct block *blk, uint64_t need, uint64_t align)
{
    uint64_t gap = (0 - blk->addr) & (align - 1);

    return gap < blk->bytes && blk->bytes - gap >= need;
}

/*
 * Good fit. First the newest hole of this very class: it is not sure to be large enough, but when
 * sizes recur it is, and to pass it by would break a larger block for each reuse. Then the classes
 * where every block will do, without and with room to move up to the alignment. The walk at the end
 * is reached only when those are exhausted; it finds what fits by its place or within its class.
 */
static uint32_t find_fit(const struct blocks *b, uint64_t need, uint64_t align)
{
    uint64_t units = need / BLOCKS_UNIT, slack = align - BLOCKS_UNIT;
    uint32_t class_idx, id;

    id = b->heads[class_of(units)];
    if (id != 0 && fits(&b->pool[id], need, align))
        return id;
    id = head_from(b, class_above(units));
    if (id != 0 && fits(&b->pool[id], need, align))
        return id;
    if (slack > 0 && slack <= b->bytes - need) {
        id = head_from(b, class_above(units + slack / BLOCKS_UNIT));
        if (id != 0)
            return id;
    }
    for (class_idx = class_from(b, class_of(units)); class_idx != CLASS_NONE;
         class_idx = class_from(b, class_idx + 1)) {
        for (id = b->heads[class_idx]; id != 0; id = b->pool[id].u.free.next) {
            if (fits(&b->pool[id], need, align))
                return id;
        }
    }
    return 0;
}

static void put_free(struct blocks *b, uint32_t id)
{
    struct block *blk = &b->pool[id];
    uint32_t class_idx = class_of(blk->bytes / BLOCKS_UNIT);
    uint32_t row = class_idx / BLOCKS_CLASS_PER_ROW;

    blk->u.free.prev = 0;
    blk->u.free.next = b->heads[class_idx];
    if (blk->u.free.next != 0)
        b->pool[blk->u.free.next].u.free.prev = id;
    b->heads[class_idx] = id;
    b->classes_used[row] |= UINT32_C(1) << class_idx % BLOCKS_CLASS_PER_ROW;
    b->rows_used |= UINT64_C(1) << row;
}

static void drop_free(struct blocks *b, uint32_t id)
{
    const struct block *blk = &b->pool[id];
    uint32_t class_idx = class_of(blk->bytes / BLOCKS_UNIT);
    uint32_t row = class_idx / BLOCKS_CLASS_PER_ROW;

    if (blk->u.free.next != 0)
        b->pool[blk->u.free.next].u.free.prev = blk->u.free.prev;
    if (blk->u.free.prev != 0) {
        b->pool[blk->u.free.prev].u.free.next = blk->u.free.next;
        return;
    }
    b->heads[class_idx] = blk->u.free.next;
    if (b->heads[class_idx] != 0)
        return;
    b->classes_used[row] &= ~(UINT32_C(1) << class_idx % BLOCKS_CLASS_PER_ROW);
    if (b->classes_used[row] == 0)
        b->rows_used &= ~(UINT64_C(1) << row);
}

/* Descriptors in address order. */

/* reserve has seen to it that there is one. */
static uint32_t take_descriptor(struct blocks *b)
{
    uint32_t id = b->spare;

    if (id != 0) {
        b->spare = b->pool[id].u.free.next;
        b->spare_count--;
        return id;
    }
    assert(b->pool_used < b->pool_count);
    return b->pool_used++;
}

/* Cuts a block that is on no list after so many bytes. Returns: the second part, on no list. */
static uint32_t split(struct blocks *b, uint32_t id, uint64_t bytes)
{
    uint32_t rest = take_descriptor(b);
    struct block *blk = &b->pool[id];

    b->pool[rest] = (struct block){
        .addr = blk->addr + bytes,
        .bytes = blk->bytes - bytes,
        .prev = id,
        .next = blk->next,
    };
    if (blk->next != 0)
        b->pool[blk->next].prev = rest;
    blk->next = rest;
    blk->bytes = bytes;
    return rest;
}

/* Joins two blocks that are on no list. */
static void absorb_next(struct blocks *b, uint32_t id)
{
    struct block *blk = &b->pool[id];
    uint32_t gone = blk->next;

    blk->bytes += b->pool[gone].bytes;
    blk->next = b->pool[gone].next;
    if (blk->next != 0)
        b->pool[blk->next].prev = id;
    b->pool[gone].u.free.next = b->spare;
    b->spare = gone;
    b->spare_count++;
}

/* Takes [addr, addr + need) out of a free block; what lies before and behind stays free. */
static uint32_t carve(struct blocks *b, uint32_t id, uint64_t addr, uint64_t need)
{
    uint32_t front = id;

    drop_free(b, id);
    if (addr > b->pool[front].addr) {
        id = split(b, front, addr - b->pool[front].addr);
        put_free(b, front);
    }
    if (b->pool[id].bytes > need)
        put_free(b, split(b, id, need));
    return id;
}

/* Descriptors and slots grow by doubling, the bitmaps by a page; no metadata ever shrinks. */

static int charge(struct blocks *b, uint64_t bytes)
{
    if (b->meta_bytes_max != 0 && b->meta_bytes + bytes > b->meta_bytes_max)
        return -ENOMEM;
    b->meta_bytes += bytes;
    return 0;
}

/*
 * All that one allocation can need: two descriptors to cut with, a slot, a chunk, a page of it. What
 * is there when another is refused is kept for the next one; an empty chunk says nothing.
 */
static int reserve(struct blocks *b, uint64_t cell)
{
    struct block_chunk **chunk = &b->chunks[cell / CHUNK_CELLS];
    uint64_t **page;
    int rc;

    if (b->spare_count < 2 && b->spare_count + (b->pool_count - b->pool_used) < 2 &&
        (rc = grow_pool(b)) < 0)
        return rc;
    if (b->slot_used >= (UINT64_C(1) << b->slot_bits) / 2 && (rc = grow_slots(b)) < 0)
        return rc;
    if (*chunk == NULL && (*chunk = make_zeroed(b, sizeof(**chunk))) == NULL)
        return -ENOMEM;
    page = &(*chunk)->pages[cell % CHUNK_CELLS / 64 / PAGE_WORDS];
    if (*page == NULL && (*page = make_zeroed(b, PAGE_BYTES)) == NULL)
        return -ENOMEM;
    return 0;
}

static int grow_pool(struct blocks *b)
{
    uint32_t count = b->pool_count == 0 ? POOL_COUNT_MIN : b->pool_count * 2;
    uint64_t more = (uint64_t)(count - b->pool_count) * sizeof(*b->pool);
    struct block *pool;

    if (count <= b->pool_count || charge(b, more) < 0)
        return -ENOMEM;
    pool = realloc(b->pool, count * sizeof(*pool));
    if (pool == NULL) {
        b->meta_bytes -= more;
        return -ENOMEM;
    }
    b->pool = pool;
    b->pool_count = count;
    if (b->pool_used == 0)
        b->pool[b->pool_used++] = (struct block){0}; /* number 0, which means none */
    return 0;
}

static int grow_slots(struct blocks *b)
{
    uint32_t bits = b->slots == NULL ? SLOT_BITS_MIN : b->slot_bits + 1;
    uint64_t count_old = b->slots == NULL ? 0 : UINT64_C(1) << b->slot_bits;
    uint64_t count = UINT64_C(1) << bits, i;
    struct block_slot *old = b->slots, *slots;

    if (charge(b, (count - count_old) * sizeof(*slots)) < 0)
        return -ENOMEM;
    slots = calloc(count, sizeof(*slots));
    if (slots == NULL) {
        b->meta_bytes -= (count - count_old) * sizeof(*slots);
        return -ENOMEM;
    }
    b->slots = slots;
    b->slot_bits = bits;
    for (i = 0; i < count_old; i++) {
        if (old[i].block != 0)
            add_slot(b, old[i].key, old[i].block);
    }
    free(old);
    return 0;
}

/* Returns: a part of the bitmaps, charged; NULL. */
static void *make_zeroed(struct blocks *b, uint64_t bytes)
{
    void *part;

    if (charge(b, bytes) < 0)
        return NULL;
    part = calloc(1, bytes);
    if (part == NULL)
        b->meta_bytes -= bytes;
    return part;
}

static void free_chunk(struct block_chunk *chunk)
{
    uint32_t i;

    for (i = 0; chunk != NULL && i < 64; i++)
        free(chunk->pages[i]);
    free(chunk);
}

/* A pointer and a bit for 128 MiB of the range; the chunks themselves come with the blocks. */
static int make_chunks(struct blocks *b)
{
    uint64_t count = chunk_count(b), words = count / 64 + 1;

    if (charge(b, count * sizeof(*b->chunks) + words * sizeof(*b->chunks_used)) < 0)
        return -ENOMEM;
    b->chunks = calloc(count, sizeof(*b->chunks));
    b->chunks_used = calloc(words, sizeof(*b->chunks_used));
    return b->chunks == NULL || b->chunks_used == NULL ? -ENOMEM : 0;
}

/* From a cell to the first live block that starts in it. */

static uint64_t home_of(const struct blocks *b, uint32_t key)
{
    return (key * UINT64_C(0x9e3779b97f4a7c15)) >> (64 - b->slot_bits);
}

/* For a key that has no slot yet; there must be room. */
static void add_slot(struct blocks *b, uint32_t key, uint32_t id)
{
    uint64_t mask = (UINT64_C(1) << b->slot_bits) - 1, slot = home_of(b, key);

    while (b->slots[slot].block != 0)
        slot = (slot + 1) & mask;
    b->slots[slot] = (struct block_slot){.key = key, .block = id};
}

/* The slot of the cell, or an empty one. */
static uint64_t find_slot(const struct blocks *b, uint64_t cell)
{
    uint64_t mask = (UINT64_C(1) << b->slot_bits) - 1, slot = home_of(b, (uint32_t)cell);

    while (b->slots[slot].block != 0) {
        if (b->slots[slot].key == (uint32_t)cell &&
            cell_of(b, b->pool[b->slots[slot].block].addr) == cell)
            break;
        slot = (slot + 1) & mask;
    }
    return slot;
}

/* Pulls back those behind that may stand here, until a slot is empty. */
static void remove_slot(struct blocks *b, uint64_t slot)
{
    uint64_t mask = (UINT64_C(1) << b->slot_bits) - 1, at;

    for (at = (slot + 1) & mask; b->slots[at].block != 0; at = (at + 1) & mask) {
        if (((at - home_of(b, b->slots[at].key)) & mask) >= ((at - slot) & mask)) {
            b->slots[slot] = b->slots[at];
            slot = at;
        }
    }
    b->slots[slot].block = 0;
}

/* From any cell to the last one at or before it in which a live block starts. */

/* reserve has seen to it that there is a page. */
static void mark_cell(struct blocks *b, uint64_t cell)
{
    uint64_t chunk_idx = cell / CHUNK_CELLS, bit = cell % CHUNK_CELLS;
    uint64_t word = bit / 64, row = word / PAGE_WORDS;
    struct block_chunk *chunk = b->chunks[chunk_idx];

    chunk->pages[row][word % PAGE_WORDS] |= UINT64_C(1) << bit % 64;
    chunk->row[row] |= UINT64_C(1) << word % PAGE_WORDS;
    chunk->top |= UINT64_C(1) << row;
    b->chunks_used[chunk_idx / 64] |= UINT64_C(1) << chunk_idx % 64;
}

static void clear_cell(struct blocks *b, uint64_t cell)
{
    uint64_t chunk_idx = cell / CHUNK_CELLS, bit = cell % CHUNK_CELLS;
    uint64_t word = bit / 64, row = word / PAGE_WORDS;
    struct block_chunk *chunk = b->chunks[chunk_idx];

    chunk->pages[row][word % PAGE_WORDS] &= ~(UINT64_C(1) << bit % 64);
    if (chunk->pages[row][word % PAGE_WORDS] != 0)
        return;
    chunk->row[row] &= ~(UINT64_C(1) << word % PAGE_WORDS);
    if (chunk->row[row] != 0)
        return;
    chunk->top &= ~(UINT64_C(1) << row);
    if (chunk->top == 0)
        b->chunks_used[chunk_idx / 64] &= ~(UINT64_C(1) << chunk_idx % 64);
}

static inline uint64_t below(uint64_t bit)
{
    return (UINT64_C(1) << bit) - 1;
}

/* A word of the bits of a chunk, whether its page is there or not. */
static inline uint64_t bits_of(const struct block_chunk *chunk, uint64_t word)
{
    const uint64_t *page = chunk->pages[word / PAGE_WORDS];

    return page == NULL ? 0 : page[word % PAGE_WORDS];
}

static bool find_bit(const struct block_chunk *chunk, uint64_t bit, uint64_t *ret_bit)
{
    uint64_t word = bit / 64, row = word / PAGE_WORDS, bits, words, rows;

    bits = bits_of(chunk, word) & (UINT64_MAX >> (63 - bit % 64));
    if (bits == 0) {
        words = chunk->row[row] & below(word % PAGE_WORDS);
        if (words == 0) {
            rows = chunk->top & below(row);
            if (rows == 0)
                return false;
            row = highest(rows);
            words = chunk->row[row];
        }
        word = row * PAGE_WORDS + highest(words);
        bits = chunk->pages[row][word % PAGE_WORDS];
    }
    *ret_bit = word * 64 + highest(bits);
    return true;
}

/* A word of chunks_used spans 8 GiB: the walk over them is as short as a block is small. */
static bool find_cell(const struct blocks *b, uint64_t cell, uint64_t *ret_cell)
{
    uint64_t chunk_idx = cell / CHUNK_CELLS, word, used, bit;

    if (b->chunks[chunk_idx] == NULL || !find_bit(b->chunks[chunk_idx], cell % CHUNK_CELLS, &bit)) {
        word = chunk_idx / 64;
        used = b->chunks_used[word] & below(chunk_idx % 64);
        while (used == 0) {
            if (word == 0)
                return false;
            used = b->chunks_used[--word];
        }
        chunk_idx = word * 64 + highest(used);
        if (!find_bit(b->chunks[chunk_idx], CHUNK_CELLS - 1, &bit))
            return false;
    }
    *ret_cell = chunk_idx * CHUNK_CELLS + bit;
    return true;
}

/* Steps from a block to the one, live or free, that holds an address at or after it. */
static uint32_t step_to(const struct blocks *b, uint32_t id, uint64_t addr)
{
    while (addr - b->pool[id].addr >= round_up(b->pool[id].bytes))
        id = b->pool[id].next;
    return id;
}

static void add_start(struct blocks *b, uint32_t id)
{
    uint64_t addr = b->pool[id].addr, cell = cell_of(b, addr);
    struct block_slot *slot = &b->slots[find_slot(b, cell)];

    if (slot->block == 0) {
        *slot = (struct block_slot){.key = (uint32_t)cell, .block = id};
        b->slot_used++;
        mark_cell(b, cell);
    } else if (addr < b->pool[slot->block].addr) {
        slot->block = id;
    }
}

/* Returns: the live block that started there, 0 when none did. */
static uint32_t remove_start(struct blocks *b, uint64_t addr)
{
    uint64_t cell = cell_of(b, addr), slot = find_slot(b, cell);
    uint32_t first = b->slots[slot].block, id, next;

    if (first == 0 || addr < b->pool[first].addr)
        return 0;
    id = step_to(b, first, addr);
    if (b->pool[id].addr != addr || !b->pool[id].live)
        return 0;
    if (id != first)
        return id;
    next = b->pool[id].next;
    if (next != 0 && !b->pool[next].live)
        next = b->pool[next].next;
    if (next != 0 && cell_of(b, b->pool[next].addr) == cell) {
        b->slots[slot].block = next;
    } else {
        remove_slot(b, slot);
        b->slot_used--;
        clear_cell(b, cell);
    }
    return id;
}

/* Returns: the block, live or free, that holds addr; 0 when no live one starts at or before it. */
static uint32_t find_block(const struct blocks *b, uint64_t addr)
{
    uint64_t cell = cell_of(b, addr), found;
    uint32_t id;

    if (!find_cell(b, cell, &found))
        return 0;
    id = b->slots[find_slot(b, found)].block;
    if (addr < b->pool[id].addr) { /* in the same cell, but behind it */
        if (cell == 0 || !find_cell(b, cell - 1, &found))
            return 0;
        id = b->slots[find_slot(b, found)].block;
    }
    return step_to(b, id, addr);
}

/* The blocks tile the range in order, no two free ones touch, and the counters agree with them. */
static bool tiles_are_sound(const struct blocks *b, uint64_t *ret_free_count)
{
    uint64_t addr = b->base, held = 0, live_count = 0, free_count = 0, span;
    uint32_t id, prev = 0;

    for (id = b->first; id != 0; prev = id, id = b->pool[id].next) {
        const struct block *blk = &b->pool[id];

        if (id >= b->pool_used || blk->addr != addr || blk->prev != prev || blk->bytes == 0)
            return false;
        span = round_up(blk->bytes);
        if (span > b->bytes - (addr - b->base))
            return false;
        if (blk->live) {
            live_count++;
            held += span;
            if (find_block(b, addr) != id)
                return false;
        } else {
            free_count++;
            if (blk->bytes != span || (prev != 0 && !b->pool[prev].live))
                return false;
        }
        addr += span;
    }
    *ret_free_count = free_count;
    return addr == b->base + b->bytes && held == b->held && live_count == b->live_count &&
           held <= b->held_max && b->held_max <= b->bytes &&
           1 + live_count + free_count + b->spare_count == b->pool_used;
}

/* Each free block stands in the list of its class, the bitmaps say which lists are not empty. */
static bool lists_are_sound(const struct blocks *b, uint64_t free_count)
{
    uint32_t class_idx, row, id, prev, spare_count = 0;
    uint64_t count = 0;

    for (class_idx = 0; class_idx < CLASS_COUNT; class_idx++) {
        row = class_idx / BLOCKS_CLASS_PER_ROW;
        if ((b->classes_used[row] >> class_idx % BLOCKS_CLASS_PER_ROW & 1) !=
                (b->heads[class_idx] != 0) ||
            (b->rows_used >> row & 1) != (b->classes_used[row] != 0))
            return false;
        for (prev = 0, id = b->heads[class_idx]; id != 0; id = b->pool[id].u.free.next) {
            if (++count > free_count || b->pool[id].live || b->pool[id].u.free.prev != prev ||
                class_of(b->pool[id].bytes / BLOCKS_UNIT) != class_idx)
                return false;
            prev = id;
        }
    }
    for (id = b->spare; id != 0; id = b->pool[id].u.free.next) {
        if (++spare_count > b->spare_count)
            return false;
    }
    return count == free_count && spare_count == b->spare_count;
}

/* Without a page no bit of its row is set. */
static bool row_is_sound(const uint64_t *page, uint64_t row, uint64_t *count)
{
    uint64_t word;

    if (page == NULL)
        return row == 0;
    for (word = 0; word < PAGE_WORDS; word++) {
        if ((row >> word & 1) != (page[word] != 0))
            return false;
        *count += (uint64_t)__builtin_popcountll(page[word]);
    }
    return true;
}

static bool chunk_is_sound(const struct blocks *b, uint64_t chunk_idx, uint64_t *count)
{
    const struct block_chunk *chunk = b->chunks[chunk_idx];
    uint64_t used = b->chunks_used[chunk_idx / 64] >> chunk_idx % 64 & 1, row;

    if (chunk == NULL)
        return used == 0;
    for (row = 0; row < 64; row++) {
        if (!row_is_sound(chunk->pages[row], chunk->row[row], count) ||
            (chunk->top >> row & 1) != (chunk->row[row] != 0))
            return false;
    }
    return used == (chunk->top != 0);
}

/* Each slot has the first block of its cell, each such cell has its bit; there are no others. */
static bool cells_are_sound(const struct blocks *b)
{
    uint64_t slot, chunk_idx, cell, seen = UINT64_MAX, slots = 0, bits = 0, cell_count = 0;
    uint32_t id;

    for (slot = 0; slot < UINT64_C(1) << b->slot_bits; slot++)
        slots += b->slots[slot].block != 0;
    for (chunk_idx = 0; chunk_idx < chunk_count(b); chunk_idx++) {
        if (!chunk_is_sound(b, chunk_idx, &bits))
            return false;
    }
    for (id = b->first; id != 0; id = b->pool[id].next) {
        cell = cell_of(b, b->pool[id].addr);
        if (!b->pool[id].live || cell == seen)
            continue;
        seen = cell;
        cell_count++;
        if (b->slots[find_slot(b, cell)].block != id)
            return false;
    }
    return slots == cell_count && bits == cell_count && b->slot_used == cell_count;
}

/* What was charged is what there is. */
static bool charges_are_sound(const struct blocks *b)
{
    uint64_t count = chunk_count(b), bytes, page;

    bytes = b->pool_count * sizeof(*b->pool) + (sizeof(*b->slots) << b->slot_bits) +
            count * sizeof(*b->chunks) + (count / 64 + 1) * sizeof(*b->chunks_used);
    for (page = 0; page < 64 * count; page++) {
        const struct block_chunk *chunk = b->chunks[page / 64];

        if (chunk != NULL)
            bytes += (page % 64 == 0 ? sizeof(*chunk) : 0) +
                     (chunk->pages[page % 64] != NULL ? PAGE_BYTES : 0);
    }
    return bytes == b->meta_bytes;
}

int blocks_check(const struct blocks *b)
{
    uint64_t free_count;

    if (!tiles_are_sound(b, &free_count) || !lists_are_sound(b, free_count) ||
        !cells_are_sound(b) || !charges_are_sound(b))
        return -EUCLEAN;
    return 0;
}
