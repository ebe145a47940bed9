# Starts a Sentinel that watches the primary which the others know, or the first Valkey if they know none.
set -eu
. /scripts/known-primary.sh

# Sentinel ends at once when the name of what it watches is not known yet.
while :; do
  primary=$(known_primary)
  primary=${primary:-$(valkey_host 0)}
  getent hosts "$primary" >/dev/null && break
  echo "$POD_NAME waits for the name $primary"
  sleep 1
done
cat >/data/sentinel.conf <<CONFIG
port 26379
dir /data
requirepass $REDIS_SENTINEL_PASSWORD
sentinel resolve-hostnames yes
sentinel announce-hostnames yes
sentinel announce-ip $(sentinel_host "${POD_NAME##*-}")
sentinel monitor carillon $primary 6379 2
sentinel auth-pass carillon $REDIS_PASSWORD
sentinel down-after-milliseconds carillon 5000
sentinel failover-timeout carillon 15000
sentinel parallel-syncs carillon 1
sentinel master-reboot-down-after-period carillon 5000
CONFIG
echo "$POD_NAME starts; the primary is $primary"
exec valkey-sentinel /data/sentinel.conf
