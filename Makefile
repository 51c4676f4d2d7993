# The commands of this project. `make help` lists them.

DEVSTACK := target/debug/devstack
# Tools that this project builds for itself, each in the version that is known to work here.
DENY := target/tools/cargo-deny-0.20.2
CYCLONEDX := target/tools/cargo-cyclonedx-0.5.9

.PHONY: help build check test demo entities contracts deny sbom
help: ## list the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

build: ## build everything
	cargo build --workspace --all-targets

check: ## formatting and lints, warnings are errors
	cargo fmt --all -- --check
	cargo clippy --workspace --all-targets -- -D warnings

test: build ## every test, with servers of its own
	$(DEVSTACK) exec -- cargo test --workspace

demo: ## a real video through real servers; VIDEO=file CHUNK=bytes DEMO_EXIT=1
	cargo build --workspace --bins
	$(DEVSTACK) demo

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
