#!/bin/sh
# Runs before Valkey is told to stop. If it is the primary, a replica takes over first: nobody waits for a time-out.
set -eu
# shellcheck source=helm/carillon/files/valkey/ask.sh
. "${0%/*}/ask.sh"

waited=0
while [ $waited -lt 40 ]; do
  case $(role_of "$HOST") in
    # The last one connected: there is nobody to hand over to.
    master*) ask_valkey "$HOST" info replication | grep -q '^slave[0-9]*:.*state=online' || exit 0 ;;
    *) exit 0 ;;
  esac
  ask_for_failover
  waited=$((waited + 1))
  sleep 1
done
