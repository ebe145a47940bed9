{{/* What the embedded stores of `demo` have in common: PostgreSQL, Valkey, Sentinel. */}}

{{/* A store's pod: it is replaced when its own content changes, never because the application has a new version. */}}
{{- define "carillon.storePodLabels" -}}
{{ include "carillon.selectorLabels" . }}
app.kubernetes.io/part-of: carillon
{{- end -}}

{{/* The head of its specification. No ServiceAccount of the application: what a cloud ties to that is none of its business. */}}
{{- define "carillon.storePodDefaults" -}}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ tpl . $ }}
  {{- end }}
{{- end }}
securityContext:
  runAsNonRoot: true
  # By this number the official images of PostgreSQL and Valkey know their own user.
  runAsUser: 999
  runAsGroup: 999
  fsGroup: 999
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "carillon.storeSecurityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{/* Its image. Takes one of the `image` values. */}}
{{- define "carillon.storeImage" -}}
image: {{ include "carillon.imageReference" (list . "") | quote }}
imagePullPolicy: {{ include "carillon.imagePullPolicy" (list . "") }}
{{- end -}}

{{/* Apart from each other, where there is room. Takes (list $ component). */}}
{{- define "carillon.storeSpread" -}}
{{- range $key := list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
- maxSkew: 1
  topologyKey: {{ $key }}
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels: {{- include "carillon.selectorLabels" $ | nindent 6 }}
{{- end }}
{{- end -}}

{{/* What makes a StatefulSet's volume claims; these can never be changed. Takes (list $ component storage). */}}
{{- define "carillon.storeClaims" -}}
{{- $storage := index . 2 -}}
# Whoever deletes a release or scales it down does not mean the data.
persistentVolumeClaimRetentionPolicy: {whenDeleted: Retain, whenScaled: Retain}
{{- if $storage.enabled }}
volumeClaimTemplates:
  - metadata:
      name: data
      labels: {{- include "carillon.selectorLabels" (list (index . 0) (index . 1)) | nindent 8 }}
    spec:
      accessModes: [ReadWriteOnce]
      {{- with $storage.className }}
      storageClassName: {{ . | quote }}
      {{- end }}
      resources:
        requests:
          storage: {{ $storage.size }}
{{- end }}
{{- end -}}

{{/* Pods of this release, as `from` or `to` of a policy. Takes (list $ component...). */}}
{{- define "carillon.podsOf" -}}
- podSelector:
    matchLabels:
      app.kubernetes.io/name: {{ include "carillon.name" (first .) }}
      app.kubernetes.io/instance: {{ (first .).Release.Name | quote }}
    matchExpressions:
      - {key: app.kubernetes.io/component, operator: In, values: [{{ rest . | join ", " }}]}
{{- end -}}
