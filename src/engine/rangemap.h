/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * The range map: which tasks a new task must follow, by the bytes they touch.
 *
 * For every range of bytes it remembers the last writer and the readers since; overlap decides, not
 * equal addresses. It runs in the orchestrator, on its one thread, without locks, and owns its own
 * memory only: what a ref means is the engine's business and is asked through rangemap_ops.
 *
 * Exact for plain ranges and for strided views of one pitch, also mixed with each other. Where
 * views of different pitches interleave it may report edges to tasks that touch other bytes of the
 * same rows, and never misses one.
 */
#ifndef TRANSOM_ENGINE_RANGEMAP_H
#define TRANSOM_ENGINE_RANGEMAP_H

#include <stdbool.h>
#include <stdint.h>

/* Where the end of a task can be seen. Compared bitwise. */
struct taskref {
    uint32_t place; /* a chip's index, or one of the engine's special places (sub pool, group) */
    uint32_t run;   /* the run that submitted it */
    uint64_t value; /* a chip: its number on that chip's timeline; otherwise opaque */
};

/* What the engine answers about a ref. PENDING may become one of the others, never back. */
enum ref_state { REF_PENDING, REF_DONE, REF_FAILED };

enum edge_kind {
    EDGE_RAW,     /* reads what the ref writes */
    EDGE_WAR,     /* writes what the ref reads */
    EDGE_WAW,     /* writes what the ref writes */
    EDGE_BARRIER, /* the bytes were barred until the ref is done (rangemap_bar) */
    EDGE_POISON   /* reads what the ref should have written, and it failed: nothing to wait for */
};

enum access {
    ACCESS_READ,
    ACCESS_WRITE,
    ACCESS_READWRITE,
    ACCESS_USE /* tag NO_DEP: no edge but barriers; remembered until taken */
};

/* None of the calls may come back into the map. */
struct rangemap_ops {
    void *ctx;
    enum ref_state (*state)(void *ctx, struct taskref ref);
    void (*edge)(void *ctx, struct taskref ref, enum edge_kind kind); /* may repeat itself */
    /*
     * Refs with place < this are points on a timeline: a later value on the same place implies an
     * earlier one, so of readers, users and barriers only the largest value per place is kept.
     */
    uint32_t timeline_places;
};

/*
 * The bytes of one strided view: `rows` runs of `width` bytes, `pitch` bytes apart. With one row
 * the pitch is not looked at. No bytes (width or rows 0) is allowed and touches nothing.
 */
struct span {
    uint64_t base, width, pitch, rows;
};

/* Private from here on: declared so that an engine can embed the map. */
struct range_index {
    struct range_cell **slabs; /* cells, in slabs of fixed size: a cell never moves */
    uint32_t slab_count, slab_max;
    uint32_t cell_fresh; /* the first cell never handed out */
    uint32_t cell_freed; /* head of the list of those that came back */
    uint32_t cell_spare; /* how many can be had without growing */

    uint64_t *low;            /* directory: no key in leaf i is below low[i] ... */
    struct range_leaf **leaf; /* ... and all keys in the leaves before it are */
    uint32_t leaf_count, leaf_max;
    struct range_leaf *leaf_spare;
    uint32_t leaf_spare_count;
};

/*
 * The way past the index for an access with the bounds of the last time. A hint only: what it names
 * is looked at before it is believed, so nothing has to be taken out of it.
 */
#define RANGE_CACHED_BITS 10

struct range_recall {
    struct range_bucket *bucket; /* 1 << bits of them, or NULL */
    uint32_t bits;
};

struct range_spill {
    uint64_t lo, hi;
    struct taskref ref;
    uint8_t kind;
};

struct rangemap {
    struct rangemap_ops ops;
    struct range_index index;
    struct range_recall recall;
    uint64_t count; /* intervals and columns that hold marks */

    /* What found no memory: looked at by every access, so it costs time but no edge. */
    struct range_spill *spill;
    uint32_t spill_count, spill_max;

    /* The sweep: a lap over all cells, in small steps that new cells pay for. */
    uint64_t sweep_at;    /* key to go on from */
    uint64_t sweep_limit; /* a lap starts when count passes this */
    uint32_t sweep_credit;
    uint8_t sweeping;
};

/* Returns: 0, -ENOMEM. */
int rangemap_init(struct rangemap *map, const struct rangemap_ops *ops);

