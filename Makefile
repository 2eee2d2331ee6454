# Each target is one command and does its own set-up. `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
MAKEFLAGS += --no-builtin-rules --no-print-directory
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

# ---- where things go -------------------------------------------------------------------------------------------------
PREFIX = /usr/local
DESTDIR =
BUILD = build
VERSION := $(shell sed -n '/^\[project\]/,/^\[/s/^version *= *"\(.*\)"/\1/p' pyproject.toml)

LIBEXECDIR = $(PREFIX)/libexec/singularity
ifeq ($(PREFIX),/usr)
SYSCONFDIR = /etc/singularity
CONTAINER_DIR = /var/singularity/mnt
else
SYSCONFDIR = $(PREFIX)/etc/singularity
CONTAINER_DIR = $(PREFIX)/var/singularity/mnt
endif

# ---- how C is compiled -----------------------------------------------------------------------------------------------
# RELOCATABLE=yes leaves the absolute paths out: the programs find each other beside /proc/self/exe (`pip install`).
# SANITIZE=yes, FUZZ=yes, ANALYZE=yes and COUNT=yes are other builds of the same sources; each needs a BUILD of its own.
CC = gcc
JOBS := $(shell nproc)
# Errors for us (`make test` and `make lint` set WERROR), never for who installs: the next compiler warns of something new.
WARNINGS = -Wall -Wextra -Wconversion -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wformat=2 -Wvla $(if $(WERROR),-Werror)
PLAIN_HARDENING = -O2 -D_FORTIFY_SOURCE=3 -fstack-protector-strong
HARDENING = $(PLAIN_HARDENING)
LINKING = -static-pie -Wl,-z,relro,-z,now
# With musl, where its compiler is: a program starts in a fifth of the time and is a fifth as large (docs/performance.md).
# LIBC=system, or another CC, takes the C library that CC has. The kernel's headers come after musl's own.
LIBC = $(if $(filter gcc,$(CC)),musl,system)
PROGRAM_CC = $(CC)
ifeq ($(LIBC)$(SANITIZE)$(FUZZ)$(ANALYZE),musl)
MUSL := $(shell sed -n 's|.*-specs "\(.*\)/musl-gcc.specs".*|\1|p' "$$(command -v musl-gcc)" 2>/dev/null)
endif
ifneq ($(and $(MUSL),$(wildcard $(MUSL)/libc.a)),)
MULTIARCH := $(shell $(CC) -print-multiarch)
PROGRAM_CC = musl-gcc $(addprefix -idirafter ,/usr/include /usr/include/$(MULTIARCH))
LINKING = -static -nostartfiles -Wl,-pie,--no-dynamic-linker,-z,text,-z,relro,-z,now $(addprefix $(MUSL)/,rcrt1.o crti.o crtn.o)
endif
ifdef SANITIZE
HARDENING = -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all -DSANITIZED
LINKING = -pie
endif
ifdef FUZZ
CC = clang
WARNINGS =
HARDENING = -O1 -g -fno-omit-frame-pointer -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all
LINKING = -pie -fsanitize=fuzzer
endif
ifdef ANALYZE
# Since GCC 13 it takes a descriptor at a number chosen for the next program (dup2) for lost; older ones know no such option.
HARDENING = -O2 -fanalyzer -Wno-analyzer-fd-leak
endif
ifdef COUNT
# For scripts/count_privileged.py, which reads relocations: what the compiler would inline is a function there.
HARDENING = -O0 -ffunction-sections -fdata-sections -fno-jump-tables
endif
ifdef RELOCATABLE
PATHS = -DCONTAINER_DIR='"/var/singularity/mnt"'
else
PATHS = -DLIBEXECDIR='"$(LIBEXECDIR)"' -DSYSCONFDIR='"$(SYSCONFDIR)"' -DCONFIG_PATH='"$(SYSCONFDIR)/singularity.conf"' \
        -DCONTAINER_DIR='"$(CONTAINER_DIR)"' -DPYTHON_PATH='"$(LIBEXECDIR)/python/bin/python3"'
