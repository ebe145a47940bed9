{{/* What an Ingress needs beyond host and Service. */}}

{{/* Annotations as YAML: what long-lived connections need of the controller, and who makes the certificate. */}}
{{- define "carillon.ingressPreset" -}}
{{- if eq .Values.ingress.preset "nginx" }}
# Two controllers answer to this name. Ours pings every PING_SECONDS, so this matters to those who ping less often.
nginx.ingress.kubernetes.io/proxy-read-timeout: "3600"
nginx.ingress.kubernetes.io/proxy-send-timeout: "3600"
nginx.org/websocket-services: {{ include "carillon.fullname" . }}
nginx.org/proxy-read-timeout: 3600s
nginx.org/proxy-send-timeout: 3600s
{{- else if and (eq .Values.ingress.preset "traefik") .Values.tls.enabled }}
# WebSockets need nothing here. But only this makes the route one for https, and for nothing else.
traefik.ingress.kubernetes.io/router.tls: "true"
{{- end }}
{{- with .Values.tls.clusterIssuer }}
cert-manager.io/cluster-issuer: {{ . | quote }}
{{- end }}
{{- with .Values.tls.issuer }}
cert-manager.io/issuer: {{ . | quote }}
{{- end }}
{{- end -}}

{{/* Empty: the ingress controller's own certificate. */}}
{{- define "carillon.tlsSecretName" -}}
{{- if .Values.tls.secretName -}}
{{ tpl .Values.tls.secretName . }}
{{- else if or .Values.tls.clusterIssuer .Values.tls.issuer -}}
{{ include "carillon.fullname" . }}-tls
{{- end -}}
{{- end -}}
