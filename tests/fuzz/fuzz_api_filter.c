/* SPDX-License-Identifier: Apache-2.0 */
/* Filter expressions. The first byte picks the shape; what compiles is
 * evaluated on an entry with little in it. */
#include <stdint.h>

#include "api/filter.h"
#include "base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    Mr__Node node = MR__NODE__INIT;
    Mr__Service service = MR__SERVICE__INIT;
    Mr__Check check = MR__CHECK__INIT;
    const Mr__Check *checks[] = {&check};
    struct filter_entry entry = {&node, &service, &check, checks, 1};
    struct mr_detail detail = {""};
    struct filter *f = NULL;
    char *text;
    enum mr_err err;

    if (size == 0) {
        return 0;
    }
    text = mr_memdup0(data + 1, size - 1);
    mr_assert(text != NULL);
    err = filter_compile(text, (enum filter_shape)(data[0] % 5), &f, &detail);
    if (err == MR_OK) {
        (void)filter_match(f, &entry);
    } else {
        mr_assert(err == MR_E_INVALID || err == MR_E_NOTFOUND);
        mr_assert(detail.text[0] != '\0');
    }
    filter_free(f);
    mr_free(text);
    return 0;
}
