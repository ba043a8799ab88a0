{{/* What the components' files share. Each takes the root context, or a list of it and more. */}}

{{/* The name of the release's objects: the release's own, with the chart's behind it unless it is there already. */}}
{{- define "multivac.name" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains "multivac" .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-multivac" (.Release.Name | trunc 31 | trimSuffix "-") -}}
{{- end -}}
{{- end -}}

{{/* selector ROOT COMPONENT: what a component's pods are found by; it never changes. */}}
{{- define "multivac.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: multivac
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{/* labels ROOT COMPONENT: of an object. */}}
{{- define "multivac.labels" -}}
{{- $root := index . 0 -}}
{{ include "multivac.selector" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* image ROOT NAME: repository:tag@digest of .Values.images.NAME; tag and digest may each be absent. */}}
{{- define "multivac.image" -}}
{{- $root := index . 0 -}}
{{- $image := index $root.Values.images (index . 1) -}}
{{- $ours := has (index . 1) (list "api" "worker") -}}
{{- $registry := ternary $root.Values.images.registry "" $ours | trimSuffix "/" -}}
{{- $tag := $image.tag | default (ternary $root.Chart.AppVersion "" $ours) -}}
{{- with $registry }}{{ . }}/{{ end }}{{ $image.repository }}{{ with $tag }}:{{ . }}{{ end }}{{ with $image.digest }}@{{ . }}{{ end -}}
{{- end -}}

{{/* secret ROOT KEY: the name of .Values.secrets.KEY, or the one that scripts/setup.py --kubernetes gives it. */}}
{{- define "multivac.secret" -}}
{{- $root := index . 0 -}}
{{- $suffix := dict "edgeTls" "edge-tls" "edgeUsers" "edge-htpasswd" "app" "app" "redis" "redis" "mongo" "mongo" -}}
{{- index $root.Values.secrets (index . 1) | default (printf "%s-%s" (include "multivac.name" $root) (index $suffix (index . 1))) -}}
{{- end -}}

{{/* podSecurity USER: as the Pod Security standard `restricted` wants it. */}}
{{- define "multivac.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ . }}
runAsGroup: {{ . }}
fsGroup: {{ . }}
# Not at every start: a large volume takes minutes.
fsGroupChangePolicy: OnRootMismatch
seccompProfile: { type: RuntimeDefault }
{{- end -}}

{{- define "multivac.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: { drop: [ALL] }
{{- end -}}

{{/* podDefaults ROOT COMPONENT VALUES: for every pod; where it may run stands in .Values.VALUES. */}}
{{- define "multivac.podDefaults" -}}
{{- $root := index . 0 -}}
{{- $values := index $root.Values (index . 2) -}}
automountServiceAccountToken: false
# A Service `multivac-edge` would else set MULTIVAC_EDGE_PORT, which is read as a setting.
enableServiceLinks: false
{{- with $root.Values.images.pullSecrets }}
imagePullSecrets:
{{- range . }}
  - name: {{ . }}
{{- end }}
{{- end }}
{{- with $values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end -}}

{{/* spread ROOT COMPONENT LABEL: over hosts and zones, by LABEL, which tells one generation of pods from another. */}}
{{- define "multivac.spread" -}}
{{- $selector := include "multivac.selector" . -}}
{{- $label := index . 2 -}}
topologySpreadConstraints:
{{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{- $selector | nindent 8 }}
    matchLabelKeys: [{{ $label }}]
{{- end }}
{{- end -}}

{{/* servers ROOT: the environment by which both programs, and the backup, find Redis and MongoDB. */}}
{{- define "multivac.servers" -}}
- { name: REDIS_URL_FILE, value: /run/secrets/app/redis_url }
- { name: MONGO_URL_FILE, value: /run/secrets/app/mongo_url }
- { name: MULTIVAC_NAMESPACE, value: {{ .Values.namespace | quote }} }
- { name: MULTIVAC_PARTITIONS, value: {{ .Values.partitions | quote }} }
- { name: MULTIVAC_LOG_FORMAT, value: {{ .Values.logFormat | quote }} }
- { name: MULTIVAC_EXPECT_BACKUPS, value: {{ .Values.backup.enabled | quote }} }
{{- end -}}

{{/* environment MAP: settings by the names of their variables. */}}
{{- define "multivac.environment" -}}
{{- range $name, $value := . }}
- { name: {{ $name }}, value: {{ $value | toString | quote }} }
{{- end }}
{{- end -}}