endif
# What decompresses squashfs, and checks signatures: static libraries, each where it is (launcher/squashfs/decompress.c,
# launcher/signature/crypto.c). They call nothing that musl has not.
static_library = $(filter /%,$(shell $(CC) -print-file-name=lib$(1).a 2>/dev/null))
ZLIB := $(or $(call static_library,deflate),$(call static_library,z))
LIBRARIES := $(ZLIB) $(foreach name,zstd lz4 lzma lzo2 hogweed nettle gmp,$(call static_library,$(name)))
HAVE = $(patsubst lib%.a,-DHAVE_%,$(notdir $(LIBRARIES)))
COMPILE = $(PROGRAM_CC) -std=gnu17 -fPIE -D_GNU_SOURCE -DVERSION='"$(VERSION)"' $(PATHS) -Ilauncher \
          $(HARDENING) $(WARNINGS) $(HAVE) $(CPPFLAGS) $(CFLAGS)
LINK = $(PROGRAM_CC) -fPIE $(HARDENING) $(LINKING) $(LDFLAGS)

MAINS = launcher/singularity.c launcher/sexec.c launcher/sexec_suid.c launcher/sexec_judge.c launcher/image_server.c launcher/root_emulator.c launcher/host_command.c launcher/recorder.c
# In the setuid program these stand in for what it does without; elsewhere the archive has the real ones.
SETUID := $(sort $(wildcard launcher/setuid/*.c))
SOURCES := $(filter-out $(MAINS) $(SETUID) launcher/slurm/% launcher/preload/%,$(sort $(shell find launcher -name '*.c')))
OBJECTS = $(SOURCES:%.c=$(BUILD)/%.o)
ARCHIVE = $(BUILD)/liblauncher.a
PROGRAMS = $(BUILD)/singularity $(BUILD)/sexec $(BUILD)/sexec-suid $(BUILD)/sexec-judge $(BUILD)/image-server $(BUILD)/root-emulator $(BUILD)/host-command $(BUILD)/recorder $(PRELOADED)
UNIT_TESTS := $(patsubst %.c,$(BUILD)/%,$(sort $(shell find tests/launcher -name '*_test.c')))
FUZZ_TARGETS := $(patsubst %.c,$(BUILD)/%,$(sort $(wildcard fuzz/*_fuzz.c)))

# Slurm's plugin, where Slurm's headers are: slurmd and srun load it, so it is no part of the programs and never sanitized.
SPANK_SOURCE = launcher/slurm/spank_singularity.c
SPANK_PLUGIN = $(BUILD)/slurm/singularity.so
# Asked each time, since the compiler may be installed meanwhile; without a "#", which each version of make quotes otherwise.
HAS_SLURM = $(shell $(CC) $(CPPFLAGS) -E -include slurm/spank.h -x c /dev/null >/dev/null 2>&1 && echo yes)
COMPILE_SHARED = $(CC) -std=gnu17 -fPIC -D_GNU_SOURCE $(if $(SANITIZE)$(FUZZ),$(PLAIN_HARDENING),$(HARDENING)) $(WARNINGS) \
                 $(CPPFLAGS) $(CFLAGS)
LINK_SHARED = -shared -Wl,-z,relro,-z,now,-z,noexecstack $(LDFLAGS)
COMPILE_SPANK = $(COMPILE_SHARED) -DFRONT_DOOR='"$(PREFIX)/bin/singularity"'

# What packs layers of images, where the headers of its libraries are; without it mksquashfs makes images of a stream. Linked to
# the system's libraries, since it is no part of a launch.
PACKER = $(BUILD)/singularity-pack
PACKER_SOURCES := $(sort $(wildcard packer/*.c))
PACKER_LINKING = -pie
PACKER_LIBRARIES = -lzstd -ldeflate -lcrypto -lpthread
HAS_PACKER = $(shell $(CC) $(CPPFLAGS) -E -include zstd.h -include libdeflate.h -include openssl/evp.h -x c /dev/null >/dev/null 2>&1 && echo yes)
COMPILE_PACKER = $(CC) -std=gnu17 -fPIE -D_GNU_SOURCE $(HARDENING) $(WARNINGS) $(CPPFLAGS) $(CFLAGS)

# What is loaded into fuse2fs: a program of the system's, never sanitized.
PRELOADED = $(BUILD)/fuse2fs-truncate.so

# Of the setuid program: lines to read to know all that is in it, and of those what runs with or between raised privilege.
SETUID_LINES = 6500
PRIVILEGED_LINES = 2000

# ---- what the tests and the checks use -------------------------------------------------------------------------------
VENV = build/venv
PYTHON_IN_VENV = $(VENV)/bin/python
PYTEST_ARGS =
FUZZ_SECONDS = 20
BENCH_RUNS = 100
BENCH_ROUNDS = 5
BENCH_ALL = 20
BENCH_COUNTS = 1,10,100,1000
SUITES = bookworm trixie
# SUID mode wants root's own directories all the way up, and ordinary users must reach it: not below this checkout.
CHECKOUT := $(shell pwd -P | sha256sum | cut -c1-8)
TEST_PREFIX = $(if $(filter 0,$(shell id -u)),/opt/singularity-test-$(CHECKOUT),$(CURDIR)/build/test/root)

.PHONY: help setup build spank spank-where-slurm-is demo open-to-others test test-install test-kernels compare nightly test-fresh test-images test-sanitized bench bench-all bench-build \
        bench-pull bench-chunks bench-lazy bench-trace bench-diff bench-mpi bench-scale lint fuzz fuzz-functions fuzz-starter docs install uninstall deb dist tarball release clean FORCE launcher unit-tests fuzz-targets clang-analyzed

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 22
	@echo; echo "PREFIX=$(PREFIX)  DESTDIR=$(DESTDIR)  BUILD=$(BUILD)  version $(VERSION)"

# As root in somebody's checkout: what it leaves there, setuptools' directory as well, is theirs.
GIVE_BACK = if [[ $$EUID == 0 && ! -O Makefile ]]; then chown -hR --reference=Makefile build $$(compgen -G '*.egg-info'); fi

setup: ## system packages (as root; otherwise names the missing ones) and the private environment build/venv
	@scripts/check-checkout
	@scripts/setup-system python build musl decompressors packer images tests --wanted keyservers
	@scripts/setup-python $(VENV)

build: ## compile the launcher into build/
	@scripts/check-checkout
	@scripts/setup-system build --wanted musl decompressors packer
	@mkdir -p $(BUILD)
	@flock $(BUILD)/lock $(MAKE) -j$(JOBS) launcher

spank: ## compile Slurm's plugin into build/slurm (needs Slurm's headers); `make install` does so by itself where they are
	@scripts/setup-system build slurm
	@mkdir -p $(BUILD)
	@flock $(BUILD)/lock $(MAKE) $(SPANK_PLUGIN)

# ---- the launcher ----------------------------------------------------------------------------------------------------
launcher: $(ARCHIVE) $(PROGRAMS) $(if $(HAS_PACKER),$(PACKER))
unit-tests: $(UNIT_TESTS)
fuzz-targets: $(FUZZ_TARGETS)

# Another PREFIX, compiler or version, or a source that came or went, makes everything anew.
$(BUILD)/flags: FORCE
	@mkdir -p $(@D)
	@test -n "$(VERSION)" || { echo "no version in pyproject.toml" >&2; exit 1; }
	@printf '%s\n' $(foreach word,$(COMPILE) $(LINK) $(OBJECTS),'$(subst ','\'',$(word))') > $@.new
	@if cmp -s $@.new $@; then rm $@.new; else mv $@.new $@; fi

$(BUILD)/%.o: %.c $(BUILD)/flags
	@mkdir -p $(@D)
	@echo "  compile $<"
	@$(COMPILE) -MMD -MP -c -o $@ $<

$(ARCHIVE): $(OBJECTS) $(BUILD)/flags
	@rm -f $@
	@ar rcsDT $@ $(OBJECTS) # thin: files of one name in two directories keep their paths in the link map

$(BUILD)/singularity $(BUILD)/sexec: $(BUILD)/%: $(BUILD)/launcher/%.o $(ARCHIVE)
$(BUILD)/sexec-judge: $(BUILD)/launcher/sexec_judge.o $(ARCHIVE)
$(BUILD)/image-server: $(BUILD)/launcher/image_server.o $(ARCHIVE)
$(BUILD)/root-emulator: $(BUILD)/launcher/root_emulator.o $(ARCHIVE)
$(BUILD)/host-command: $(BUILD)/launcher/host_command.o $(ARCHIVE)
$(BUILD)/recorder: $(BUILD)/launcher/recorder.o $(ARCHIVE)
$(BUILD)/sexec-suid: $(BUILD)/launcher/sexec_suid.o $(SETUID:%.c=$(BUILD)/%.o) $(ARCHIVE)
$(filter-out $(PRELOADED),$(PROGRAMS)):
	@echo "  link $@"
	@$(LINK) -Wl,-Map=$@.map -o $@ $^ $(if $(filter %-suid,$@),,$(LIBRARIES))

$(UNIT_TESTS): %: %.o $(ARCHIVE)
	@$(LINK) -o $@ $^ $(LIBRARIES)

$(BUILD)/fuzz/layer_fuzz: $(addprefix $(BUILD)/packer/,tar.o pax.o common.o)

# Under FUZZ=yes libFuzzer drives the targets; otherwise standalone.c runs them over the files it is given.
$(FUZZ_TARGETS): %: %.o $(if $(FUZZ),,$(BUILD)/fuzz/standalone.o) $(ARCHIVE)
	@$(LINK) -o $@ $^ $(LIBRARIES)

-include $(OBJECTS:.o=.d) $(UNIT_TESTS:%=%.d) $(FUZZ_TARGETS:%=%.d) \
         $(MAINS:%.c=$(BUILD)/%.d) $(SETUID:%.c=$(BUILD)/%.d) $(BUILD)/fuzz/standalone.d $(SPANK_PLUGIN:.so=.d) $(PRELOADED:.so=.d) \
         $(PACKER_SOURCES:%.c=$(BUILD)/%.d)

# Another Slurm makes the plugin anew too: its headers stand in the .d file.
$(SPANK_PLUGIN): $(SPANK_SOURCE) $(BUILD)/flags
	@mkdir -p $(@D)
	@echo "  compile $<"
	@$(COMPILE_SPANK) -MD -MP -MF $(@:.so=.d) -MT $@ $(LINK_SHARED) -o $@ $<

$(PACKER_SOURCES:%.c=$(BUILD)/%.o): $(BUILD)/%.o: %.c $(BUILD)/flags
	@mkdir -p $(@D)
	@echo "  compile $<"
	@$(COMPILE_PACKER) -MMD -MP -c -o $@ $<

$(PACKER): $(PACKER_SOURCES:%.c=$(BUILD)/%.o)
	@echo "  link $@"
	@$(CC) $(PACKER_LINKING) $(HARDENING) -Wl,-z,relro,-z,now $(LDFLAGS) -o $@ $^ $(PACKER_LIBRARIES)

$(PRELOADED): launcher/preload/fuse2fs.c $(BUILD)/flags
	@mkdir -p $(@D)
	@echo "  compile $<"
	@$(COMPILE_SHARED) -MD -MP -MF $(@:.so=.d) -MT $@ $(LINK_SHARED) -o $@ $<

# For `install`, which goes on without it: with a Slurm that it does not know, too.
spank-where-slurm-is:
	@if [[ -z "$(HAS_SLURM)" ]]; then rm -f $(SPANK_PLUGIN); elif ! $(MAKE) $(SPANK_PLUGIN); then rm -f $(SPANK_PLUGIN); \
	    echo "  WARNING: Slurm's plugin does not compile with the headers of this machine, and is left out" >&2; fi

demo: ## bootstrap Debian into build/demo/debian.sif and run programs in it as an ordinary user
	@scripts/check-checkout
	@scripts/setup-system python build images --wanted musl decompressors packer
	@scripts/demo
	@$(GIVE_BACK)

# ---- tests: pytest runs them all, the programs that make builds here too --------------------------------------------
SANITIZED = BUILD=build/sanitize SANITIZE=yes
SANITIZED_TESTS = $(addprefix tests/end_to_end/test_,starter.py environment.py configuration.py writing.py home_and_directory.py)

test lint test-sanitized: export WERROR = yes

open-to-others:
	@scripts/check-checkout others

test: open-to-others setup build ## run every test, the C units and fuzz corpora with sanitizers too (PYTEST_ARGS=...)
	@$(MAKE) -j$(JOBS) unit-tests
	@$(MAKE) -j$(JOBS) $(SANITIZED) unit-tests fuzz-targets $(if $(HAS_PACKER),build/sanitize/singularity-pack)
	@scripts/check-installation
	@SANITIZE=yes scripts/run-pytest $(TEST_PREFIX)-sanitized $(SANITIZED_TESTS)
	@scripts/run-pytest $(TEST_PREFIX) $(PYTEST_ARGS)

# Images of all builders that can be had, from Debian's mirror, PyPI and npm; what is made stays in CORPUS for the next run.
CORPUS = build/corpus
IMAGES =
test-images: open-to-others setup build ## images by real builders, pulled, launched and compared (IMAGES='busybox or zstd', CORPUS=build/corpus)
	@CORPUS='$(CORPUS)' scripts/run-pytest $(TEST_PREFIX)-images tests/corpus/run_recipes.py $(if $(IMAGES),-k '$(IMAGES)') $(PYTEST_ARGS)

# Programs of the field that start containers, from the registry of Python; their environments stay in CLIENTS for a week.
CLIENTS = build/clients
test-clients: open-to-others setup build ## workflow engines and the like run in our containers, each for real (PYTEST_ARGS="-k cwltool")
	@scripts/setup-system clients
	@CLIENTS='$(CLIENTS)' scripts/run-pytest $(TEST_PREFIX)-clients tests/clients/run_clients.py $(PYTEST_ARGS)

test-sanitized: open-to-others setup ## run every end-to-end test against programs built with the sanitizers
	@SANITIZE=yes scripts/run-pytest $(TEST_PREFIX)-sanitized tests/end_to_end $(PYTEST_ARGS)

test-fresh: ## what README says, word for word, in bare roots of Debian, as root (SUITES="bookworm trixie", SUITES=sid)
	@scripts/setup-system fresh
	@scripts/test-fresh $(SUITES)

# Emulated, two at a time: some six minutes until the first boots, then five for fifty cases, on two processors.
KERNELS = bullseye bookworm trixie sid
test-kernels: ## end-to-end tests on kernels of Debian in emulated machines, as root (KERNELS="bookworm sid", TESTS="tests/...")
	@scripts/setup-system fresh kernels
	@scripts/test-kernels $(KERNELS)

compare: ## command lines through another program of the family as well, in a machine of their own, as root (WORDS="== exec")
	@scripts/setup-system fresh
	@scripts/compare $(WORDS)

# Hours on two processors, most of them for what is emulated or sanitized.
nightly: ## all that tests and takes long, one after the other: test, test-fresh, test-images, test-clients, test-sanitized, fuzz, test-kernels, compare
	@for each in test test-fresh test-images test-clients test-sanitized fuzz test-kernels compare; do $(MAKE) --no-print-directory $$each || exit; done

test-install: setup ## install this tree into TEST_PREFIX, for running pytest by hand
	@rm -rf $(TEST_PREFIX)
	@$(MAKE) install PREFIX=$(TEST_PREFIX) BUILD=build/test DESTDIR=

# ---- checks ----------------------------------------------------------------------------------------------------------
CLANG_ANALYZED = $(patsubst %,build/analyze/clang/%,$(SOURCES) $(SETUID) $(MAINS) launcher/preload/fuse2fs.c $(if $(HAS_SLURM),$(SPANK_SOURCE)) \
                   $(if $(HAS_PACKER),$(PACKER_SOURCES)))

lint: setup ## ruff, mypy, dead and double Python, gcc's and clang's analyzers, shellcheck, the number of privileged lines
	@scripts/setup-system lint
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check --quiet
	$(VENV)/bin/mypy --strict
	$(VENV)/bin/vulture
	$(VENV)/bin/pylint singularity
	@$(MAKE) -k -j$(JOBS) BUILD=build/analyze ANALYZE=yes launcher $(if $(HAS_SLURM),build/analyze/slurm/singularity.so)
	@$(MAKE) -k -j$(JOBS) clang-analyzed
	shellcheck .ci/run packaging/deb packaging/dist packaging/release packaging/tarball packaging/python3 tests/corpus/builders.sh tests/compare/*.sh examples/slurm/*.sbatch $(shell grep -l "^.!/bin/bash" scripts/*)
	@$(PYTHON_IN_VENV) scripts/draw_architecture.py --check
	@$(PYTHON_IN_VENV) scripts/draw_figures.py --check
	@scripts/check-privileged
	@$(MAKE) -j$(JOBS) BUILD=build/count COUNT=yes build/count/sexec-suid
	@$(PYTHON_IN_VENV) scripts/count_privileged.py build/count $(SETUID_LINES) $(PRIVILEGED_LINES)

# Dead stores: clang does not see what the cleanup attribute of an OWNED_FD reads.
clang-analyzed: $(CLANG_ANALYZED)
build/analyze/clang/%: % $(wildcard launcher/*.h launcher/*.def launcher/*/*.h packer/*.h) Makefile
	@mkdir -p $(@D)
	@echo "  analyze $<"
	@clang --analyze --analyzer-output text -Xclang -analyzer-werror \
	    -Xclang -analyzer-disable-checker=deadcode.DeadStores -std=gnu17 -D_GNU_SOURCE \
	    -DVERSION='"$(VERSION)"' $(PATHS) -Ilauncher -o $@ $<
	@touch $@

fuzz: fuzz-functions fuzz-starter ## both of them

fuzz-functions: ## libFuzzer on each target for FUZZ_SECONDS (20)
	@scripts/setup-system build fuzz
	@$(MAKE) -j$(JOBS) BUILD=build/fuzz FUZZ=yes fuzz-targets
	@scripts/run-fuzzers $(FUZZ_SECONDS) $(FUZZ_TARGETS:$(BUILD)/%=build/fuzz/%)

# What `make test` takes a sample of is done to the end here: a quarter of an hour, besides FUZZ_SECONDS for each kind of requests.
STARTER_TESTS = $(addprefix tests/end_to_end/test_,mutations.py permissions.py faults.py stages.py layer_kinds.py image_server.py)
fuzz-starter: open-to-others setup ## the setuid program, as root: forged requests for FUZZ_SECONDS, each path mode, call and layer
	@MUTATION_SECONDS=$(FUZZ_SECONDS) EXHAUSTIVE=yes scripts/run-pytest $(TEST_PREFIX)-fuzz -s $(STARTER_TESTS) $(PYTEST_ARGS)

bench: setup ## time and memory of a launch beside the peers, in one run (BENCH_RUNS=100)
	@scripts/setup-system bench || echo "measuring without them"
	@bench/run $(TEST_PREFIX)-bench $(BENCH_RUNS)

bench-all: setup ## everything beside the newest peers, each program as two series that must agree, in one run (BENCH_ALL=20)
	@scripts/setup-system bench images || echo "measuring without them"
	@BENCH=all.py bench/run $(TEST_PREFIX)-bench $(BENCH_ALL)
	@$(MAKE) --no-print-directory bench-lazy bench-mpi bench-scale

bench-build: setup ## time of making and converting images beside mksquashfs, unsquashfs, mke2fs and tar, in one run
	@mkdir -p build/bench
	@$(PYTHON_IN_VENV) bench/build.py --directory build/bench

bench-pull: setup ## time, memory and disk from a registry to a SIF file beside skopeo, umoci and charliecloud, in one run
	@scripts/setup-system bench || echo "measuring without them"
	@mkdir -p build/bench
	@$(PYTHON_IN_VENV) bench/pull.py --directory build/bench

bench-diff: test-install ## how long diff takes between two images of 1 GB
	@mkdir -p build/bench
	@$(PYTHON_IN_VENV) bench/diff.py --directory build/bench --singularity $(TEST_PREFIX)/bin/singularity

bench-chunks: test-install ## what is fetched of an image of which another version is there, beside rsync
	@mkdir -p build/bench
	@$(PYTHON_IN_VENV) bench/chunks.py --directory build/bench --singularity $(TEST_PREFIX)/bin/singularity

bench-lazy: test-install ## time to the first output of images that are not there yet, in one run
	@mkdir -p build/bench
	@$(PYTHON_IN_VENV) bench/lazy.py --directory build/bench --singularity $(TEST_PREFIX)/bin/singularity

bench-trace: test-install ## what --trace costs a start-up of Python that imports 2,000 modules
	@mkdir -p build/bench
	@$(PYTHON_IN_VENV) bench/trace.py --directory build/bench --singularity $(TEST_PREFIX)/bin/singularity

bench-mpi: setup ## messages between two MPI ranks natively and in containers, and the ratio (BENCH_ROUNDS=5)
	@bench/mpi/run $(TEST_PREFIX)-bench-mpi $(BENCH_ROUNDS)

bench-scale: setup ## what launches ask of file systems, modelled for 10,000 nodes, and a thousand at once (BENCH_COUNTS=1,100)
	@scripts/setup-system bench || echo "measuring without them"
	@bench/scale/run $(TEST_PREFIX)-bench-scale $(BENCH_COUNTS)

docs: setup ## the site, manual pages and completions into build/docs; every link checked, and the pages looked at in a browser
	@scripts/setup-system --wanted browser
	@$(PYTHON_IN_VENV) -m singularity.cli.pages build/docs/man
	@$(PYTHON_IN_VENV) -m singularity.cli.completions build/docs/completions
	@$(PYTHON_IN_VENV) scripts/check_links.py $(filter-out docs/site/%,$(wildcard *.md docs/*.md docs/*/*.md))
	@flock build/docs.lock sh -c '$(PYTHON_IN_VENV) docs/site/assemble.py build/docs && $(PYTHON_IN_VENV) docs/site/browse.py build/docs'
	@$(GIVE_BACK)
	@echo "The site is build/docs/html/index.html, manual pages are in build/docs/man"

