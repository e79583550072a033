/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * The tasks of vocabulary.c that show each error: every function with every argument that it refuses.
 */
#include "vocabulary.h"

enum {
    CALL_PUT,
    CALL_GET,
    CALL_PUT_NBI,
    CALL_GET_NBI,
    CALL_IPUT,
    CALL_IGET,
    CALL_PUT_SIGNAL,
    CALL_PUT_SIGNAL_NBI,
    CALL_P32, /* from here on words */
    CALL_P64,
    CALL_G32,
    CALL_G64,
    CALL_SIGNAL,
    CALL_PUT_SIGNAL_WORD,
    CALL_SET32,
    CALL_SET64,
    CALL_ADD32,
    CALL_ADD64,
    CALL_AND32,
    CALL_AND64,
    CALL_OR32,
    CALL_OR64,
    CALL_XOR32,
    CALL_XOR64,
    CALL_FETCH32,
    CALL_FETCH64,
    CALL_FETCH_ADD32,
    CALL_FETCH_ADD64,
    CALL_FETCH_AND32,
    CALL_FETCH_AND64,
    CALL_FETCH_OR32,
    CALL_FETCH_OR64,
    CALL_FETCH_XOR32,
    CALL_FETCH_XOR64,
    CALL_SWAP32,
    CALL_SWAP64,
    CALL_CAS32,
    CALL_CAS64,
    CALL_FETCH_SIGNAL, /* from here on of the own window */
    CALL_WAIT,
    CALL_WAIT_ALL,
    CALL_WAIT_ANY,
    CALL_TEST,
    CALL_TEST_ALL,
    CALL_TEST_ANY,
    CALLS
};

/* With its quiet: what a non-blocking call is given has to live so long. */
static int call_range(int call, tsm_ctx *c, tsm_sym s, uint32_t rank)
{
    uint64_t x[2] = {0, 0};
    tsm_sym flag = at(c, 128);
    int rc;
    switch (call) {
    case CALL_PUT:
        return tsm_put(c, s, x, 16, rank);
    case CALL_GET:
        return tsm_get(c, x, s, 16, rank);
    case CALL_PUT_NBI:
        rc = tsm_put_nbi(c, s, x, 16, rank);
        break;
    case CALL_GET_NBI:
        rc = tsm_get_nbi(c, x, s, 16, rank);
        break;
    case CALL_IPUT:
        return tsm_iput(c, s, 1, x, 1, 8, 2, rank);
    case CALL_IGET:
        return tsm_iget(c, x, 1, s, 1, 8, 2, rank);
    case CALL_PUT_SIGNAL:
        return tsm_put_signal(c, s, x, 16, flag, 1, TSM_SIGNAL_SET, rank);
    default:
        rc = tsm_put_signal_nbi(c, s, x, 16, flag, 1, TSM_SIGNAL_SET, rank);
    }
    tsm_quiet(c);
    return rc;
}

static int call_mute(int call, tsm_ctx *c, tsm_sym s, uint32_t rank)
{
    switch (call) {
    case CALL_P32:
        return tsm_p32(c, s, 0, rank);
    case CALL_P64:
        return tsm_p64(c, s, 0, rank);
    case CALL_SIGNAL:
        return tsm_signal(c, s, 0, TSM_SIGNAL_ADD, rank);
    case CALL_PUT_SIGNAL_WORD:
        return tsm_put_signal(c, at(c, 256), "12345678", 8, s, 0, TSM_SIGNAL_ADD, rank);
    case CALL_SET32:
        return tsm_atomic_set_u32(c, s, 0, rank);
    case CALL_SET64:
        return tsm_atomic_set_u64(c, s, 0, rank);
    case CALL_ADD32:
        return tsm_atomic_add_u32(c, s, 0, rank);
    case CALL_ADD64:
        return tsm_atomic_add_u64(c, s, 0, rank);
    case CALL_AND32:
        return tsm_atomic_and_u32(c, s, 0, rank);
    case CALL_AND64:
        return tsm_atomic_and_u64(c, s, 0, rank);
    case CALL_OR32:
        return tsm_atomic_or_u32(c, s, 0, rank);
    case CALL_OR64:
        return tsm_atomic_or_u64(c, s, 0, rank);
    case CALL_XOR32:
        return tsm_atomic_xor_u32(c, s, 0, rank);
    default:
        return tsm_atomic_xor_u64(c, s, 0, rank);
    }
}

