/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which checks there are: the runner's picture of its node in the state.
 *
 * Both the runs and the state's answer are sorted by check ID, so one pass side
 * by side finds what is new, changed or gone. Then the aliases are judged in
 * the same view, and the runner waits for the next change of its node and of
 * those that aliases look at.
 */
#include <sched.h>
#include <string.h>

#include "base/hash.h"
#include "base/mem.h"
#include "health/check_impl.h"

/* One pass over the node's checks. */
struct pass {
    struct mr_checks *runner;
    struct mr_list *at;      /* The next run that was not looked at. */
    struct check_list *list; /* Of all checks. */
    struct mr_buf bytes;
    bool failed;
};

bool check_list_add(struct check_list *list, const Mr__Check *check)
{
    if (list->n == list->cap) {
        size_t cap = list->cap == 0 ? 32 : list->cap * 2;
        const Mr__Check **items =
            mr_realloc(list->items, cap * sizeof(const Mr__Check *));

        if (items == NULL) {
            return false;
        }
        list->items = items;
        list->cap = cap;
    }
    list->items[list->n++] = check;
    return true;
}

static struct check_run *run_of(struct mr_list *link)
{
    return mr_container_of(link, struct check_run, link);
}

/* The hash of what is run; false without memory. */
static bool sign(struct pass *p, const Mr__Check *check, uint64_t *out_hash)
{
    uint8_t *at;

    mr_buf_reset(&p->bytes);
    at = mr_buf_grow(&p->bytes,
                     mr__check_definition__get_packed_size(check->definition));
    if (mr_buf_failed(&p->bytes)) {
        return false;
    }
    (void)mr__check_definition__pack(check->definition, at);
    *out_hash = mr_hash64(mr_buf_slice(&p->bytes), 0);
    return true;
}

static bool add_run(struct pass *p, const Mr__Check *check, uint64_t signature)
{
    struct check_run *run = check_run_new(p->runner, check, signature);

    if (run == NULL) {
        return false;
    }
    mr_list_push(p->at, &run->link); /* Before it. */
    return true;
}

static void drop_run(struct pass *p)
{
    struct check_run *run = run_of(p->at);

    p->at = p->at->next;
    check_run_free(run);
}

static bool on_check(void *arg, const Mr__Check *check)
{
    struct pass *p = arg;
    struct mr_list *end = &p->runner->runs;
    uint64_t signature;
    int order = 1;

    if (!check_list_add(p->list, check)) {
        p->failed = true;
        return false;
    }
    if (check_kind_of(check) == CHECK_NONE) {
        return true;
    }
    while (p->at != end) {
        order = strcmp(run_of(p->at)->check->check_id, check->check_id);
        if (order >= 0) {
            break;
        }
        drop_run(p);
    }
    if (!sign(p, check, &signature)) {
        p->failed = true;
        return false;
    }
    if (p->at != end && order == 0) {
        if (run_of(p->at)->signature == signature) {
            check_run_note_state(run_of(p->at), check);
            (void)check_run_report(run_of(p->at));
            p->at = p->at->next;
            return true;
        }
        drop_run(p);
    }
    p->failed = !add_run(p, check, signature);
    return !p->failed;
}

static bool follow_runs(struct mr_checks *runner, struct mr_kv_view *view,
                        struct check_list *out_list)
{
    struct pass p = {runner, runner->runs.next, out_list, MR_BUF_INIT, false};
    enum mr_err err = mr_kv_node_checks(view, runner->node, on_check, &p, NULL);
    bool is_whole = err == MR_OK && !p.failed;

    while (is_whole && p.at != &runner->runs) {
        drop_run(&p);
    }
    mr_buf_deinit(&p.bytes);
    return is_whole;
}

/* ------------------------------------------------------------- aliases */

static bool add_check(void *arg, const Mr__Check *check)
{
    return check_list_add(arg, check);
}

/* Judge @run, whose node has @own checks when it is ours. */
static enum check_status judge(struct mr_kv_view *view,
                               const struct check_run *run,
                               const struct check_list *own, struct mr_buf *out)
{
    struct check_list foreign = {NULL, 0, 0};
    enum check_status status = CHECK_CRITICAL;

    if (!check_alias_is_foreign(run)) {
        return check_alias_judge(view, run, own, out);
    }
    if (mr_kv_node_checks(view, check_alias_node(run), add_check, &foreign,
                          NULL) != MR_OK) {
        out->failed = true;
    } else {
        status = check_alias_judge(view, run, &foreign, out);
    }
    mr_free(foreign.items);
    return status;
}

