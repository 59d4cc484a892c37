# Fermata.  `make` builds build/fermata; `make check` is what CI runs; `make help` lists the targets.
#
# PYTHON chooses the CPython (3.10 or newer) that is embedded.  FLAVOR chooses the build: release, debug (states are
# checked), asan (address and undefined behaviour), tsan (threads), faults (asan, and calls can be made to fail), module (the
# extension module instead of the program); each has a directory of its own under build/.

PYTHON  ?= $(shell scripts/python)
FLAVOR  ?= release
VERSION := $(shell sed -n 's/^\#\# \([0-9][0-9.]*\).*/\1/p' CHANGELOG.md | head -n 1)
PREFIX  ?= /usr/local

# What Python compiles is kept, but not beside the sources: tests start Python thousands of times.
export PYTHONPYCACHEPREFIX ?= $(CURDIR)/build/pycache
unexport PYTHONDONTWRITEBYTECODE

# PGO=1: compiled twice, the second time with what scripts/train has shown to the first; for what is released (gcc).
PGO ?=
O := $(if $(filter release,$(FLAVOR)),build,build/$(FLAVOR))$(if $(PGO),/pgo)

# Facts of the Python, asked for once a build directory and PYTHON.
PYFACTS := $(O)/gen/python.mk
-include $(PYFACTS)

comma := ,
LAYERS := util net http sched config py wsgi admin command server worker arbiter
ALLSRCS := $(foreach l,$(LAYERS),$(wildcard src/$(l)/*.c src/$(l)/*/*.c)) src/main.c src/embedding.c src/extension.c
# What is only in the other product: Python embedded in the program, or the program as a module of Python's.
MODULE := $(filter module,$(FLAVOR))
SRCS   := $(filter-out $(if $(MODULE),src/embedding.c src/py/embed.c,src/extension.c src/py/host.c),$(ALLSRCS))
OBJS   := $(SRCS:src/%.c=$(O)/obj/%.o)
LIBOBJS := $(filter-out $(addprefix $(O)/obj/,main.o embedding.o extension.o),$(OBJS))
NOPY   := $(filter-out $(O)/obj/py/% $(O)/obj/wsgi/% $(O)/obj/worker/% $(addprefix $(O)/obj/arbiter/,arbiter.o children.o launch.o zygotes.o hooks.o reconfigure.o over.o pages.o port.o supervise.o notices.o state.o upgrade.o),$(LIBOBJS))

SAN.release :=
SAN.debug   := -DFM_DEBUG
SAN.asan    := -DFM_DEBUG -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
SAN.tsan    := -DFM_DEBUG -DFM_TSAN -fsanitize=thread -fno-omit-frame-pointer
# There, what the log says seldom it says often enough to be seen for each fault.
SAN.faults  := $(SAN.asan) -DFM_LOG_PAUSE=100
SAN.fuzz    := $(SAN.asan) -fsanitize=fuzzer-no-link
SAN.coverage := -DFM_DEBUG -fprofile-instr-generate -fcoverage-mapping -mllvm -runtime-counter-relocation
# Link-time optimization takes 1,300 of 13,500 instructions of a hello off; objects are fat so that tests link without it.
OPT.release = -O3 -flto=auto -ffat-lto-objects -fno-plt -DNDEBUG -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3
# What the training has not run is compiled as if there had been none.
OPT.release += $(PGO.$(PGO))
PGO.train   := -fprofile-generate -fprofile-update=atomic
PGO.use     := -fprofile-use -fprofile-partial-training -fprofile-correction -Wno-missing-profile
OPT.module  = $(OPT.release)
OPT.debug   := -Og
OPT.asan    := -O1
OPT.tsan    := -O1
OPT.fuzz    := -O2
OPT.coverage := -O1
OPT.faults  := -O1
CC.tsan     := clang
CC.asan     := clang
CC.fuzz     := clang
CC.coverage := clang
CC.faults   := clang
# make's own default must not hide the flavor's compiler; a CC from outside counts.
ifeq ($(origin CC),default)
CC := $(or $(CC.$(FLAVOR)),gcc)
endif

# One symbol is exported.  A musl does not load what has the initial-exec model of thread-local variables; glibc does, and
# a hello takes 2% less with it.
SAN.module := -fvisibility=hidden $(if $(MODULE),$(if $(findstring musl,$(shell $(CC) -dumpmachine)),,-ftls-model=initial-exec))

