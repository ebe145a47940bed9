# Before a Valkey stops: if it is the primary, the other one becomes it first, so nobody waits for a time-out.
set -eu
. /scripts/known-primary.sh

is_primary() { ask_valkey "${POD_NAME##*-}" role | head -n 1 | grep -q '^master'; }

is_primary || exit 0
for number in 0 1 2; do
  if ask_sentinel $number sentinel failover carillon | grep -q '^OK'; then break; fi
done
waited=0
while is_primary && [ $waited -lt 20 ]; do
  sleep 1
  waited=$((waited + 1))
done
