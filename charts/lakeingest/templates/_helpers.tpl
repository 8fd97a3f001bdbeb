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

{{/* The Lease by which one operator of several leads. It is in no template: the operator makes it. */}}
{{- define "lakeingest.lease" -}}
{{ include "lakeingest.fullname" . }}-leader
{{- end -}}

{{/* Whether cert-manager makes the webhook's certificates; empty if the operator does. */}}
{{- define "lakeingest.hasCertManager" -}}
{{- if eq .Values.certificates.mode "cert-manager" -}}true{{- end -}}
{{- end -}}

{{/* Whether the operator makes the webhook's certificates; empty if somebody else does, or if there is no webhook. */}}
{{- define "lakeingest.makesCertificates" -}}
{{- if and (eq .Values.certificates.mode "operator") (not (include "lakeingest.injectsByPolicy" .)) -}}true{{- end -}}
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

{{/* Whether the API server injects by a policy of its own; empty if the operator's webhook does. */}}
{{- define "lakeingest.injectsByPolicy" -}}
{{- if eq .Values.injection.mode "policy" -}}true{{- end -}}
{{- end -}}

{{/* What a policy of pods looks at. Never an update: a pod that is older than the policy must lose its finalizers. */}}
{{- define "lakeingest.createdPods" -}}
matchPolicy: Equivalent
resourceRules:
  # Never an update: a pod that is older than the policy must lose its finalizers, and its Job be counted.
  - operations: [CREATE]
    apiGroups: [""]
    apiVersions: [v1]
    resources: [pods]
    scope: Namespaced
{{- end -}}

{{/* CEL: whether the pod names the LakeIngest that is the parameter. */}}
{{- define "lakeingest.celNamesParams" -}}
has(object.metadata.annotations) && 'lakeingest.io/inject' in object.metadata.annotations &&
object.metadata.annotations['lakeingest.io/inject'].trim() == params.metadata.name &&
params.metadata.name != 'true' && params.metadata.name != 'false'
{{- end -}}

{{/* CEL: whether the operator has rendered the LakeIngest that is the parameter, as it is now. */}}
{{- define "lakeingest.celIsReady" -}}
has(params.status) && has(params.status.observedGeneration) &&
params.status.observedGeneration == params.metadata.generation && has(params.status.conditions) &&
params.status.conditions.exists(found, found.type == 'Ready' && !(found.reason in ['InvalidSpec', 'ApplyFailed']))
{{- end -}}

{{/* CEL: whether no container but the sidecar declares a port of the LakeIngest that is the parameter. */}}
{{- define "lakeingest.celPortsAreFree" -}}
!(object.spec.containers + (has(object.spec.initContainers) ? object.spec.initContainers : [])).exists(found,
found.name != 'lakeingest' && has(found.ports) && found.ports.exists(port,
(!has(port.protocol) || port.protocol == 'TCP') &&
port.containerPort in [int(params.spec.sidecar.port), int(params.spec.sidecar.healthPort)]))
{{- end -}}

{{/* CEL: whether the pod wants of its sidecar what a policy cannot give. */}}
{{- define "lakeingest.celHasNoWishes" -}}
(!has(object.metadata.annotations) || !['lakeingest.io/resources', 'lakeingest.io/containers', 'lakeingest.io/port',
'lakeingest.io/health-port'].exists(wish, wish in object.metadata.annotations)) && !has(object.spec.resources)
{{- end -}}

{{/* CEL: whether the pod does not say that it runs on Windows. */}}
{{- define "lakeingest.celIsNotWindows" -}}
!(has(object.spec.os) && object.spec.os.name == 'windows') && !(has(object.spec.nodeSelector) &&
'kubernetes.io/os' in object.spec.nodeSelector && object.spec.nodeSelector['kubernetes.io/os'] == 'windows')
{{- end -}}

{{/* CEL: whether the LakeIngest that is the parameter is one that a policy can wire. */}}
{{- define "lakeingest.celCanBeWired" -}}
(!has(params.spec.storage.credentials) || params.spec.storage.credentials == null ||
!has(params.spec.storage.credentials.workloadIdentity) || params.spec.storage.credentials.workloadIdentity == null) &&
(!has(params.spec.sidecar.imagePullSecrets) || size(params.spec.sidecar.imagePullSecrets) == 0)
{{- end -}}

