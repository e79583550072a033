/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/* src/base/error.c and dtype.c: names, texts, element types. Test process. */
#include "base/error.h"

#include <errno.h>
#include <string.h>

#include "harness.h"

static void every_code_has_its_name(void **state)
{
    (void)state;
    for (int x = 0; x >= CODE_LAST; x--) {
        assert_string_not_equal(tsm_code_name(x), "TSM_E?");
        for (int y = 0; y > x; y--) {
            assert_string_not_equal(tsm_code_name(x), tsm_code_name(y));
        }
    }
    assert_string_equal(tsm_code_name(TSM_EINVAL), "TSM_EINVAL");
    assert_string_equal(tsm_code_name(TSM_ECANCELED), "TSM_ECANCELED");
    assert_string_equal(tsm_code_name(1), "TSM_E?");
    assert_string_equal(tsm_code_name(CODE_LAST - 1), "TSM_E?");
    assert_string_equal(tsm_code_name(-2147483647 - 1), "TSM_E?");
}

static void an_error_is_filled_and_errno_is_kept(void **state)
{
    (void)state;
    struct tsm_error e;
    char longer[1000];
    memset(&e, 0xff, sizeof(e));
    errno = ENOENT;
    assert_int_equal(error_set(&e, TSM_EINVAL, "chip %d of %s", 3, "x"), TSM_EINVAL);
    assert_int_equal(errno, ENOENT);
    assert_string_equal(e.text, "chip 3 of x");
    assert_int_equal(e.code, TSM_EINVAL);
    assert_int_equal(e.chip, -1);
    assert_true(e.sys_errno == 0 && e.task == 0 && e.run == 0 && e.skipped == 0 && e.when_ns != 0);
    assert_int_equal(error_sys(&e, TSM_ESYS, "open"), TSM_ESYS);
    assert_string_equal(e.text, "open: No such file or directory");
    assert_int_equal(e.sys_errno, ENOENT);
    assert_int_equal(errno, ENOENT);
    memset(longer, 'a', sizeof(longer));
    longer[sizeof(longer) - 1] = 0;
    error_sys(&e, TSM_ESYS, "%s", longer);
    assert_int_equal(strlen(e.text), sizeof(e.text) - 1);
    assert_int_equal(error_set(NULL, TSM_ENOMEM, "nobody wants it"), TSM_ENOMEM);
    assert_int_equal(error_sys(NULL, TSM_ENOMEM, "nobody wants it"), TSM_ENOMEM);
}

static void element_types_have_sizes_and_names(void **state)
{
    (void)state;
    static const size_t bytes[] = {0, 1, 1, 1, 2, 2, 2, 2, 4, 4, 4, 8, 8, 8};
    static const char *const names[] = {"?",    "u8",  "i8",  "bool", "u16", "i16", "f16",
                                        "bf16", "u32", "i32", "f32",  "u64", "i64", "f64"};
    for (int d = 0; d <= TSM_F64; d++) {
        assert_int_equal(tsm_dtype_bytes(d), bytes[d]);
        assert_string_equal(tsm_dtype_name(d), names[d]);
    }
    assert_int_equal(tsm_dtype_bytes(TSM_F64 + 1), 0);
    assert_int_equal(tsm_dtype_bytes(-5), 0);
    assert_string_equal(tsm_dtype_name(-5), "?");
    assert_int_equal(tsm_scalar_f32(1.0f), 0x3f800000u);
    assert_int_equal(tsm_scalar_f64(-2.0), UINT64_C(0xc000000000000000));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_code_has_its_name),
        TEST(an_error_is_filled_and_errno_is_kept),
        TEST(element_types_have_sizes_and_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
