/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * The range map: seeded random sequences against a reference that keeps everything per byte. One process,
 * one thread.
 */
#include "rangemap_world.h"

#define SPACE 2048
#define READERS 48
#define SEEDS 60
#define SEQUENCE 500

static uint64_t dice_state;

static uint32_t dice(uint32_t sides)
{
    dice_state ^= dice_state << 13;
    dice_state ^= dice_state >> 7;
    dice_state ^= dice_state << 17;
    return (uint32_t)(dice_state >> 20) % sides;
}

static void mark_bytes(const struct span *spans, int n, uint8_t *bytes, uint32_t size)
{
    memset(bytes, 0, size);
    for (int i = 0; i < n; i++) {
        for (uint64_t r = 0; r < spans[i].rows; r++) {
            uint64_t at = spans[i].base + r * spans[i].pitch;

            for (uint64_t b = 0; b < spans[i].width; b++) {
                assert_true(at + b < size);
                bytes[at + b] = 1;
            }
        }
    }
}

/* All elements of a view, the slow way. */
static void mark_view(int64_t base, uint32_t ndim, const uint64_t *shape, const int64_t *strides,
                      uint64_t elem, uint8_t *bytes)
{
    if (ndim) {
        for (uint64_t i = 0; i < shape[0]; i++) {
            mark_view(base, ndim - 1, shape + 1, strides + 1, elem, bytes);
            base += strides[0];
        }
        return;
    }
    for (uint64_t b = 0; b < elem; b++)
        bytes[base + (int64_t)b] = 1;
}

static void random_views_have_all_their_bytes_and_no_others(void **state)
{
    enum { SIZE = 1 << 18 };
    uint8_t *want = malloc(SIZE), *have = malloc(SIZE);
    struct span out[2048];

    (void)state;
    dice_state = 4711;
    for (uint32_t round = 0; round < 400; round++) {
        uint32_t ndim = dice(5), max = round % 2 ? 2048 : 1 + dice(4);
        int64_t strides[5], base = SIZE / 2;
        uint64_t shape[5], elem = 1 + dice(8);
        int n;

        for (uint32_t d = 0; d < ndim; d++) {
            shape[d] = dice(6) ? 1 + dice(6) : 0;
            strides[d] = dice(3) ? (int64_t)elem << dice(11) : (int64_t)dice(3000);
            strides[d] = dice(3) ? strides[d] : -strides[d];
        }
        memset(want, 0, SIZE);
        mark_view(base, ndim, shape, strides, elem, want);
        n = span_from_view((uint64_t)base, ndim, shape, strides, elem, out, max);
        assert_in_range(n, 0, max);
        mark_bytes(out, n, have, SIZE);
        for (uint32_t i = 0; i < SIZE; i++) {
            if (want[i] != have[i] && (want[i] || round % 2))
                fail_msg("round %u byte %u: want %d have %d", round, i, want[i], have[i]);
        }
    }
    free(want);
    free(have);
}

/* What the reference knows of one byte. */
struct byte {
    struct taskref writer; /* none: value 0 */
    struct taskref list[READERS];
    uint8_t kind[READERS]; /* 'r'eader, 'u'ser, 'b'arrier */
    uint8_t n;
};

struct model {
    struct world *w;
    struct span recent[16];
    struct byte byte[SPACE];
    bool edge[KINDS][PLACES][TASKS_MAX];
    bool taken[PLACES][TASKS_MAX];
    uint64_t pitches[2];
    bool exact;
    bool starving;
};

static enum ref_state model_state(const struct model *m, struct taskref ref)
{
    return (enum ref_state)m->w->state[ref.place][ref.value];
}

static bool same(struct taskref a, struct taskref b)
{
    return a.place == b.place && a.value == b.value;
}

static void prune(struct model *m, struct byte *b)
{
    for (uint32_t i = 0; i < b->n;) {
        if (model_state(m, b->list[i]) == REF_PENDING) {
            i++;
            continue;
        }
        b->n--;
        b->list[i] = b->list[b->n];
        b->kind[i] = b->kind[b->n];
    }
}

