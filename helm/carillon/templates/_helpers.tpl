{{/* Names, labels and what several objects share. What is refused stands in _refusals.tpl. */}}

{{- define "carillon.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* In front of every object's name. 40 characters, so that every suffix fits into 63. */}}
{{- define "carillon.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains (include "carillon.name" .) .Release.Name -}}
{{- .Release.Name | replace "." "-" | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "carillon.name" .) | replace "." "-" | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* What never changes over a release's life: selectors and volume claims. Takes (list $ component). */}}
{{- define "carillon.selectorLabels" -}}
{{- $ := index . 0 -}}
app.kubernetes.io/name: {{ include "carillon.name" $ }}
app.kubernetes.io/instance: {{ $.Release.Name | quote }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{- define "carillon.labels" -}}
{{- $ := index . 0 -}}
{{ include "carillon.selectorLabels" . }}
app.kubernetes.io/version: {{ include "carillon.version" $ | quote }}
app.kubernetes.io/part-of: carillon
app.kubernetes.io/managed-by: {{ $.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $.Chart.Name $.Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* Of a pod of the application: without the chart's version, which alone is no reason to replace a pod. */}}
{{- define "carillon.podLabels" -}}
{{ include "carillon.selectorLabels" . }}
app.kubernetes.io/version: {{ include "carillon.version" (index . 0) | quote }}
app.kubernetes.io/part-of: carillon
{{- end -}}

{{/* The image's tag as a label may have it; `1.2.3@sha256:…` is a tag with a digest behind it. */}}
{{- define "carillon.version" -}}
{{- .Values.image.tag | default .Chart.AppVersion | regexFind "^[^@]*" | replace "+" "_" | trunc 63 | regexFind "[A-Za-z0-9](.*[A-Za-z0-9])?" -}}
{{- end -}}

{{/* An image's reference; takes one of the `image` values and the tag that stands in for an empty one. A tag beside a
     digest is for people, and for tools that know an image by the whole of it. */}}
{{- define "carillon.imageReference" -}}
{{- $image := index . 0 -}}
{{- if $image.digest -}}
{{ $image.repository }}{{ with $image.tag }}:{{ . }}{{ end }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ $image.tag | default (index . 1) }}
{{- end -}}
{{- end -}}

{{/* Takes what imageReference takes. */}}
{{- define "carillon.imagePullPolicy" -}}
{{- $image := index . 0 -}}
{{- $latest := and (not $image.digest) (eq ($image.tag | default (index . 1)) "latest") -}}
{{- $image.pullPolicy | default (ternary "Always" "IfNotPresent" $latest) -}}
{{- end -}}

{{- define "carillon.image" -}}
{{- include "carillon.imageReference" (list .Values.image .Chart.AppVersion) -}}
{{- end -}}

{{/* The value `loadTest.image`, with what it takes from `image` where it is empty, as JSON. */}}
{{- define "carillon.loadImage" -}}
{{- $own := .Values.loadTest.image -}}
{{- dict
  "repository" ($own.repository | default (printf "%s-load" .Values.image.repository))
  "tag" ($own.tag | default (.Values.image.tag | regexFind "^[^@]*"))
  "digest" $own.digest
  "pullPolicy" ($own.pullPolicy | default .Values.image.pullPolicy) | toJson -}}
{{- end -}}

{{- define "carillon.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (ternary (include "carillon.fullname" .) "default" .Values.serviceAccount.create) -}}
{{- end -}}

{{/* `chat.example.org` of `chat.example.org:8443`. */}}
{{- define "carillon.hostname" -}}
{{- .Values.host | regexFind "^[^:]*" -}}
{{- end -}}

{{/* The Secret that the chart generates for `demo`, unless there is one of your own. */}}
{{- define "carillon.generatedSecretName" -}}
{{- include "carillon.fullname" . }}-generated
{{- end -}}

{{/* The Secret with the signing keys; for `demo` also with the passwords of its stores, POSTGRESQL_PASSWORD,
     REDIS_PASSWORD and REDIS_SENTINEL_PASSWORD. */}}
{{- define "carillon.secretName" -}}
{{- if .Values.secrets.existingSecret -}}
{{ tpl .Values.secrets.existingSecret . }}
{{- else -}}
{{ include "carillon.generatedSecretName" . }}
{{- end -}}
{{- end -}}

{{/* Seconds in which a process that was told to stop has ended: its own budget and gunicorn's allowance. */}}
{{- define "carillon.stopSeconds" -}}
{{- add (.Values.settings.SHUTDOWN_SECONDS | default 5 | float64 | ceil | int) 15 -}}
{{- end -}}

{{/* Seconds that a node needs to leave: it waits until nobody sends to it, lets its connections go, and stops. */}}
{{- define "carillon.nodeLeaveSeconds" -}}
{{- $drain := ternary .Values.settings.DRAIN_SECONDS 30 (hasKey .Values.settings "DRAIN_SECONDS") | float64 | ceil | int -}}
{{- $notice := .Values.settings.DRAIN_NOTICE_SECONDS | default 0 | float64 | ceil | int -}}
{{- add .Values.node.preStopSeconds $notice $drain (include "carillon.stopSeconds" .) -}}
{{- end -}}

{{/* Seconds that a pod has to leave: what was given, else what it needs. */}}
{{- define "carillon.nodeGraceSeconds" -}}
{{- kindIs "invalid" .Values.node.terminationGracePeriodSeconds | ternary (include "carillon.nodeLeaveSeconds" .) .Values.node.terminationGracePeriodSeconds -}}
{{- end -}}

{{- define "carillon.workerGraceSeconds" -}}
{{- kindIs "invalid" .Values.worker.terminationGracePeriodSeconds | ternary (include "carillon.stopSeconds" .) .Values.worker.terminationGracePeriodSeconds -}}
{{- end -}}

{{/* Nodes that an update may add for a while, rounded up as Kubernetes does. */}}
{{- define "carillon.surge" -}}
{{- $strategy := .Values.node.updateStrategy -}}
{{- $surge := dig "rollingUpdate" "maxSurge" "25%" $strategy | toString -}}
{{- if eq $strategy.type "Recreate" -}}
0
{{- else if hasSuffix "%" $surge -}}
{{- div (add (mul .Values.node.replicas (trimSuffix "%" $surge)) 99) 100 -}}
{{- else -}}
{{- $surge -}}
{{- end -}}
{{- end -}}

{{/* Nodes that `helm test` wants to see. */}}
{{- define "carillon.testNodes" -}}
{{- .Values.test.nodes | default (gt (int .Values.node.replicas) 1 | ternary 2 1) -}}
{{- end -}}

{{/* Finds what the release has made, and what it leaves behind. */}}
{{- define "carillon.ownedSelector" -}}
app.kubernetes.io/name={{ include "carillon.name" . }},app.kubernetes.io/instance={{ .Release.Name }}
{{- end -}}

{{/* One entry of `env` from a Secret; takes name, Secret, key. */}}
{{- define "carillon.secretEnv" -}}
- name: {{ index . 0 }}
  valueFrom:
    secretKeyRef: {name: {{ index . 1 | quote }}, key: {{ index . 2 | quote }}}
{{- end -}}

{{/* The environment of every process of the application: node, worker, migration, test. */}}
{{- define "carillon.env" -}}
- {name: ENVIRONMENT, value: production}
- name: NODE_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- {name: PUBLIC_HOST, value: "0.0.0.0"}
- {name: PUBLIC_PORT, value: "8000"}
- {name: INTERNAL_HOST, value: "0.0.0.0"}
- {name: INTERNAL_PORT, value: "9000"}
- {name: DATA_FOLDER, value: /tmp}
- {name: HTTPS, value: {{ .Values.tls.enabled | quote }}}
- {name: ALLOWED_HOSTS, value: {{ include "carillon.allowedHosts" . | quote }}}
- {name: ALLOWED_ORIGINS, value: {{ include "carillon.allowedOrigins" . | quote }}}
- {name: TRUSTED_PROXIES, value: {{ join "," .Values.trustedProxies | quote }}}
{{ include "carillon.secretEnv" (list "SECRET_KEYS" (include "carillon.secretName" .) .Values.secrets.secretKeysKey) }}
{{- with .Values.secrets.channelEncryptionKeysKey }}
{{ include "carillon.secretEnv" (list "CHANNEL_ENCRYPTION_KEYS" (include "carillon.secretName" $) .) }}
{{- end }}
{{ include "carillon.databaseEnv" . }}
{{ include "carillon.redisEnv" . }}
{{- if not (hasKey .Values.settings "LOG_FORMAT") }}
- {name: LOG_FORMAT, value: json}
{{- end }}
{{- range $name, $value := .Values.settings }}
- {name: {{ $name }}, value: {{ include "carillon.settingText" $value | quote }}}
{{- end }}
{{- end -}}

{{/* A setting as its variable has it. Whole numbers of values.yaml come as floats: 8388608 would read 8.388608e+06. */}}
{{- define "carillon.settingText" -}}
{{- if kindIs "slice" . -}}
{{- join "," . -}}
{{- else if and (kindIs "float64" .) (eq (floor .) .) -}}
{{- int64 . -}}
{{- else -}}
{{- . -}}
{{- end -}}
{{- end -}}

{{/* Without a host only a port-forward leads in, to localhost. */}}
{{- define "carillon.allowedHosts" -}}
{{- if .Values.host -}}
{{ prepend (.Values.extraHosts | default list) (include "carillon.hostname" .) | join "," }}
{{- else -}}
{{ concat (.Values.extraHosts | default list) (list "localhost" "127.0.0.1") | join "," }}
{{- end -}}
{{- end -}}

{{/* Under TLS the nodes see plain http: the page's own origin has to be named. Without, same host is same origin. */}}
{{- define "carillon.allowedOrigins" -}}
{{- if and .Values.host .Values.tls.enabled -}}
{{ prepend (.Values.extraOrigins | default list) (printf "https://%s" .Values.host) | join "," }}
{{- else -}}
{{ join "," .Values.extraOrigins }}
{{- end -}}
{{- end -}}

{{- define "carillon.databaseEnv" -}}
{{- if eq .Values.profile "demo" -}}
{{- /* The driver itself reads PGPASSWORD: in a URL a password of your own would have to be escaped. */ -}}
{{ include "carillon.secretEnv" (list "PGPASSWORD" (include "carillon.secretName" .) "POSTGRESQL_PASSWORD") }}
- {name: DATABASE_URL, value: "postgres://carillon@{{ include "carillon.fullname" . }}-postgresql:5432/carillon"}
{{- else -}}
{{ include "carillon.secretEnv" (list "DATABASE_URL" (tpl .Values.database.existingSecret .) .Values.database.urlKey) }}
{{- end }}
- {name: DATABASE_POOL_SIZE, value: {{ .Values.database.poolSize | quote }}}
{{- end -}}

{{- define "carillon.redisEnv" -}}
- {name: REDIS_PREFIX, value: {{ .Values.redis.prefix | default (printf "%s.%s:" .Release.Namespace (include "carillon.fullname" .)) | quote }}}
- {name: REDIS_PRIMARY_NAME, value: {{ .Values.redis.primaryName | quote }}}
{{- if eq .Values.profile "demo" }}
- {name: REDIS_SENTINELS, value: {{ include "carillon.embeddedSentinels" . | quote }}}
{{ include "carillon.secretEnv" (list "REDIS_PASSWORD" (include "carillon.secretName" .) "REDIS_PASSWORD") }}
{{ include "carillon.secretEnv" (list "REDIS_SENTINEL_PASSWORD" (include "carillon.secretName" .) "REDIS_SENTINEL_PASSWORD") }}
{{- else }}
- {name: REDIS_SENTINELS, value: {{ tpl (join "," .Values.redis.sentinels) . | quote }}}
- {name: REDIS_ADDRESS, value: {{ tpl .Values.redis.address . | quote }}}
- {name: REDIS_USERNAME, value: {{ .Values.redis.username | quote }}}
- {name: REDIS_SENTINEL_USERNAME, value: {{ .Values.redis.sentinelUsername | quote }}}
{{- if and .Values.redis.existingSecret .Values.redis.passwordKey }}
{{ include "carillon.secretEnv" (list "REDIS_PASSWORD" (tpl .Values.redis.existingSecret .) .Values.redis.passwordKey) }}
{{- end }}
{{- if and .Values.redis.existingSecret .Values.redis.sentinelPasswordKey }}
{{ include "carillon.secretEnv" (list "REDIS_SENTINEL_PASSWORD" (tpl .Values.redis.existingSecret .) .Values.redis.sentinelPasswordKey) }}
{{- end }}
- {name: REDIS_TLS, value: {{ .Values.redis.tls.enabled | quote }}}
{{- if .Values.redis.tls.caSecret }}
- {name: REDIS_TLS_CA_FILE, value: /etc/carillon/redis-ca/{{ .Values.redis.tls.caKey }}}
{{- end }}
{{- end }}
{{- end -}}

{{/* The Sentinels of `demo`, each by its own name. */}}
{{- define "carillon.embeddedSentinels" -}}
{{- $name := include "carillon.fullname" . -}}
{{- range $index := until 3 }}{{ if $index }},{{ end }}{{ printf "%s-sentinel-%d.%s-sentinel:26379" $name $index $name }}{{ end -}}
{{- end -}}
