/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * A domain as a task sees it: ranks, places in windows, sub-groups, and the domain's own failure. Chip
 * processes, inside a task. docs/task.md.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "chip/channel.h"

/* ---- views ---- */

static int reserve_ctxs(struct chip *c, uint32_t count)
{
    if (count <= c->ctx_count) {
        return 0;
    }
    tsm_ctx *ctxs = calloc(count, sizeof(*ctxs));
    struct domain_state *states = calloc(count, sizeof(*states));
    if (!ctxs || !states) {
        free(ctxs);
        free(states);
        return TSM_ENOMEM;
    }
    /* Nothing of this task lies in the old ones: it reserves all it can ask for at its first call. */
    free(c->ctxs);
    free(c->states);
    c->ctxs = ctxs;
    c->states = states;
    c->ctx_count = count;
    return 0;
}

tsm_ctx *tsm_task_domain(tsm_task *t, uint32_t i)
{
    struct chip *c = t->chip;
    if (i >= t->rec->domain_count || reserve_ctxs(c, t->rec->domain_count) != 0) {
        return NULL;
    }
    if (c->ctxs[i].task == t) {
        return &c->ctxs[i];
    }
    const struct domain_desc *desc = (const struct domain_desc *)(uintptr_t)t->domains[i].desc;
    const uint32_t *members = (const uint32_t *)((const uint8_t *)desc + desc->members_offset);
    for (uint32_t rank = 0; rank < desc->size; rank++) {
        if (members[rank] == c->place) {
            c->states[i].text[0] = 0;
            c->ctxs[i] = (tsm_ctx){.chip = c,
                                   .task = t,
                                   .desc = desc,
                                   .members = members,
                                   .rank = rank,
                                   .size = desc->size,
                                   .self = rank,
                                   .generation = t->domains[i].generation,
                                   .timeout_ns = -1,
                                   .state = &c->states[i]};
            ctx_cache(&c->ctxs[i]);
            return &c->ctxs[i];
        }
    }
    return NULL;
}

uint32_t tsm_rank(const tsm_ctx *c)
{
    return c->rank;
}

uint32_t tsm_size(const tsm_ctx *c)
{
    return c->size;
}

const char *tsm_ctx_name(const tsm_ctx *c)
{
    return c->desc->name;
}

uint64_t tsm_window_bytes(const tsm_ctx *c)
{
    return c->desc->window_bytes;
}

int tsm_translate(const tsm_ctx *c, uint32_t rank, const tsm_ctx *other, uint32_t *ret)
{
    if (rank >= c->size) {
        return ctx_refuse(c, TSM_ERANGE, "rank %u of %u", rank, c->size);
    }
    uint32_t chip = c->members[domain_rank(c, rank)];
    for (uint32_t r = 0; r < other->size; r++) {
        if (other->members[domain_rank(other, r)] == chip) {
            *ret = r;
            return 0;
        }
    }
    return TSM_ENOENT;
}

int ctx_refuse(const tsm_ctx *c, int code, const char *format, ...)
{
    char *text = c->state->text;
    va_list ap;
    int n = snprintf(text, TEXT_BYTES, "domain '%s': ", c->desc->name);
    va_start(ap, format);
    vsnprintf(text + n, (size_t)(TEXT_BYTES - n), format, ap);
    va_end(ap);
    if (!c->task->failed) {
        c->task->refused = code;
        snprintf(c->task->text, sizeof(c->task->text), "%.*s", MARK_TEXT - 1, text);
    }
    return code;
}

/* ---- sub-groups ---- */

static uint32_t hash_ranks(const uint32_t *ranks, uint32_t count)
{
    uint64_t h = count;
    for (uint32_t i = 0; i < count; i++) {
        h = (h ^ ranks[i]) * UINT64_C(0xff51afd7ed558ccd);
        h ^= h >> 31;
    }
    return (uint32_t)(h >> 32) | 1; /* 0 is the domain itself */
}

