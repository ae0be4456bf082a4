{{- define "granary.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "granary.fullname" -}}
{{- $name := include "granary.name" . }}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else if contains $name .Release.Name }}
{{- .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "granary.selectorLabels" -}}
app.kubernetes.io/name: {{ include "granary.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "granary.labels" -}}
{{ include "granary.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "granary.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "granary.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "granary.image" -}}
{{- if .Values.image.digest }}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) }}
{{- end }}
{{- end }}

{{- define "granary.publicUrl" -}}
{{- if .Values.publicUrl }}
{{- .Values.publicUrl }}
{{- else if and .Values.ingress.enabled .Values.ingress.hosts }}
{{- printf "%s://%s" (ternary "https" "http" (not (empty .Values.ingress.tls))) (index .Values.ingress.hosts 0) }}
{{- end }}
{{- end }}

{{/* The settings that are no secret, by name. What a value of its own sets cannot be set again in `settings`. */}}
{{- define "granary.settings" -}}
{{- $v := .Values }}
{{- $own := dict
  "server.listen" (printf "%s:5000" $v.listenHost)
  "server.metrics_listen" (printf "%s:5001" $v.listenHost)
  "server.drain_timeout" (printf "%ds" (int $v.drainTimeoutSeconds))
  "database.max_connections" (toString (int $v.database.maxConnections))
  "storage.kind" "s3"
  "storage.s3.region" $v.s3.region
  "storage.s3.bucket" $v.s3.bucket
  "storage.s3.path_style" (toString $v.s3.pathStyle)
  "storage.s3.redirect" (toString $v.s3.redirect)
  "storage.s3.presign_ttl" $v.s3.presignTtl
  "log.format" $v.log.format
  "log.level" $v.log.level
}}
{{- with include "granary.publicUrl" . }}{{ $_ := set $own "server.public_url" . }}{{ end }}
{{- with $v.trustedProxies }}{{ $_ := set $own "server.trusted_proxies" (join "," .) }}{{ end }}
{{- with $v.s3.endpoint }}{{ $_ := set $own "storage.s3.endpoint" . }}{{ end }}
{{- with $v.s3.publicEndpoint }}{{ $_ := set $own "storage.s3.public_endpoint" . }}{{ end }}
{{- with $v.s3.prefix }}{{ $_ := set $own "storage.s3.prefix" . }}{{ end }}
{{- if $v.s3.caConfigMap }}{{ $_ := set $own "storage.s3.ca_file" "/etc/granary/ca/ca.crt" }}{{ end }}
{{- if $v.auth.existingSecret }}{{ $_ := set $own "auth.key_file" "/etc/granary/auth/auth.key" }}{{ end }}
{{- if $v.tls.existingSecret }}
{{- $_ := set $own "server.tls_cert" "/etc/granary/tls/tls.crt" }}
{{- $_ := set $own "server.tls_key" "/etc/granary/tls/tls.key" }}
{{- end }}
{{- $secret := list "database.url" "redis.url" "storage.s3.access_key_id" "storage.s3.secret_access_key" }}
{{- $fixed := list "auth.key_file" "server.public_url" "server.trusted_proxies" "server.tls_cert" "server.tls_key" "storage.s3.endpoint" "storage.s3.public_endpoint" "storage.s3.prefix" "storage.s3.ca_file" }}
{{- range $name, $value := $v.settings }}
{{- if has $name $secret }}
{{- fail (printf "settings: %s is a secret: put it into a secret and name that in existingSecret" $name) }}
{{- else if or (hasKey $own $name) (has $name $fixed) }}
{{- fail (printf "settings: %s has a value of its own in this chart (see values.yaml)" $name) }}
{{- end }}
{{- $_ := set $own $name $value }}
{{- end }}
{{- toYaml $own }}
{{- end }}