# A function that is not declared is no warning: an extension module that calls one is built, and cannot be loaded.
WARN     := -Werror=implicit-function-declaration -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wformat=2 -Wvla
CPPFLAGS += -Iinclude -I$(O)/gen -D_GNU_SOURCE -DFM_VERSION='"$(VERSION)"'
CFLAGS   ?= -g
ALLFLAGS  = -std=gnu11 $(OPT.$(FLAVOR)) $(CFLAGS) $(WARN) $(if $(CI),-Werror) -fstack-protector-strong $(if $(MODULE),-fPIC,-fPIE) $(SAN.$(FLAVOR))
# What only the compiler is to be told may be given once.
LDFLAGS  += $(if $(MODULE),-shared -Wl$(comma)--exclude-libs=ALL,-pie) -Wl,-z,relro,-z,now $(filter-out -mllvm -runtime-counter-relocation,$(SAN.$(FLAVOR)))
LIBS     := -levent_core -lhttp_parser -lpthread
# What scripts/static-deps has made, in the place of the system's libraries: for a wheel that runs on other machines.
DEPS ?=
ifneq ($(and $(MODULE),$(DEPS)),)
CPPFLAGS += -I$(DEPS)/include
LIBS := $(DEPS)/lib/libevent_core.a $(DEPS)/lib/libhttp_parser.a -lpthread
endif

# The calls that tests/faults makes fail, those of libevent too.
ifeq ($(FLAVOR),faults)
OBJS += $(O)/obj/inject.o
LIBS := -Wl,-Bstatic -levent_core -Wl,-Bdynamic -lhttp_parser -lpthread
FAULTS := $(shell sed -n 's/^    X(\([a-z]*, \)\{0,1\}\([A-Za-z0-9_]*\)[,)].*/\2/p' tests/faults/calls.h)
LDFLAGS += $(addprefix -Wl$(comma)--wrap=,$(FAULTS))
endif

# make V=1 shows the commands.
Q := $(if $(V),,@)
say = $(if $(V),,@printf '  %s %s\n' $(1) $(2))

.DELETE_ON_ERROR:
.PHONY: all check tests unit interleave fuzz fuzz-replay system operations wheel wheel-tests portable-tests deb deb-tests site quick injection injection-tests faults instructions asan tsan system-asan system-tsan pythons free-threaded static tsa tidy cppcheck lint soak abuse kubernetes coverage fmt format test layers model docs clean install uninstall help venv bench bench-quick bench-tools bench-venv

# Of the module, a package that Python finds with PYTHONPATH=build/module.
PACKAGE := $(O)/fermata_server
all: $(if $(MODULE),$(PACKAGE)/_server$(PY_EXT_SUFFIX) $(patsubst py/extension/%,$(O)/%,$(wildcard $(addprefix py/extension/fermata_server/,*.py *.pyi py.typed))),$(O)/fermata)

help:
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 20

# ---- for a minute between two changes ----

QUICK := $(wildcard tests/system/test_http_*.py tests/system/test_wsgi_*.py) \
	$(addprefix tests/system/test_,suspension.py command.py loading.py listening.py log_files.py) tests/wsgi_plus/test_wait.py

quick: ## format, layers, lint, thread-safety analysis, unit tests, the fast system tests: a minute
	@$(MAKE) --no-print-directory -j2 format layers lint $(if $(shell command -v clang),tsa) tests
	@$(MAKE) --no-print-directory unit UNIT_QUIET=1
	@$(MAKE) --no-print-directory system TESTS='$(QUICK)'

test: all venv ## T=tests/system/test_http_requests.py, or T='... -k keep_alive': these tests, against the build
	FERMATA=$(CURDIR)/$(O)/fermata build/venv/bin/python -m pytest -c tests/pytest.ini -q $(T)

# ---- build ----

$(PYFACTS): Makefile scripts/python-facts
	@mkdir -p $(@D)
	@scripts/python-facts $(PYTHON) > $@

# Another PYTHON than last time: ask again, and build anew what depends on it.
ifneq ($(PY_WHICH),$(PYTHON))
ifneq ($(PY_WHICH),)
$(shell rm -f $(PYFACTS); rm -rf $(O)/obj/py $(O)/obj/wsgi $(O)/obj/worker $(O)/obj/extension.o $(O)/unit/py $(O)/unit/wsgi)
endif
endif

