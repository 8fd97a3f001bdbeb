{{/* The name in the names of objects. */}}
{{- define "lakeingest.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The name of the operator's own objects. */}}
{{- define "lakeingest.operator" -}}
{{ include "lakeingest.fullname" . }}-operator
{{- end -}}

{{/* The Service through which the API server reaches the webhook. */}}
{{- define "lakeingest.webhook" -}}
{{ include "lakeingest.fullname" . }}-webhook
{{- end -}}

{{/* The Secret in which the operator keeps the webhook's authority. It is in no template: the operator makes it. */}}
{{- define "lakeingest.caSecret" -}}
{{ include "lakeingest.fullname" . }}-webhook-ca
{{- end -}}

{{/* The name of what belongs to the whole cluster: two releases in two namespaces do not share it. */}}
{{- define "lakeingest.clusterName" -}}
{{- if eq (include "lakeingest.fullname" .) .Release.Namespace -}}
{{ .Release.Namespace }}
{{- else -}}
{{ include "lakeingest.fullname" . }}-{{ .Release.Namespace }}
{{- end -}}
{{- end -}}

{{/* What selects the operator's pods. It must never change: a Deployment's selector is immutable. */}}
{{- define "lakeingest.selectorLabels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end -}}

{{/* The labels of every object. */}}
{{- define "lakeingest.labels" -}}
{{ include "lakeingest.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: lakeingest
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end -}}

{{/* An image by its digest, or by its tag. Takes a list: the image, the chart's appVersion. */}}
{{- define "lakeingest.image" -}}
{{- $image := index . 0 -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ default (index . 1) $image.tag }}
{{- end -}}
{{- end -}}
