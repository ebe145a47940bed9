#!/bin/sh
# Starts Valkey as what the others know it to be. Never makes a second primary: in doubt it waits and asks again.
set -eu
# shellcheck source=helm/carillon/files/valkey/ask.sh
. "${0%/*}/ask.sh"

# What at least two Sentinels say; nothing while no two agree.
agreed() {
  for sentinel in $SENTINELS; do primary_at "$sentinel"; done | sort | uniq -c | awk '$1 >= 2 {print $2; exit}'
}

# The one of the others that says of itself that it is the primary.
other_primary() {
  for valkey in $(others "$VALKEYS"); do
    case $(role_of "$valkey") in master*) echo "$valkey" && return ;; esac
  done
}

# Whether nobody else answers at all.
alone() {
  for valkey in $(others "$VALKEYS"); do
    if [ -n "$(role_of "$valkey")" ]; then return 1; fi
  done
}

# Whether another one has what this one had: it was connected to it, up to now.
has_heir() {
  for valkey in $(others "$VALKEYS"); do
    info=$(ask_valkey "$valkey" info replication | tr -d '\r') || continue
    case $info in *role:slave*master_link_status:up*) return 0 ;; esac
    # -1 is a replica that has never seen its primary: it has nothing.
    if echo "$info" | grep -q '^master_link_down_since_seconds:[0-9]'; then return 0; fi
  done
  return 1
}

start() { # start [PRIMARY]: as its replica, else as the primary
  umask 077
  {
    cat "${0%/*}/valkey.conf"
    echo "maxmemory $((MEMORY_LIMIT * 3 / 4))"
    printf 'requirepass %s\n' "$(quoted "$REDIS_PASSWORD")"
    printf 'masterauth %s\n' "$(quoted "$REDIS_PASSWORD")"
    echo "replica-announce-ip $HOST"
    if [ $# -gt 0 ]; then echo "replicaof $1 6379"; fi
  } >/run/valkey/valkey.conf
  say "starts as ${1:+replica of }${1:-primary}"
  exec valkey-server /run/valkey/valkey.conf
}

trap 'exit 0' TERM
rounds=0 sure=0 handing_over=0
while :; do
  may_lead=no
  primary=$(agreed)
  case $primary in
    "$HOST")
      # It was the primary and has come back with less than its replica has. The Sentinels may not even have missed
      # it: then they would let it empty the replica. So the replica takes over first.
      handing_over=$((handing_over + 1))
      if [ $handing_over -gt 40 ]; then say "nobody took over" && start; fi
      if has_heir; then
        ask_for_failover
      elif [ -z "$(other_primary)" ] && ! failover_runs; then
        may_lead=yes
      fi
      ;;
    none | '')
      peer=$(other_primary)
      if [ -n "$peer" ]; then start "$peer"; fi
      # Only the first pod, and only by the word of most Sentinels that they know of none.
      if [ "$primary" = none ] && [ "${HOST%%.*}" = "${VALKEYS%%.*}" ] && alone; then may_lead=yes; fi
      ;;
    *) start "$primary" ;;
  esac
  # Three times in a row: one that did not answer may have been slow, or about to ask the others itself.
  if [ $may_lead = yes ]; then sure=$((sure + 1)); else sure=0; fi
  if [ $sure -ge 3 ]; then start; fi
  if [ $((rounds % 10)) -eq 0 ]; then say "waits: the Sentinels agree on ${primary:-nobody}"; fi
  rounds=$((rounds + 1))
  sleep 1
done
