/* SPDX-License-Identifier: Apache-2.0 */
/* client-lib/map: a map does what a plain array would do. */
#include "client-lib/map.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "client-lib/mem.h"

#define KEYS 500
#define STEPS 50000

/* Random puts and removes beside an array that says what must be there. */
static void it_holds_what_was_put_and_not_removed(void **state)
{
    static char keys[KEYS][16];
    bool there[KEYS] = {false};
    struct mrg_map map = {NULL, 0, 0};
    unsigned random = 1;
    size_t n = 0;
    size_t at = 0;

    (void)state;
    for (int i = 0; i < KEYS; i++) {
        snprintf(keys[i], sizeof keys[i], "k%d", i);
    }
    for (int step = 0; step < STEPS; step++) {
        size_t i;

        random = random * 1103515245u + 12345u;
        i = (random >> 8) % KEYS;
        if ((random >> 24) % 2 == 0) {
            assert_true(mrg_map_reserve(&map, 1));
            assert_ptr_equal(
                mrg_map_put(&map, keys[i], strlen(keys[i]), keys[i]),
                there[i] ? keys[i] : NULL);
            n += !there[i];
            there[i] = true;
        } else {
            assert_ptr_equal(mrg_map_remove(&map, keys[i], strlen(keys[i])),
                             there[i] ? keys[i] : NULL);
            n -= there[i];
            there[i] = false;
        }
        assert_int_equal(map.n, n);
    }
    for (int i = 0; i < KEYS; i++) {
        assert_ptr_equal(mrg_map_get(&map, keys[i], strlen(keys[i])),
                         there[i] ? keys[i] : NULL);
    }
    while (mrg_map_next(&map, &at) != NULL) {
        n--;
    }
    assert_int_equal(n, 0);
    mrg_map_deinit(&map);
}

/* A NUL is a byte like all others. */
static void keys_are_bytes(void **state)
{
    struct mrg_map map = {NULL, 0, 0};

    (void)state;
    assert_true(mrg_map_reserve(&map, 2));
    (void)mrg_map_put(&map, "a\0b", 3, &map);
    assert_null(mrg_map_get(&map, "a\0c", 3));
    assert_null(mrg_map_get(&map, "a", 1));
    assert_ptr_equal(mrg_map_get(&map, "a\0b", 3), &map);
    mrg_map_deinit(&map);
}

static void without_memory_it_stays_as_it_was(void **state)
{
    struct mrg_map map = {NULL, 0, 0};

    (void)state;
    assert_true(mrg_map_reserve(&map, 1));
    (void)mrg_map_put(&map, "a", 1, &map);
    mrg_mem_fail_at(1);
    assert_false(mrg_map_reserve(&map, 100));
    mrg_mem_fail_at(0);
    assert_ptr_equal(mrg_map_get(&map, "a", 1), &map);
    mrg_map_deinit(&map);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_holds_what_was_put_and_not_removed),
        cmocka_unit_test(keys_are_bytes),
        cmocka_unit_test(without_memory_it_stays_as_it_was),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
