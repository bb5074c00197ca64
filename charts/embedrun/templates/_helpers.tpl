{{- define "embedrun.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 53 | trimSuffix "-" }}
{{- end }}

{{- define "embedrun.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 53 | trimSuffix "-" }}
{{- else if contains (include "embedrun.name" .) .Release.Name }}
{{- .Release.Name | trunc 53 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "embedrun.name" .) | trunc 53 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "embedrun.operator" -}}
{{- printf "%s-operator" (include "embedrun.fullname" .) }}
{{- end }}

{{- define "embedrun.selectorLabels" -}}
app.kubernetes.io/name: {{ include "embedrun.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end }}

{{- define "embedrun.labels" -}}
{{ include "embedrun.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "embedrun.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "embedrun.operator" .) .Values.serviceAccount.name }}
{{- else }}
{{- required "set serviceAccount.name: it is required if serviceAccount.create is false" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{/* An image reference; called with a dict of image and the chart's appVersion. */}}
{{- define "embedrun.image" -}}
{{- if .image.digest }}
{{- printf "%s@%s" .image.repository .image.digest }}
{{- else }}
{{- printf "%s:%s" .image.repository (default .appVersion .image.tag) }}
{{- end }}
{{- end }}