# The server's own modules in Python: each a constant in a file that C includes.
EMBEDDED := $(patsubst py/fermata/%.py,$(O)/gen/%.inc,$(wildcard py/fermata/*.py)) $(O)/gen/page.inc

$(O)/gen/%.inc: py/fermata/%.py scripts/embed
	@mkdir -p $(@D)
	$(Q)scripts/embed $< fm_$*_source > $@

$(O)/obj/%.o: src/%.c $(PYFACTS) CHANGELOG.md Makefile
	@mkdir -p $(@D)
	$(call say,CC,$@)
	$(Q)$(CC) $(CPPFLAGS) $(if $(filter src/py/% src/wsgi/% src/extension.c,$<),$(PY_CFLAGS)) $(ALLFLAGS) -MMD -MP -c -o $@ $<

$(O)/gen/page.inc: src/admin/page.css src/admin/page.js scripts/page
	@mkdir -p $(@D)
	$(Q)scripts/page src/admin/page.css src/admin/page.js > $@

$(O)/obj/admin/html.o: $(O)/gen/page.inc
$(O)/obj/wsgi/app.o: $(O)/gen/loader.inc
$(O)/obj/wsgi/inquiries.o: $(O)/gen/inquiries.inc
$(O)/obj/wsgi/preload.o: $(O)/gen/preload.inc
$(O)/obj/wsgi/reload.o: $(O)/gen/reload.inc
$(O)/obj/py/debug.o: $(O)/gen/debug.inc
$(O)/obj/py/embedded.o: $(O)/gen/settings.inc
$(O)/obj/py/hooks.o: $(O)/gen/hooks.inc

MODULE_FILE := $(PACKAGE)/_server$(PY_EXT_SUFFIX)
TRAINED = $(if $(MODULE),env PYTHONPATH=$(abspath $(O)) $(PYTHON) -m fermata_server,$(abspath $(O))/fermata)

ifeq ($(PGO),1)
# In one directory, as the compiler looks for what was learnt beside each object.
$(if $(MODULE),$(MODULE_FILE),$(O)/fermata): $(SRCS) $(wildcard include/fermata/*.h include/fermata/*/*.h include/fermata/*/*/*.h) $(PYFACTS) $(EMBEDDED) scripts/train CHANGELOG.md Makefile
	@rm -rf $(O)/obj
	$(MAKE) PGO=train O=$(O) all
	scripts/train $(TRAINED)
	@find $(O)/obj -name '*.o' -delete
	@rm -f $@
	$(MAKE) PGO=use O=$(O) all
else
$(O)/fermata: $(OBJS)
	$(call say,LD,$@)
	$(Q)$(CC) $(OPT.$(FLAVOR)) $(CFLAGS) $(LDFLAGS) -o $@ $(OBJS) $(LIBS) $(PY_LIBS)

$(MODULE_FILE): $(OBJS)
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) $(OPT.$(FLAVOR)) $(CFLAGS) $(LDFLAGS) -o $@ $(OBJS) $(LIBS)
endif

$(PACKAGE)/%: py/extension/fermata_server/%
	@mkdir -p $(@D)
	$(Q)ln -sfn $(CURDIR)/$< $@

$(O)/obj/inject.o: tests/faults/inject.c tests/faults/calls.h $(PYFACTS) Makefile
	@mkdir -p $(@D)
	$(call say,CC,$@)
	$(Q)$(CC) $(CPPFLAGS) $(PY_CFLAGS) -std=gnu11 -O1 $(CFLAGS) $(WARN) $(if $(CI),-Werror) -fno-omit-frame-pointer -fPIE -c -o $@ $<

-include $(OBJS:.o=.d)

# ---- tests ----

UNITS := $(patsubst tests/unit/%.c,$(O)/unit/%,$(wildcard tests/unit/*/test_*.c tests/unit/*/*/test_*.c))

# What a unit test puts its own function in the place of.
UNIT_WRAP.net/test_stream := sendfile
UNIT_WRAP.net/test_output := send sendmsg
UNIT_WRAP.http/test_spool := realloc
UNIT_WRAP.net/test_listener := accept4

# Compiles these of the product again, with its own idea of threads.
UNIT_OWN.sched/test_interleave := sched/task sched/runq sched/waits sched/sched sched/wake sched/monitor net/loop
UNIT_OWN.sched/test_late := sched/task sched/runq sched/waits sched/sched sched/wake sched/monitor

