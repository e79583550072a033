/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * The tasks of vocabulary.c that show what works and what ends a wait.
 */
#include "vocabulary.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Long enough for the others to fall asleep. */
static void take(uint64_t ns)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    uint64_t end = (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec + ns, now = 0;
    while (now < end) {
        sched_yield();
        clock_gettime(CLOCK_MONOTONIC, &t);
        now = (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
    }
}

/* ---- put and get ---- */

enum { PIECE = 70016, GUARD = 0xa5 };

static uint8_t byte_of(uint64_t i, uint32_t from, uint32_t to, uint64_t bytes)
{
    return (uint8_t)(i * 7 + from * 31 + to * 17 + bytes);
}

static int check_bytes(tsm_task *t, const uint8_t *p, uint64_t bytes, uint32_t from, uint32_t to)
{
    for (uint64_t i = 0; i < bytes; i++) {
        if (p[i] != byte_of(i, from, to, bytes)) {
            return tsm_fail(t, "%llu bytes from %u to %u: byte %llu is wrong",
                            (unsigned long long)bytes, from, to, (unsigned long long)i);
        }
    }
    return p[bytes] == GUARD ? 0
                             : tsm_fail(t, "%llu bytes: one too many", (unsigned long long)bytes);
}

/* Rank r's bytes for each rank go to piece r of that rank's window. */
static int put_all(tsm_task *t, tsm_ctx *c, uint64_t bytes, uint64_t shift, bool nbi)
{
    uint32_t me = tsm_rank(c), n = tsm_size(c);
    uint8_t *source = malloc(n * bytes + 1);
    int rc = source ? 0 : TSM_ENOMEM;
    for (uint32_t to = 0; to < n && rc == 0; to++) {
        tsm_sym place = at(c, me * PIECE + shift);
        uint8_t *part = source + to * bytes;
        for (uint64_t i = 0; i < bytes; i++) {
            part[i] = byte_of(i, me, to, bytes);
        }
        rc = nbi ? tsm_put_nbi(c, place, part, bytes, to) : tsm_put(c, place, part, bytes, to);
    }
    rc = rc != 0 ? rc : tsm_quiet(c);
    free(source);
    EXPECT(t, rc, 0);
    return 0;
}

/* Reads what `from` put for each rank. */
static int get_all(tsm_task *t, tsm_ctx *c, uint64_t bytes, uint64_t shift, bool nbi)
{
    uint32_t n = tsm_size(c);
    uint8_t *into = malloc(bytes + 1);
    if (!into) {
        return TSM_ENOMEM;
    }
    int rc = 0;
    for (uint32_t from = 0; from < n && rc == 0; from++) {
        for (uint32_t of = 0; of < n && rc == 0; of++) {
            tsm_sym place = at(c, from * PIECE + shift);
            into[bytes] = GUARD;
            rc = nbi ? tsm_get_nbi(c, into, place, bytes, of) : tsm_get(c, into, place, bytes, of);
            rc = rc != 0 || !nbi ? rc : tsm_quiet_rank(c, of);
            rc = rc != 0 ? rc : check_bytes(t, into, bytes, from, of);
        }
    }
    free(into);
    return rc;
}

int voc_put_get(tsm_task *t)
{
    static const uint64_t sizes[] = {0, 1, 7, 8, 9, 64, 100, 4096, 70000};
    tsm_ctx *c = tsm_task_domain(t, 0);
    for (uint32_t i = 0; i < COUNT(sizes); i++) {
        for (uint32_t turn = 0; turn < 4; turn++) {
            uint64_t shift = turn % 2 ? 3 : 0;
            memset(tsm_ptr(c, at(c, 0), tsm_rank(c)), GUARD, tsm_size(c) * PIECE);
            EXPECT(t, tsm_barrier(c), 0);
            EXPECT(t, put_all(t, c, sizes[i], shift, turn >= 2), 0);
            EXPECT(t, tsm_barrier(c), 0);
            EXPECT(t, get_all(t, c, sizes[i], shift, turn >= 2), 0);
            EXPECT(t, tsm_barrier(c), 0);
        }
    }
    return 0;
}

/* Elements of 1 to 24 bytes go apart in a peer's window, come back together, and the gaps stay. */
int voc_strided(tsm_task *t)
{
    static const uint64_t elements[] = {1, 2, 4, 8, 12, 24};
    enum { N = 9, TO = 3, FROM = 2 };
    tsm_ctx *c = tsm_task_domain(t, 0);
    uint32_t peer = (tsm_rank(c) + 1) % tsm_size(c);
    for (uint32_t k = 0; k < COUNT(elements); k++) {
        uint64_t e = elements[k];
        uint8_t out[N * FROM * 24], in[N * FROM * 24];
        uint8_t *own = tsm_ptr(c, at(c, 0), tsm_rank(c));
        memset(own, GUARD, N * TO * e);
        memset(in, GUARD, sizeof(in));
        for (uint64_t i = 0; i < sizeof(out); i++) {
            out[i] = (uint8_t)(i + tsm_rank(c));
        }
        EXPECT(t, tsm_barrier(c), 0);
        EXPECT(t, tsm_iput(c, at(c, 0), TO, out, FROM, e, N, peer), 0);
        EXPECT(t, tsm_barrier(c), 0);
        uint32_t before = (tsm_rank(c) + tsm_size(c) - 1) % tsm_size(c);
        for (uint64_t i = 0; i < N * TO * e; i++) {
            uint64_t element = i / (TO * e), within = i % (TO * e);
            uint8_t want = (uint8_t)(within < e ? element * FROM * e + within + before : GUARD);
            EXPECT_EQ(t, own[i], want);
        }
        EXPECT(t, tsm_iget(c, in, FROM, at(c, 0), TO, e, N, peer), 0);
        for (uint64_t i = 0; i < N * FROM * e; i++) {
            EXPECT_EQ(t, in[i], i % (FROM * e) < e ? out[i] : GUARD);
        }
        EXPECT(t, tsm_barrier(c), 0);
    }
    return 0;
}

int voc_words(tsm_task *t)
{
    tsm_ctx *c = tsm_task_domain(t, 0);
    uint32_t me = tsm_rank(c), n = tsm_size(c);
    for (uint32_t to = 0; to < n; to++) {
        EXPECT(t, tsm_p32(c, at(c, me * 16), 1000 * me + to, to), 0);
        EXPECT(t, tsm_p64(c, at(c, me * 16 + 8), (uint64_t)me << 40 | to, to), 0);
    }
    EXPECT(t, tsm_quiet(c), 0);
    EXPECT(t, tsm_sync(c), 0);
    for (uint32_t of = 0; of < n; of++) {
        for (uint32_t from = 0; from < n; from++) {
            uint32_t narrow = 0;
            uint64_t wide = 0;
            EXPECT(t, tsm_g32(c, at(c, from * 16), &narrow, of), 0);
            EXPECT(t, tsm_g64(c, at(c, from * 16 + 8), &wide, of), 0);
            EXPECT_EQ(t, narrow, 1000 * from + of);
            EXPECT_EQ(t, wide, (uint64_t)from << 40 | of);
        }
    }
    return 0;
}

/* Scalar 0: rounds. Data, fence, flag: who sees the flag sees the data. */
int voc_fence(tsm_task *t)
{
    tsm_ctx *c = tsm_task_domain(t, 0);
    uint32_t other = 1 - tsm_rank(c);
    uint64_t data[32];
    for (uint64_t round = 1; round <= tsm_task_scalar(t, 0); round++) {
        for (uint32_t i = 0; i < COUNT(data); i++) {
            data[i] = round + i;
        }
        EXPECT(t, tsm_put(c, at(c, 256), data, sizeof(data), other), 0);
        EXPECT(t, tsm_fence(c), 0);
        EXPECT(t, tsm_p64(c, at(c, 0), round, other), 0);
        EXPECT(t, tsm_signal_wait_until(c, at(c, 0), TSM_GE, round, NULL, -1), 0);
        const uint64_t *own = tsm_ptr(c, at(c, 256), tsm_rank(c));
        for (uint32_t i = 0; i < COUNT(data); i++) {
            EXPECT_EQ(t, own[i], round + i);
        }
        EXPECT(t, tsm_barrier(c), 0);
    }
    return 0;
}

/* ---- signals ---- */

/* Each round rank r puts to its neighbour with the signal, in each way there is. */
int voc_put_signal(tsm_task *t)
{
    tsm_ctx *c = tsm_task_domain(t, 0);
    uint32_t n = tsm_size(c), to = (tsm_rank(c) + 1) % n, from = (tsm_rank(c) + n - 1) % n;
    uint64_t out[40], seen = 0, sum = 0;
    for (uint64_t round = 1; round <= tsm_task_scalar(t, 0); round++) {
        bool add = round % 2, strong = round % 4 < 2, nbi = round % 8 < 4;
        int op = (add ? TSM_SIGNAL_ADD : TSM_SIGNAL_SET) | (strong ? TSM_SIGNAL_STRONG : 0);
        uint64_t bytes = round % 16 == 0 ? 0 : sizeof(out);
        uint64_t value = add ? 3 : sum + 5;
        sum = add ? sum + 3 : value;
        for (uint32_t i = 0; i < COUNT(out); i++) {
            out[i] = round * 100 + tsm_rank(c);
        }
        EXPECT(t,
               nbi ? tsm_put_signal_nbi(c, at(c, 512), out, bytes, at(c, 0), value, op, to)
                   : tsm_put_signal(c, at(c, 512), out, bytes, at(c, 0), value, op, to),
               0);
        EXPECT(t, tsm_signal_wait_until(c, at(c, 0), TSM_EQ, sum, &seen, -1), 0);
        EXPECT_EQ(t, seen, sum);
        const uint64_t *own = tsm_ptr(c, at(c, 512), tsm_rank(c));
        for (uint32_t i = 0; i < COUNT(out) && bytes > 0; i++) {
            EXPECT_EQ(t, own[i], round * 100 + from);
        }
        EXPECT(t, tsm_signal_fetch(c, at(c, 0), &seen), 0);
        EXPECT_EQ(t, seen, sum);
        EXPECT(t, tsm_barrier(c), 0);
    }
    return 0;
}

int voc_compare(tsm_task *t)
{
    static const struct {
        int cmp;
        uint64_t with;
        int holds;
    } table[] = {{TSM_EQ, 7, 1},         {TSM_EQ, 8, 0}, {TSM_NE, 8, 1}, {TSM_NE, 7, 0},
                 {TSM_GT, 6, 1},         {TSM_GT, 7, 0}, {TSM_GE, 7, 1}, {TSM_GE, 8, 0},
                 {TSM_LT, 8, 1},         {TSM_LT, 7, 0}, {TSM_LE, 7, 1}, {TSM_LE, 6, 0},
                 {TSM_LT, UINT64_MAX, 1}};
    tsm_ctx *c = tsm_task_domain(t, 0);
    tsm_sym s = at(c, 8);
    uint32_t which = 9;
    EXPECT(t, tsm_signal(c, s, 7, TSM_SIGNAL_SET, tsm_rank(c)), 0);
    EXPECT(t, tsm_quiet(c), 0);
    for (uint32_t i = 0; i < COUNT(table); i++) {
        uint64_t seen = 0;
        int late = table[i].holds ? 0 : TSM_ETIMEOUT;
        EXPECT(t, tsm_signal_test(c, s, table[i].cmp, table[i].with, &seen), table[i].holds);
        EXPECT_EQ(t, seen, 7);
        EXPECT(t, tsm_signal_test(c, s, table[i].cmp, table[i].with, NULL), table[i].holds);
        EXPECT(t, tsm_signal_test_all(c, &s, 1, table[i].cmp, table[i].with), table[i].holds);
        EXPECT(t, tsm_signal_test_any(c, &s, 1, table[i].cmp, table[i].with, &which),
               table[i].holds);
        EXPECT(t, tsm_signal_wait_until(c, s, table[i].cmp, table[i].with, &seen, 0), late);
        EXPECT(t, tsm_signal_wait_all(c, &s, 1, table[i].cmp, table[i].with, 0), late);
        EXPECT(t, tsm_signal_wait_any(c, &s, 1, table[i].cmp, table[i].with, &which, 1000), late);
    }
    return 0;
}

/* Rank 0 waits for any of three; the others signal in turn, slots far apart. Then for all. */
int voc_several(tsm_task *t)
{
    tsm_ctx *c = tsm_task_domain(t, 0);
    tsm_sym slots[3] = {at(c, 1024), at(c, 0), at(c, 520)};
    uint32_t n = tsm_size(c), me = tsm_rank(c), which = 9;
    for (uint64_t round = 1; round <= tsm_task_scalar(t, 0); round++) {
        uint32_t turn = (uint32_t)(round * 5 / 3 % 3);
        if (me == 1 + round % (n - 1)) {
            EXPECT(t, tsm_signal(c, slots[turn], round, TSM_SIGNAL_SET, 0), 0);
        }
        if (me == 0) {
            EXPECT(t, tsm_signal_wait_any(c, slots, 3, TSM_EQ, round, &which, -1), 0);
            EXPECT_EQ(t, which, turn);
            EXPECT(t, tsm_signal_test_any(c, slots, 3, TSM_EQ, round, &which), 1);
            EXPECT_EQ(t, which, turn);
            EXPECT(t, tsm_signal_test_any(c, slots, 3, TSM_GT, round, &which), 0);
            EXPECT(t, tsm_signal_test_all(c, slots, 3, TSM_LE, round), 1);
        }
        EXPECT(t, tsm_sync(c), 0);
    }
    uint64_t last = 1u << 20;
    for (uint32_t i = 0; i < 3 && me == 1 + i % (n - 1); i++) {
        EXPECT(t, tsm_signal(c, slots[i], last, TSM_SIGNAL_SET, 0), 0);
    }
    for (uint32_t i = 0; i < 3 && me != 0; i++) {
        EXPECT(t, tsm_signal(c, slots[i], last, TSM_SIGNAL_SET, 0), 0);
    }
    if (me == 0) {
        EXPECT(t, tsm_signal_wait_all(c, slots, 3, TSM_GE, last, -1), 0);
        EXPECT(t, tsm_signal_test_all(c, slots, 3, TSM_GE, last), 1);
        EXPECT(t, tsm_signal_wait_any(c, slots, 3, TSM_GE, last, &which, -1), 0);
        EXPECT_EQ(t, which, 0); /* the lowest */
        EXPECT(t, tsm_signal_wait_all(c, slots, 3, TSM_GT, last, 3000000), TSM_ETIMEOUT);
        EXPECT(t, tsm_signal_wait_any(c, slots, 3, TSM_GT, last, &which, 3000000), TSM_ETIMEOUT);
        EXPECT(t, tsm_signal_wait_all(c, NULL, 0, TSM_EQ, 1, -1), 0);
        EXPECT(t, tsm_signal_test_all(c, NULL, 0, TSM_EQ, 1), 1);
    }
    return 0;
}

/* ---- atomics ---- */

/* By rank 0 on a word of rank 1; the old value, the new one. */
int voc_atomics(tsm_task *t)
{
    tsm_ctx *c = tsm_task_domain(t, 0);
    tsm_sym s = at(c, 16), w = at(c, 24);
    uint32_t a = 9;
    uint64_t b = 9;
    if (tsm_rank(c) != 0) {
        return 0;
    }
    uint32_t to = tsm_size(c) - 1;
    EXPECT(t, tsm_atomic_set_u32(c, s, 0xf0, to), 0);
    EXPECT(t, tsm_atomic_set_u64(c, w, UINT64_C(0xf0f0) << 32, to), 0);
    EXPECT(t, tsm_quiet(c), 0);
    EXPECT(t, tsm_atomic_fetch_u32(c, s, &a, to), 0);
    EXPECT(t, tsm_atomic_fetch_u64(c, w, &b, to), 0);
    EXPECT_EQ(t, a, 0xf0);
    EXPECT_EQ(t, b, UINT64_C(0xf0f0) << 32);
    EXPECT(t, tsm_atomic_fetch_add_u32(c, s, UINT32_MAX, &a, to), 0);
    EXPECT(t, tsm_atomic_fetch_add_u64(c, w, 5, &b, to), 0);
    EXPECT_EQ(t, a, 0xf0);
    EXPECT_EQ(t, b, UINT64_C(0xf0f0) << 32);
    EXPECT(t, tsm_atomic_fetch_and_u32(c, s, 0x3c, &a, to), 0);
    EXPECT(t, tsm_atomic_fetch_and_u64(c, w, 0xff, &b, to), 0);
    EXPECT_EQ(t, a, 0xef);
    EXPECT_EQ(t, b, (UINT64_C(0xf0f0) << 32) + 5);
    EXPECT(t, tsm_atomic_fetch_or_u32(c, s, 0x100, &a, to), 0);
    EXPECT(t, tsm_atomic_fetch_or_u64(c, w, UINT64_C(1) << 63, &b, to), 0);
    EXPECT_EQ(t, a, 0x2c);
    EXPECT_EQ(t, b, 5);
    EXPECT(t, tsm_atomic_fetch_xor_u32(c, s, 0x101, &a, to), 0);
    EXPECT(t, tsm_atomic_fetch_xor_u64(c, w, 1, &b, to), 0);
    EXPECT_EQ(t, a, 0x12c);
    EXPECT_EQ(t, b, UINT64_C(1) << 63 | 5);
    EXPECT(t, tsm_atomic_swap_u32(c, s, 6, &a, to), 0);
    EXPECT(t, tsm_atomic_swap_u64(c, w, 7, &b, to), 0);
    EXPECT_EQ(t, a, 0x2d);
    EXPECT_EQ(t, b, UINT64_C(1) << 63 | 4);
    EXPECT(t, tsm_atomic_compare_swap_u32(c, s, 5, 1, &a, to), 0);
    EXPECT(t, tsm_atomic_compare_swap_u64(c, w, 5, 1, &b, to), 0);
    EXPECT_EQ(t, a, 6);
    EXPECT_EQ(t, b, 7);
    EXPECT(t, tsm_atomic_compare_swap_u32(c, s, 6, 1, &a, to), 0);
    EXPECT(t, tsm_atomic_compare_swap_u64(c, w, 7, 1, &b, to), 0);
    EXPECT_EQ(t, a, 6);
    EXPECT_EQ(t, b, 7);
    EXPECT(t, tsm_atomic_fetch_u32(c, s, &a, to), 0);
    EXPECT(t, tsm_atomic_fetch_u64(c, w, &b, to), 0);
    EXPECT_EQ(t, a, 1);
    EXPECT_EQ(t, b, 1);
    uint32_t beside = 9; /* a 32-bit atomic leaves the other half alone */
    EXPECT(t, tsm_atomic_fetch_u32(c, at(c, 20), &beside, to), 0);
    EXPECT_EQ(t, beside, 0);
    return 0;
}

/* Those that answer nothing, each behind a fence. */
int voc_atomics_mute(tsm_task *t)
{
    tsm_ctx *c = tsm_task_domain(t, 0);
    uint32_t to = tsm_size(c) - 1, a = 0;
    uint64_t b = 0;
    tsm_sym s = at(c, 16), w = at(c, 24);
    if (tsm_rank(c) != 0) {
        return 0;
    }
    EXPECT(t, tsm_atomic_set_u32(c, s, 0xf0, to), 0);
    EXPECT(t, tsm_atomic_set_u64(c, w, 0xf0, to), 0);
    EXPECT(t, tsm_fence(c), 0);
    EXPECT(t, tsm_atomic_add_u32(c, s, 0x20, to), 0);
    EXPECT(t, tsm_atomic_add_u64(c, w, UINT64_C(1) << 40, to), 0);
    EXPECT(t, tsm_fence(c), 0);
    EXPECT(t, tsm_atomic_and_u32(c, s, 0xff, to), 0);
    EXPECT(t, tsm_atomic_and_u64(c, w, UINT64_C(1) << 40 | 0x3c, to), 0);
    EXPECT(t, tsm_fence(c), 0);
    EXPECT(t, tsm_atomic_or_u32(c, s, 0x100, to), 0);
    EXPECT(t, tsm_atomic_or_u64(c, w, 3, to), 0);
    EXPECT(t, tsm_fence(c), 0);
    EXPECT(t, tsm_atomic_xor_u32(c, s, 0x111, to), 0);
    EXPECT(t, tsm_atomic_xor_u64(c, w, 0x33, to), 0);
    EXPECT(t, tsm_fence(c), 0);
    EXPECT(t, tsm_atomic_fetch_u32(c, s, &a, to), 0); /* behind the fence, too */
    EXPECT(t, tsm_atomic_fetch_u64(c, w, &b, to), 0);
    EXPECT_EQ(t, a, (((0x110 & 0xff) | 0x100) ^ 0x111));
    EXPECT_EQ(t, b, UINT64_C(1) << 40 | 0x00);
    return 0;
}

/* Scalar 0: rounds. All ranks change words of rank 0 in every way that can be counted. */
int voc_contended(tsm_task *t)
{
    tsm_ctx *c = tsm_task_domain(t, 0);
    uint64_t rounds = tsm_task_scalar(t, 0), n = tsm_size(c), b;
    uint64_t bit = UINT64_C(1) << tsm_rank(c);
    uint32_t a;
    for (uint64_t i = 0; i < rounds; i++) {
        EXPECT(t, tsm_atomic_add_u32(c, at(c, 0), 3, 0), 0);
        EXPECT(t, tsm_atomic_add_u64(c, at(c, 8), 5, 0), 0);
        EXPECT(t, tsm_atomic_fetch_add_u32(c, at(c, 0), 1, &a, 0), 0);
        EXPECT(t, tsm_atomic_fetch_add_u64(c, at(c, 8), 1, &b, 0), 0);
        EXPECT(t, tsm_signal(c, at(c, 8), 1, TSM_SIGNAL_ADD, 0), 0);
        EXPECT(t, tsm_atomic_xor_u64(c, at(c, 16), bit, 0), 0);
        EXPECT(t, tsm_quiet(c), 0);
        EXPECT(t, tsm_atomic_fetch_xor_u64(c, at(c, 16), bit, &b, 0), 0);
        EXPECT_EQ(t, (b & bit) != 0, 1); /* nobody else touches this bit */
        EXPECT(t, tsm_g64(c, at(c, 24), &b, 0), 0);
        for (uint64_t old = 0;; b = old) {
            EXPECT(t, tsm_atomic_compare_swap_u64(c, at(c, 24), b, b + 1, &old, 0), 0);
            if (old == b) {
                break;
            }
        }
    }
    EXPECT(t, tsm_barrier(c), 0);
    if (tsm_rank(c) == 0) {
        EXPECT(t, tsm_g32(c, at(c, 0), &a, 0), 0);
        EXPECT_EQ(t, a, (uint32_t)(rounds * n * 4));
        EXPECT(t, tsm_g64(c, at(c, 8), &b, 0), 0);
        EXPECT_EQ(t, b, rounds * n * 7);
        EXPECT(t, tsm_g64(c, at(c, 16), &b, 0), 0);
        EXPECT_EQ(t, b, 0);
        EXPECT(t, tsm_g64(c, at(c, 24), &b, 0), 0);
        EXPECT_EQ(t, b, rounds * n);
    }
    return 0;
}

/* ---- sub-groups ---- */

static int use_group(tsm_task *t, tsm_ctx *g, const tsm_ctx *c, const uint32_t *members)
{
    uint32_t n = tsm_size(g), me = tsm_rank(g), next = (me + 1) % n, chip = 99;
    uint64_t mine = 100 + tsm_rank(c), got = 0, old = 0;
    EXPECT_EQ(t, members[me], tsm_rank(c));
    EXPECT(t, tsm_translate(g, next, c, &chip), 0);
    EXPECT_EQ(t, chip, members[next]);
    EXPECT(t, tsm_translate(c, members[next], g, &chip), 0);
    EXPECT_EQ(t, chip, next);
    EXPECT(t, tsm_put_signal(g, at(g, 64), &mine, 8, at(g, 72), 1, TSM_SIGNAL_ADD, next), 0);
    EXPECT(t, tsm_signal_wait_until(g, at(g, 72), TSM_GE, 1, NULL, -1), 0);
    EXPECT_EQ(t, *(const uint64_t *)tsm_ptr(g, at(g, 64), me), 100 + members[(me + n - 1) % n]);
    EXPECT(t, tsm_quiet_rank(g, next), 0);
    EXPECT(t, tsm_get(g, &got, at(g, 64), 8, next), 0);
    EXPECT_EQ(t, got, mine);
    EXPECT(t, tsm_ptr(g, at(g, 64), next) == tsm_ptr(c, at(c, 64), members[next]), 1);
    EXPECT(t, tsm_atomic_fetch_add_u64(g, at(g, 80), 1, &old, next), 0);
    EXPECT_EQ(t, old, 0);
    EXPECT(t, tsm_p64(g, at(g, 88), 1, n), TSM_ERANGE);
    EXPECT(t, tsm_put(g, at(g, 88), &mine, 8, n), TSM_ERANGE);
    EXPECT(t, tsm_notify(g, next), 0);
    EXPECT(t, tsm_notify(g, n), TSM_ERANGE);
    return tsm_barrier(g);
}

/* For four ranks: 3 2 0 by list; 1 3 by stride. */
int voc_groups(tsm_task *t)
{
    static const uint32_t list[] = {3, 2, 0}, odd[] = {1, 3}, twice[] = {1, 1}, far[] = {0, 4};
    tsm_ctx *c = tsm_task_domain(t, 0), *g = NULL, *again = NULL;
    uint32_t me = tsm_rank(c), r;
    EXPECT(t, tsm_split(c, list, 3, &g), 0);
    EXPECT_EQ(t, g != NULL, me != 1);
    if (g) {
        EXPECT(t, tsm_split(c, list, 3, &again), 0);
        EXPECT_EQ(t, again == g, 1);
        EXPECT(t, use_group(t, g, c, list), 0);
        EXPECT(t, tsm_translate(c, 1, g, &r), TSM_ENOENT);
        EXPECT(t, tsm_translate(c, 4, g, &r), TSM_ERANGE);
    }
    EXPECT(t, tsm_barrier(c), 0);
    memset(tsm_ptr(c, at(c, 64), me), 0, 64);
    EXPECT(t, tsm_barrier(c), 0);
    EXPECT(t, tsm_split_strided(c, 1, 2, 2, &g), 0);
    EXPECT_EQ(t, g != NULL, me % 2);
    if (g) {
        EXPECT(t, use_group(t, g, c, odd), 0);
    }
    EXPECT(t, tsm_split(c, NULL, 0, &g), TSM_EINVAL);
    EXPECT(t, tsm_split(c, twice, 2, &g), TSM_EINVAL);
    EXPECT(t, tsm_split(c, far, 2, &g), TSM_ERANGE);
    EXPECT(t, tsm_split_strided(c, 0, 0, 2, &g), TSM_EINVAL);
    EXPECT(t, tsm_split_strided(c, 2, 2, 2, &g), TSM_ERANGE);
    return 0;
}

/* ---- names and sizes ---- */

static int check_buffer(tsm_task *t, const tsm_ctx *c, uint32_t i,
                        const struct tsm_buffer_info *want, uint64_t *end)
{
    struct tsm_buffer_info b;
    tsm_sym place;
    uint64_t bytes = 0;
    EXPECT(t, tsm_buffer_info(c, i, &b), 0);
    EXPECT_EQ(t, strcmp(b.name, want->name), 0);
    EXPECT_EQ(t, b.dtype, want->dtype);
    EXPECT_EQ(t, b.count, want->count);
    EXPECT_EQ(t, b.bytes, want->bytes);
    EXPECT(t, tsm_buffer(c, want->name, &place, &bytes), 0);
    EXPECT_EQ(t, memcmp(&place, &b.place, sizeof(place)), 0);
    EXPECT_EQ(t, bytes, b.bytes);
    EXPECT_EQ(t, b.place.offset >= *end && b.place.offset + b.bytes <= tsm_window_bytes(c), 1);
    EXPECT_EQ(t, tsm_ptr(c, b.place, tsm_rank(c)) != NULL, 1);
    *end = b.place.offset + b.bytes;
    return 0;
}

/* What is not there is ERANGE, writes nothing and says nothing. */
static int check_no_buffer(tsm_task *t, const tsm_ctx *c, uint32_t i)
{
    struct tsm_buffer_info b = {.name = "untouched"}, before = b;
    char text[64];
    snprintf(text, sizeof(text), "%s", tsm_ctx_text(c));
    EXPECT(t, tsm_buffer_info(c, i, &b), TSM_ERANGE);
    EXPECT_EQ(t, memcmp(&b, &before, sizeof(b)), 0);
    EXPECT_EQ(t, strncmp(tsm_ctx_text(c), text, sizeof(text) - 1), 0);
    return 0;
}

static int check_window(tsm_task *t, const tsm_ctx *c, uint64_t asked)
{
    tsm_sym place;
    uint64_t bytes = tsm_window_bytes(c);
    EXPECT_EQ(t, bytes >= asked, 1);
    EXPECT(t, tsm_at(c, bytes - 1, &place), 0);
    EXPECT_EQ(t, tsm_ptr(c, place, tsm_size(c) - 1) != NULL, 1);
    EXPECT(t, tsm_at(c, bytes, &place), TSM_ERANGE);
    return 0;
}

static int check_names(tsm_task *t, const tsm_ctx *c)
{
    static const struct tsm_buffer_info want[] = {
        {.name = "bytes", .dtype = TSM_U8, .count = 10, .bytes = 10},
        {.name = "halves", .dtype = TSM_BF16, .count = 7, .bytes = 14},
        {.name = "doubles", .dtype = TSM_F64, .count = 3, .bytes = 24},
        {.name = "apart", .dtype = TSM_U32, .count = 4, .bytes = 16},
    };
    uint64_t end = 0;
    for (uint32_t i = 0; i < COUNT(want); i++) {
        EXPECT(t, check_buffer(t, c, i, &want[i], &end), 0);
    }
    EXPECT_EQ(t, (end - 16) % 4096, 0);
    EXPECT(t, check_no_buffer(t, c, COUNT(want)), 0);
    return check_no_buffer(t, c, UINT32_MAX);
}

/* Scalar 0: bytes of a window that were asked for. The domain and a sub-group of it, before and after a refusal. */
int voc_names(tsm_task *t)
{
    static const uint32_t reversed[] = {1, 0};
    tsm_ctx *c = tsm_task_domain(t, 0), *g = NULL;
    EXPECT(t, tsm_split(c, reversed, 2, &g), 0);
    for (int round = 0; round < 2; round++) {
        EXPECT_EQ(t, strcmp(tsm_ctx_name(c), "names"), 0);
        EXPECT_EQ(t, tsm_ctx_name(g) == tsm_ctx_name(c), 1);
        EXPECT_EQ(t, tsm_window_bytes(g), tsm_window_bytes(c));
        EXPECT(t, check_names(t, c), 0);
        EXPECT(t, check_names(t, g), 0);
        EXPECT(t, check_window(t, c, tsm_task_scalar(t, 0)), 0);
        EXPECT(t, check_window(t, g, tsm_task_scalar(t, 0)), 0);
        EXPECT(t, tsm_split(c, NULL, 0, &g), TSM_EINVAL);
    }
    return 0;
}

/* Scalar 0: bytes of a window that were asked for. A domain without buffers, with as long a name as there can be. */
int voc_long_name(tsm_task *t)
{
    const tsm_ctx *c = tsm_task_domain(t, 0);
    EXPECT_EQ(t, strlen(tsm_ctx_name(c)), 63);
    EXPECT_EQ(t, strspn(tsm_ctx_name(c), "n"), 63);
    EXPECT(t, check_no_buffer(t, c, 0), 0);
    return check_window(t, c, tsm_task_scalar(t, 0));
}

/* ---- waits that end badly ---- */

static int wait_somehow(tsm_ctx *c, uint64_t how)
{
    tsm_sym slots[2] = {at(c, 64), at(c, 72)};
    uint32_t which;
    switch (how) {
    case 0:
        return tsm_signal_wait_until(c, slots[0], TSM_EQ, 1, NULL, -1);
    case 1:
        return tsm_signal_wait_all(c, slots, 2, TSM_EQ, 1, -1);
    case 2:
        return tsm_signal_wait_any(c, slots, 2, TSM_EQ, 1, &which, -1);
    default:
        return tsm_sync(c);
    }
}

/* Rank 0 aborts the domain (scalar 0) or fails, when the others have said that they are about to wait. */
int voc_ended(tsm_task *t)
{
    tsm_ctx *c = tsm_task_domain(t, 0);
    bool aborts = tsm_task_scalar(t, 0) != 0;
    uint32_t rank = 99;
    int code = 0;
    if (tsm_rank(c) == 0) {
        EXPECT(t, tsm_signal_wait_until(c, at(c, 0), TSM_EQ, tsm_size(c) - 1, NULL, -1), 0);
        take(tsm_task_scalar(t, 1));
        return aborts ? tsm_abort(c, TSM_ENOSPC) : tsm_fail(t, "rank 0 gives up");
    }
    EXPECT(t, tsm_signal(c, at(c, 0), 1, TSM_SIGNAL_ADD, 0), 0);
    int rc = wait_somehow(c, tsm_rank(c) % 4);
    EXPECT(t, rc, aborts ? TSM_EPEER : TSM_EABORTED);
    EXPECT(t, tsm_status(c, &rank, &code), rc);
    if (!aborts) {
        return rc;
    }
    EXPECT_EQ(t, rank, 0);
    EXPECT(t, code, TSM_ENOSPC);
    EXPECT(t, wait_somehow(c, (tsm_rank(c) + 1) % 4), TSM_EPEER); /* and each later one */
    return 0;
}

/* Rank 0 aborts the domain and fails only when the others have failed of it. */
int voc_abort_and_fail(tsm_task *t)
{
    tsm_ctx *c = tsm_task_domain(t, 0);
    if (tsm_rank(c) != 0) {
        return tsm_signal_wait_until(c, at(c, 64), TSM_EQ, 1, NULL, -1);
    }
    EXPECT(t, tsm_abort(c, -9), 0);
    while (tsm_status(c, NULL, NULL) != TSM_EABORTED) {
        sched_yield();
    }
    return tsm_fail(t, "why rank 0 aborts");
}

/* Scalar 0: rounds, 1: nanoseconds. Wait, all and any end at their time, not before, and may be repeated. */
int voc_timeouts(tsm_task *t)
{
    tsm_ctx *c = tsm_task_domain(t, 0);
    tsm_sym slots[2] = {at(c, 64), at(c, 72)};
    int64_t ns = (int64_t)tsm_task_scalar(t, 1);
    uint32_t which = 9;
    for (uint64_t i = 0; i < tsm_task_scalar(t, 0); i++) {
        struct timespec a, b;
        clock_gettime(CLOCK_MONOTONIC, &a);
        int rc = i % 3 == 0   ? tsm_signal_wait_until(c, slots[0], TSM_EQ, 1, NULL, ns)
                 : i % 3 == 1 ? tsm_signal_wait_all(c, slots, 2, TSM_EQ, 1, ns)
                              : tsm_signal_wait_any(c, slots, 2, TSM_EQ, 1, &which, ns);
        clock_gettime(CLOCK_MONOTONIC, &b);
        EXPECT(t, rc, TSM_ETIMEOUT);
        EXPECT_EQ(t, (b.tv_sec - a.tv_sec) * 1000000000 + b.tv_nsec - a.tv_nsec < ns, 0);
    }
    return 0;
}

/* ---- waking ---- */

enum { WAKES = 18 };

/* Writes `value` to the word, in the k-th way. The word is value - 1 before. */
static int write_somehow(tsm_ctx *c, int k, uint64_t value, uint32_t to)
{
    tsm_sym s = at(c, 64), other = at(c, 128);
    uint64_t x[2] = {value, value}, old;
    int rc;
    switch (k) {
    case 0:
        return tsm_put(c, s, x, 8, to);
    case 1:
        rc = tsm_put_nbi(c, s, x, 8, to);
        break; /* x has to live until quiet */
    case 2:
        return tsm_p64(c, s, value, to);
    case 3:
        return tsm_p32(c, s, (uint32_t)value, to);
    case 4:
        return tsm_iput(c, s, 3, x, 1, 8, 2, to);
    case 5:
        return tsm_put_signal(c, other, x, 8, s, value, TSM_SIGNAL_SET, to);
    case 6:
        return tsm_put_signal(c, s, x, 8, other, value, TSM_SIGNAL_SET, to); /* its data */
    case 7:
        rc = tsm_put_signal_nbi(c, other, x, 8, s, 1, TSM_SIGNAL_ADD, to);
        break;
    case 8:
        return tsm_signal(c, s, value, TSM_SIGNAL_SET, to);
    case 9:
        return tsm_signal(c, s, 1, TSM_SIGNAL_ADD | TSM_SIGNAL_STRONG, to);
    case 10:
        return tsm_atomic_set_u64(c, s, value, to);
    case 11:
        return tsm_atomic_add_u64(c, s, 1, to);
    case 12:
        return tsm_atomic_xor_u64(c, s, value ^ (value - 1), to);
    case 13:
        return tsm_atomic_fetch_add_u64(c, s, 1, &old, to);
    case 14:
        return tsm_atomic_swap_u64(c, s, value, &old, to);
    case 15:
        return tsm_atomic_compare_swap_u64(c, s, value - 1, value, &old, to);
    case 16:
        return tsm_atomic_add_u32(c, s, 1, to);
    default:
        *(volatile uint64_t *)tsm_ptr(c, s, to) = value;
        return tsm_notify(c, to);
    }
    return rc != 0 ? rc : tsm_quiet(c);
}

/* Scalar 0: rounds, 1: nanoseconds, 2: address of a word for the rounds done. Rank 0 writes in every way, rank 1 sleeps,
 * in each kind of wait, and answers. */
int voc_wakes(tsm_task *t)
{
    tsm_ctx *c = tsm_task_domain(t, 0);
    uint64_t rounds = tsm_task_scalar(t, 0) * WAKES;
    volatile uint64_t *done = (volatile uint64_t *)(uintptr_t)tsm_task_scalar(t, 2);
    tsm_sym slots[2] = {at(c, 256), at(c, 64)};
    uint32_t which = 9;
    for (uint64_t i = 1; i <= rounds; i++) {
        if (tsm_rank(c) == 0) {
            take(tsm_task_scalar(t, 1));
            EXPECT(t, write_somehow(c, (int)(i % WAKES), i, 1), 0);
            EXPECT(t, tsm_signal_wait_until(c, at(c, 0), TSM_EQ, i, NULL, -1), 0);
            *done = i;
            continue;
        }
        int rc = i % 3 == 0   ? tsm_signal_wait_until(c, slots[1], TSM_EQ, i, NULL, -1)
                 : i % 3 == 1 ? tsm_signal_wait_all(c, &slots[1], 1, TSM_EQ, i, -1)
                              : tsm_signal_wait_any(c, slots, 2, TSM_EQ, i, &which, -1);
        EXPECT(t, rc, 0);
        EXPECT(t, tsm_signal(c, at(c, 0), i, TSM_SIGNAL_SET, 0), 0);
    }
    return 0;
}
