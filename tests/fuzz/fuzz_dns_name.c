/* SPDX-License-Identifier: Apache-2.0 */
/* Any name on the wire: parsed, asked about in each zone, and reversed. */
#include <arpa/inet.h>
#include <stdlib.h>

#include "dns/name.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct dns_name *name, const struct dns_zone *zone,
                  uint16_t type)
{
    struct dns_ask ask;

    dns_ask_parse(name, zone, "dc1", type, &ask);
    for (size_t i = 0; i < ask.n_candidates; i++) {
        if (ask.candidate_at[i] > strlen(ask.text)) {
            abort();
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct dns_zone zones[] = {
        {.len = 1, .wire = ""},
        {.len = 7, .wire = "\5micro"},
        {.len = 15, .wire = "\7service\5micro"}};
    char text[INET6_ADDRSTRLEN];
    struct dns_name name;
    size_t used;

    if (dns_name_parse(mr_slice(data, size), &name, &used) != MR_OK) {
        return 0;
    }
    if (used > size || used != name.len) {
        abort();
    }
    for (size_t i = 0; i < sizeof zones / sizeof zones[0]; i++) {
        if (dns_name_within(&name, zones[i].wire, zones[i].len)) {
            check(&name, &zones[i], DNS_TYPE_SRV);
            check(&name, &zones[i], DNS_TYPE_A);
        }
    }
    if (dns_reverse_parse(&name, text) == MR_OK && text[0] == '\0') {
        abort();
    }
    return 0;
}
