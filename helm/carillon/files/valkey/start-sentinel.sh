#!/bin/sh
# Starts a Sentinel that watches the primary of this moment. It never appoints one: it learns who it is from the other
# Sentinels, else from Valkey itself, and until then answers that it knows none.
set -eu
# shellcheck source=helm/carillon/files/valkey/ask.sh
. "${0%/*}/ask.sh"

config=/run/valkey/sentinel.conf
pod=${HOST%%.*}
# One after the other they make up their own minds, so that the rest hear it from the first. Two that took different
# pods for the primary at the same moment would never agree again.
patience=$((3 * ${pod##*-}))
rounds=0

# Who the primary is, else nothing.
learned() {
  for sentinel in $(others "$SENTINELS"); do
    primary=$(primary_at "$sentinel")
    case $primary in none | '') ;; *) echo "$primary" && return ;; esac
  done
  if [ $rounds -lt $patience ]; then return; fi
  # No Sentinel remembers. Of two that call themselves primary, the one that has lived on has the greater offset.
  for valkey in $VALKEYS; do echo "$valkey $(role_of "$valkey")"; done |
    awk '$2 == "master" && $3 >= most {most = $3; primary = $1} END {if (primary) print primary}'
}

# Whose replica the ones that answer are. Only a guess: that primary is silent now.
missed() {
  for valkey in $VALKEYS; do role_of "$valkey" | awk '$1 == "slave" {print $2}'; done | head -n 1
}

basics() {
  echo "port 26379"
  echo "dir /run/valkey"
  printf 'requirepass %s\n' "$(quoted "$REDIS_SENTINEL_PASSWORD")"
  printf 'sentinel sentinel-pass %s\n' "$(quoted "$REDIS_SENTINEL_PASSWORD")"
  echo "sentinel resolve-hostnames yes"
  echo "sentinel announce-hostnames yes"
  echo "sentinel announce-ip $HOST"
  echo "sentinel announce-port 26379"
  # The same voter after a restart, not a fourth one.
  echo "sentinel myid $(printf %s "$HOST" | sha1sum | cut -c 1-40)"
}

umask 077
# After a restart of the container alone it goes on with what it had written down.
if [ ! -s $config ]; then
  basics >/run/valkey/waiting.conf
  valkey-sentinel /run/valkey/waiting.conf >/dev/null &
  waiting=$!
  trap 'kill $waiting; exit 0' TERM
  until primary=$(learned) && [ -n "$primary" ]; do
    if [ $rounds -ge $((10 + patience)) ]; then primary=$(missed) && [ -n "$primary" ] && break; fi
    if [ $((rounds % 10)) -eq 0 ]; then say "waits for a primary"; fi
    rounds=$((rounds + 1))
    sleep 1
  done
  kill $waiting && wait $waiting || true
  trap - TERM
  {
    basics
    echo "sentinel monitor $PRIMARY_NAME $primary 6379 2"
    printf 'sentinel auth-pass %s %s\n' "$PRIMARY_NAME" "$(quoted "$REDIS_PASSWORD")"
    # Only for a machine that is gone: a Valkey that stops or restarts hands over by itself, sooner. Less than this, and
    # a machine that is short of CPU for a moment looks dead.
    echo "sentinel down-after-milliseconds $PRIMARY_NAME 5000"
    # A failover that got stuck is tried again after twice this time.
    echo "sentinel failover-timeout $PRIMARY_NAME 10000"
    echo "sentinel parallel-syncs $PRIMARY_NAME 1"
    # Else it would learn of the replicas from the primary only, which may never come back.
    for valkey in $VALKEYS; do
      [ "$valkey" = "$primary" ] || echo "sentinel known-replica $PRIMARY_NAME $valkey 6379"
    done
  } >$config.new
  mv $config.new $config
  say "starts to watch $primary"
fi
exec valkey-sentinel $config
