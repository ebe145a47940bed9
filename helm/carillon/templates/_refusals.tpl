{{/* Everything that is refused before anything is installed: one line each, with the value's name and what was expected. */}}

{{- define "carillon.refuse" -}}
{{- $lines := list -}}
{{- range list "image" "profile" "host" "tls" "settings" "service" "update" "grace" "connections" "secret" "loadTest" "living" -}}
{{- $lines = concat $lines (include (printf "carillon.refuse.%s" .) $ | splitList "\n") -}}
{{- end -}}
{{- with $lines | compact -}}
{{- printf "\n\ncarillon:\n  - %s\n" (join "\n  - " .) | fail -}}
{{- end -}}
{{- end -}}

{{- define "carillon.refuse.image" -}}
{{- if not .Values.image.repository }}
image.repository: no image is published yet, so it has to be said where yours is: `make push REGISTRY=registry.example.org/you` builds one, pushes it and says the name
{{- end }}
{{- end -}}

{{- define "carillon.refuse.profile" -}}
{{- if eq .Values.profile "production" }}
{{- range $value, $expected := dict
  "host" "the name under which people reach it"
  "tls.enabled" "true: people come by https"
  "secrets.existingSecret" "a Secret with the signing keys"
  "database.existingSecret" "a Secret with the URL of your PostgreSQL" }}
{{- if not (include "carillon.valueAt" (list $ $value)) }}
{{ $value }}: demanded by profile production: {{ $expected }}
{{- end }}
{{- end }}
{{- if not (or .Values.redis.sentinels .Values.redis.address) }}
redis.sentinels: demanded by profile production (or redis.address): `host:port` of each Sentinel of your Redis or Valkey
{{- end }}
{{- else if eq .Values.profile "demo" }}
{{- range $value := list "database.existingSecret" "redis.sentinels" "redis.address" "redis.existingSecret" "redis.tls.enabled" "redis.username" "redis.sentinelUsername" }}
{{- if include "carillon.valueAt" (list $ $value) }}
{{ $value }}: profile demo has stores of its own; yours go with `profile: production`
{{- end }}
{{- end }}
{{- end }}
{{- if and .Values.redis.sentinels .Values.redis.address }}
redis.address: expected nothing beside redis.sentinels: they say which Redis is the primary
{{- end }}
{{- if and .Values.redis.tls.caSecret (not .Values.redis.tls.enabled) }}
redis.tls.enabled: expected true, because redis.tls.caSecret says whom to trust
{{- end }}
{{- if and .Values.redis.sentinelPasswordKey (not .Values.redis.existingSecret) }}
redis.existingSecret: demanded by redis.sentinelPasswordKey: the Secret that has this key
{{- end }}
{{- end -}}

{{/* A value by its path, as text: empty for empty, `false` and nothing. Takes (list $ path). */}}
{{- define "carillon.valueAt" -}}
{{- $value := (index . 0).Values -}}
{{- range splitList "." (index . 1) }}{{ $value = get $value . }}{{ end -}}
{{- with $value }}{{ . }}{{ end -}}
{{- end -}}

{{- define "carillon.refuse.host" -}}
{{- $label := "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?" -}}
{{- if and .Values.host (or (not (regexMatch (printf `^(%s\.)*[a-z]([a-z0-9-]{0,61}[a-z0-9])?(:[0-9]{1,5})?$` $label) .Values.host)) (gt (regexFind ":[0-9]+$" .Values.host | trimPrefix ":" | atoi) 65535)) }}
host: expected a name in lower case, with a port where it is not the usual one, such as chat.example.org or chat.example.org:8443 (no scheme, no path, no address), got {{ .Values.host | quote }}
{{- end }}
{{- if .Values.httpRoute.enabled }}
{{- if not .Values.httpRoute.parentRefs }}
httpRoute.parentRefs: expected at least one gateway, such as [{name: public, namespace: gateways}]; none is guessed
{{- end }}
{{- if not .Values.host }}
host: demanded by httpRoute.enabled: the name under which people reach it
{{- end }}
{{- end }}
{{- end -}}

