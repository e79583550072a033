/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * What every test program shares. A test is a sentence and is run by TEST(): before and after it the descendants, file
 * descriptors, arena mappings and /dev/shm are counted, and a difference fails it. An alarm ends a test that hangs.
 */
#ifndef TESTS_HARNESS_H
#define TESTS_HARNESS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "transom/task.h"
#include "transom/transom.h"

/* One row of the table for cmocka_run_group_tests. */
#define TEST(name) cmocka_unit_test_setup_teardown(name, harness_setup, harness_teardown)

int harness_setup(void **state);
int harness_teardown(void **state);

/* Under a sanitizer or TRANSOM_TEST_QUICK: loops may be shorter. With TRANSOM_TEST_LONG: longer. */
bool harness_quick(void);
bool harness_long(void);
/* n, n / 10 when quick, n * 10 when long; at least 1. */
uint32_t harness_count(uint32_t n);
/* TRANSOM_TEST_CHIPS in the environment, else n: the same test with 64 chips. At least n. */
uint32_t harness_chips(uint32_t n);

/* A created, not started worker; sizes small enough for sanitizers. Fails the test when it cannot be made. */
tsm_worker *harness_worker(uint32_t chips, uint32_t subs);
/* Registers fn under its name. */
tsm_callable harness_register(tsm_worker *w, const char *name, tsm_task_fn *fn);
/* Starts it; fails the test with the worker's text. */
void harness_start(tsm_worker *w);
/* Closes and destroys; fails the test when close does not return 0. */
void harness_close(tsm_worker *w);

/* rc must be `code`; prints the worker's text otherwise. */
#define assert_code(w, rc, code) harness_assert_code(w, rc, code, #rc, __FILE__, __LINE__)
void harness_assert_code(tsm_worker *w, int rc, int code, const char *what, const char *file,
                         int line);
/* The worker's last error text contains `part`. */
#define assert_text(w, part) harness_assert_text(w, part, __FILE__, __LINE__)
void harness_assert_text(tsm_worker *w, const char *part, const char *file, int line);

/* A seeded generator (xorshift64*); the same seed gives the same numbers. */
struct harness_random {
    uint64_t state;
};
void harness_random_init(struct harness_random *r, uint64_t seed);
uint64_t harness_random(struct harness_random *r);
uint32_t harness_below(struct harness_random *r, uint32_t n);

/* Counts of what a process holds. */
uint32_t harness_children(void); /* direct and further living descendants, zombies too */
uint32_t harness_fds(void);
uint32_t harness_mappings(void); /* of our memfds */
uint64_t harness_rss_bytes(void);
uint64_t harness_now_ns(void);

/* Path of a file beside the test program, e.g. "integration_tasks_so.so". Static storage, one at a time. */
const char *harness_beside(const char *file);

#endif
