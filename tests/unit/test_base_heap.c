/* SPDX-License-Identifier: Apache-2.0 */
/* base/heap and base/list: order, moves and removals. */
#include "base/heap.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/list.h"
#include "base/mem.h"

#define N 500

/* A fixed generator: the same moves in every run. */
static uint64_t next_random(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return *seed >> 33;
}

static void assert_drains_in_order(struct mr_heap *h, size_t n)
{
    uint64_t last = 0;

    while (n-- > 0) {
        struct mr_heap_node *node = mr_heap_first(h);

        assert_non_null(node);
        assert_true(node->key >= last);
        last = node->key;
        mr_heap_remove(h, node);
        assert_int_equal(node->at, 0);
    }
    assert_null(mr_heap_first(h));
}

/* Whatever is pushed, moved and removed, the smallest key comes first. */
static void the_smallest_key_comes_first(void **state)
{
    static struct mr_heap_node nodes[N];
    struct mr_heap h;
    uint64_t seed = 1;
    size_t left = N;

    (void)state;
    mr_heap_init(&h);
    for (size_t i = 0; i < N; i++) {
        assert_int_equal(mr_heap_push(&h, &nodes[i], next_random(&seed) % 100),
                         MR_OK);
    }
    for (size_t i = 0; i < N; i++) {
        if (next_random(&seed) % 2 == 0) {
            mr_heap_move(&h, &nodes[i], next_random(&seed) % 100);
        } else if (next_random(&seed) % 2 == 0) {
            mr_heap_remove(&h, &nodes[i]);
            left--;
        }
    }
    assert_drains_in_order(&h, left);
    mr_heap_remove(&h, &nodes[0]);
    mr_heap_deinit(&h);
}

/* Equal keys leave in the order they came. */
static void equal_keys_are_first_in_first_out(void **state)
{
    struct mr_heap_node nodes[8] = {{0}};
    struct mr_heap h;

    (void)state;
    mr_heap_init(&h);
    for (size_t i = 0; i < 8; i++) {
        assert_int_equal(mr_heap_push(&h, &nodes[i], 5), MR_OK);
    }
    for (size_t i = 0; i < 8; i++) {
        assert_ptr_equal(mr_heap_first(&h), &nodes[i]);
        mr_heap_remove(&h, &nodes[i]);
    }
    mr_heap_deinit(&h);
}

/* A push without memory fails and leaves the node outside. */
static void a_push_without_memory_leaves_the_node_out(void **state)
{
    struct mr_heap_node node = {0};
    struct mr_heap h;

    (void)state;
    mr_heap_init(&h);
    mr_mem_fail_after(0);
    assert_int_equal(mr_heap_push(&h, &node, 1), MR_E_NOMEM);
    assert_int_equal(node.at, 0);
    assert_null(mr_heap_first(&h));
    mr_heap_deinit(&h);
}

/* A list keeps its order when it is moved behind another. */
static void lists_keep_their_order(void **state)
{
    struct mr_list a, b, links[4];

    (void)state;
    mr_list_init(&a);
    mr_list_init(&b);
    for (size_t i = 0; i < 4; i++) {
        mr_list_push(i < 2 ? &a : &b, &links[i]);
    }
    mr_list_move(&a, &b);
    assert_true(mr_list_empty(&b));
    mr_list_remove(&links[1]);
    assert_ptr_equal(mr_list_pop(&a), &links[0]);
    assert_ptr_equal(mr_list_pop(&a), &links[2]);
    assert_ptr_equal(mr_list_pop(&a), &links[3]);
    assert_null(mr_list_pop(&a));
    mr_list_move(&a, &b);
    assert_true(mr_list_empty(&a));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        /* success */
        cmocka_unit_test(the_smallest_key_comes_first),
        cmocka_unit_test(equal_keys_are_first_in_first_out),
        cmocka_unit_test(lists_keep_their_order),
        /* failure */
        cmocka_unit_test(a_push_without_memory_leaves_the_node_out),
    };

    return cmocka_run_group_tests_name("base/heap", tests, NULL, NULL);
}
