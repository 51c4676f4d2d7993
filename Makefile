# The commands of this project. `make help` lists them.

DEVSTACK := target/debug/devstack
# Tools that this project builds for itself, each in the version that is known to work here.
DENY := target/tools/cargo-deny-0.20.2
CYCLONEDX := target/tools/cargo-cyclonedx-0.5.9
FUZZ := target/tools/cargo-fuzz-0.13.1

.PHONY: help build check test janitor-load bench fire demo rolling-restart up down compose-test entities contracts deny sbom model fuzz chaos
help: ## list the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

build: ## build everything
	cargo build --workspace --all-targets

check: ## formatting and lints, warnings are errors
	cargo fmt --all -- --check
	cargo clippy --workspace --all-targets -- -D warnings

test: build ## every test, with servers of its own
	$(DEVSTACK) exec -- cargo test --workspace

model: ## every state of three small worlds, with wider bounds than `make test` has
	MODEL_BOUNDS=wide cargo test --release -p uploader-v4 --test model -- --nocapture --test-threads=1

janitor-load: build ## 100,000 abandoned videos cleaned while uploads go on; VIDEOS=number
	JANITOR_VIDEOS=$(or $(VIDEOS),100000) $(DEVSTACK) exec -- \
		cargo test -p uploader-v4 --test it -- janitor_load --nocapture

bench: ## the service beside what broker and disk allow; BENCH_ONLY=8k_100,idle BENCH_ROUNDS=3 BENCH_SECONDS=5
	cargo build --release -p uploader-v4 -p devstack --bins
	target/release/devstack bench $(if $(BENCH_ONLY),,--document docs/PERFORMANCE.md)

fire: build ## what breaks while uploads are under way, at full size: about 20 minutes, a line of figures each
	FIRE=full $(DEVSTACK) exec -- cargo test -p uploader-v4 --test fire -- --nocapture
	FIRE=full $(DEVSTACK) exec -- cargo test -p uploader-v4 --test it -- --nocapture --test-threads=1 held_row far_ahead

demo: ## a real video through real servers; VIDEO=file CHUNK=bytes DEMO_EXIT=1
	cargo build --workspace --bins
	$(DEVSTACK) demo

chaos: ## everything broken at random under forty uploads; CHAOS_SECONDS=60 SEED=number CHAOS_CLIENTS=40
	cargo build --workspace --bins
	$(DEVSTACK) chaos

rolling-restart: build ## restart every replica under a hundred uploads, and tell what their clients saw
	$(DEVSTACK) exec -- cargo test -p uploader-v4 --test it -- --nocapture --exact \
		leaving::a_rolling_restart_under_a_hundred_uploads_is_noticed_by_nobody

up: ## the whole picture in containers, until `make down`; GATEWAY_PORT=3000 HOLDER_PORT=8090
	docker/secrets.sh
	docker compose -f docker/compose.yml up --detach --build --wait

down: ## stop it and remove its volumes
	docker compose -f docker/compose.yml down --volumes --remove-orphans

compose-test: ## docker/compose.yml on a real engine, with faults; COMPOSE_IMAGES_CMD=command PROFILE=dev
	cargo build -p devstack
	docker/compose-test.sh

# The stable toolchain has no sanitizers, and code without `unsafe` needs none. New inputs are gathered under target/, to
# be looked through before some of them go into fuzz/corpus; one that breaks a promise is left in fuzz/artifacts.
fuzz: $(FUZZ)/bin/cargo-fuzz ## new inputs for every fuzz target; FUZZ_SECONDS=60 each
	cp Cargo.lock fuzz/Cargo.lock
	$< fuzz build --sanitizer none --target-dir $(CURDIR)/target/fuzz
	for program in fuzz/fuzz_targets/*.rs; do \
		name=$$(basename $$program .rs) && mkdir -p target/fuzz/corpus/$$name && \
		$< fuzz run --sanitizer none --target-dir $(CURDIR)/target/fuzz $$name \
			target/fuzz/corpus/$$name fuzz/corpus/$$name -- -max_total_time=$(or $(FUZZ_SECONDS),60) -timeout=20 \
			-rss_limit_mb=2048 -print_final_stats=1 || exit 1; \
	done

entities: ## generate the entities again from a migrated database
	cargo build -p uploader-v4 -p devstack
	$(DEVSTACK) exec -- sh -ec 'DB_CONNECTION_STRING="$$DEVSTACK_POSTGRES_URL" target/debug/uploader-v4 migrate \
		--shared-tables; DATABASE_URL="$$DEVSTACK_POSTGRES_URL" entity/generate.sh'

contracts: ## docs/*.yaml against the official meta-schemas; needs npm
	.ci/contracts/run

deny: $(DENY)/bin/cargo-deny ## licences, banned crates and sources of every dependency
	$< --locked check --hide-inclusion-graph licenses bans sources

sbom: $(CYCLONEDX)/bin/cargo-cyclonedx ## what the program is built from: target/sbom/uploader-v4.cdx.json; needs node
	.ci/sbom/run $(CURDIR)/$(<D)

$(DENY)/bin/cargo-deny:
	cargo install --locked --version $(subst cargo-deny-,,$(notdir $(DENY))) --no-default-features --root $(DENY) cargo-deny

$(FUZZ)/bin/cargo-fuzz:
	cargo install --locked --version $(subst cargo-fuzz-,,$(notdir $(FUZZ))) --root $(FUZZ) cargo-fuzz

$(CYCLONEDX)/bin/cargo-cyclonedx:
	cargo install --locked --version $(subst cargo-cyclonedx-,,$(notdir $(CYCLONEDX))) --root $(CYCLONEDX) cargo-cyclonedx
