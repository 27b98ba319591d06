/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What servers tell each other about leases. Part of health/mr_lease.h.
 *
 * A message is: version (one byte), kind (one byte), then varints (7 bits a
 * byte, lowest first): term, instance, reading, floor, then those of the kind, in
 * the order of the struct, then items until the end.
 *
 *   RENEW   seq, items        leader: these were renewed (none: I am here)
 *   ACK     seq, echo         I have them, in the message of that reading
 *   ASK     nonce, cursor     what do you know, from this slot on
 *   AGES    nonce, next, flags, since, contact, items
 *   FORWARD seq, items        renewals that were asked of me, for the leader
 *   ANSWER  seq, then a byte for each item: enum lease_word
 *
 * An item is the zigzag of the difference to the ID before, and its age in
 * milliseconds at the sender's reading times two, plus one when the age is that
 * of a renewal. Fields are only added, at the end, with a new version.
 */
#ifndef MR_HEALTH_LEASE_WIRE_H
#define MR_HEALTH_LEASE_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/slice.h"

enum lease_kind {
    LEASE_RENEW = 1,
    LEASE_ACK,
    LEASE_ASK,
    LEASE_AGES,
    LEASE_FORWARD,
    LEASE_ANSWER
};

/* What the leader says to one renewal that was forwarded. */
enum lease_word {
    LEASE_WORD_UNKNOWN,
    LEASE_WORD_RENEWED,
    LEASE_WORD_LATER /* Ask again: its end is being decided. */
};

#define LEASE_ITEM_MAX 20    /* Bytes of one item. */
#define LEASE_HEADER_MAX 128 /* And of all before the items. */

/* Flags of AGES. */
#define LEASE_FLAG_SYNCED 1u /* The sender forgot nothing. */

struct lease_msg {
    enum lease_kind kind;
    uint64_t term;
    uint64_t instance; /* Another one after each start of the sender. */
    uint64_t reading;  /* Sender's clock when it was sent. */
    uint64_t floor;    /* Receiver's clock shows this at least; 0: no idea. */
    uint64_t seq;      /* RENEW, ACK, FORWARD, ANSWER. */
    uint64_t echo;     /* ACK: reading of the RENEW. */
    uint64_t nonce;    /* ASK, AGES. */
    uint64_t cursor;   /* ASK: first slot; AGES: next one, 0: no more. */
    uint64_t flags;    /* AGES. */
    uint64_t since;    /* AGES: how long the sender runs. */
    uint64_t contact;  /* AGES: how long ago it heard a leader. */
    struct mr_slice items; /* Or the bytes of ANSWER. Borrowed. */
};

/* One item, and where the next one begins. */
struct lease_item {
    uint64_t id;
    uint64_t age_ms;
    bool is_real;
};

struct lease_items {
    struct mr_slice rest;
    uint64_t last_id;
};

/* Append @msg without its items to @out. */
void lease_wire_put(struct mr_buf *out, const struct lease_msg *msg);

/* Append one item; *@last_id is the ID before (0 at the beginning). */
void lease_wire_put_item(struct mr_buf *out, uint64_t *last_id,
                         const struct lease_item *item);

/* Decode all of @bytes, the items included: those of *@out_msg are good.
 * MR_E_INVALID: malformed; MR_E_VERSION: of a version that is not known. */
MR_MUST_CHECK enum mr_err lease_wire_get(struct mr_slice bytes,
                                         struct lease_msg *out_msg);

/* Walk the items of a decoded message; false: no more. */
bool lease_wire_next(struct lease_items *items, struct lease_item *out_item);

#endif /* MR_HEALTH_LEASE_WIRE_H */