# ---- installing ------------------------------------------------------------------------------------------------------
INSTALL = mkdir -p build && flock build/install.lock env \
          PREFIX='$(PREFIX)' DESTDIR='$(DESTDIR)' BUILD='$(BUILD)' \
          LIBEXECDIR='$(LIBEXECDIR)' SYSCONFDIR='$(SYSCONFDIR)' \
          CONTAINER_DIR='$(CONTAINER_DIR)' APPTAINER_LINK='$(APPTAINER_LINK)' SPANK_PLUGIN='$(SPANK_PLUGIN)' \
          scripts/install

install: ## install into PREFIX (below DESTDIR, for packagers); as root with the SUID starter; APPTAINER_LINK=yes
	@scripts/check-checkout
	@scripts/setup-system python build --wanted musl decompressors packer $(if $(DESTDIR),,$(if $(filter 0,$(shell id -u)),images))
	@mkdir -p $(BUILD)
	@flock $(BUILD)/lock $(MAKE) -j$(JOBS) launcher spank-where-slurm-is
	@$(INSTALL) install
	@$(if $(DESTDIR),,[[ $$EUID == 0 && -e /usr/bin/apt-get ]] || scripts/setup-system --wanted images)
	@$(if $(DESTDIR),,$(GIVE_BACK))

uninstall: ## remove what install put into PREFIX; an edited configuration stays
	@$(INSTALL) uninstall

dist: ## the source archive singularity-VERSION.tar.gz, which has a spec file: rpmbuild -ta singularity-VERSION.tar.gz
	@packaging/dist

tarball: ## build/singularity-VERSION-linux-MACHINE.tar.gz, to be unpacked anywhere by anybody (PYTHON_SIDE=no: launches alone)
	@packaging/tarball

release: ## both archives, their checksums and, with RELEASE_KEY=FILE, the signature of these, in build/release
	@packaging/release

deb: ## a Debian package, build/singularity_VERSION_ARCHITECTURE.deb (as root or under fakeroot)
	@packaging/deb
	@$(GIVE_BACK)

clean: ## remove build/ and what tests and demo installed, from where the checkout was before it was moved as well
	@scripts/clean $(TEST_PREFIX)