static bool judge_aliases(struct mr_checks *runner, struct mr_kv_view *view,
                          const struct check_list *own)
{
    struct mr_buf output = MR_BUF_INIT;
    bool is_whole = true;
    struct mr_list *at;

    MR_LIST_FOREACH(at, &runner->runs)
    {
        struct check_run *run = run_of(at);
        enum check_status status;

        if (run->kind != CHECK_ALIAS) {
            continue;
        }
        mr_buf_reset(&output);
        status = judge(view, run, own, &output);
        if (mr_buf_failed(&output)) {
            is_whole = false;
        } else {
            check_run_alias_result(run, status, mr_buf_cstr(&output));
        }
    }
    mr_buf_deinit(&output);
    return is_whole;
}

/* ------------------------------------------------------------- watches */

/* Apply thread. The order matters: after fired nothing of the runner may be
 * touched any more. */
static void on_change(struct mr_kv_waiter *waiter)
{
    struct check_watch *w = mr_container_of(waiter, struct check_watch, waiter);

    atomic_store(&w->woken, true);
    (void)uv_async_send(&w->runner->wakeup); /* Open until we are done. */
    atomic_store(&w->fired, true);
}

/* Wait until the hub's callback, which has begun, is over. */
static void wait_fired(struct check_watch *w)
{
    while (!atomic_load(&w->fired)) {
        (void)sched_yield();
    }
    w->is_parked = false;
}

static struct check_watch *find_watch(struct mr_checks *runner,
                                      const char *node)
{
    struct mr_list *at;
    struct check_watch *w;

    MR_LIST_FOREACH(at, &runner->watches)
    {
        w = mr_container_of(at, struct check_watch, link);
        if (strcmp(w->node, node) == 0) {
            return w;
        }
    }
    w = mr_calloc(1, sizeof *w);
    if (w == NULL) {
        return NULL;
    }
    w->runner = runner;
    w->waiter.wake = on_change;
    w->node = mr_strdup(node);
    if (w->node == NULL) {
        mr_free(w);
        return NULL;
    }
    mr_list_init(&w->link);
    mr_list_push(&runner->watches, &w->link);
    return w;
}

static void free_watch(struct check_watch *w)
{
    if (w->is_parked && !mr_kv_wait_cancel(w->runner->options.kv, &w->waiter)) {
        wait_fired(w);
    }
    mr_list_remove(&w->link);
    mr_free(w->node);
    mr_free(w);
}

/* Wait for a change after @revision; false: it cannot, or need not. */
static bool park(struct check_watch *w, uint64_t revision)
{
    struct mr_kv_topic topic = {MR_KV_TOPIC_NODE, mr_slice_str(w->node)};

    if (w->is_parked && !atomic_load(&w->woken)) {
        return true;
    }
    if (w->is_parked) {
        wait_fired(w);
    }
    atomic_store(&w->woken, false);
    atomic_store(&w->fired, false);
    w->is_parked = true; /* It may fire before mr_kv_wait() returns. */
    if (mr_kv_wait(w->runner->options.kv, &w->waiter, &topic, revision) !=
        MR_OK) {
        w->is_parked = false;
        return false;
    }
    return true;
}

/* Wait for changes of our node and of those that aliases look at. */
static bool watch(struct mr_checks *runner, uint64_t revision)
{
    struct check_watch *w = find_watch(runner, runner->node);
    bool is_whole = w != NULL;
    struct mr_list *next;

    for (struct mr_list *at = runner->watches.next; at != &runner->watches;
         at = at->next) {
        mr_container_of(at, struct check_watch, link)->is_wanted = false;
    }
    if (w != NULL) {
        w->is_wanted = true;
    }
    for (struct mr_list *at = runner->runs.next; at != &runner->runs;
         at = at->next) {
        if (run_of(at)->kind == CHECK_ALIAS) {
            w = find_watch(runner, check_alias_node(run_of(at)));
            is_whole = is_whole && w != NULL;
            if (w != NULL) {
                w->is_wanted = true;
            }
        }
    }
    for (struct mr_list *at = runner->watches.next; at != &runner->watches;
         at = next) {
        next = at->next;
        w = mr_container_of(at, struct check_watch, link);
        if (!w->is_wanted) {
            free_watch(w);
        } else {
            is_whole = park(w, revision) && is_whole;
        }
    }
    return is_whole;
}

bool check_follow(struct mr_checks *runner)
{
    struct check_list own = {NULL, 0, 0};
    struct mr_kv_view *view;
    uint64_t revision;
    bool is_whole;

    if (mr_kv_view_begin(runner->options.kv, &view) != MR_OK) {
        return false;
    }
    revision = mr_kv_view_revision(view);
    is_whole = follow_runs(runner, view, &own);
    is_whole = is_whole && judge_aliases(runner, view, &own);
    mr_kv_view_end(view);
    mr_free(own.items);
    return watch(runner, revision) && is_whole;
}

void check_follow_stop(struct mr_checks *runner)
{
    while (!mr_list_empty(&runner->watches)) {
        free_watch(
            mr_container_of(runner->watches.next, struct check_watch, link));
    }
}