/* give false: with NULL for where the answer goes. */
static int call_answering(int call, tsm_ctx *c, tsm_sym s, uint32_t rank, bool give)
{
    uint32_t x32 = 0, *a = give ? &x32 : NULL;
    uint64_t x64 = 0, *b = give ? &x64 : NULL;
    switch (call) {
    case CALL_G32:
        return tsm_g32(c, s, a, rank);
    case CALL_G64:
        return tsm_g64(c, s, b, rank);
    case CALL_FETCH32:
        return tsm_atomic_fetch_u32(c, s, a, rank);
    case CALL_FETCH64:
        return tsm_atomic_fetch_u64(c, s, b, rank);
    case CALL_FETCH_ADD32:
        return tsm_atomic_fetch_add_u32(c, s, 0, a, rank);
    case CALL_FETCH_ADD64:
        return tsm_atomic_fetch_add_u64(c, s, 0, b, rank);
    case CALL_FETCH_AND32:
        return tsm_atomic_fetch_and_u32(c, s, 0, a, rank);
    case CALL_FETCH_AND64:
        return tsm_atomic_fetch_and_u64(c, s, 0, b, rank);
    case CALL_FETCH_OR32:
        return tsm_atomic_fetch_or_u32(c, s, 0, a, rank);
    case CALL_FETCH_OR64:
        return tsm_atomic_fetch_or_u64(c, s, 0, b, rank);
    case CALL_FETCH_XOR32:
        return tsm_atomic_fetch_xor_u32(c, s, 0, a, rank);
    case CALL_FETCH_XOR64:
        return tsm_atomic_fetch_xor_u64(c, s, 0, b, rank);
    case CALL_SWAP32:
        return tsm_atomic_swap_u32(c, s, 0, a, rank);
    case CALL_SWAP64:
        return tsm_atomic_swap_u64(c, s, 0, b, rank);
    case CALL_CAS32:
        return tsm_atomic_compare_swap_u32(c, s, 1, 0, a, rank);
    default:
        return tsm_atomic_compare_swap_u64(c, s, 1, 0, b, rank);
    }
}

static int call_own(int call, tsm_ctx *c, tsm_sym s, int cmp)
{
    tsm_sym both[2] = {at(c, 192), s};
    uint32_t which;
    uint64_t seen;
    switch (call) {
    case CALL_FETCH_SIGNAL:
        return tsm_signal_fetch(c, s, &seen);
    case CALL_WAIT:
        return tsm_signal_wait_until(c, s, cmp, 0, &seen, 0);
    case CALL_WAIT_ALL:
        return tsm_signal_wait_all(c, both, 2, cmp, 0, 0);
    case CALL_WAIT_ANY:
        return tsm_signal_wait_any(c, both, 2, cmp, 0, &which, 0);
    case CALL_TEST:
        return tsm_signal_test(c, s, cmp, 0, &seen) > 0 ? 0 : tsm_signal_test(c, s, cmp, 0, &seen);
    case CALL_TEST_ALL:
        return tsm_signal_test_all(c, both, 2, cmp, 0) > 0
                   ? 0
                   : tsm_signal_test_all(c, both, 2, cmp, 0);
    default:
        return tsm_signal_test_any(c, both, 2, cmp, 0, &which) > 0
                   ? 0
                   : tsm_signal_test_any(c, both, 2, cmp, 0, &which);
    }
}

static bool is_answering(int call)
{
    return call == CALL_G32 || call == CALL_G64 || (call >= CALL_FETCH32 && call <= CALL_CAS64);
}

