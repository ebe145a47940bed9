#!/bin/sh
# check-sentinel.sh alive | ready: it answers; and it knows the primary and enough others for a failover.
# One process and no limit of its own: how long it may take is the probe's to say.
set -eu
export REDISCLI_AUTH="$REDIS_SENTINEL_PASSWORD"

case $1 in
  alive) [ -n "$(valkey-cli -h 127.0.0.1 -p 26379 ping 2>/dev/null)" ] ;;
  ready)
    case $(valkey-cli -h 127.0.0.1 -p 26379 sentinel ckquorum "$PRIMARY_NAME" 2>/dev/null) in
      OK*) ;;
      *) exit 1 ;;
    esac
    ;;
esac