static void remember(struct model *m, struct byte *b, struct taskref ref, uint8_t kind)
{
    for (uint32_t i = 0; i < b->n; i++) {
        if (b->kind[i] == kind && same(b->list[i], ref))
            return;
    }
    if (b->n == READERS)
        prune(m, b);
    assert_true(b->n < READERS);
    b->list[b->n] = ref;
    b->kind[b->n++] = kind;
}

static void model_edges(struct model *m, struct byte *b, enum access access, struct taskref self)
{
    bool reads = access == ACCESS_READ || access == ACCESS_READWRITE;
    bool writes = access == ACCESS_WRITE || access == ACCESS_READWRITE;
    struct taskref w = b->writer;

    if (w.value && !same(w, self)) {
        enum ref_state state = model_state(m, w);

        if (state == REF_PENDING && (reads || writes))
            m->edge[reads ? EDGE_RAW : EDGE_WAW][w.place][w.value] = true;
        if (state == REF_FAILED && reads)
            m->edge[EDGE_POISON][w.place][w.value] = true;
    }
    for (uint32_t i = 0; i < b->n; i++) {
        struct taskref r = b->list[i];

        if (same(r, self) || model_state(m, r) != REF_PENDING)
            continue;
        if (b->kind[i] == 'b')
            m->edge[EDGE_BARRIER][r.place][r.value] = true;
        if (b->kind[i] == 'r' && writes)
            m->edge[EDGE_WAR][r.place][r.value] = true;
    }
}

static void model_record(struct model *m, struct byte *b, enum access access, struct taskref self)
{
    if (access == ACCESS_USE || access == ACCESS_READ) {
        remember(m, b, self, access == ACCESS_USE ? 'u' : 'r');
        return;
    }
    b->writer = self;
    for (uint32_t i = 0; i < b->n;) {
        if (b->kind[i] != 'r') {
            i++;
            continue;
        }
        b->n--;
        b->list[i] = b->list[b->n];
        b->kind[i] = b->kind[b->n];
    }
}

/*
 * Of readers, users and barriers the map keeps the last of each timeline, which may be self: then
 * what it stood for runs before self on the same chip.
 */
static void compare_last(const struct model *m, const bool (*want)[TASKS_MAX],
                         const bool (*have)[TASKS_MAX], struct taskref self, const char *what)
{
    for (uint32_t p = 0; p < PLACES; p++) {
        uint64_t last[2] = {0, 0};

        if (p < TIMELINES && p == self.place)
            continue;
        for (uint64_t v = 1; v < m->w->next[p]; v++) {
            last[0] = want[p][v] ? v : last[0];
            last[1] = have[p][v] ? v : last[1];
            if (p >= TIMELINES && (m->exact ? want[p][v] != have[p][v] : want[p][v] > have[p][v]))
                fail_msg("%s place %u value %u: want %d", what, p, (unsigned)v, want[p][v]);
        }
        if (m->exact ? last[0] != last[1] : last[0] > last[1])
            fail_msg("%s place %u: want %u, have %u", what, p, (unsigned)last[0],
                     (unsigned)last[1]);
    }
}

static void compare_all(const struct model *m, const bool (*want)[TASKS_MAX],
                        const bool (*have)[TASKS_MAX], const char *what)
{
    for (uint32_t p = 0; p < PLACES; p++) {
        for (uint64_t v = 1; v < m->w->next[p]; v++) {
            if (m->exact ? want[p][v] != have[p][v] : want[p][v] > have[p][v])
                fail_msg("%s place %u value %u: want %d", what, p, (unsigned)v, want[p][v]);
        }
    }
}

static void compare_edges(const struct model *m, struct taskref self)
{
    const struct world *w = m->w;

    compare_all(m, m->edge[EDGE_RAW], w->edge[EDGE_RAW], "RAW");
    compare_all(m, m->edge[EDGE_WAW], w->edge[EDGE_WAW], "WAW");
    compare_all(m, m->edge[EDGE_POISON], w->edge[EDGE_POISON], "POISON");
    compare_last(m, m->edge[EDGE_WAR], w->edge[EDGE_WAR], self, "WAR");
    compare_last(m, m->edge[EDGE_BARRIER], w->edge[EDGE_BARRIER], self, "BARRIER");
}