/* Accepts a zeroed map; leaves a zeroed map. */
void rangemap_fini(struct rangemap *map);

/*
 * Makes sure that the next `nspans` calls of rangemap_access cannot fail (one rangemap_bar counts
 * as its number of refs). Also the place where cells that no longer say anything are swept away.
 *
 * The bound: an access takes as many cells as it meets intervals, which nobody knows beforehand.
 * What is reserved is a usual amount of them and, per access, one spill record. An access that
 * needs more asks for more itself, and where it gets none, the rest of its bounding range goes
 * into the spill record: every edge is still reported, perhaps some that need not be.
 *
 * Returns: 0; -ENOMEM, and nothing the map says has changed.
 */
int rangemap_reserve(struct rangemap *map, uint32_t nspans);

/*
 * Reports through ops->edge what `self` must follow to do this, then remembers it:
 *
 *   access      to the last writer      to readers since    leaves behind
 *   READ        RAW, or POISON          -                   a reader
 *   WRITE       WAW                     WAR                 the writer; readers, poison cleared
 *   READWRITE   RAW, or POISON          WAR                 the same
 *   USE         -                       -                   a user (for rangemap_take)
 *
 * and for each of them BARRIER to the barriers on the bytes. Only pending refs get edges, except
 * POISON, which goes to writers that failed. A ref equal to self never gives an edge: the arguments
 * of one task, and the members of one group, share a ref. Done refs that are met are dropped.
 *
 * An earlier writer stays remembered while it is pending or failed; what is done or was
 * overwritten may be forgotten.
 */
void rangemap_access(struct rangemap *map, const struct span *span, enum access access,
                     struct taskref self);

/*
 * Hints that an access to the span follows, for the processor's caches; first all near ones of a task, some other
 * work, then all close ones: the misses of several accesses overlap. Only for a map that is large.
 */
void rangemap_expect(const struct rangemap *map, const struct span *span);
void rangemap_expect_close(const struct rangemap *map, const struct span *span);

/* More than a core's own caches hold: some 10^4 intervals. */
static inline bool rangemap_is_large(const struct rangemap *map)
{
    return map->recall.bits > RANGE_CACHED_BITS;
}

/* The same edges for somebody without a ref (a copy, host_wait). Remembers nothing. */
void rangemap_edges(struct rangemap *map, const struct span *span, enum access access);

/*
 * The memory [lo, hi) is given back: calls `each` with every pending ref on it (writers, readers,
 * users, barriers; may repeat itself), then forgets all that is known about these bytes. (Where an
 * interval must be cut and there is no memory for that, what was known of it stays.)
 */
void rangemap_take(struct rangemap *map, uint64_t lo, uint64_t hi,
                   void (*each)(void *ctx, struct taskref ref), void *ctx);

/* Every later access to a byte of [lo, hi) follows the refs, until taken. Reserve n first. */
void rangemap_bar(struct rangemap *map, uint64_t lo, uint64_t hi, const struct taskref *refs,
                  uint32_t n);

/*
 * To be called before the engine forgets a failed run. Bytes whose writer failed stay poisoned
 * until they are written again (wholly: a view of another pitch among them does not cure) or taken.
 * Everything that has ended is dropped: state() is not asked about it again.
 */
void rangemap_poison(struct rangemap *map);

/* How many intervals the map holds, those included that a sweep would drop. */
uint64_t rangemap_count(const struct rangemap *map);

/*
 * For tests. Returns: 0, or the first broken invariant: -1 the directory, -2 keys or intervals out
 * of order, -3 marks, -4 columns of a band, -5 a cell lost or in use twice, -6 the count.
 */
int rangemap_check(const struct rangemap *map);

/*
 * The bytes of a view of up to 8 dimensions (byte strides, zero and negative too), as at most `max`
 * spans: what is contiguous merged, one dimension kept as rows, further ones written out where
 * they fit, else made a superset. A size of zero gives no span. Elements that overlap are allowed.
 * Returns: how many spans; -EINVAL (more dimensions, or max 0); -EOVERFLOW (beyond 64 bits).
 */
int span_from_view(uint64_t base, uint32_t ndim, const uint64_t *shape,
                   const int64_t *strides_bytes, uint64_t elem_bytes, struct span *out,
                   uint32_t max);

#endif
