{{/* What the pods of the application have in common: node, worker, migration, test. */}}

{{/* A value that is YAML or the text of it, with its templates filled in. Takes (list $ value). */}}
{{- define "carillon.filledIn" -}}
{{- $value := index . 1 -}}
{{- tpl (kindIs "string" $value | ternary $value (toYaml $value)) (index . 0) -}}
{{- end -}}

{{/* The head of a pod's specification. Takes $. */}}
{{- define "carillon.podDefaults" -}}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext: {{- toYaml .Values.podSecurityContext | nindent 2 }}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ tpl . $ | quote }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* Where a pod may run. Takes (list $ values), values being `node` or `worker`. */}}
{{- define "carillon.placement" -}}
{{- $ := index . 0 -}}
{{- $values := index . 1 -}}
{{- range $field := list "nodeSelector" "tolerations" }}
{{- with get $values $field }}
{{ $field }}: {{- include "carillon.filledIn" (list $ .) | nindent 2 }}
{{- end }}
{{- end }}
{{- end -}}

{{/* The rest of a Deployment's pod specification. Takes (list $ component). */}}
{{- define "carillon.deploymentPlacement" -}}
{{- $ := index . 0 -}}
{{- $component := index . 1 -}}
{{- $values := get $.Values $component -}}
{{- include "carillon.placement" (list $ $values) }}
{{- with $values.affinity }}
affinity: {{- include "carillon.filledIn" (list $ .) | nindent 2 }}
{{- end }}
{{- with $values.priorityClassName }}
priorityClassName: {{ tpl . $ | quote }}
{{- end }}
topologySpreadConstraints:
{{- with $values.topologySpreadConstraints }}
  {{- include "carillon.filledIn" (list $ .) | nindent 2 }}
{{- else }}
  {{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: ScheduleAnyway
    # The pods of one revision are spread among themselves, whatever the old ones leave.
    matchLabelKeys: [pod-template-hash]
    labelSelector:
      matchLabels: {{- include "carillon.selectorLabels" (list $ $component) | nindent 8 }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* A container of the application: image, environment, what it may write. Takes (list $ values). */}}
{{- define "carillon.container" -}}
{{- $ := index . 0 -}}
{{- $values := index . 1 -}}
image: {{ include "carillon.image" $ | quote }}
imagePullPolicy: {{ include "carillon.imagePullPolicy" (list $.Values.image $.Chart.AppVersion) }}
securityContext: {{- toYaml $.Values.containerSecurityContext | nindent 2 }}
env:
  {{- include "carillon.env" $ | nindent 2 }}
  {{- with $values.extraEnv }}
  {{- include "carillon.filledIn" (list $ .) | nindent 2 }}
  {{- end }}
{{- with $values.extraEnvFrom }}
envFrom: {{- include "carillon.filledIn" (list $ .) | nindent 2 }}
{{- end }}
volumeMounts:
  - {name: tmp, mountPath: /tmp}
  {{- if $.Values.redis.tls.caSecret }}
  - {name: redis-ca, mountPath: /etc/carillon/redis-ca, readOnly: true}
  {{- end }}
  {{- with $values.extraVolumeMounts }}
  {{- include "carillon.filledIn" (list $ .) | nindent 2 }}
  {{- end }}
{{- end -}}

{{/* The volumes of such containers. Takes (list $ values). */}}
{{- define "carillon.volumes" -}}
{{- $ := index . 0 -}}
{{- $values := index . 1 -}}
# In memory, counted against the pod's limit: no slow disk may make a live process look dead.
- {name: tmp, emptyDir: {medium: Memory, sizeLimit: 64Mi}}
{{- if $.Values.redis.tls.caSecret }}
- {name: redis-ca, secret: {secretName: {{ tpl $.Values.redis.tls.caSecret $ | quote }}}}
{{- end }}
{{- with $values.extraVolumes }}
{{ include "carillon.filledIn" (list $ .) }}
{{- end }}
{{- end -}}

{{/* Waits until the embedded database is there and has every migration of this image. Takes (list $ values). */}}
{{- define "carillon.waitForMigrations" -}}
{{- $ := index . 0 -}}
- name: wait-for-migrations
  command: [python, -m, app.manage, migrate, --check, --wait, {{ $.Values.migrations.deadlineSeconds | quote }}]
  {{- include "carillon.container" . | nindent 2 }}
  resources: {{- toYaml $.Values.migrations.resources | nindent 4 }}
{{- end -}}

{{/* Changes when what a pod reads at its start only has changed. The text of the environment is part of the pod already. */}}
{{- define "carillon.podAnnotations" -}}
{{- $ := index . 0 -}}
{{- with include "carillon.secretsChecksum" $ }}
checksum/secrets: {{ . }}
{{- end }}
{{- with index . 1 }}
{{ include "carillon.filledIn" (list $ .) }}
{{- end }}
{{- end -}}

{{/* None of them asks whether Redis or the database is there: a failover must restart nobody.
     Takes the seconds without a sign of life after which a container starts anew. */}}
{{- define "carillon.probes" -}}
startupProbe:
  httpGet: {path: /readyz, port: internal}
  periodSeconds: 2
  timeoutSeconds: 3
  # Four minutes: on a machine that is busy with starting others, a restart would only make it worse.
  failureThreshold: 120
livenessProbe:
  httpGet: {path: /livez, port: internal}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: {{ div . 10 | max 1 }}
readinessProbe:
  httpGet: {path: /readyz, port: internal}
  periodSeconds: 5
  timeoutSeconds: 3
  failureThreshold: 2
{{- end -}}