/* Ranks in range and each only once; own rank, or count when it is not among them. */
static int check_ranks(const tsm_ctx *c, const uint32_t *ranks, uint32_t count, uint32_t *ret_own)
{
    uint64_t seen[CHIPS_MAX / 64] = {0};
    *ret_own = count;
    if (count == 0 || !ranks) {
        return ctx_refuse(c, TSM_EINVAL, "a sub-group of no ranks");
    }
    for (uint32_t i = 0; i < count; i++) {
        uint32_t r = ranks[i];
        if (r >= c->size) {
            return ctx_refuse(c, TSM_ERANGE, "ranks[%u] is %u of %u", i, r, c->size);
        }
        if (seen[r / 64] >> r % 64 & 1) {
            return ctx_refuse(c, TSM_EINVAL, "ranks[%u] is %u, for the second time", i, r);
        }
        seen[r / 64] |= UINT64_C(1) << r % 64;
        if (r == c->rank) {
            *ret_own = i;
        }
    }
    return 0;
}

static tsm_ctx *find_group(const tsm_ctx *c, const uint32_t *domain_ranks, uint32_t count)
{
    for (tsm_ctx *g = c->task->groups; g; g = g->next) {
        if (g->state == c->state && g->size == count &&
            memcmp(g->ranks, domain_ranks, count * sizeof(*domain_ranks)) == 0) {
            return g;
        }
    }
    return NULL;
}

int tsm_split(tsm_ctx *c, const uint32_t *ranks, uint32_t count, tsm_ctx **ret)
{
    uint32_t own;
    int rc = check_ranks(c, ranks, count, &own);
    if (rc != 0) {
        return rc;
    }
    if (own == count) {
        *ret = NULL;
        return 0;
    }
    tsm_ctx *g = malloc(sizeof(*g) + count * sizeof(uint32_t));
    if (!g) {
        return TSM_ENOMEM;
    }
    uint32_t *domain_ranks = (uint32_t *)(g + 1);
    for (uint32_t i = 0; i < count; i++) {
        domain_ranks[i] = domain_rank(c, ranks[i]);
    }
    tsm_ctx *known = find_group(c, domain_ranks, count);
    if (known) {
        free(g);
        *ret = known;
        return 0;
    }
    *g = *c;
    g->ranks = domain_ranks;
    g->rank = own;
    g->size = count;
    g->group = hash_ranks(domain_ranks, count);
    g->next = c->task->groups;
    c->task->groups = g;
    *ret = g;
    return 0;
}

int tsm_split_strided(tsm_ctx *c, uint32_t first, uint32_t stride, uint32_t count, tsm_ctx **ret)
{
    uint32_t ranks[CHIPS_MAX];
    if (stride == 0 || count == 0) {
        return ctx_refuse(c, TSM_EINVAL, "a sub-group with stride %u and count %u", stride, count);
    }
    if (first >= c->size || (uint64_t)first + (uint64_t)stride * (count - 1) >= c->size) {
        return ctx_refuse(c, TSM_ERANGE, "%u ranks from %u with stride %u, of %u", count, first,
                          stride, c->size);
    }
    for (uint32_t i = 0; i < count; i++) {
        ranks[i] = first + i * stride;
    }
    return tsm_split(c, ranks, count, ret);
}

/* ---- places ---- */

static const struct desc_buffer *buffers_of(const tsm_ctx *c)
{
    return (const struct desc_buffer *)((const uint8_t *)c->desc + c->desc->buffers_offset);
}

int tsm_buffer_info(const tsm_ctx *c, uint32_t i, struct tsm_buffer_info *ret)
{
    if (i >= c->desc->buffer_count) {
        return TSM_ERANGE;
    }
    const struct desc_buffer *b = &buffers_of(c)[i];
    *ret = (struct tsm_buffer_info){.name = b->name,
                                    .place = {b->offset, c->desc->window, c->generation},
                                    .count = b->count,
                                    .bytes = b->bytes,
                                    .dtype = (int)b->dtype};
    return 0;
}

int tsm_buffer(const tsm_ctx *c, const char *name, tsm_sym *ret, uint64_t *bytes)
{
    const struct desc_buffer *b = buffers_of(c);
    for (uint32_t i = 0; i < c->desc->buffer_count; i++) {
        if (strcmp(b[i].name, name) == 0) {
            *ret = (tsm_sym){b[i].offset, c->desc->window, c->generation};
            if (bytes) {
                *bytes = b[i].bytes;
            }
            return 0;
        }
    }
    return TSM_ENOENT;
}

