# Sourced by the two beside it. Sets `primary`: the address of the Valkey that the Sentinels call primary now. When none of
# them answers, it is the first one: so begins a first start, and one after all were down has nothing to remember.
primary=
for sentinel in $SENTINELS; do
  primary=$(timeout 2 valkey-cli -h "$sentinel" -p 26379 sentinel get-master-addr-by-name carillon 2>/dev/null | head -n 1) || true
  case $primary in *.*.*.*) break ;; *) primary= ;; esac
done
primary=${primary:-$FIRST_PRIMARY}
