# Sourced: how a Valkey or a Sentinel that starts learns who is the primary. Decides nothing itself.

valkey_host() { echo "valkey-$1.valkey.$NAMESPACE.svc"; }
sentinel_host() { echo "sentinel-$1.sentinel.$NAMESPACE.svc"; }

ask_sentinel() { # ask_sentinel NUMBER COMMAND...
  host=$(sentinel_host "$1") && shift
  REDISCLI_AUTH=$REDIS_SENTINEL_PASSWORD timeout 2 valkey-cli -h "$host" -p 26379 "$@" 2>/dev/null
}

ask_valkey() { # ask_valkey NUMBER COMMAND...
  host=$(valkey_host "$1") && shift
  REDISCLI_AUTH=$REDIS_PASSWORD timeout 2 valkey-cli -h "$host" "$@" 2>/dev/null
}

# The host that most Sentinels name; without any, the Valkey that says so of itself; else nothing.
known_primary() {
  named=$(for number in 0 1 2; do ask_sentinel $number sentinel get-master-addr-by-name carillon | head -n 1; done |
    grep '^valkey-' | sort | uniq -c | sort -rn | awk 'NR == 1 {print $2}')
  if [ -n "$named" ]; then
    echo "$named"
    return
  fi
  for number in 0 1; do
    if [ "valkey-$number" != "$POD_NAME" ] && ask_valkey $number role | head -n 1 | grep -q '^master'; then
      valkey_host $number
      return
    fi
  done
}
