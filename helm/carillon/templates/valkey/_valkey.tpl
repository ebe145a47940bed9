{{/* Valkey and its Sentinels. What they do at start and stop stands in files/valkey. */}}

{{/* Names of all pods of a kind, the first one first. Short ones, completed by the namespace's own search path: no
     cluster's domain has to be known. Takes (list $ component count). */}}
{{- define "carillon.valkeyHosts" -}}
{{- $service := printf "%s-%s" (include "carillon.fullname" (index . 0)) (index . 1) -}}
{{- range $ordinal := until (index . 2) }}{{ if $ordinal }} {{ end }}{{ printf "%s-%d.%s" $service $ordinal $service }}{{ end -}}
{{- end -}}

{{/* The files of a kind, as data of a ConfigMap. Takes (list $ component). */}}
{{- define "carillon.valkeyFiles" -}}
{{- $ := index . 0 -}}
{{- range $file := list "ask.sh" (printf "start-%s.sh" (index . 1)) (printf "check-%s.sh" (index . 1)) }}
{{ $file }}: |
  {{- $.Files.Get (printf "files/valkey/%s" $file) | nindent 2 }}
{{- end }}
{{- if eq (index . 1) "valkey" }}
stop-valkey.sh: |
  {{- $.Files.Get "files/valkey/stop-valkey.sh" | nindent 2 }}
valkey.conf: |
  {{- tpl ($.Files.Get "files/valkey/valkey.conf") $ | nindent 2 }}
{{- end }}
{{- end -}}

{{/* What its scripts want to know. Takes (list $ component). */}}
{{- define "carillon.valkeyEnv" -}}
{{- $ := index . 0 -}}
{{- $secret := include "carillon.secretName" $ -}}
- name: POD_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- {name: HOST, value: $(POD_NAME).{{ include "carillon.fullname" $ }}-{{ index . 1 }}}
- {name: VALKEYS, value: {{ include "carillon.valkeyHosts" (list $ "valkey" 2) | quote }}}
- {name: SENTINELS, value: {{ include "carillon.valkeyHosts" (list $ "sentinel" 3) | quote }}}
- {name: PRIMARY_NAME, value: {{ $.Values.redis.primaryName | quote }}}
{{ include "carillon.secretEnv" (list "REDIS_PASSWORD" $secret "REDIS_PASSWORD") }}
{{ include "carillon.secretEnv" (list "REDIS_SENTINEL_PASSWORD" $secret "REDIS_SENTINEL_PASSWORD") }}
{{- end -}}