static int any_call(int call, tsm_ctx *c, tsm_sym s, uint32_t rank)
{
    return call < CALL_P32             ? call_range(call, c, s, rank)
           : call >= CALL_FETCH_SIGNAL ? call_own(call, c, s, TSM_EQ)
           : is_answering(call)        ? call_answering(call, c, s, rank, true)
                                       : call_mute(call, c, s, rank);
}

static int expect_call(tsm_task *t, int call, int rc, int code, const char *when)
{
    return rc == code ? 0
                      : tsm_fail(t, "call %d %s is %s, not %s", call, when, tsm_code_name(rc),
                                 tsm_code_name(code));
}

/* Scalar 0: address of a tsm_sym: scalar 1 says whether to leave one there, or to use what a former task left. */
int voc_errors(tsm_task *t)
{
    tsm_ctx *c = tsm_task_domain(t, 0);
    tsm_sym *kept = (tsm_sym *)(uintptr_t)tsm_task_scalar(t, 0);
    if (tsm_task_scalar(t, 1) == 0) {
        *kept = at(c, 64);
        return 0;
    }
    tsm_sym well = at(c, 64), other = well, end = tsm_offset(well, tsm_task_scalar(t, 2) - 64);
    other.window++;
    uint32_t rank = tsm_size(c) - 1;
    int rc = 0;
    for (int call = 0; call < CALLS && rc == 0; call++) {
        rc = expect_call(t, call, any_call(call, c, well, rank), 0, "of a good place");
        rc = rc ? rc : expect_call(t, call, any_call(call, c, *kept, rank), TSM_ESTALE, "stale");
        rc =
            rc ? rc : expect_call(t, call, any_call(call, c, other, rank), TSM_ESTALE, "elsewhere");
        rc = rc ? rc : expect_call(t, call, any_call(call, c, end, rank), TSM_ERANGE, "at the end");
        rc = rc ? rc
                : expect_call(t, call, any_call(call, c, tsm_offset(well, UINT64_MAX - 71), rank),
                              TSM_ERANGE, "far away");
        if (rc == 0 && call < CALL_FETCH_SIGNAL) {
            rc = expect_call(t, call, any_call(call, c, well, rank + 1), TSM_ERANGE, "no rank");
        }
        if (rc == 0 && call >= CALL_P32) {
            rc = expect_call(t, call, any_call(call, c, tsm_offset(well, 2), rank), TSM_EINVAL,
                             "odd");
        }
        if (rc == 0 && is_answering(call)) {
            rc = expect_call(t, call, call_answering(call, c, well, rank, false), TSM_EINVAL,
                             "NULL");
        }
        if (rc == 0 && call > CALL_FETCH_SIGNAL) {
            rc = expect_call(t, call, call_own(call, c, well, 0), TSM_EINVAL, "cmp 0");
            rc =
                rc ? rc
                   : expect_call(t, call, call_own(call, c, well, TSM_LE + 1), TSM_EINVAL, "cmp 7");
        }
    }
    return rc;
}

