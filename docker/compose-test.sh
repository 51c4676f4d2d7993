#!/usr/bin/env bash
# The compose file on a real engine: what `make compose-test` runs. COMPOSE_IMAGES_CMD may name a command that provides
# an engine and the public images where there are none: it is called with `up IMAGE...` and then with `env`, and what
# that prints is evaluated.
set -Eeuo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if [ -n "${COMPOSE_IMAGES_CMD:-}" ]; then
  mapfile -t images < <(grep -hoP '^(FROM|\s+image:) +\K[a-z]+:\S+' docker/Dockerfile docker/compose.yml | sort -u)
  # Split into words on purpose: it is a command line.
  # shellcheck disable=SC2086
  $COMPOSE_IMAGES_CMD up "${images[@]}"
  # shellcheck disable=SC2086
  eval "$($COMPOSE_IMAGES_CMD env)"
fi
exec target/debug/devstack compose-test
