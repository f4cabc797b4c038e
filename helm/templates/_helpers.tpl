{{/* Names and labels */}}

{{- define "cosgate.name" -}}
{{- .Values.nameOverride | default .Chart.Name -}}
{{- end }}

{{- define "cosgate.fullname" -}}
{{- $chart := include "cosgate.name" . -}}
{{- $name := .Values.fullnameOverride | default (contains $chart .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $chart)) -}}
{{- /* pods and Services add an ordinal, and 63 characters is the limit of both */ -}}
{{- $name | trunc 50 | trimSuffix "-" -}}
{{- end }}

{{- define "cosgate.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (.Values.serviceAccount.create | ternary (include "cosgate.fullname" .) "default") -}}
{{- end }}

{{- define "cosgate.selectorLabels" -}}
app.kubernetes.io/name: {{ include "cosgate.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "cosgate.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "cosgate.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* What of the configuration a pod reads at its start only. The log's level is not among it: that follows the mounted file, and a
change of it must not replace pods. */}}
{{- define "cosgate.configAtStart" -}}
{{- $config := include "cosgate.config" . | fromYaml -}}
{{- with $config.log -}}
{{- $_ := unset . "level" -}}
{{- end -}}
{{- if not $config.log -}}
{{- $_ := unset $config "log" -}}
{{- end -}}
{{- toJson $config -}}
{{- end }}

{{/* The TCP port that an URL leads to; empty without an URL */}}
{{- define "cosgate.portOfUrl" -}}
{{- with . | toString -}}
{{- $authority := regexFind "^(https?|ldaps?|nats|tls)://[^/?#]*" . -}}
{{- if $authority -}}
{{- regexFind ":[0-9]+$" $authority | trimPrefix ":" | default (get (dict "https" "443" "http" "80" "ldaps" "636" "ldap" "389" "nats" "4222" "tls" "4222") (regexFind "^[a-z]+" $authority)) -}}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "cosgate.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end }}

{{/* The Secret with users and keys; empty if there is none */}}
{{- define "cosgate.secretName" -}}
{{- if .Values.existingSecret -}}
{{ .Values.existingSecret }}
{{- else if or .Values.secret.users .Values.secret.env -}}
{{ include "cosgate.fullname" . }}
{{- end -}}
{{- end }}

{{/* The Secret with the certificate; empty if there is none */}}
{{- define "cosgate.tlsSecretName" -}}
{{- if .Values.tls.existingSecret -}}
{{ .Values.tls.existingSecret }}
{{- else if .Values.tls.certManager.enabled -}}
{{ include "cosgate.fullname" . }}-tls
{{- end -}}
{{- end }}

{{/* The key of the Secret that holds the file of users; empty if there is none */}}
{{- define "cosgate.usersKey" -}}
{{- if .Values.existingSecret -}}
{{ .Values.secretKeys.users }}
{{- else if .Values.secret.users -}}
users.yaml
{{- end -}}
{{- end }}

{{/* Seconds of a duration as the gateway reads it, such as 90s or 1h 30m, rounded up */}}
{{- define "cosgate.seconds" -}}
{{- $text := . | toString -}}
{{- $units := dict "ms" 0.001 "s" 1 "sec" 1 "second" 1 "seconds" 1 "m" 60 "min" 60 "minute" 60 "minutes" 60 "h" 3600 "hr" 3600 "hour" 3600 "hours" 3600 "d" 86400 "day" 86400 "days" 86400 -}}
{{- if not (regexMatch "^ *([0-9]+ *[a-z]+ *)+$" $text) -}}
{{- fail (printf "config.drain.deadline = %s: write a time with its unit, such as 10m or 1h 30m" $text) -}}
{{- end -}}
{{- $total := 0.0 -}}
{{- range regexFindAll "[0-9]+ *[a-z]+" $text -1 -}}
{{- $unit := regexFind "[a-z]+" . -}}
{{- if not (hasKey $units $unit) -}}
{{- fail (printf "config.drain.deadline = %s: %s is no unit that the chart can add up; take ms, s, m, h or d" $text $unit) -}}
{{- end -}}
{{- $total = addf $total (mulf (regexFind "[0-9]+" . | float64) (get $units $unit)) -}}
{{- end -}}
{{- ceil $total | int -}}
{{- end }}

{{/* The port of the first address in `listen` style text or list: dict "key" ... "value" ... */}}
{{- define "cosgate.port" -}}
{{- $first := .value -}}
{{- if kindIs "slice" .value -}}
{{- $first = first .value -}}
{{- end -}}
{{- $first = $first | toString | splitList "," | first | trim -}}
{{- $port := regexFind ":[0-9]+$" $first | trimPrefix ":" | int -}}
{{- if or (lt $port 1024) (gt $port 65535) -}}
{{- fail (printf "%s = %s: give an address with a port from 1024 to 65535, since the pod has no rights for lower ones; the Service publishes it as another port" .key $first) -}}
{{- end -}}
{{- $port -}}
{{- end }}

{{/* Where `helm test` connects to: by default the first Service that has control and passive ports, else the first pod, from inside
the cluster */}}
{{- define "cosgate.testAddress" -}}
{{- $plan := include "cosgate.plan" . | fromJson -}}
{{- $name := include "cosgate.fullname" . -}}
{{- $implicit := eq .Values.test.tls "implicit" -}}
{{- if and $implicit (not $plan.implicit) -}}
{{- fail "test.tls is implicit, and tls.implicitPort is 0: set one of them to something else" -}}
{{- end -}}
{{- /* replicas that share an address: EPSV names no address, and the control Service has no passive ports. The pod has both. */ -}}
{{- if and (eq $plan.shape "shared") (not .Values.test.host) -}}
{{- printf "%s-0.%s-admin.%s.svc:%d" $name $name .Release.Namespace (int ($implicit | ternary $plan.implicit $plan.control)) -}}
{{- else -}}
{{- $host := .Values.test.host | default (printf "%s.%s.svc" (eq $plan.shape "perReplica" | ternary (printf "%s-0" $name) $name) .Release.Namespace) -}}
{{- printf "%s:%d" $host (int ($implicit | ternary .Values.tls.implicitPort .Values.service.port)) -}}
{{- end -}}
{{- end }}