/* What only some calls can get wrong. Scalar 0: bytes of the window. */
int voc_more_errors(tsm_task *t)
{
    tsm_ctx *c = tsm_task_domain(t, 0);
    tsm_sym s = at(c, 0), last = at(c, tsm_task_scalar(t, 0) - 8);
    tsm_sym end = tsm_offset(last, 8);
    uint64_t x[8] = {0}, b = 0;
    uint32_t which = 0;
    EXPECT(t, tsm_put(c, s, NULL, 8, 0), TSM_EINVAL);
    EXPECT(t, tsm_put_nbi(c, s, NULL, 8, 0), TSM_EINVAL);
    EXPECT(t, tsm_get(c, NULL, s, 8, 0), TSM_EINVAL);
    EXPECT(t, tsm_get_nbi(c, NULL, s, 8, 0), TSM_EINVAL);
    EXPECT(t, tsm_put_signal(c, s, NULL, 8, s, 1, TSM_SIGNAL_SET, 0), TSM_EINVAL);
    EXPECT(t, tsm_put(c, s, NULL, 0, 0), 0);
    EXPECT(t, tsm_get(c, NULL, end, 0, 0), 0);
    EXPECT(t, tsm_put(c, tsm_offset(end, 1), NULL, 0, 0), TSM_ERANGE);
    EXPECT(t, tsm_put(c, last, x, 8, 0), 0);
    EXPECT(t, tsm_put(c, last, x, 9, 0), TSM_ERANGE);
    EXPECT(t, tsm_put(c, s, x, UINT64_MAX, 0), TSM_ERANGE);
    EXPECT(t, tsm_iput(c, s, 0, x, 1, 8, 2, 0), TSM_EINVAL);
    EXPECT(t, tsm_iput(c, s, 1, x, 0, 8, 2, 0), TSM_EINVAL);
    EXPECT(t, tsm_iput(c, s, 1, NULL, 1, 8, 2, 0), TSM_EINVAL);
    EXPECT(t, tsm_iput(c, s, 1, NULL, 1, 8, 0, 0), 0);
    EXPECT(t, tsm_iput(c, s, UINT64_MAX, x, 1, 8, 2, 0), TSM_ERANGE);
    EXPECT(t, tsm_iput(c, s, UINT64_MAX / 4, x, 1, 8, 3, 0), TSM_ERANGE);
    EXPECT(t, tsm_iput(c, last, 100, x, 1, 8, 1, 0),
           0); /* the stride behind the last counts for nothing */
    EXPECT(t, tsm_iput(c, last, 1, x, 1, 8, 2, 0), TSM_ERANGE);
    EXPECT(t, tsm_iget(c, x, 0, s, 1, 8, 2, 0), TSM_EINVAL);
    EXPECT(t, tsm_iget(c, x, 1, s, 0, 8, 2, 0), TSM_EINVAL);
    EXPECT(t, tsm_iget(c, NULL, 1, s, 1, 8, 2, 0), TSM_EINVAL);
    EXPECT(t, tsm_iget(c, x, 1, last, 1, 8, 2, 0), TSM_ERANGE);
    EXPECT(t, tsm_signal(c, s, 1, 0, 0), TSM_EINVAL);
    EXPECT(t, tsm_signal(c, s, 1, 3, 0), TSM_EINVAL);
    EXPECT(t, tsm_signal(c, s, 1, TSM_SIGNAL_STRONG, 0), TSM_EINVAL);
    EXPECT(t, tsm_signal(c, s, 1, TSM_SIGNAL_SET | 0x200, 0), TSM_EINVAL);
    EXPECT(t, tsm_put_signal(c, s, x, 8, s, 1, 0, 0), TSM_EINVAL);
    EXPECT(t, tsm_signal_fetch(c, s, NULL), TSM_EINVAL);
    EXPECT(t, tsm_signal_wait_all(c, NULL, 1, TSM_EQ, 0, 0), TSM_EINVAL);
    EXPECT(t, tsm_signal_wait_any(c, NULL, 1, TSM_EQ, 0, &which, 0), TSM_EINVAL);
    EXPECT(t, tsm_signal_wait_any(c, &s, 0, TSM_EQ, 0, &which, 0), TSM_EINVAL);
    EXPECT(t, tsm_signal_test_any(c, &s, 0, TSM_EQ, 0, &which), TSM_EINVAL);
    EXPECT(t, tsm_quiet_rank(c, tsm_size(c)), TSM_ERANGE);
    EXPECT(t, tsm_at(c, tsm_task_scalar(t, 0), &s), TSM_ERANGE);
    EXPECT(t, tsm_buffer(c, "nothing", &s, &b), TSM_ENOENT);
    EXPECT(t, tsm_ptr(c, at(c, 0), tsm_size(c)) == NULL, 1);
    EXPECT(t, tsm_abort(c, 0), TSM_EINVAL);
    EXPECT(t, tsm_status(c, NULL, NULL), 0);
    return 0;
}