static struct span new_span(const struct model *m)
{
    uint64_t pitch = m->pitches[dice(2)], base, rows, width;

    if (dice(3) == 0) { /* a plain range, often a row or so */
        base = dice(SPACE - 1);
        width = dice(4) ? 1 + dice(40) : 1 + dice(SPACE / 2);
        return plain(base, base + width > SPACE ? SPACE - base : width);
    }
    if (dice(2)) { /* a tile of a grid */
        base = pitch * 4 * dice(4) + pitch / 4 * dice(4) + 5;
        width = pitch / 4 * (1 + dice(3));
        rows = 4;
    } else {
        base = dice(SPACE / 2);
        width = dice(10) ? 1 + dice((uint32_t)pitch - 1) : pitch + dice(2);
        rows = 1 + dice(12);
    }
    while (rows > 1 && base + (rows - 1) * pitch + width > SPACE)
        rows--;
    if (base + width > SPACE)
        width = SPACE - base;
    return (struct span){base, width, pitch, rows};
}

/* Programs come back to the same bytes: all of a view, or its upper rows. */
static struct span random_span(struct model *m)
{
    struct span *slot = &m->recent[dice(16)];

    if (!slot->rows || dice(3) == 0)
        *slot = new_span(m);
    if (slot->rows > 1 && dice(4) == 0)
        return (struct span){slot->base, slot->width, slot->pitch, 1 + dice((uint32_t)slot->rows)};
    return *slot;
}

static void clear_model(struct model *m)
{
    clear_edges(m->w);
    for (uint32_t p = 0; p < PLACES; p++) {
        for (uint32_t k = 0; k < KINDS; k++)
            memset(m->edge[k][p], 0, m->w->next[p]);
        memset(m->taken[p], 0, m->w->next[p]);
    }
}

/* Self with value 0: only looks. */
static void step_access(struct model *m, struct taskref self)
{
    enum access access = (enum access)dice(4);
    struct span span = random_span(m);
    static uint8_t touched[SPACE];

    clear_model(m);
    mark_bytes(&span, 1, touched, SPACE);
    for (uint32_t i = 0; i < SPACE; i++) {
        if (touched[i])
            model_edges(m, &m->byte[i], access, self);
    }
    if (self.value)
        rangemap_access(&m->w->map, &span, access, self);
    else
        rangemap_edges(&m->w->map, &span, access);
    compare_edges(m, self);
    for (uint32_t i = 0; self.value && i < SPACE; i++) {
        if (touched[i])
            model_record(m, &m->byte[i], access, self);
    }
}

static void step_task(struct model *m)
{
    struct taskref self = new_task(m->w, dice(PLACES));
    uint32_t args = 1 + dice(3);

    if (!m->starving)
        assert_int_equal(rangemap_reserve(&m->w->map, args), 0);
    for (uint32_t i = 0; i < args; i++)
        step_access(m, self);
}

static void step_end(struct model *m)
{
    struct world *w = m->w;
    uint32_t p = dice(PLACES), n = 1 + dice(6);

    for (uint64_t v = 1; v < w->next[p] && n; v++) {
        if (w->state[p][v] != REF_PENDING || (p >= TIMELINES && dice(2)))
            continue;
        end_task(w, (struct taskref){p, 7, v}, dice(5) ? REF_DONE : REF_FAILED);
        n--;
    }
}

static void step_take(struct model *m)
{
    uint64_t lo = dice(SPACE), hi = lo + 1 + dice(200);

    clear_model(m);
    hi = hi > SPACE ? SPACE : hi;
    for (uint64_t i = lo; i < hi; i++) {
        struct byte *b = &m->byte[i];

        prune(m, b);
        if (b->writer.value && model_state(m, b->writer) == REF_PENDING)
            m->taken[b->writer.place][b->writer.value] = true;
        for (uint32_t k = 0; k < b->n; k++)
            m->taken[b->list[k].place][b->list[k].value] = true;
        memset(b, 0, sizeof(*b));
    }
    rangemap_take(&m->w->map, lo, hi, add_taken, m->w);
    compare_last(m, m->taken, m->w->taken, (struct taskref){PLACES, 0, 0}, "taken");
}