{{/* CEL: whether what has one of the sidecar's names is what the sidecar of the parameter has. */}}
{{- define "lakeingest.celHasNoStranger" -}}
(!has(object.spec.initContainers) || object.spec.initContainers.all(found, found.name != 'lakeingest' ||
(has(found.args) && found.args == ['serve'] && (!has(found.command) || size(found.command) == 0) && has(found.volumeMounts) &&
(!has(found.env) || found.env.all(own, !has(own.value) ||
(own.name == 'LAKEINGEST_PORT' ? own.value == string(int(params.spec.sidecar.port)) :
own.name == 'LAKEINGEST_HEALTH_PORT' ? own.value == string(int(params.spec.sidecar.healthPort)) : true))) &&
[['lakeingest-journal', '/var/lib/lakeingest/journal'], ['lakeingest-scratch', '/var/lib/lakeingest/scratch'],
['lakeingest-config', '/etc/lakeingest/config']].all(wanted, found.volumeMounts.exists(mount,
mount.name == wanted[0] && mount.mountPath == wanted[1]))))) &&
(!has(object.spec.volumes) || object.spec.volumes.all(found,
found.name in ['lakeingest-journal', 'lakeingest-scratch'] ? has(found.emptyDir) &&
(!has(found.emptyDir.medium) || found.emptyDir.medium == '') && has(found.emptyDir.sizeLimit) &&
quantity(string(found.emptyDir.sizeLimit)).compareTo(quantity(string(found.name == 'lakeingest-journal'
? params.spec.buffer.sizeLimit : params.spec.buffer.scratchSizeLimit))) == 0 :
found.name == 'lakeingest-config' ? has(found.projected) && has(found.projected.sources) &&
found.projected.sources.exists(source, has(source.configMap) && source.configMap.name == 'lakeingest-' + params.metadata.name) :
found.name == 'lakeingest-credentials' ? has(found.projected) && has(found.projected.sources) &&
has(params.spec.storage.credentials) && params.spec.storage.credentials != null &&
has(params.spec.storage.credentials.secretRef) && params.spec.storage.credentials.secretRef != null &&
found.projected.sources.exists(source, has(source.secret) &&
source.secret.name == params.spec.storage.credentials.secretRef.name) : true))
{{- end -}}

{{/* CEL: so many bytes (an expression) as a quantity, in the shortest form. */}}
{{- define "lakeingest.celBytes" -}}
>-
        {{- range list (list "Ti" 1099511627776) (list "T" 1000000000000) (list "Gi" 1073741824) (list "G" 1000000000) (list "Mi" 1048576) (list "M" 1000000) (list "Ki" 1024) (list "k" 1000) }}
        {{ $ }} % {{ index . 1 | int64 }} == 0 ? string({{ $ }} / {{ index . 1 | int64 }}) + '{{ index . 0 }}' :
        {{- end }}
        string({{ . }})
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

{{/* What leaves out the namespaces in which no pod is ever injected: requirements of a selector. */}}
{{- define "lakeingest.notExcluded" -}}
- key: kubernetes.io/metadata.name
  operator: NotIn
  values:
    {{- range (include "lakeingest.excludedNamespaces" . | fromJsonArray) }}
    - {{ . }}
    {{- end }}
{{- end -}}

{{/* What finds the namespaces that ask for sidecars in their pods: requirements of a selector. */}}
{{- define "lakeingest.askingNamespaces" -}}
- key: lakeingest.io/inject
  operator: Exists
- key: lakeingest.io/inject
  operator: NotIn
  values: ["false"]
{{- end -}}

{{/* An entry of the webhook, without whom it is for. Takes a list: the top, the name, the path. */}}
{{- define "lakeingest.webhookEntry" -}}
{{- $top := index . 0 -}}
name: {{ index . 1 }}
admissionReviewVersions: [v1]
clientConfig:
  # Whoever makes the certificates puts the authority's here.
  service:
    name: {{ include "lakeingest.webhook" $top }}
    namespace: {{ $top.Release.Namespace }}
    path: {{ index . 2 }}
    port: 443
rules:
  - operations: [CREATE]
    apiGroups: [""]
    apiVersions: [v1]
    resources: [pods]
    scope: Namespaced
failurePolicy: Fail
matchPolicy: Equivalent
reinvocationPolicy: IfNeeded
sideEffects: None
timeoutSeconds: 3
{{- end -}}
