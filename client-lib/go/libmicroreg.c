/* SPDX-License-Identifier: Apache-2.0 */
//go:build linux && !libmicroreg && !microreg_purego

/*
 * The C library, compiled into the Go package: so `go get` is enough where a C
 * compiler and libcurl are. TestTheWholeLibraryIsCompiledIn knows if a file is
 * missing here.
 */
#include "../address.c"
#include "../call.c"
#include "../client.c"
#include "../err.c"
#include "../json.c"
#include "../keep.c"
#include "../kept.c"
#include "../key.c"
#include "../kv.c"
#include "../line.c"
#include "../lock.c"
#include "../lookup.c"
#include "../map.c"
#include "../mem.c"
#include "../object.c"
#include "../queue.c"
#include "../register.c"
#include "../service.c"
#include "../session.c"
#include "../stream.c"
#include "../stream_lines.c"
#include "../streams.c"
#include "../text.c"
#include "../topic.c"
#include "../transfer.c"
#include "../wake.c"
#include "../watch.c"
