# shellcheck shell=sh
# Sourced by the other scripts: what they ask Valkey and the Sentinels. Decides nothing.
# VALKEYS and SENTINELS are the names of all pods of a kind, HOST is this one's. A password travels by environment
# only: arguments can be read by everybody on the machine.

say() { echo "$(date -u +%H:%M:%S) ${HOST%%.*}: $*" >&2; }

# quoted TEXT: as Valkey's files want it, whatever characters a password has. To be printed by printf: echo reads \n.
quoted() { printf '"%s"\n' "$(printf %s "$1" | sed 's/[\\"]/\\&/g')"; }

# ask_valkey HOST COMMAND...: one answer, a line for each of its parts. Fails without one.
ask_valkey() {
  asked=$1 && shift
  REDISCLI_AUTH=$REDIS_PASSWORD timeout 2 valkey-cli -e -h "$asked" -p 6379 "$@" 2>/dev/null
}

ask_sentinel() {
  asked=$1 && shift
  REDISCLI_AUTH=$REDIS_SENTINEL_PASSWORD timeout 2 valkey-cli -e -h "$asked" -p 26379 "$@" 2>/dev/null
}

# primary_at HOST: the primary by that Sentinel's word; `none` when it knows none yet, nothing when it is silent.
primary_at() {
  answer=$(ask_sentinel "$1" sentinel get-master-addr-by-name "$PRIMARY_NAME") || return 0
  answer=$(echo "$answer" | head -n 1)
  echo "${answer:-none}"
}

# role_of HOST: `master` or `slave`, the offset or the primary, …: the answer to ROLE, in one line.
role_of() { ask_valkey "$1" role | tr '\n' ' '; }

others() { # others HOSTS: all but this one
  for one in $1; do [ "$one" = "$HOST" ] || echo "$one"; done
}

failover_runs() {
  for sentinel in $SENTINELS; do
    if ask_sentinel "$sentinel" sentinel master "$PRIMARY_NAME" | grep -q failover_in_progress; then return 0; fi
  done
  return 1
}

# Never a second failover beside one that runs. A Sentinel refuses while it knows no replica to be relied on: up to
# 20 s after one has come back. So this is to be asked again and again.
ask_for_failover() {
  if failover_runs; then return; fi
  for sentinel in $SENTINELS; do
    if ask_sentinel "$sentinel" sentinel failover "$PRIMARY_NAME" >/dev/null; then return; fi
  done
}