# Of the product what needs processes, or others of its layer, but the test has these itself.
UNIT_MORE.arbiter/test_state := arbiter/state
UNIT_MORE.arbiter/test_over := arbiter/over
UNIT_MORE.worker/test_title := worker/title
UNIT_MORE.worker/test_handed := worker/handed
$(O)/unit/arbiter/test_state: $(O)/obj/arbiter/state.o
$(O)/unit/arbiter/test_over: $(O)/obj/arbiter/over.o
$(O)/unit/worker/test_title: $(O)/obj/worker/title.o
$(O)/unit/worker/test_handed: $(O)/obj/worker/handed.o

$(O)/unit/%: tests/unit/%.c $(NOPY) Makefile
	@mkdir -p $(@D)
	$(call say,CC,$@)
	$(Q)$(CC) $(CPPFLAGS) -Isrc -DFM_TESTS_HTTP='"$(CURDIR)/tests/http"' $(filter-out -Wmissing-prototypes,$(ALLFLAGS)) -MMD -MP \
		-fno-lto $(LDFLAGS) $(UNIT_WRAP.$*:%=-Wl,--wrap=%) -o $@ $< $(filter-out $(UNIT_OWN.$*:%=$(O)/obj/%.o),$(NOPY)) $(UNIT_MORE.$*:%=$(O)/obj/%.o) \
		$(LIBS) -lcmocka

-include $(UNITS:=.d)

# The newest cmocka (sid) has other names for a few macros, and says so with each use; that of Debian 12 has only these.
$(O)/unit/%: private CPPFLAGS += -DCMOCKA_DISABLE_DEPRECATION_WARNINGS

# Those of py and wsgi have an interpreter of their own.
WITHPY := $(filter-out $(O)/obj/server/% $(O)/obj/worker/% $(O)/obj/arbiter/%,$(LIBOBJS))
BUILD_UNIT_WITH_PYTHON = $(Q)$(CC) $(CPPFLAGS) $(PY_CFLAGS) -Isrc $(filter-out -Wmissing-prototypes,$(ALLFLAGS)) -MMD -MP \
	-fno-lto $(LDFLAGS) -o $@ $< $(WITHPY) $(LIBS) -lcmocka $(PY_LIBS)

$(O)/unit/py/%: tests/unit/py/%.c $(WITHPY) $(PYFACTS) Makefile
	@mkdir -p $(@D)
	$(call say,CC,$@)
	$(BUILD_UNIT_WITH_PYTHON)

$(O)/unit/wsgi/%: tests/unit/wsgi/%.c $(WITHPY) $(PYFACTS) Makefile
	@mkdir -p $(@D)
	$(call say,CC,$@)
	$(BUILD_UNIT_WITH_PYTHON)

unit: $(UNITS) fuzz-replay ## unit tests (cmocka), and the corpora of the fuzz targets
	@set -e; export LSAN_OPTIONS="suppressions=$(CURDIR)/tests/lsan.supp:print_suppressions=0" \
		TSAN_OPTIONS="suppressions=$(CURDIR)/tests/tsan.supp" $(if $(filter asan,$(FLAVOR)),PYTHONMALLOC=malloc); \
	for t in $(UNITS); do \
		$(if $(UNIT_QUIET),$$t >$(O)/unit.log 2>&1 || { cat $(O)/unit.log; exit 1; },$$t); done
	@echo "unit tests: $(words $(UNITS)) programs passed"

interleave: $(O)/unit/sched/test_interleave $(O)/unit/sched/test_late ## a million interleavings of the scheduler; each of its faults is found by some
	scripts/interleave $^ $(INTERLEAVE) --faults -- $(CC) $(CPPFLAGS) -I$(CURDIR)/include -I$(CURDIR)/src -std=gnu11 -O1 -g -fno-lto -o {out} {source} \
		$(filter $(O)/obj/util/%.o $(O)/obj/net/timer.o,$(NOPY)) $(LIBS)

