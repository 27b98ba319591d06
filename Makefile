# SPDX-License-Identifier: Apache-2.0
#
# One file builds everything. Sources are found by wildcard, so a new .c file,
# test or fuzz target needs no edit here. `make help` lists the targets.

# ---- what this build is ------------------------------------------------------

BUILD ?= build
VARIANT ?= release
V ?= 0

ifneq ($(filter default undefined,$(origin CC)),)
CC := gcc
endif
ifeq ($(VARIANT)-$(findstring clang,$(CC)),release-clang)
override VARIANT := clang
endif
FUZZ_CC ?= clang-14
CLANG_FORMAT ?= clang-format-14
CLANG_TIDY ?= clang-tidy-14
PYTHON ?= /usr/bin/python3
PREFIX ?= /usr/local
DESTDIR ?=

MAKEFLAGS += -rR --no-print-directory
ifeq ($(MAKELEVEL),0)
ifeq ($(filter -j%,$(MAKEFLAGS)),)
MAKEFLAGS += -j$(shell nproc)
endif
endif
.SUFFIXES:
.DELETE_ON_ERROR:
SHELL := /bin/bash

OUT := $(BUILD)/$(VARIANT)
GEN := $(BUILD)/gen

ifeq ($(V),1)
Q :=
say := @:
else
Q := @
say = @printf '%-7s %s\n' $(1) $(2)
endif

# ---- layers ------------------------------------------------------------------
# USES_x: the archives a test of module x may link, so that a call to a layer
# above fails at link time. Keep in step with ARCHITECTURE and scripts/lint-layers.

MODULES := base kv raft health dns api server client-lib
USES_base := base
USES_kv := kv base
USES_raft := raft base
USES_health := health kv base
USES_dns := dns kv base
USES_api := api health raft kv base
USES_server := server api dns health raft kv base
USES_client-lib := client-lib
USES_sim := health raft kv base

