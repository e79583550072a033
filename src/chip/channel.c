/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Channels between the ranks of a domain (channel.h has the protocol). Chip processes, inside a task; a member writes
 * the words in its own area, its lines and credits in the areas of the others. What a peer wrote is read once and
 * checked. The model is tests/model/channel.pml. docs/collectives.md.
 */
#include "chip/channel.h"

#include <stdio.h>
#include <string.h>

#include "base/fault.h"
#include "chip/chaos.h"
#include "chip/copy.h"

enum {
    HOW_SHIFT = 24,
    ACKED_SHIFT = 48,
    ACKED_BITS = 16,
    LOOKS = 100,
    STAGED_MAX = 2 * STAGE_BYTES,
    /* how: the bytes in the line, or one of these */
    HOW_STAGED = 0xfe,
    HOW_LENT = 0xff
};

/* What the payload of a staged or lent message says. */
struct pointer {
    uint64_t offset; /* from the sender's window; may lie in its stage */
    uint64_t bytes;
};

static inline struct sync_message *line_of(const tsm_ctx *c, uint32_t to, uint32_t from,
                                           uint64_t number)
{
    void *channels = (uint8_t *)sync_of(c, to) + c->channel_at;
    return (struct sync_message *)channels + from * c->depth + (number & (c->depth - 1));
}

static uint8_t *stage_of(const tsm_ctx *c, uint32_t slot)
{
    return (uint8_t *)sync_of(c, c->self) + sync_stage_offset(c->desc->size) + slot * STAGE_BYTES;
}

struct call call_make(const tsm_ctx *c, enum call_kind kind, int dtype, int op, uint32_t root,
                      uint64_t count, tsm_sym dst, tsm_sym src)
{
    uint64_t places = (dst.offset * UINT64_C(0x9e3779b97f4a7c15)) ^ src.offset;
    places *= UINT64_C(0xff51afd7ed558ccd);
    return (struct call){(uint64_t)kind | (uint64_t)(uint8_t)dtype << 8 |
                             (uint64_t)(uint8_t)op << 16 | (uint64_t)(uint16_t)root << 32,
                         count, (uint32_t)(places >> 32), c->group};
}

int channel_begin(tsm_ctx *c, const struct call *call)
{
    struct sync_head *own = sync_of(c, c->self);
    if (c->desc->generation != c->generation) {
        return ctx_refuse(c, TSM_ESTALE, "it has been released");
    }
    if (own->generation != c->generation) {
        memset(sync_peers(c), 0, c->desc->size * sizeof(struct sync_peer));
        own->generation = c->generation;
    }
    own->call = *call;
    c->deadline_ns = c->timeout_ns < 0 ? 0 : clock_ns() + (uint64_t)c->timeout_ns;
    /* Either stays: a rank that was interrupted gives nothing that a peer could take for what comes later. */
    return run_is_aborted(c->chip, c->task->rec->run) ? TSM_EABORTED
           : domain_is_aborted(c)                     ? TSM_EPEER
                                                      : 0;
}

/* ---- misuse ---- */

/* What differs when both texts read the same. */
static const char *hidden_difference(const struct call *a, const struct call *b)
{
    return a->group != b->group     ? "; on different sub-groups"
           : a->places != b->places ? "; at different places of the windows"
           : a->count != b->count   ? "; with different counts"
                                    : "";
}

static int misuse(tsm_ctx *c, uint32_t from, const struct call *own, const struct call *theirs,
                  const char *difference)
{
    char mine[80], other[80];
    call_say(own, mine, sizeof(mine));
    call_say(theirs, other, sizeof(other));
    ctx_refuse(c, TSM_EINVAL, "rank %u calls %s, rank %u calls %s%s", c->self, mine, from, other,
               difference);
    tsm_abort(c, TSM_EINVAL);
    return TSM_EINVAL;
}

/* ---- waiting ---- */

/* Looks for about a round trip; not when chips share a core. */
static bool comes_at_once(const tsm_ctx *c, const a64 *word, int cmp, uint64_t value)
{
    const struct waiter *w = &c->chip->waiter;
    bool there = false;
    for (int i = 0; i < LOOKS && !there && w->spin_ticks >= w->arena->spin; i++) {
        there = compare_holds((uint32_t)cmp, a64_acquire(word), value);
    }
    return there;
}

/* Whether the rank that is waited for waits for this one: for a word that only this one writes, and which is not there. The
 * published waits of both have a full fence behind them, so one of two sees the other's. */
