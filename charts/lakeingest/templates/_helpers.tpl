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

{{/* Whether cert-manager makes the webhook's certificates; empty if the operator does. */}}
{{- define "lakeingest.hasCertManager" -}}
{{- if eq .Values.certificates.mode "cert-manager" -}}true{{- end -}}
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

{{/* The image of a sidecar whose LakeIngest names none. */}}
{{- define "lakeingest.sidecarImage" -}}
{{ include "lakeingest.image" (list .Values.sidecar.image .Chart.AppVersion) }}
{{- end -}}

{{/* Repositories from which a sidecar's image may be, as JSON. */}}
{{- define "lakeingest.allowedImages" -}}
{{ default (list .Values.sidecar.image.repository) .Values.sidecar.allowedImages | toJson }}
{{- end -}}

{{/* Namespaces in which no pod is ever injected, as JSON. */}}
{{- define "lakeingest.excludedNamespaces" -}}
{{ concat (list "kube-system" "kube-node-lease" .Release.Namespace) .Values.webhook.excludedNamespaces | uniq | toJson }}
{{- end -}}

{{/*
CEL: whether a sidecar may have the image `image`, by the rule of the operator: it is the one of the chart, or of an allowed
repository, which is its name without digest and tag; a colon before a slash is the registry's port.
*/}}
{{- define "lakeingest.celIsAllowedImage" -}}
image == {{ include "lakeingest.sidecarImage" . | toJson }} ||
[image.split('@')[0]].all(name,
  (name.lastIndexOf(':') > name.lastIndexOf('/') ? name.substring(0, name.lastIndexOf(':')) : name)
  in {{ include "lakeingest.allowedImages" . }})
{{- end -}}

{{/* The binding of the policy that has the same name. Takes a list: the top, the name, what is done with what breaks it. */}}
{{- define "lakeingest.policyBinding" -}}
{{- $top := index . 0 -}}
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata:
  name: {{ index . 1 }}
  labels:
    {{- include "lakeingest.labels" $top | nindent 4 }}
spec:
  policyName: {{ index . 1 }}
  validationActions: [{{ index . 2 }}]
{{- end -}}
