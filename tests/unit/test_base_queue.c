/* SPDX-License-Identifier: Apache-2.0 */
/* base/queue: nothing lost between threads, bounds, closing. */
#include "base/queue.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/mem.h"

#define N_THREADS 4
#define N_ITEMS 5000

struct item {
    struct mr_list link;
    unsigned thread;
    unsigned n;
};

struct producer {
    struct mr_queue *queue;
    unsigned thread;
    struct item items[N_ITEMS];
    pthread_t id;
};

static void *produce(void *arg)
{
    struct producer *p = arg;

    for (unsigned i = 0; i < N_ITEMS; i++) {
        p->items[i].thread = p->thread;
        p->items[i].n = i;
        if (mr_queue_push(p->queue, &p->items[i].link) != MR_OK) {
            return p;
        }
    }
    return NULL;
}

/* What four threads push arrives once, each thread's items in their order. */
static void nothing_is_lost_between_threads(void **state)
{
    static struct producer producers[N_THREADS];
    unsigned next[N_THREADS] = {0};
    struct mr_queue q;
    struct mr_list got;
    size_t total = 0;

    (void)state;
    mr_queue_init(&q, 0, NULL, NULL);
    for (unsigned i = 0; i < N_THREADS; i++) {
        producers[i].queue = &q;
        producers[i].thread = i;
        assert_int_equal(
            pthread_create(&producers[i].id, NULL, produce, &producers[i]), 0);
    }
    while (total < N_THREADS * N_ITEMS) {
        struct mr_list *link;

        total += mr_queue_wait(&q, &got);
        while ((link = mr_list_pop(&got)) != NULL) {
            struct item *item = mr_container_of(link, struct item, link);

            assert_int_equal(item->n, next[item->thread]);
            next[item->thread]++;
        }
    }
    for (unsigned i = 0; i < N_THREADS; i++) {
        void *failed;

        assert_int_equal(pthread_join(producers[i].id, &failed), 0);
        assert_null(failed);
    }
    assert_int_equal(mr_queue_take(&q, &got), 0);
    mr_queue_deinit(&q);
}

static void count_wake(void *arg)
{
    unsigned *n = arg;

    (*n)++;
}

/* The consumer is woken when the queue stops being empty, not per item. */
static void a_burst_wakes_once(void **state)
{
    struct mr_list links[3], got;
    struct mr_queue q;
    unsigned wakes = 0;

    (void)state;
    mr_queue_init(&q, 0, count_wake, &wakes);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(mr_queue_push(&q, &links[i]), MR_OK);
    }
    assert_int_equal(wakes, 1);
    assert_int_equal(mr_queue_take(&q, &got), 3);
    assert_int_equal(mr_queue_push(&q, &links[0]), MR_OK);
    assert_int_equal(wakes, 2);
    assert_int_equal(mr_queue_take(&q, &got), 1);
    mr_queue_deinit(&q);
}

/* A full queue refuses, and takes again once it was emptied. */
static void a_full_queue_refuses(void **state)
{
    struct mr_list links[3], got;
    struct mr_queue q;

    (void)state;
    mr_queue_init(&q, 2, NULL, NULL);
    assert_int_equal(mr_queue_push(&q, &links[0]), MR_OK);
    assert_int_equal(mr_queue_push(&q, &links[1]), MR_OK);
    assert_int_equal(mr_queue_push(&q, &links[2]), MR_E_BUSY);
    assert_int_equal(mr_queue_take(&q, &got), 2);
    assert_int_equal(mr_queue_push(&q, &links[2]), MR_OK);
    assert_int_equal(mr_queue_take(&q, &got), 1);
    mr_queue_deinit(&q);
}

/* A closed queue hands out what it held and then says so. */
static void a_closed_queue_drains_and_refuses(void **state)
{
    struct mr_list links[2], got;
    struct mr_queue q;

    (void)state;
    mr_queue_init(&q, 0, NULL, NULL);
    assert_int_equal(mr_queue_push(&q, &links[0]), MR_OK);
    mr_queue_close(&q);
    assert_int_equal(mr_queue_push(&q, &links[1]), MR_E_CLOSED);
    assert_int_equal(mr_queue_wait(&q, &got), 1);
    assert_int_equal(mr_queue_wait(&q, &got), 0);
    mr_queue_deinit(&q);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        /* success */
        cmocka_unit_test(nothing_is_lost_between_threads),
        cmocka_unit_test(a_burst_wakes_once),
        /* failure */
        cmocka_unit_test(a_full_queue_refuses),
        cmocka_unit_test(a_closed_queue_drains_and_refuses),
    };

    return cmocka_run_group_tests_name("base/queue", tests, NULL, NULL);
}
