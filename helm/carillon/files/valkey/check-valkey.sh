#!/bin/sh
# check-valkey.sh alive | ready: it answers; and as a replica it has all that the primary has.
# One process and no limit of its own: how long it may take is the probe's to say.
set -eu
export REDISCLI_AUTH="$REDIS_PASSWORD"

case $1 in
  # Any answer, also that it is loading its data.
  alive) [ -n "$(valkey-cli -h 127.0.0.1 ping 2>/dev/null)" ] ;;
  ready)
    case $(valkey-cli -h 127.0.0.1 role 2>/dev/null) in
      # A replica says `connect`, `connecting`, `sync` on the way there.
      master* | slave*connected*) ;;
      *) exit 1 ;;
    esac
    ;;
esac
