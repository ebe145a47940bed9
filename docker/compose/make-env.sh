#!/bin/sh
# Writes docker/.env: one random value for each secret of compose.yaml. It never overwrites one: the volumes and the
# sessions of people know the old values.
set -eu
cd "$(dirname "$0")/.."
if [ -e .env ]; then
  echo "carillon: docker/.env is there; it stays as it is"
  exit
fi
random() { od -An -v -N24 -tx1 /dev/urandom | tr -d ' \n'; }
umask 077
cat >.env <<END
SECRET_KEYS=$(random)
POSTGRES_PASSWORD=$(random)
REDIS_PASSWORD=$(random)
END
echo "carillon: wrote docker/.env"
