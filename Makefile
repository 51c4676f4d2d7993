# The commands of this project. `make help` lists them.

DEVSTACK := target/debug/devstack
# Tools that this project builds for itself, each in the version that is known to work here.
DENY := target/tools/cargo-deny-0.20.2
CYCLONEDX := target/tools/cargo-cyclonedx-0.5.9

.PHONY: help build check test janitor-load demo rolling-restart up down compose-test entities contracts deny sbom
help: ## list the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

build: ## build everything
	cargo build --workspace --all-targets

check: ## formatting and lints, warnings are errors
	cargo fmt --all -- --check
	cargo clippy --workspace --all-targets -- -D warnings

test: build ## every test, with servers of its own
	$(DEVSTACK) exec -- cargo test --workspace

janitor-load: build ## 100,000 abandoned videos cleaned while uploads go on; VIDEOS=number
	JANITOR_VIDEOS=$(or $(VIDEOS),100000) $(DEVSTACK) exec -- \
		cargo test -p uploader-v4 --test it -- janitor_load --nocapture

demo: ## a real video through real servers; VIDEO=file CHUNK=bytes DEMO_EXIT=1
	cargo build --workspace --bins
	$(DEVSTACK) demo

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

$(CYCLONEDX)/bin/cargo-cyclonedx:
	cargo install --locked --version $(subst cargo-cyclonedx-,,$(notdir $(CYCLONEDX))) --root $(CYCLONEDX) cargo-cyclonedx