{{- define "carillon.refuse.tls" -}}
{{- if and .Values.tls.clusterIssuer .Values.tls.issuer }}
tls.issuer: expected nothing beside tls.clusterIssuer: one of them makes the certificate
{{- end }}
{{- if and (not .Values.tls.enabled) (or .Values.tls.clusterIssuer .Values.tls.issuer .Values.tls.secretName) }}
tls.enabled: expected true, because a certificate is named
{{- end }}
{{- if and (or .Values.tls.clusterIssuer .Values.tls.issuer .Values.tls.secretName) (not .Values.ingress.enabled) }}
ingress.enabled: expected true, because a certificate is named; with an HTTPRoute, the Gateway's listener has its own
{{- end }}
{{- end -}}

{{- define "carillon.refuse.settings" -}}
{{- $byChart := dict
  "ALLOWED_HOSTS" "host and extraHosts"
  "ALLOWED_ORIGINS" "host and extraOrigins"
  "CHANNEL_ENCRYPTION_KEYS" "secrets.channelEncryptionKeysKey"
  "DATABASE_POOL_SIZE" "database.poolSize"
  "DATABASE_URL" "database.existingSecret"
  "DATA_FOLDER" "" "ENVIRONMENT" "" "INTERNAL_HOST" "" "INTERNAL_PORT" "" "NODE_NAME" "" "NODE_PORT" ""
  "HTTPS" "tls.enabled"
  "PUBLIC_HOST" "" "PUBLIC_PORT" ""
  "REDIS_ADDRESS" "redis.address"
  "REDIS_PASSWORD" "redis.existingSecret"
  "REDIS_PREFIX" "redis.prefix"
  "REDIS_PRIMARY_NAME" "redis.primaryName"
  "REDIS_SENTINELS" "redis.sentinels"
  "REDIS_SENTINEL_PASSWORD" "redis.existingSecret"
  "REDIS_SENTINEL_USERNAME" "redis.sentinelUsername"
  "REDIS_TLS" "redis.tls.enabled"
  "REDIS_TLS_CA_FILE" "redis.tls.caSecret"
  "REDIS_USERNAME" "redis.username"
  "SECRET_KEYS" "secrets.existingSecret"
  "TRUSTED_PROXIES" "trustedProxies" -}}
{{- range $name := keys .Values.settings | sortAlpha }}
{{- if hasKey $byChart $name }}
settings.{{ $name }}: the chart sets it itself{{ with get $byChart $name }}, from {{ . }}{{ end }}
{{- end }}
{{- end }}
{{- /* Twice the same name in one list: Kubernetes takes it, and an update then forgets one of them. */ -}}
{{- range $component := list "node" "worker" }}
{{- range include "carillon.filledIn" (list $ (get $.Values $component).extraEnv) | fromYamlArray }}
{{- if and (kindIs "map" .) (or (hasKey $byChart .name) (hasKey $.Values.settings .name) (and (eq $.Values.profile "demo") (eq .name "PGPASSWORD"))) }}
{{ $component }}.extraEnv: {{ .name }} is set already{{ with get $byChart .name }}, from {{ . }}{{ else }}, by the chart or by settings{{ end }}
{{- else if and (kindIs "map" .) (has .name (list "SHUTDOWN_SECONDS" "DRAIN_SECONDS" "DRAIN_NOTICE_SECONDS")) }}
{{ $component }}.extraEnv: {{ .name }} belongs to settings: the grace period is computed from it
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "carillon.refuse.service" -}}
{{- if and .Values.service.nodePort (eq .Values.service.type "ClusterIP") }}
service.nodePort: expected service.type NodePort or LoadBalancer beside it, got ClusterIP
{{- end }}
{{- end -}}

{{- define "carillon.refuse.update" -}}
{{- $rolling := .Values.node.updateStrategy.rollingUpdate | default dict -}}
{{- $none := list "0" "0%" -}}
{{- if and (has (toString $rolling.maxUnavailable) $none) (has (toString $rolling.maxSurge) $none) }}
node.updateStrategy.rollingUpdate: expected one of maxSurge and maxUnavailable above 0: no node could be replaced
{{- end }}
{{- end -}}

