{{/* The Secret that the chart generates, and how pods come to know that a Secret has changed. */}}

{{/* Whether the chart generates one: never for `production`, never beside your own. */}}
{{- define "carillon.generatesSecret" -}}
{{- if and (eq .Values.profile "demo") (not .Values.secrets.existingSecret) }}true{{ end -}}
{{- end -}}

{{/* Whether the embedded stores leave volumes behind: as long as they do, the Secret that opens them stays too. */}}
{{- define "carillon.keepsVolumes" -}}
{{- if or .Values.postgresql.storage.enabled .Values.valkey.storage.enabled }}true{{ end -}}
{{- end -}}

{{- define "carillon.generatedSecretFound" -}}
{{- if lookup "v1" "Secret" .Release.Namespace (include "carillon.generatedSecretName" .) }}true{{ end -}}
{{- end -}}

{{/* Its data, as YAML: what is in the cluster, and random text for what is not. Drawn once for all who ask. */}}
{{- define "carillon.generatedData" -}}
{{- $drawn := printf "drawn for %s" (include "carillon.fullname" .) -}}
{{- if not (hasKey .Release $drawn) -}}
{{- $found := (lookup "v1" "Secret" .Release.Namespace (include "carillon.generatedSecretName" .)).data | default dict -}}
{{- $data := dict -}}
{{- range list "SECRET_KEYS" "POSTGRESQL_PASSWORD" "REDIS_PASSWORD" "REDIS_SENTINEL_PASSWORD" -}}
{{- $_ := set $data . (get $found . | default (randAlphaNum 50 | b64enc)) -}}
{{- end -}}
{{- $_ := set .Release $drawn $data -}}
{{- end -}}
{{- get .Release $drawn | toYaml -}}
{{- end -}}

{{/* Of the generated Secret's data; of your own Secrets only what version the cluster has, so that nothing of them
     shows. Empty where no cluster can be asked. */}}
{{- define "carillon.secretsChecksum" -}}
{{- if include "carillon.generatesSecret" . -}}
{{- include "carillon.generatedData" . | sha256sum -}}
{{- else -}}
{{- $versions := list -}}
{{- range list .Values.secrets.existingSecret .Values.database.existingSecret .Values.redis.existingSecret .Values.redis.tls.caSecret | compact -}}
{{- with lookup "v1" "Secret" $.Release.Namespace (tpl . $) -}}
{{- $versions = append $versions .metadata.resourceVersion -}}
{{- end -}}
{{- end -}}
{{- with $versions }}{{ join "," . | sha256sum }}{{ end -}}
{{- end -}}
{{- end -}}