# Each tests/fuzz/fuzz_X.c is a target of libFuzzer's kind; with replay_main.c it is a test of its corpus.
FUZZ := $(if $(filter tsan,$(FLAVOR)),,$(patsubst tests/fuzz/fuzz_%.c,%,$(wildcard tests/fuzz/fuzz_*.c))) # of one thread each
FUZZ_COMMON := $(filter-out tests/fuzz/fuzz_% tests/fuzz/replay_main.c,$(wildcard tests/fuzz/*.c))
FUZZ_MAIN := $(if $(filter fuzz,$(FLAVOR)),-fsanitize=fuzzer,tests/fuzz/replay_main.c)
# What a target puts its own function in the place of.
WRAP.start_response := fm_thread_self fm_thread_cork
WRAP.options := getaddrinfo setenv
WRAP.settings := getaddrinfo setenv

$(O)/fuzz/%: tests/fuzz/fuzz_%.c $(FUZZ_COMMON) tests/fuzz/replay_main.c $(wildcard tests/fuzz/*.h) tests/unit/http/h1/replay.h $(LIBOBJS) Makefile
	@mkdir -p $(@D)
	$(call say,CC,$@)
	$(Q)$(CC) $(CPPFLAGS) $(PY_CFLAGS) -Isrc $(ALLFLAGS) -fno-lto $(LDFLAGS) $(WRAP.$*:%=-Wl,--wrap=%) -o $@ $< \
		$(FUZZ_COMMON) $(FUZZ_MAIN) $(LIBOBJS) $(LIBS) $(PY_LIBS)

# Only built.
tests: all $(UNITS) $(FUZZ:%=$(O)/fuzz/%)

fuzz-replay: $(FUZZ:%=$(O)/fuzz/%)
	@set -e; for t in $(FUZZ); do LSAN_OPTIONS="suppressions=$(CURDIR)/tests/lsan.supp:print_suppressions=0" \
		TSAN_OPTIONS="suppressions=$(CURDIR)/tests/tsan.supp" $(O)/fuzz/$$t tests/fuzz/corpus/$$t $$(scripts/fuzz --seeds $$t); done

fuzz: ## all fuzz targets for FUZZ_SECONDS [600] together, then executions and coverage
	scripts/fuzz

venv:
	@scripts/venv build/venv tests/requirements.txt

SLOW.release := 1
SLOW.debug   := 2
SLOW.asan    := 2
SLOW.tsan    := 3
SLOW.coverage := 2

# What is about Python code or the command, and the tables of requests, which the unit tests replay with sanitizers too.
SKIP.asan := --ignore-glob=*/test_example_* \
	$(addprefix --ignore=tests/system/test_,frameworks.py readme.py spec.py hardening.py command.py loading.py listening.py log_files.py replay.py refusals.py behind_nginx.py behind_haproxy.py behind_apache.py behind_others.py container.py moving.py reloading.py config_samples.py systemd.py packaging.py debian.py release.py site.py train.py deployment.py reliability.py workflows.py manual.py kubernetes.py fresh.py status_page.py build.py examples.py own_modules.py)
SKIP.coverage := --ignore=tests/system/test_hardening.py
# ThreadSanitizer's runtime has a thread of its own that wakes up, so there is no "idle" to look at. What one thread does at the
# start, or the arbiter, which has one beside the log's, is left to the other sanitizers.
SKIP.tsan := $(SKIP.asan) $(addprefix --ignore=tests/system/test_,idle.py large.py activation.py pidfile.py titles.py privileges.py notify.py config.py sockets.py)

TESTS = tests/system $(if $(filter release,$(FLAVOR)),tests/bench tests/wsgi_plus)

# FERMATA=/path/to/venv/bin/fermata: the extension module's command, tested by the Python of its environment, which must have
# what tests/requirements.txt lists.
FERMATA ?= $(CURDIR)/$(O)/fermata
TESTER = $(or $(wildcard $(dir $(FERMATA))python),build/venv/bin/python)
BUILT = $(if $(filter $(CURDIR)/$(O)/fermata,$(FERMATA)),all)

RUN_TESTS = FERMATA=$(FERMATA) FERMATA_TEST_SLOW=$(SLOW.$(FLAVOR)) \
	$(if $(filter asan tsan,$(FLAVOR)),FERMATA_SANITIZED=1) \
	ASAN_OPTIONS="detect_leaks=1:abort_on_error=0:exitcode=99" LSAN_OPTIONS="suppressions=$(CURDIR)/tests/lsan.supp:print_suppressions=0" \
	UBSAN_OPTIONS="print_stacktrace=1" \
	TSAN_OPTIONS="suppressions=$(CURDIR)/tests/tsan.supp:exitcode=99:halt_on_error=0:report_thread_leaks=0:second_deadlock_stack=1" \
	$(if $(filter asan,$(FLAVOR)),PYTHONMALLOC=malloc) \
	$(TESTER) -m pytest -c tests/pytest.ini -q --dist worksteal

system: $(BUILT) venv ## system tests: the real binary over sockets (FLAVOR=asan|tsan: the same, sanitized)
	$(RUN_TESTS) -n $(or $(NODES.$(FLAVOR)),8) $(TESTS) $(SKIP.$(FLAVOR)) $(PYTEST)

# OPERATIONS=all tries each fault in all settings, and often.
operations: $(BUILT) venv ## clients of every kind run through each fault of operation, and lose nothing (OPERATIONS=all: each in all settings, and often)
	FERMATA_OPERATIONS=$(OPERATIONS) $(RUN_TESTS) -n 3 tests/operations $(PYTEST)

# ---- the extension module, as pip installs it ----

wheel: venv ## the extension module: sdist and wheel in build/wheel/dist, installed in build/wheel/venv (DEPS=: scripts/static-deps)
	FERMATA_DEPS='$(DEPS)' scripts/wheel build/wheel

# A part of the system tests; all of them: make wheel && make system FERMATA=$PWD/build/wheel/venv/bin/fermata
WHEEL_TESTS := $(addprefix tests/system/test_,extension.py packaging.py command.py loading.py own_modules.py hardening.py process.py readme.py)

wheel-tests: wheel ## system tests of the extension module, as it is installed: a minute
	@$(MAKE) --no-print-directory system FERMATA=$(CURDIR)/build/wheel/venv/bin/fermata TESTS='$(WHEEL_TESTS)'

# FERMATA_INJECT=all tries every fault, otherwise a share of them, chosen by FERMATA_INJECT_SEED.
injection: venv ## calls of the server fail one by one, at the start, while requests are served, at the end
	$(MAKE) -j2 FLAVOR=faults injection-tests

injection-tests: all
	FERMATA=$(CURDIR)/$(O)/fermata FERMATA_TEST_SLOW=2 FERMATA_SANITIZED=1 \
		ASAN_OPTIONS="detect_leaks=1:abort_on_error=0:exitcode=99" LSAN_OPTIONS="suppressions=$(CURDIR)/tests/lsan.supp:print_suppressions=0" \
		UBSAN_OPTIONS="print_stacktrace=1" \
		build/venv/bin/python -m pytest -c tests/pytest.ini -q -n 3 tests/faults $(PYTEST)

faults: all venv ## the conformance suite finds each of the faults that there are of the reference server: some ten minutes
	FERMATA_FAULTS=all build/venv/bin/python -m pytest -c tests/pytest.ini -q -n 4 tests/wsgi_plus/conformance $(PYTEST)

# With libevent and http-parser in it, from Debian's sources; looked at with the tools that releases are made with.
portable-tests: venv ## a wheel for other machines, in build/portable, and tests of it: a minute, and a few more the first time
	@scripts/venv build/release-venv scripts/dev/requirements.txt
	@[ -e build/deps/versions ] || scripts/static-deps build/deps
	FERMATA_DEPS=build/deps FERMATA_PGO=1 scripts/wheel build/portable
	build/venv/bin/python -m pytest -c tests/pytest.ini -q tests/packages/test_portable.py

# ---- Debian's packages ----

deb: ## fermata and python3-wsgi-plus for this Debian, in build/deb: a minute
	@scripts/install-deps deb
	@scripts/deb build/deb

deb-tests: deb venv ## what is in them, and that it serves: a few seconds more
	build/venv/bin/python -m pytest -c tests/pytest.ini -q tests/packages/test_deb.py

asan: ## all tests with the address and undefined behaviour sanitizers
	$(MAKE) -j2 FLAVOR=asan tests
	$(MAKE) FLAVOR=asan unit system

tsan: ## all tests with the thread sanitizer
	$(MAKE) -j2 FLAVOR=tsan tests
	$(MAKE) FLAVOR=tsan unit system

system-asan system-tsan: system-%:
	$(MAKE) FLAVOR=$* system

# Everything that depends on the version of Python: the rest has been tested with the main one.
PYTHON_TESTS := $(wildcard tests/system/test_wsgi_*.py) $(addprefix tests/system/test_,suspension.py suspension_failures.py threads.py own_modules.py debugger.py status.py \
	status_futures.py stacks.py)

pythons: venv ## builds with every other CPython found, and runs what depends on it
	@set -e; for p in $$(PYTHON='$(PYTHON)' scripts/pythons); do \
		o=build/with-$$($$p -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
		echo "== $$p"; \
		$(MAKE) --no-print-directory -s -j2 O=$$o PYTHON=$$p OPT.release=-O1 $$o/fermata; \
		FERMATA=$(CURDIR)/$$o/fermata build/venv/bin/python -m pytest -c tests/pytest.ini -q -n 5 --dist worksteal $(PYTHON_TESTS); \
	done

# Not in `make check`, which has no time for it.
FREE_THREADED_TESTS = tests/free_threaded $(PYTHON_TESTS) $(addprefix tests/system/test_,own.py stress.py suspension_clients.py \
	shutdown.py workers.py preload.py hooks.py http_requests.py http_responses.py http_connections.py order.py \
	misbehaviour.py)

free-threaded: ## builds with a free-threaded CPython, if scripts/free-threaded has made one, and runs what depends on it
	@set -e; p=$$(scripts/free-threaded --find 2>/dev/null) || { \
		echo "free-threaded: not run: no free-threaded Python (scripts/free-threaded makes one)"; exit 0; }; \
	$(MAKE) --no-print-directory -s venv; \
	$(MAKE) --no-print-directory -s -j2 O=build/free-threaded PYTHON=$$p OPT.release=-O2 build/free-threaded/fermata; \
	FERMATA=$(CURDIR)/build/free-threaded/fermata build/venv/bin/python -m pytest -c tests/pytest.ini -q -n 4 --dist worksteal \
		$(FREE_THREADED_TESTS) $(PYTEST)

tsa: $(PYFACTS) $(EMBEDDED) ## clang's thread-safety analysis over the role annotations
	@set -e; for f in $(ALLSRCS); do \
		clang -fsyntax-only -std=gnu11 $(CPPFLAGS) $(PY_CFLAGS) -Wthread-safety -Werror $$f; done
	@echo "thread-safety analysis: $(words $(ALLSRCS)) files clean"

tidy: $(PYFACTS) $(EMBEDDED) ## clang-tidy
	@printf '%s\n' $(ALLSRCS) | xargs -P 2 -I{} clang-tidy --quiet {} -- -std=gnu11 $(CPPFLAGS) $(PY_CFLAGS) 2> $(O)/tidy.log
	@echo "clang-tidy: $(words $(ALLSRCS)) files clean"

# The words of Python.h are made empty, for cppcheck does not read it.  Not asked for: variables and parameters that could
# have a smaller scope, one more const or no first value, which here are callbacks' and declarations at the top of their
# block; newer versions' remarks that they look at some branches only, and that `(void)a, (void)b` is suspicious (the compiler
# says of what has no effect).
CPPCHECK := --std=c11 --enable=warning,performance,portability,style --inline-suppr --quiet --error-exitcode=1 -j2 \
	--suppress=missingIncludeSystem --suppress=variableScope --suppress=constParameter --suppress=constParameterPointer \
	--suppress=constParameterCallback --suppress=constVariablePointer --suppress=constVariable --suppress=redundantInitialization \
	--suppress=normalCheckLevelMaxBranches --suppress=constStatement \
	-DPy_BEGIN_ALLOW_THREADS= -DPy_END_ALLOW_THREADS= -DPy_RETURN_NONE='return Py_None' -DFM_PYTHON='""'

cppcheck: $(PYFACTS) $(EMBEDDED) ## cppcheck
	@cppcheck $(CPPCHECK) $(CPPFLAGS) src
	@echo "cppcheck: clean"

layers: ## includes follow the layers of spec/internals/architecture.md, and no circle between files
	@scripts/check-layers

model: ## the scheduler's models with spin, and the faults seeded in them: two minutes (MODEL=--quick: not the faults)
	scripts/model $(MODEL)

SCRIPTS_OF_PYTHON := $(shell grep -l '^\#!/usr/bin/env python3' scripts/* scripts/*/* 2>/dev/null)

lint: venv ## ruff over the Python code: names, imports and their order
	@build/venv/bin/ruff check --quiet --no-cache --config py/pyproject.toml . $(SCRIPTS_OF_PYTHON) && echo "ruff: clean"

static: tidy cppcheck

SOAK_SECONDS ?= 3600
soak: all venv ## a mixed workload for SOAK_SECONDS [3600]: does anything grow?
	build/venv/bin/python scripts/soak --seconds $(SOAK_SECONDS) $(SOAK)

coverage: venv ## the lines of the C code that all tests together run
	@scripts/coverage

kubernetes: all venv ## examples/kubernetes as promtool, Kubernetes' and the operators' schemas read it (installs them)
	FERMATA=$(CURDIR)/$(O)/fermata scripts/kubernetes

abuse: all venv ## slow clients, floods, bombs: are others served, is memory bounded? some five minutes
	build/venv/bin/python scripts/abuse $(ABUSE)

check: ## everything, what is quick to find first
	$(MAKE) -j2 format layers lint tsa tests
	$(MAKE) unit instructions
	$(MAKE) -j2 -Otarget interleave model MODEL=--quick
	$(MAKE) system
	$(MAKE) -j2 -Otarget wheel-tests operations
	$(MAKE) -j4 -Otarget soak abuse static pythons SOAK_SECONDS=45 ABUSE=--quick
	$(MAKE) -j2 FLAVOR=asan tests && $(MAKE) FLAVOR=asan unit
	$(MAKE) -j2 FLAVOR=tsan tests && $(MAKE) FLAVOR=tsan unit
	$(MAKE) -j3 -Otarget system-asan system-tsan injection NODES.asan=4 NODES.tsan=8

FORMATTED := $(ALLSRCS) $(wildcard include/fermata/*.h $(addsuffix .h,include/fermata/*/* include/fermata/*/*/* src/*/* src/*/*/*) \
	$(addsuffix .[ch],tests/unit/*/* tests/unit/*/*/* tests/fuzz/*))
FORMATTER := 14# other versions format a few lines otherwise

fmt: ## formats the C code
	clang-format -i $(FORMATTED)

format: ## is the C code formatted? (clang-format 14, Debian 12's; with another one nothing is said)
	@if clang-format --version 2>/dev/null | grep -q 'version $(FORMATTER)\.'; then \
		clang-format --dry-run -Werror $(FORMATTED) && echo "format: $(words $(FORMATTED)) files clean"; \
	else echo "format: not checked, as this is not clang-format $(FORMATTER)"; fi

# ---- benchmarks ----

BENCH := build/bench
BENCH_CFLAGS = -std=gnu11 -O2 -g -D_GNU_SOURCE $(WARN) $(if $(CI),-Werror)

bench-tools: $(BENCH)/limit $(BENCH)/load $(BENCH)/upstream

$(BENCH)/limit: BENCH_LIBS := -levent_core -lhttp_parser
$(BENCH)/upstream: BENCH_LIBS := -lhttp_parser
$(BENCH)/limit: scripts/bench/limit.c scripts/bench/load_common.c
$(BENCH)/upstream: scripts/bench/upstream.c scripts/bench/load_common.c
$(BENCH)/load: $(wildcard scripts/bench/load*.c)
$(BENCH)/limit $(BENCH)/load $(BENCH)/upstream: $(wildcard scripts/bench/*.h) Makefile
	@mkdir -p $(@D)
	$(call say,CC,$@)
	$(Q)$(CC) $(BENCH_CFLAGS) -o $@ $(filter %.c,$^) $(BENCH_LIBS)

bench: ## the benchmarks against other servers: about an hour and a half
	@scripts/install-deps bench
	@$(MAKE) --no-print-directory all bench-tools bench-venv
	PYTHON='$(PYTHON)' scripts/bench/run $(BENCH_ARGS)

bench-quick: ## a few of them: under two minutes
	@$(MAKE) --no-print-directory bench BENCH_ARGS='--quick --out build/bench/quick.json $(BENCH_ARGS)'

instructions: $(O)/fermata ## what a hello request costs in user instructions: no more than recorded
	@scripts/bench/instructions $<

bench-venv: ## only the servers that they are compared with
	@PYTHON='$(PYTHON)' scripts/bench/run --venv

# ---- the rest ----

$(O)/fermata.1: $(O)/fermata
	$< --help=man > $@

site: ## the manual as a site, in build/site/html: its links are checked; a few seconds, and the tools the first time
	@scripts/site/build

docs: $(O)/fermata ## what is generated in spec and py: options, metrics, api, states
	scripts/docs
	scripts/run-options
	scripts/metrics-docs
	scripts/states --write spec/internals/scheduler.md
	scripts/api-docs

install: $(O)/fermata $(O)/fermata.1
	install -D -m 755 $< $(DESTDIR)$(PREFIX)/bin/fermata
	install -D -m 644 $(O)/fermata.1 $(DESTDIR)$(PREFIX)/share/man/man1/fermata.1

uninstall:
	rm -f $(DESTDIR)$(PREFIX)/bin/fermata $(DESTDIR)$(PREFIX)/share/man/man1/fermata.1

clean:
	rm -rf build