PRESENT := $(foreach m,$(MODULES),$(if $(wildcard $(m)/*.c),$(m)))
archives = $(foreach m,$(filter $(PRESENT),$(USES_$(1))),$(OUT)/libmr_$(m).a)

# ---- libraries ---------------------------------------------------------------
# pkg-config name : Debian package

LIBRARIES := raft:libraft-dev libuv:libuv1-dev lmdb:liblmdb-dev \
	libprotobuf-c:libprotobuf-c-dev libmicrohttpd:libmicrohttpd-dev \
	jansson:libjansson-dev libcurl:libcurl4-gnutls-dev zlib:zlib1g-dev \
	gnutls:libgnutls28-dev libxxhash:libxxhash-dev libpcre2-8:libpcre2-dev
PKGS := $(foreach l,$(LIBRARIES),$(firstword $(subst :, ,$(l))))
# Without a .pc file. header : Debian package
PLAIN_LIBRARIES := wslay/wslay.h:libwslay-dev

# These goals compile nothing themselves (test installs what is missing first).
NO_LIBS := test clean help deps fmt fmt-check lint-shell
GOALS := $(or $(MAKECMDGOALS),all)
ifneq ($(filter-out $(NO_LIBS),$(GOALS)),)
MISSING := $(foreach l,$(LIBRARIES),$(if $(shell pkg-config --exists \
	$(firstword $(subst :, ,$(l))) 2>/dev/null && echo yes),,$(lastword $(subst :, ,$(l)))))
MISSING += $(foreach l,$(PLAIN_LIBRARIES),$(if $(shell echo \
	'\#include <$(firstword $(subst :, ,$(l)))>' | $(CC) -E -x c - >/dev/null 2>&1 && \
	echo yes),,$(lastword $(subst :, ,$(l)))))
ifeq ($(shell command -v protoc-c),)
MISSING += protobuf-c-compiler
endif
ifneq ($(strip $(MISSING)),)
$(error Missing Debian packages: $(strip $(MISSING)). Run scripts/deps.sh)
endif
RAFT_VERSION := $(shell pkg-config --modversion raft)
ifeq ($(filter 0.22.%,$(RAFT_VERSION)),)
$(error libraft $(RAFT_VERSION) is installed and 0.22 is needed: older versions \
lose committed entries, newer ones change who owns memory. Run scripts/deps.sh)
endif
PKG_CFLAGS := $(shell pkg-config --cflags $(PKGS))
LIBS := $(shell pkg-config --libs $(PKGS)) -lwslay -lpthread -lm
TEST_LIBS := $(or $(shell pkg-config --libs cmocka 2>/dev/null),-lcmocka)
endif

# ---- flags -------------------------------------------------------------------

WARN := -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wstrict-prototypes \
	-Wmissing-prototypes -Wswitch-enum -Wvla -Wundef -Wformat=2
ifneq ($(filter true,$(CI))$(filter 1,$(WERROR)),)
WERROR_FLAG := -Werror
endif

OPT := -O2 -fstack-protector-strong -D_FORTIFY_SOURCE=2
OPT_asan := -O1 -fsanitize=address -fno-sanitize-recover=all
OPT_ubsan := -O1 -fsanitize=undefined -fno-sanitize-recover=all
OPT_tsan := -O1 -fsanitize=thread
OPT_fuzz := -O1 -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined
OPT_cover := -O0 --coverage
OPT_debug := -O0
MODE := $(or $(OPT_$(VARIANT)),$(OPT))

VERSION := $(shell git describe --tags --always --dirty=+ 2>/dev/null || echo unknown)
STD := -std=c11 -D_GNU_SOURCE -iquote . -iquote $(GEN)
ALL_CFLAGS := $(STD) $(MODE) -g -fno-omit-frame-pointer $(WARN) $(PKG_CFLAGS) $(CFLAGS)
GEN_CFLAGS := $(STD) $(MODE) -g -fno-omit-frame-pointer -w $(PKG_CFLAGS) $(CFLAGS)
ALL_LDFLAGS := $(MODE) -g -Wl,--as-needed -Wl,-z,relro,-z,now $(LDFLAGS)

# ---- sources -----------------------------------------------------------------

PROTOS := $(wildcard kv/*.proto raft/*.proto health/*.proto)
GEN_H := $(PROTOS:%.proto=$(GEN)/%.pb-c.h)
GEN_C := $(PROTOS:%.proto=$(GEN)/%.pb-c.c)

# server/main.c holds main() and is linked into the binary only.
module_objs = $(patsubst %.c,$(OUT)/%.o,$(filter-out server/main.c,$(wildcard $(1)/*.c))) \
	$(patsubst %.proto,$(OUT)/gen/%.pb-c.o,$(wildcard $(1)/*.proto))

UNIT_SRC := $(wildcard tests/unit/test_*.c)
UNIT_SUPPORT := $(patsubst %.c,$(OUT)/%.o,$(filter-out $(UNIT_SRC),$(wildcard tests/unit/*.c)))
SIM_SRC := $(wildcard tests/sim/test_*.c)
SIM_SUPPORT := $(patsubst %.c,$(OUT)/%.o,$(filter-out $(SIM_SRC),$(wildcard tests/sim/*.c)))
FUZZ_SRC := $(wildcard tests/fuzz/fuzz_*.c)
BENCH_SRC := $(wildcard tests/bench/bench_*.c)

UNIT_BIN := $(UNIT_SRC:%.c=$(OUT)/%)
SIM_BIN := $(SIM_SRC:%.c=$(OUT)/%)
BENCH_BIN := $(BENCH_SRC:%.c=$(OUT)/%)
REPLAY_BIN := $(FUZZ_SRC:tests/fuzz/fuzz_%.c=$(OUT)/tests/fuzz/replay_%)
FUZZ_BIN := $(FUZZ_SRC:tests/fuzz/fuzz_%.c=$(OUT)/tests/fuzz/fuzz_%)
BINARY := $(if $(wildcard server/main.c),$(OUT)/microreg)

C_FILES := $(wildcard $(foreach d,$(MODULES) client-lib/example examples/greeter/c tests/unit tests/sim tests/fuzz tests/bench tests/integration,$(d)/*.c $(d)/*.h))

# Module of tests/unit/test_kv_store.c, tests/fuzz/fuzz_kv_command.c: kv. The
# client library's tests are called test_client-lib_*.
module_of = $(patsubst client,client-lib,$(word 2,$(subst _, ,$(basename $(notdir $(1))))))

# libmicroreg, as it is installed, and the programs that use it.
CLIENT_SO := libmicroreg.so.0
CLIENT_PIC := $(patsubst %.c,$(OUT)/pic/%.o,$(wildcard client-lib/*.c))
CLIENT_LIB := $(if $(CLIENT_PIC),$(addprefix $(OUT)/,libmicroreg.a $(CLIENT_SO) libmicroreg.so microreg.pc))
CLIENT_BIN := $(patsubst %.c,$(OUT)/%,$(wildcard client-lib/example/*.c tests/integration/client_*.c))

# ---- building ----------------------------------------------------------------

.PHONY: all
all: $(foreach m,$(PRESENT),$(OUT)/libmr_$(m).a) $(BINARY) $(CLIENT_LIB) $(if $(BINARY),$(if $(filter release,$(VARIANT)),$(BUILD)/microreg))

$(BUILD)/microreg: $(BUILD)/release/microreg
	@ln -f $< $@

# Every output is written aside and renamed, so two makes in one checkout do not
# read each other's half-written files.
$(GEN)/%.pb-c.c $(GEN)/%.pb-c.h &: %.proto
	$(call say,PROTO,$<)
	@mkdir -p $(@D)
	$(Q)protoc-c --proto_path=. --c_out=$(GEN) $<

# The flags of the last build: a change of flags rebuilds, a -Werror does not.
$(OUT)/flags: FORCE
	@mkdir -p $(@D)
	@echo '$(CC) $(ALL_CFLAGS)' | cmp -s - $@ || echo '$(CC) $(ALL_CFLAGS)' >$@
FORCE:

COMPILE = $(CC) $(1) -MMD -MP -MF $(@:.o=.d) -MT $@ -c $< -o $@.$$$$ && mv -f $@.$$$$ $@

$(OUT)/gen/%.pb-c.o: $(GEN)/%.pb-c.c $(OUT)/flags | $(GEN_H)
	$(call say,CC,$<)
	@mkdir -p $(@D)
	$(Q)$(call COMPILE,$(GEN_CFLAGS))

# The version string is known to one file only, so a commit rebuilds one file.
$(OUT)/server/version.o: private ALL_CFLAGS += -DMR_GIT_VERSION='"$(VERSION)"'
$(OUT)/server/version.o: $(OUT)/version
$(OUT)/version: FORCE
	@mkdir -p $(@D)
	@echo '$(VERSION)' | cmp -s - $@ || echo '$(VERSION)' >$@

$(OUT)/%.o: %.c $(OUT)/flags | $(GEN_H)
	$(call say,CC,$<)
	@mkdir -p $(@D)
	$(Q)$(call COMPILE,$(ALL_CFLAGS) $(WERROR_FLAG))

define archive_rule
$(OUT)/libmr_$(1).a: $(call module_objs,$(1))
	$$(call say,AR,$$@)
	$$(Q)rm -f $$@.$$$$$$$$ && ar rcsD $$@.$$$$$$$$ $$^ && mv -f $$@.$$$$$$$$ $$@
endef
$(foreach m,$(PRESENT),$(eval $(call archive_rule,$(m))))

LINK = $(CC) $(ALL_LDFLAGS) -o $@.$$$$ $(1) && mv -f $@.$$$$ $@

$(OUT)/microreg: $(OUT)/server/main.o $(call archives,server)
	$(call say,LINK,$@)
	$(Q)$(call LINK,$^ $(LIBS))

$(OUT)/libmicroreg.a: $(OUT)/libmr_client-lib.a
	@cp -f $< $@
$(OUT)/pic/%.o: %.c $(OUT)/flags
	$(call say,CC,$<)
	@mkdir -p $(@D)
	$(Q)$(call COMPILE,$(ALL_CFLAGS) $(WERROR_FLAG) -fPIC -fvisibility=hidden)
$(OUT)/$(CLIENT_SO): $(CLIENT_PIC)
	$(call say,LINK,$@)
	$(Q)$(call LINK,-shared -Wl$(comma)-soname$(comma)$(CLIENT_SO) $^ $(shell pkg-config --libs libcurl) -lpthread)
$(OUT)/libmicroreg.so: $(OUT)/$(CLIENT_SO)
	@ln -sf $(CLIENT_SO) $@
$(OUT)/microreg.pc: client-lib/microreg.pc.in client-lib/microreg.h FORCE
	@sed 's|@PREFIX@|$(PREFIX)|; s|@VERSION@|'"$$(sed -n 's/^#define MICROREG_VERSION "\(.*\)"/\1/p' client-lib/microreg.h)"'|' $< >$@.$$$$ && mv -f $@.$$$$ $@
comma := ,

# As a user would build them: the public header, the static library.
$(CLIENT_BIN): $(OUT)/%: %.c client-lib/microreg.h $(OUT)/libmicroreg.a
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(call LINK,$(STD) $(WARN) $(WERROR_FLAG) -Iclient-lib $< $(OUT)/libmicroreg.a $(shell pkg-config --libs libcurl) -lpthread)

define unit_rule
$(OUT)/$(1): $(OUT)/$(1).o $(UNIT_SUPPORT) $(call archives,$(call module_of,$(1)))
	$$(call say,LINK,$$@)
	$$(Q)$$(call LINK,$$^ $$(TEST_LIBS) $$(LIBS))
endef
$(foreach t,$(UNIT_SRC:%.c=%),$(eval $(call unit_rule,$(t))))

define bench_rule
$(OUT)/$(1): $(OUT)/$(1).o $(UNIT_SUPPORT) $(call archives,$(call module_of,$(1)))
	$$(call say,LINK,$$@)
	$$(Q)$$(call LINK,$$^ $$(LIBS))
endef
$(foreach t,$(BENCH_SRC:%.c=%),$(eval $(call bench_rule,$(t))))

$(SIM_BIN): $(OUT)/tests/sim/%: $(OUT)/tests/sim/%.o $(SIM_SUPPORT) $(call archives,sim)
	$(call say,LINK,$@)
	$(Q)$(call LINK,$^ $(TEST_LIBS) $(LIBS))

define fuzz_rule
$(OUT)/tests/fuzz/replay_$(1): $(OUT)/tests/fuzz/fuzz_$(1).o $(OUT)/tests/fuzz/replay_main.o $(call archives,$(call module_of,fuzz_$(1).c))
	$$(call say,LINK,$$@)
	$$(Q)$$(call LINK,$$^ $$(LIBS))
$(OUT)/tests/fuzz/fuzz_$(1): $(OUT)/tests/fuzz/fuzz_$(1).o $(call archives,$(call module_of,fuzz_$(1).c))
	$$(call say,LINK,$$@)
	$$(Q)$$(call LINK,-fsanitize=fuzzer $$^ $$(LIBS))
endef
$(foreach t,$(FUZZ_SRC:tests/fuzz/fuzz_%.c=%),$(eval $(call fuzz_rule,$(t))))

# The C programs of examples/greeter; its run.sh builds the others.
.PHONY: greeter
greeter: $(BUILD)/greeter/c-service $(BUILD)/greeter/c-client
$(BUILD)/greeter/c-%: examples/greeter/c/%.c client-lib/microreg.h $(OUT)/libmicroreg.a
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(call LINK,$(STD) $(WARN) $(WERROR_FLAG) -Iclient-lib $< $(OUT)/libmicroreg.a $(shell pkg-config --libs libmicrohttpd jansson libcurl) -lpthread)

# ---- tests -------------------------------------------------------------------

# T=kv or T=kv_store narrows unit, sim and integration runs by name.
T ?=
narrow = $(if $(T),$(foreach b,$(1),$(if $(findstring $(T),$(b)),$(b))),$(1))
SEED ?= 1
SEEDS ?= 200
UNIT_SEEDS ?= 20
RUN := $(PYTHON) scripts/run-tests --out $(OUT)/results

.PHONY: tests-build unit sim integration test test-all
tests-build: $(UNIT_BIN) $(SIM_BIN) $(REPLAY_BIN) $(BENCH_BIN)

## unit          unit tests, corpora and a short simulation (T=kv_store: only those)
UNIT_RUN := $(call narrow,$(UNIT_BIN) $(REPLAY_BIN) $(SIM_BIN))
unit: $(UNIT_RUN)
	$(Q)SIM_SEED=$(SEED) SIM_SEEDS=$(UNIT_SEEDS) $(RUN) --name unit $(UNIT_RUN)

## sim           cluster simulation in virtual time: SEEDS=200 SEED=1
SIM_RUN := $(OUT)/tests/sim/test_cluster $(OUT)/tests/sim/test_leases
sim: $(SIM_RUN)
	$(Q)$(RUN) --name sim --limit 86400 --seeds $(SEED):$(SEEDS) $(SIM_RUN)

## integration   real processes on loopback addresses
integration: all $(CLIENT_BIN)
	$(Q)MICROREG=$(abspath $(OUT)/microreg) $(PYTHON) -m pytest -q -rf tests/integration $(if $(T),-k $(T))

## test          everything a user should see green; installs what is missing
test:
	$(Q)scripts/deps.sh --quiet
	+$(Q)$(MAKE) test-all

test-all: all tests-build $(CLIENT_BIN)
	$(Q)MICROREG=$(abspath $(OUT)/microreg) $(PYTHON) scripts/test-all \
		--out $(OUT)/results --seeds $(SEED):$(SEEDS) $(if $(T),--select $(T)) \
		$(call narrow,$(UNIT_BIN) $(REPLAY_BIN) $(SIM_BIN))

.PHONY: asan ubsan tsan clang
## asan|ubsan|tsan   unit under a sanitizer
asan ubsan tsan:
	+$(Q)$(MAKE) VARIANT=$@ UNIT_SEEDS=$(if $(filter tsan,$@),2,5) unit
## clang         build and unit with clang
clang:
	+$(Q)$(MAKE) CC=clang-14 VARIANT=clang all unit

FUZZ_TIME ?= 60
.PHONY: fuzz fuzz-run
## fuzz          every fuzz target for FUZZ_TIME=60 seconds
fuzz:
	+$(Q)$(MAKE) VARIANT=fuzz CC=$(FUZZ_CC) fuzz-run
fuzz-run: $(call narrow,$(FUZZ_BIN))
	$(Q)scripts/fuzz.sh $(FUZZ_TIME) $(OUT) $(call narrow,$(FUZZ_BIN))

.PHONY: test-go
## test-go       the go-micro backends: GREETER_ROUNDS=20; says what is missing
test-go: all
	$(Q)MICROREG=$(abspath $(OUT)/microreg) scripts/test-go.sh

.PHONY: golden campaign deaths locks watches bench
## golden        compare with recorded answers: GOLDEN=dir [AREAS=kv,dns]
golden: all
	$(Q)$(PYTHON) tests/integration/golden.py --binary $(OUT)/microreg --golden "$(GOLDEN)" $(if $(AREAS),--areas $(AREAS))

ROUNDS ?= 100
## campaign      kill servers under a writer: ROUNDS=100 SEED=1
campaign: all
	$(Q)$(PYTHON) tests/integration/campaign.py --binary $(OUT)/microreg --rounds $(ROUNDS) --seed $(SEED)

## deaths        who dies how, and when nobody sees it any more: ROUNDS=20 SEED=1
deaths: ROUNDS = 20
deaths: all
	$(Q)$(PYTHON) tests/integration/deaths.py --binary $(OUT)/microreg --rounds $(ROUNDS) --seed $(SEED)

## locks         kill and pause holders of a lock, and leaders: ROUNDS=200 SEED=1
locks: ROUNDS = 200
locks: all
	$(Q)$(PYTHON) tests/integration/locks.py --binary $(OUT)/microreg --rounds $(ROUNDS) --seed $(SEED)

CLIENTS ?= 1000
KILLS ?= 10
.PHONY: crowd
## crowd         many clients of libmicroreg while leaders are killed: CLIENTS=1000 KILLS=10 SEED=1
crowd: all $(CLIENT_BIN)
	$(Q)$(PYTHON) tests/integration/crowd.py --binary $(OUT)/microreg --clients $(CLIENTS) --kills $(KILLS) --seed $(SEED)

WATCHERS ?= 1000
CHANGES ?= 100
DURATION ?= 600
KILL_EVERY ?= 20
## watches       leaders die under watchers: SEED=1 DURATION=600 WATCHERS=1000 CHANGES=100 KILL_EVERY=20
watches: all
	$(Q)MICROREG=$(abspath $(OUT)/microreg) $(PYTHON) tests/integration/watches.py \
		--seed $(SEED) --duration $(DURATION) --watchers $(WATCHERS) --changes $(CHANGES) --kill-every $(KILL_EVERY)

## bench         speed, beside peers with PEERS=dir; BENCH_QUICK=1
bench: all $(OUT)/tests/bench/bench_watch $(OUT)/tests/bench/bench_client
	$(Q)$(PYTHON) tests/bench/bench.py --binary $(OUT)/microreg --out $(BUILD)/bench.json $(if $(PEERS),--peers "$(PEERS)") $(if $(filter 1,$(BENCH_QUICK)),--quick)
	$(Q)$(PYTHON) tests/bench/leases.py --binary $(OUT)/microreg $(if $(filter 1,$(BENCH_QUICK)),--quick)
	$(Q)$(PYTHON) tests/bench/watch.py --binary $(OUT)/microreg --readers $(OUT)/tests/bench/bench_watch --out $(BUILD)/bench-watch.json $(if $(PEERS),--peers "$(PEERS)") $(if $(filter 1,$(BENCH_QUICK)),--quick)
	$(Q)$(PYTHON) tests/bench/client.py --binary $(OUT)/microreg --client $(OUT)/tests/bench/bench_client $(if $(filter 1,$(BENCH_QUICK)),--quick)
	$(Q)$(PYTHON) tests/bench/registry.py --binary $(OUT)/microreg $(if $(PEERS),--peers "$(PEERS)") $(if $(filter 1,$(BENCH_QUICK)),--quick)

.PHONY: cover
## cover         line coverage of unit, by file
cover:
	+$(Q)$(MAKE) VARIANT=cover unit
	$(Q)scripts/coverage $(BUILD)/cover

# ---- lint --------------------------------------------------------------------

.PHONY: lint fmt fmt-check lint-tidy lint-layers lint-shape lint-todo lint-shell
## lint          format, clang-tidy, layers, shape, TODO, shellcheck
lint: fmt-check lint-layers lint-shape lint-todo lint-shell lint-tidy

## fmt           format all C files; fmt-check only looks
fmt:
	$(Q)$(CLANG_FORMAT) -i $(C_FILES)
fmt-check:
	$(call say,FORMAT,"$(words $(C_FILES)) files")
	$(Q)test -n "$(C_FILES)"
	$(Q)$(CLANG_FORMAT) --dry-run -Werror $(C_FILES)

TIDY_FILES := $(filter-out tests/% examples/%,$(filter %.c,$(C_FILES)))
lint-tidy: $(GEN_H)
	$(call say,TIDY,"$(words $(TIDY_FILES)) files")
	$(Q)test -n "$(TIDY_FILES)"
	$(Q)printf '%s\n' $(TIDY_FILES) | xargs -P $$(nproc) -n 4 scripts/tidy.sh $(CLANG_TIDY) "$(STD) -I client-lib $(WARN) $(PKG_CFLAGS)"

lint-layers:
	$(call say,LAYERS,"")
	$(Q)$(PYTHON) scripts/lint-layers
lint-shape:
	$(call say,SHAPE,"")
	$(Q)$(PYTHON) scripts/lint-shape
lint-todo:
	$(call say,TODO,"")
	$(Q)scripts/lint-todo.sh
lint-shell:
	$(call say,SHELL,"")
	$(Q)scripts/lint-shell.sh

## check         lint, test and asan: what CI runs
.PHONY: check
check:
	+$(Q)$(MAKE) lint
	+$(Q)$(MAKE) test
	+$(Q)$(MAKE) asan

# ---- the rest ----------------------------------------------------------------

.PHONY: deps install clean help
## deps          install the Debian packages that are missing
deps:
	$(Q)scripts/deps.sh

## install       PREFIX=/usr/local DESTDIR=
install: all
	install -D -m 755 $(OUT)/microreg $(DESTDIR)$(PREFIX)/bin/microreg
	install -D -m 644 client-lib/microreg.h $(DESTDIR)$(PREFIX)/include/microreg.h
	install -D -m 644 $(OUT)/libmicroreg.a $(DESTDIR)$(PREFIX)/lib/libmicroreg.a
	install -D -m 755 $(OUT)/$(CLIENT_SO) $(DESTDIR)$(PREFIX)/lib/$(CLIENT_SO)
	ln -sf $(CLIENT_SO) $(DESTDIR)$(PREFIX)/lib/libmicroreg.so
	install -D -m 644 $(OUT)/microreg.pc $(DESTDIR)$(PREFIX)/lib/pkgconfig/microreg.pc
	install -D -m 644 client-lib/microreg.3 $(DESTDIR)$(PREFIX)/share/man/man3/microreg.3

## clean         remove build/
clean:
	$(Q)rm -rf $(BUILD)

## help          this list
help:
	@echo 'make          build $(BUILD)/microreg (V=1 shows the commands, CC=clang-14)'
	@sed -n 's/^## /make /p' Makefile
	@echo 'Outputs go to $(BUILD)/<variant>/; BUILD=dir puts them elsewhere.'

DEPS := $(wildcard $(OUT)/pic/client-lib/*.d $(foreach d,$(MODULES) tests/unit tests/sim tests/fuzz tests/bench,$(OUT)/$(d)/*.d) $(OUT)/gen/*/*.d)
-include $(DEPS)