static void step_bar(struct model *m)
{
    uint64_t lo = dice(SPACE), hi = lo + 1 + dice(200);
    struct taskref refs[3];
    uint32_t n = 1 + dice(3);

    hi = hi > SPACE ? SPACE : hi;
    for (uint32_t i = 0; i < n; i++) {
        refs[i] = new_task(m->w, dice(PLACES));
        for (uint64_t k = lo; k < hi; k++)
            remember(m, &m->byte[k], refs[i], 'b');
    }
    if (!m->starving)
        assert_int_equal(rangemap_reserve(&m->w->map, n), 0);
    rangemap_bar(&m->w->map, lo, hi, refs, n);
}

/* No cells to be had, apart from a few; records enough for what spills. */
static void starve(struct model *m)
{
    struct rangemap *map = &m->w->map;
    struct taskref eater = new_task(m->w, 5);

    assert_int_equal(rangemap_reserve(map, 4 * SEQUENCE), 0);
    starved = true;
    for (uint64_t at = 1 << 20; map->index.cell_spare > 40; at += 64) {
        struct span far = plain(at, 32);

        rangemap_access(map, &far, ACCESS_WRITE, eater);
    }
}

static void run_sequence(uint64_t seed, uint64_t pitch, uint64_t other, bool starving)
{
    struct model *m = calloc(1, sizeof(*m));

    start_world(world);
    *m = (struct model){.w = world, .pitches = {pitch, other}, .starving = starving};
    m->exact = pitch == other && !starving;
    dice_state = seed * 0x9e3779b97f4a7c15;
    if (starving)
        starve(m);
    for (uint32_t i = 0; i < SEQUENCE; i++) {
        uint32_t what = dice(100);

        if (what < 60)
            step_task(m);
        else if (what < 65)
            step_access(m, (struct taskref){PLACES, 0, 0});
        else if (what < 92)
            step_end(m);
        else if (what < 95)
            step_take(m);
        else if (what < 97)
            step_bar(m);
        else
            poison(world);
        if (what % 4 == 0)
            world->map.sweep_limit = 0; /* so that small maps are swept */
        if (i % 8 == 0 && rangemap_check(&world->map))
            fail_msg("seed %u step %u: check %d", (unsigned)seed, i, rangemap_check(&world->map));
    }
    starved = false;
    rangemap_take(&world->map, 0, UINT64_MAX, add_taken, world);
    assert_int_equal(rangemap_count(&world->map), 0);
    assert_int_equal(rangemap_check(&world->map), 0);
    rangemap_fini(&world->map);
    free(m);
}

static void random_accesses_of_one_layout_give_exactly_the_edges(void **state)
{
    static const uint64_t pitches[] = {64, 48, 100, 17};

    (void)state;
    rangemap_fini(&world->map);
    for (uint64_t seed = 1; seed <= SEEDS; seed++)
        run_sequence(seed, pitches[seed % 4], pitches[seed % 4], false);
    start_world(world);
}

static void random_accesses_of_two_layouts_miss_no_edge(void **state)
{
    static const uint64_t pitches[][2] = {{64, 48}, {64, 32}, {100, 37}, {33, 32}};

    (void)state;
    rangemap_fini(&world->map);
    for (uint64_t seed = 1; seed <= SEEDS; seed++)
        run_sequence(seed, pitches[seed % 4][0], pitches[seed % 4][1], false);
    start_world(world);
}

static void random_accesses_without_memory_miss_no_edge(void **state)
{
    (void)state;
    rangemap_fini(&world->map);
    refusals = 0;
    for (uint64_t seed = 1; seed <= SEEDS / 2; seed++)
        run_sequence(seed, 64, seed % 2 ? 64 : 48, true);
    assert_true(refusals > 0);
    start_world(world);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(random_views_have_all_their_bytes_and_no_others),
        CASE(random_accesses_of_one_layout_give_exactly_the_edges),
        CASE(random_accesses_of_two_layouts_miss_no_edge),
        CASE(random_accesses_without_memory_miss_no_edge),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