{{- define "carillon.refuse.grace" -}}
{{- $needed := include "carillon.nodeLeaveSeconds" . | int -}}
{{- $given := include "carillon.nodeGraceSeconds" . | int -}}
{{- if lt $given $needed }}
node.terminationGracePeriodSeconds: expected {{ $needed }} or more (preStopSeconds + DRAIN_NOTICE_SECONDS + DRAIN_SECONDS + SHUTDOWN_SECONDS + 15), got {{ $given }}: the node would be killed while it hands its connections over
{{- end }}
{{- $needed = include "carillon.stopSeconds" . | int -}}
{{- $given = include "carillon.workerGraceSeconds" . | int -}}
{{- if lt $given $needed }}
worker.terminationGracePeriodSeconds: expected {{ $needed }} or more (SHUTDOWN_SECONDS + 15), got {{ $given }}: the worker would be killed amid a task
{{- end }}
{{- end -}}

{{- define "carillon.refuse.connections" -}}
{{- $nodes := add .Values.node.replicas (include "carillon.surge" .) | int -}}
{{- $workers := .Values.worker.replicas | int -}}
{{- if $workers }}{{ $workers = add1 $workers | int }}{{ end -}}
{{- $pool := max 1 (int .Values.database.poolSize) -}}
{{- /* The journal of each node has one of its own. `migrate` holds its turn with one and works with another. */ -}}
{{- $needed := add (mul (add $nodes $workers) $pool) $nodes (ternary 2 0 .Values.migrations.enabled) | int -}}
{{- if gt $needed (int .Values.database.maxConnections) }}
database.maxConnections: expected {{ $needed }} or more, got {{ int .Values.database.maxConnections }}: during an update there are {{ $nodes }} nodes and {{ $workers }} workers with database.poolSize {{ $pool }} each, one more in each node for the journal, and the migration
{{- end }}
{{- end -}}

{{- define "carillon.refuse.secret" -}}
{{- if and (include "carillon.generatesSecret" .) (or .Values.secrets.channelEncryptionKeysKey (ne .Values.secrets.secretKeysKey "SECRET_KEYS")) }}
secrets.existingSecret: demanded by secrets.{{ ternary "channelEncryptionKeysKey" "secretKeysKey" (ne .Values.secrets.channelEncryptionKeysKey "") }}: the generated Secret has no such key
{{- end }}
{{- if and (include "carillon.generatesSecret" .) (not (include "carillon.generatedSecretFound" .)) }}
{{- if .Release.IsUpgrade }}
secrets.existingSecret: demanded for this upgrade, because Secret {{ include "carillon.generatedSecretName" . }} cannot be looked up in namespace {{ .Release.Namespace }}, and a new one would not open what the old one locked. Tools that render without asking the cluster (GitOps) need a Secret of your own (docs/kubernetes.md#gitops)
{{- else if lookup "v1" "PersistentVolumeClaim" .Release.Namespace (printf "data-%s-postgresql-0" (include "carillon.fullname" .)) }}
secrets.existingSecret: the volumes of an earlier release are still there, but not the Secret {{ include "carillon.generatedSecretName" . }} that opens them. Name a Secret with its keys, or delete the volumes: kubectl -n {{ .Release.Namespace }} delete pvc -l {{ include "carillon.ownedSelector" . }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "carillon.refuse.loadTest" -}}
{{- if .Values.loadTest.enabled }}
{{- if and (eq .Values.loadTest.scenario "cross_node") (ne (toString .Values.settings.MARKERS_ALLOWED) "true") }}
settings.MARKERS_ALLOWED: demanded by loadTest.scenario cross_node: true, for as long as it is tested; whoever comes in may then say markers without a limit
{{- end }}
{{- if eq (toString .Values.settings.GUESTS_ALLOWED) "false" }}
settings.GUESTS_ALLOWED: demanded by loadTest.enabled: its users come in as guests
{{- end }}
{{- end }}
{{- end -}}

{{/* What a release of the other profile left running would be cut off from its data without a word. */}}
{{- define "carillon.refuse.living" -}}
{{- $living := lookup "apps/v1" "Deployment" .Release.Namespace (printf "%s-node" (include "carillon.fullname" .)) -}}
{{- $profile := dig "metadata" "annotations" "carillon/profile" .Values.profile $living -}}
{{- if ne $profile .Values.profile }}
profile: this release runs with {{ $profile }}, and its data does not move by itself; how to go from one to the other: docs/kubernetes.md#from-demo-to-production
{{- end }}
{{- end -}}
