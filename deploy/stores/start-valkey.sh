# Starts a Valkey as what the others know it to be. Where nobody knows anything, the first one is the primary.
set -eu
. /scripts/known-primary.sh

own=$(valkey_host "${POD_NAME##*-}")
primary=$(known_primary)
primary=${primary:-$(valkey_host 0)}
{
  echo "dir /data"
  echo "save \"\""
  echo "appendonly no"
  echo "requirepass $REDIS_PASSWORD"
  echo "masterauth $REDIS_PASSWORD"
  echo "replica-announce-ip $own"
  echo "maxmemory 192mb"
  echo "maxmemory-policy noeviction"
  echo "client-output-buffer-limit pubsub 64mb 16mb 60"
  [ "$primary" = "$own" ] || echo "replicaof $primary 6379"
} >/data/valkey.conf
echo "$POD_NAME starts; the primary is $primary"
exec valkey-server /data/valkey.conf
