#!/usr/bin/env bash
# Makes the secrets that docker/compose.yml reads, at random, where they are absent; SECRETS_DIR is their folder.
set -Eeuo pipefail
folder="${SECRETS_DIR:-$(dirname "${BASH_SOURCE[0]}")/secrets}"
umask 022
mkdir -p "$folder"
random() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }
[ -s "$folder/db_password" ] || random > "$folder/db_password"
if [ ! -s "$folder/amqp_url" ] || [ ! -s "$folder/rabbitmq_user.conf" ]; then
  password=$(random)
  printf 'default_user = uploader\ndefault_pass = %s\n' "$password" > "$folder/rabbitmq_user.conf"
  printf 'amqp://uploader:%s@rabbitmq:5672/%%2f' "$password" > "$folder/amqp_url"
fi