static bool each_waits(const struct task_wait *w)
{
    const tsm_ctx *c = w->c;
    const struct arena *a = &c->chip->arena;
    uint32_t size = c->desc->size, place = c->members[w->from];
    struct want want;
    uint32_t version;
    if (!wait_record_read(&arena_page(a, place)->wait, &want, &version) ||
        want.kind != WAIT_SIGNAL || want.domain != c->desc->id || want_met(a, place, &want)) {
        return false;
    }
    uint64_t line = sizeof(struct sync_message), depth = sync_depth(size);
    uint64_t at = want.address - (uint64_t)(uintptr_t)sync_of(c, w->from);
    uint64_t messages = sync_channel_offset(size) + c->self * depth * line;
    uint64_t credit = sync_credit_offset(size) + c->self * sizeof(struct sync_credit);
    bool for_this = at - messages < depth * line || at == credit;
    return for_this && !compare_holds(w->cmp, a64_acquire(w->word), w->value);
}

/* Until a word that only domain rank `from` writes is there. */
static int wait_word(tsm_ctx *c, uint32_t from, const a64 *word, int cmp, uint64_t value)
{
    channel_flush(c);
    if (comes_at_once(c, word, cmp, value)) {
        return 0;
    }
    struct task_wait w = {.c = c,
                          .word = word,
                          .value = value,
                          .cmp = (uint32_t)cmp,
                          .from = from,
                          .hopeless = each_waits};
    int rc = task_wait_word(&w, c->deadline_ns);
    if (rc == TSM_ETIMEOUT) {
        tsm_abort(c, rc);
    }
    if (rc == TSM_EINVAL) {
        struct call theirs = sync_of(c, from)->call;
        rc = misuse(c, from, &sync_of(c, c->self)->call, &theirs, "; each waits for the other");
    }
    return rc;
}

static void learn_acked(const tsm_ctx *c, uint32_t rank)
{
    struct sync_peer *p = &sync_peers(c)[rank];
    uint64_t word = a64_acquire(&sync_credit_of(c, c->self, rank)->taken); /* pairs with post */
    if (word >> STAMP_NUMBER == (c->generation & STAMP_GENERATIONS)) {
        uint64_t taken = word & STAMP_NUMBERS;
        p->acked = taken > p->acked && taken <= p->sent ? taken : p->acked;
    }
}

/* Until rank has taken message `number`. */
static int wait_acked(tsm_ctx *c, uint32_t rank, uint64_t number)
{
    struct sync_peer *p = &sync_peers(c)[rank];
    if (p->acked >= number) {
        return 0;
    }
    int rc =
        wait_word(c, rank, &sync_credit_of(c, c->self, rank)->taken, TSM_GE, stamp_of(c, number));
    p->acked = rc == 0 && p->acked < number ? number : p->acked;
    return rc;
}

/* ---- giving ---- */

/* Stores into the area of `rank` that it may sleep for. */
static inline void owe_wake(tsm_ctx *c, uint32_t rank)
{
    c->owed += c->owed == 0 || c->owed_to != rank;
    c->owed_to = rank;
}

/* Whether everybody has read what was last in these slots. */
static bool slots_are_free(const tsm_ctx *c, uint32_t first, uint32_t count)
{
    struct sync_peer *peers = sync_peers(c);
    for (uint32_t r = 0; r < c->desc->size; r++) {
        uint64_t last = 0;
        for (uint32_t slot = first; slot < first + count; slot++) {
            last = peers[r].staged[slot] > last ? peers[r].staged[slot] : last;
        }
        if (peers[r].acked < last) {
            learn_acked(c, r);
            if (peers[r].acked < last) {
                return false;
            }
        }
    }
    return true;
}

bool channel_stages(const tsm_ctx *c, uint64_t bytes)
{
    /* Two ranks are as quick without, once the copy takes a while; more have chips to wait for. */
    return bytes <= (c->desc->size > 2 ? STAGED_MAX : STAGE_BYTES);
}

void channel_stage(tsm_ctx *c, struct giving *g, const void *data, uint64_t bytes)
{
    bool fits = channel_stages(c, bytes);
    uint32_t count = 1;
    while (fits && count * STAGE_BYTES < bytes) {
        count *= 2;
    }
    /* The first free ones: in a loop of collectives two places are used in turn, and stay in the cache. */
    for (uint32_t slot = 0; fits && slot < STAGE_SLOTS; slot += count) {
        if (slots_are_free(c, slot, count)) {
            g->slot = slot;
            g->slots = count;
            g->staged = data;
            g->staged_bytes = bytes;
            memcpy(stage_of(c, slot), data, bytes);
            return;
        }
    }
}

/* How the bytes travel, and what the line carries of them. */
static uint64_t pack(const tsm_ctx *c, struct giving *g, struct sync_peer *p, uint64_t number,
                     const uint8_t *data, uint64_t bytes, uint8_t *payload)
{
    if (bytes <= SYNC_PAYLOAD) {
        memcpy(payload, data, bytes);
        return bytes;
    }
    struct pointer x = {(uint64_t)(data - window_of(c, c->self)), bytes};
    uint64_t how = HOW_LENT;
    if (g->staged && data >= g->staged && data + bytes <= g->staged + g->staged_bytes) {
        x.offset = (uint64_t)(stage_of(c, g->slot) + (data - g->staged) - window_of(c, c->self));
        how = HOW_STAGED;
        for (uint32_t slot = g->slot; slot < g->slot + g->slots; slot++) {
            p->staged[slot] = number;
        }
    }
    if (how == HOW_LENT) {
        p->lent = number;
        g->lent = true;
    }
    memcpy(payload, &x, sizeof(x));
    return how;
}