int tsm_at(const tsm_ctx *c, uint64_t offset, tsm_sym *ret)
{
    if (offset >= c->desc->window_bytes) {
        return ctx_refuse(c, TSM_ERANGE, "offset %llu in a window of %llu bytes",
                          (unsigned long long)offset, (unsigned long long)c->desc->window_bytes);
    }
    *ret = (tsm_sym){offset, c->desc->window, c->generation};
    return 0;
}

tsm_sym tsm_offset(tsm_sym s, uint64_t bytes)
{
    s.offset += bytes;
    return s;
}

void *sym_address(const tsm_ctx *c, tsm_sym s, uint32_t rank, uint64_t bytes, int *ret_code)
{
    if (s.window != c->desc->window || s.generation != c->generation ||
        c->desc->generation != c->generation) {
        *ret_code = ctx_refuse(c, TSM_ESTALE, "the place at offset %llu is of another domain",
                               (unsigned long long)s.offset);
        return NULL;
    }
    if (rank >= c->size) {
        *ret_code = ctx_refuse(c, TSM_ERANGE, "rank %u of %u", rank, c->size);
        return NULL;
    }
    if (s.offset > c->desc->window_bytes || bytes > c->desc->window_bytes - s.offset) {
        *ret_code = ctx_refuse(c, TSM_ERANGE, "%llu bytes at offset %llu in a window of %llu",
                               (unsigned long long)bytes, (unsigned long long)s.offset,
                               (unsigned long long)c->desc->window_bytes);
        return NULL;
    }
    return window_of(c, domain_rank(c, rank)) + s.offset;
}

void *tsm_ptr(const tsm_ctx *c, tsm_sym s, uint32_t rank)
{
    int code;
    return sym_address(c, s, rank, 1, &code);
}

int tsm_notify(tsm_ctx *c, uint32_t rank)
{
    if (rank >= c->size) {
        return ctx_refuse(c, TSM_ERANGE, "rank %u of %u", rank, c->size);
    }
    wake_place(&c->chip->arena, c->members[domain_rank(c, rank)]);
    return 0;
}

/* ---- failure ---- */

/* The word `aborted` in a member's area: zero, or of an earlier life of the lease, or who and why. */
static uint64_t aborted_word(const tsm_ctx *c)
{
    uint64_t word = a64_acquire(&sync_of(c, c->self)->aborted); /* pairs with tsm_abort */
    return word >> STAMP_NUMBER == (c->generation & STAMP_GENERATIONS) ? word & STAMP_NUMBERS : 0;
}

bool domain_is_aborted(const tsm_ctx *c)
{
    return aborted_word(c) != 0;
}

int tsm_status(const tsm_ctx *c, uint32_t *rank, int *code)
{
    uint64_t word = aborted_word(c);
    if (run_is_aborted(c->chip, c->task->rec->run)) {
        return TSM_EABORTED;
    }
    if (word == 0) {
        return 0;
    }
    if (rank) {
        *rank = (uint32_t)(word >> 32) - 1;
    }
    if (code) {
        *code = (int32_t)(uint32_t)word;
    }
    return TSM_EPEER;
}

int tsm_abort(tsm_ctx *c, int code)
{
    if (code >= 0) {
        return ctx_refuse(c, TSM_EINVAL, "abort with code %d, which is not negative", code);
    }
    uint64_t word = stamp_of(c, (uint64_t)(c->self + 1) << 32 | (uint32_t)code);
    for (uint32_t r = 0; r < c->desc->size; r++) {
        a64 *aborted = &sync_of(c, r)->aborted;
        uint64_t old = a64_load(aborted);
        /* The first abort of this life stays. */
        while (old >> STAMP_NUMBER != word >> STAMP_NUMBER || (old & STAMP_NUMBERS) == 0) {
            if (atomic_compare_exchange_weak(aborted, &old, word)) {
                break;
            }
        }
    }
    /* A sleeper's want is not met, so it is the bell and not its record that has to end the sleep. */
    fence_full();
    for (uint32_t r = 0; r < c->desc->size; r++) {
        wake_bell(&c->chip->arena, c->members[r]);
    }
    return 0;
}

void tsm_timeout_set(tsm_ctx *c, int64_t timeout_ns)
{
    c->timeout_ns = timeout_ns;
}

const char *tsm_ctx_text(const tsm_ctx *c)
{
    return c->state->text;
}
