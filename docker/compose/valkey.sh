#!/bin/sh
# One Valkey of the pair, as what the Sentinels say that it is. It keeps nothing on disk: the database is the truth.
set -eu
. /carillon/primary.sh
umask 077
cat >/tmp/valkey.conf <<END
dir /tmp
save ""
appendonly no
repl-diskless-sync-delay 0
# Valkey's own 32mb 8mb 60 cuts a node off that stalls for a moment under load.
client-output-buffer-limit pubsub 64mb 16mb 60
requirepass $REDISCLI_AUTH
primaryauth $REDISCLI_AUTH
END
[ "$primary" = "$ADDRESS" ] || echo "replicaof $primary 6379" >>/tmp/valkey.conf
exec valkey-server /tmp/valkey.conf
