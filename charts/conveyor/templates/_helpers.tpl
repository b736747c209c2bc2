{{/*
Beginning of all names: at most 40 characters, so that what is appended fits. A release may be called `123` or `my.app`; a
Service may not, so that where there are any (MinIO's, the exporter's), another beginning is asked for.
*/}}
{{- define "conveyor.fullname" -}}
{{- $name := default .Release.Name .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- $services := or (eq .Values.storage.kind "minio") .Values.metrics.enabled -}}
{{- $label := "[a-z0-9]([-a-z0-9]*[a-z0-9])?" -}}
{{- if and $services (not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" $name)) -}}
{{- fail (printf "no Service's name can begin with %q: set fullnameOverride to small letters, digits and '-', a letter first" $name) -}}
{{- else if not (regexMatch (printf "^%s(\\.%s)*$" $label $label) $name) -}}
{{- fail (printf "no name in Kubernetes can begin with %q: set fullnameOverride to small letters, digits and '-', a letter first" $name) -}}
{{- end -}}
{{- $name -}}
{{- end }}

{{/* Labels by which pods of one component are found. Arguments: root, component. */}}
{{- define "conveyor.selector" -}}
app.kubernetes.io/name: conveyor
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{/* Labels of an object. Arguments: root, component. */}}
{{- define "conveyor.labels" -}}
{{ include "conveyor.selector" . }}
app.kubernetes.io/part-of: conveyor
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end }}

{{/* Labels of a pod. Ours win over podLabels, as the policies go by them. Arguments: root, component. */}}
{{- define "conveyor.podLabels" -}}
{{- $own := include "conveyor.selector" . | fromYaml -}}
{{- $_ := set $own "app.kubernetes.io/part-of" "conveyor" -}}
{{- $_ := set $own "sidecar.istio.io/inject" "false" -}}
{{- toYaml (merge $own .root.Values.podLabels) -}}
{{- end }}

{{- define "conveyor.image" -}}
{{- if .digest -}}{{ .repository }}@{{ .digest }}{{- else -}}{{ .repository }}:{{ .tag }}{{- end -}}
{{- end }}

{{- define "conveyor.stepAccount" -}}
{{- default (printf "%s-step" (include "conveyor.fullname" .)) .Values.serviceAccounts.step.name -}}
{{- end }}

{{- define "conveyor.launcherAccount" -}}
{{- default (printf "%s-launcher" (include "conveyor.fullname" .)) .Values.serviceAccounts.launcher.name -}}
{{- end }}

{{- define "conveyor.storageAccount" -}}
{{- default (printf "%s-storage" (include "conveyor.fullname" .)) .Values.serviceAccounts.storage.name -}}
{{- end }}

{{/* Name of the Secret with the store's credentials; empty with pod identity. */}}
{{- define "conveyor.secret" -}}
{{- if and .Values.storage.podIdentity (eq .Values.storage.kind "minio") -}}
{{- fail "storage.podIdentity: for storage.kind external only: MinIO asks for keys, and the way to the cloud's identities would be open for nothing" -}}
{{- end -}}
{{- if .Values.storage.existingSecret -}}
{{ .Values.storage.existingSecret }}
{{- else if eq .Values.storage.kind "minio" -}}
{{ include "conveyor.fullname" . }}-store
{{- else if not .Values.storage.podIdentity -}}
{{- fail "storage.kind is external: set storage.existingSecret to a Secret with the keys access-key and secret-key, or storage.podIdentity to true" -}}
{{- end -}}
{{- end }}

{{/* "true" where a Job shall make the bucket. */}}
{{- define "conveyor.makesBucket" -}}
{{- if kindIs "bool" .Values.storage.bucket.create -}}
{{- if .Values.storage.bucket.create }}true{{ end -}}
{{- else if eq .Values.storage.kind "minio" -}}true
{{- end -}}
{{- end }}

{{/*
kube-score wants imagePullPolicy Always. Here a tag or digest names one build, a node that has it needs no registry to start
a pod, and a local cluster has no registry at all; image.pullPolicy changes it. (CPU limits, which it wants too, would only
slow pods down: it is run with --ignore-container-cpu-limit, and the values take limits where a quota asks for them.)
*/}}
{{- define "conveyor.pulledOnce" -}}
kube-score/ignore: container-image-pull-policy{{ with . }},{{ . }}{{ end }}
{{- end }}

{{/* TCP port of a store section's server. */}}
{{- define "conveyor.storePort" -}}
{{- $endpoint := default "https://aws" .endpoint -}}
{{- $host := (urlParse $endpoint).host -}}
{{- $port := regexFind ":[0-9]+$" $host | trimPrefix ":" -}}
{{- default (ternary "80" "443" (hasPrefix "http://" $endpoint)) $port -}}
{{- end }}

{{/* Addresses as a policy's peers. "Everybody" leaves out the link-local range, where clouds serve a node's own credentials. */}}
{{- define "conveyor.peers" -}}
{{- range . }}
{{- if eq . "0.0.0.0/0" }}
- ipBlock: {cidr: {{ . | quote }}, except: [169.254.0.0/16]}
{{- else if eq . "::/0" }}
- ipBlock: {cidr: {{ . | quote }}, except: ["fe80::/10", "fd00:ec2::/32"]}
{{- else }}
- ipBlock: {cidr: {{ . | quote }}}
{{- end }}
{{- end }}
{{- end }}

{{/*
One rule of a policy's `egress`: these ports at what `to` (cidrs, to) names. Nothing where it names nobody, or no port: a
rule without peers would be open to everybody, one without ports on all of them. Arguments: ports, to; optional: protocols.
*/}}
{{- define "conveyor.hole" -}}
{{- $protocols := default (list "TCP") .protocols -}}
{{- if and .ports (or .to.cidrs .to.to) -}}
- ports:
    {{- range $port := .ports }}
    {{- range $protocols }}
    - {port: {{ $port }}, protocol: {{ . }}}
    {{- end }}
    {{- end }}
  to:
    {{- include "conveyor.peers" .to.cidrs | nindent 4 }}
    {{- with .to.to }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}
{{- end }}

{{/*
Annotations of a Job that Helm waits for. Where it fails, its log is told (Helm 4; older ones keep the Job, so that
`kubectl logs` shows it). Arguments: when, weight.
*/}}
{{- define "conveyor.hook" -}}
{{ include "conveyor.pulledOnce" "" }}
helm.sh/hook: {{ .when }}
helm.sh/hook-weight: {{ .weight | quote }}
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
helm.sh/hook-output-log-policy: hook-failed
{{- end }}

{{/* podFailurePolicy of a Job that Helm waits for: what it said once (wrong settings, no answer for long) it would say again. */}}
{{- define "conveyor.failsAtOnce" -}}
rules:
  - {action: Ignore, onPodConditions: [{type: DisruptionTarget, status: "True"}]}
  - {action: FailJob, onExitCodes: {operator: In, values: [2, 3]}}
{{- end }}
