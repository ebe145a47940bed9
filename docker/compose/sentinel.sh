#!/bin/sh
# One of the three Sentinels. Two must agree that the primary is gone.
set -eu
. /carillon/primary.sh
umask 077
# The identity comes from the address: a Sentinel that starts anew must not count as a fourth one.
cat >/tmp/sentinel.conf <<END
port 26379
dir /tmp
requirepass $REDISCLI_AUTH
sentinel myid $(printf %s "$ADDRESS" | sha1sum | cut -c 1-40)
sentinel monitor carillon $primary 6379 2
sentinel auth-pass carillon $REDISCLI_AUTH
sentinel down-after-milliseconds carillon 3000
sentinel failover-timeout carillon 10000
END
exec valkey-sentinel /tmp/sentinel.conf