int channel_give(tsm_ctx *c, struct giving *g, uint32_t rank, const void *data, uint64_t bytes)
{
    uint32_t to = domain_rank(c, rank);
    struct sync_peer *p = &sync_peers(c)[to];
    uint64_t number = p->sent + 1;
    if (number > p->acked + c->depth) {
        int rc = wait_acked(c, to, number - c->depth);
        if (rc != 0) {
            return rc;
        }
    }
    p->sent = number;
    struct sync_message *m = line_of(c, to, c->self, number);
    uint64_t how = data ? pack(c, g, p, number, data, bytes, m->payload) : 0;
    m->call = g->call->word | how << HOW_SHIFT | p->taken << ACKED_SHIFT;
    m->count = g->call->count;
    m->places = g->call->places;
    m->group = g->call->group;
    TSM_FAULT("message");
    a64_release(&m->stamp, stamp_of(c, number)); /* pairs with channel_take */
    owe_wake(c, to);
    return 0;
}

void channel_flush(tsm_ctx *c)
{
    const struct arena *a = &c->chip->arena;
    if (c->owed == 0) {
        return;
    }
    chaos_pause(c);
    fence_full();
    if (c->owed == 1) {
        wake_if_met(a, c->members[c->owed_to]);
    } else {
        for (uint32_t r = 0; r < c->size; r++) {
            wake_if_met(a, c->members[domain_rank(c, r)]);
        }
    }
    c->owed = 0;
}

int channel_finish(tsm_ctx *c, const struct giving *g)
{
    for (uint32_t r = 0; g->lent && r < c->size; r++) {
        uint32_t to = domain_rank(c, r);
        int rc = wait_acked(c, to, sync_peers(c)[to].lent);
        if (rc != 0) {
            return rc;
        }
    }
    channel_flush(c);
    return 0;
}

/* ---- taking ---- */

/* Where the payload is; NULL when it is not the bytes that are expected. */
static const void *payload_of(const tsm_ctx *c, uint32_t from, const struct sync_message *m,
                              uint32_t how, uint64_t bytes)
{
    struct pointer x;
    if (how <= SYNC_PAYLOAD) {
        return how == bytes ? m->payload : NULL;
    }
    memcpy(&x, m->payload, sizeof(x));
    uint64_t stride = c->desc->stride;
    if (x.bytes != bytes || x.offset > stride || bytes > stride - x.offset) {
        return NULL;
    }
    return window_of(c, from) + x.offset;
}

int channel_take(tsm_ctx *c, const struct call *call, uint32_t rank, uint64_t bytes,
                 struct taken *ret)
{
    uint32_t from = domain_rank(c, rank);
    struct sync_peer *p = &sync_peers(c)[from];
    const struct sync_message *m = line_of(c, c->self, from, p->taken + 1);
    uint64_t stamp = stamp_of(c, p->taken + 1);
    if (a64_acquire(&m->stamp) != stamp) { /* pairs with channel_give */
        int rc = wait_word(c, from, &m->stamp, TSM_EQ, stamp);
        if (rc != 0) {
            return rc;
        }
    }
    struct call theirs = {m->call, m->count, m->places, m->group};
    if (!call_is_same(call, &theirs)) {
        return misuse(c, from, call, &theirs, hidden_difference(call, &theirs));
    }
    uint64_t unacked = p->sent - (theirs.word >> ACKED_SHIFT);
    uint64_t acked = p->sent - (unacked & ((1u << ACKED_BITS) - 1));
    p->acked = acked > p->acked && acked <= p->sent ? acked : p->acked;
    uint32_t how = theirs.word >> HOW_SHIFT & 0xff;
    ret->data = payload_of(c, from, m, how, bytes);
    ret->rank = from;
    ret->lent = how == HOW_LENT;
    if (!ret->data) {
        return misuse(c, from, call, &theirs, "; what one sends is not what the other expects");
    }
    return 0;
}

void channel_release(tsm_ctx *c, const struct taken *t)
{
    struct sync_peer *p = &sync_peers(c)[t->rank];
    p->taken++;
    if (t->lent || p->taken - p->posted >= c->depth / 2) {
        p->posted = p->taken;
        /* Pairs with learn_acked and wait_acked. */
        a64_release(&sync_credit_of(c, t->rank, c->self)->taken, stamp_of(c, p->taken));
        owe_wake(c, t->rank);
    }
}
