/* SPDX-License-Identifier: Apache-2.0 */
/* The agent's flags, and the order in which the sources are merged. */
#include "server/config.h"

#include <string.h>

#include "server/nearest.h"

/* One flag as it stands on the command line. */
struct flag {
    const struct server_option *option;
    const char *value;
};

static enum mr_err unknown_flag(const char *name, size_t len,
                                struct mr_detail *detail)
{
    struct server_nearest near;
    char copy[65];
    size_t n;
    const struct server_option *options = server_options(&n);

    len = len < sizeof copy - 1 ? len : sizeof copy - 1;
    memcpy(copy, name, len);
    copy[len] = '\0';
    server_nearest_init(&near, copy);
    for (size_t i = 0; i < n; i++) {
        if (options[i].flag != NULL) {
            server_nearest_try(&near, options[i].flag);
        }
    }
    if (near.name == NULL) {
        return mr_fail(detail, MR_E_INVALID,
                       "flag provided but not defined: -%s (see microreg "
                       "agent -h)",
                       copy);
    }
    return mr_fail(detail, MR_E_INVALID,
                   "flag provided but not defined: -%s (did you mean -%s?)",
                   copy, near.name);
}

/* Take the flag at argv[*at], and its value, which may be the next word. */
static enum mr_err next_flag(int argc, char *const *argv, int *at,
                             struct flag *out, struct mr_detail *detail)
{
    const char *word = argv[*at];
    const char *name = word + (word[0] == '-' && word[1] == '-' ? 2 : 1);
    size_t len = strcspn(name, "=");

    if (word[0] != '-' || len == 0) {
        return mr_fail(detail, MR_E_INVALID, "Unexpected extra arguments: [%s]",
                       word);
    }
    out->option = server_option_by_flag(name, len);
    if (out->option == NULL) {
        return unknown_flag(name, len, detail);
    }
    ++*at;
    if (name[len] == '=') {
        out->value = name + len + 1;
    } else if (out->option->type == SERVER_OPTION_BOOL) {
        out->value = "true";
    } else if (*at < argc) {
        out->value = argv[(*at)++];
    } else {
        return mr_fail(detail, MR_E_INVALID, "flag needs an argument: -%s",
                       out->option->flag);
    }
    return MR_OK;
}

/* Say the flag's name as it was typed. */
static enum mr_err set_flag(struct server_config *cfg, const struct flag *flag,
                            struct mr_detail *detail)
{
    struct mr_detail why;
    enum mr_err err = server_config_set(cfg, flag->option, flag->value, &why);

    if (err != MR_E_INVALID) {
        return err;
    }
    return mr_fail(detail, err, "flag -%s: %.440s", flag->option->flag,
                   why.text);
}

static bool names_files(const struct server_option *o)
{
    mr_assert(o != NULL); /* next_flag() found it. */
    return o->offset == offsetof(struct server_config, config_file) ||
           o->offset == offsetof(struct server_config, config_dir);
}

static enum mr_err merge_all(struct server_config *cfg, int argc,
                             char *const *argv, struct mr_detail *detail)
{
    struct flag flag = {NULL, NULL};
    enum mr_err err;

    /* Files in the order of the command line, then everything else: flags
     * override files. */
    for (int at = 0; at < argc;) {
        err = next_flag(argc, argv, &at, &flag, detail);
        if (err == MR_OK && names_files(flag.option)) {
            err = server_config_read(cfg, flag.value, detail);
        }
        if (err != MR_OK) {
            return err;
        }
    }
    for (int at = 0; at < argc;) {
        err = next_flag(argc, argv, &at, &flag, detail);
        if (err == MR_OK) {
            err = set_flag(cfg, &flag, detail);
        }
        if (err != MR_OK) {
            return err;
        }
    }
    return MR_OK;
}

enum mr_err server_config_load(struct server_config *cfg, int argc,
                               char *const *argv, struct mr_detail *detail)
{
    enum mr_err err = server_config_init(cfg);

    if (err == MR_OK) {
        err = merge_all(cfg, argc, argv, detail);
    }
    if (err == MR_OK) {
        err = server_config_check(cfg, detail);
    }
    if (err == MR_E_NOMEM) {
        (void)mr_fail(detail, err, "out of memory");
    }
    if (err != MR_OK) {
        server_config_deinit(cfg);
    }
    return err;
}
