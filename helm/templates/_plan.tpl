{{/*
The plan: who listens where, worked out and checked in one place. JSON:

  shape      plain: one replica, one Service. handover: several replicas, one Service. shared: a control Service and a data Service
             per replica, on one address. perReplica: a Service per replica, each with an address of its own.
  slots      replicas that there are ports and Services for
  from, to   the first and the last passive port of all slots together
  slice      passive ports of one slot
  control, implicit, admin, handover    ports in the pod; implicit and handover 0 are off
  watch      whether a pod asks the API server for the address of its Service
  service    the Service that all pods watch; empty if each watches its own, or none
*/}}
{{- define "cosgate.plan" -}}
{{- $values := .Values -}}
{{- $config := $values.config -}}
{{- $passive := $config.passive | default dict -}}
{{- $kubernetes := $config.kubernetes | default dict -}}
{{- $storage := $config.storage | default dict -}}
{{- $slots := int $values.replicas -}}
{{- $many := "replicas" -}}
{{- if $values.autoscaling.enabled -}}
{{- $slots = int $values.autoscaling.maxReplicas -}}
{{- $many = "autoscaling.maxReplicas" -}}
{{- if gt (int $values.autoscaling.minReplicas) $slots -}}
{{- fail "autoscaling.minReplicas is more than autoscaling.maxReplicas" -}}
{{- end -}}
{{- end -}}
{{- /* with no replicas for a while, everything else stays as for one */ -}}
{{- $slots = max 1 $slots -}}
{{- $shape := eq $slots 1 | ternary "plain" $values.loadBalancer.addresses -}}
{{- if and (eq $shape "shared") $values.handover.enabled -}}
{{- $shape = "handover" -}}
{{- end -}}
{{- $method := $values.loadBalancer.sharing.method -}}

{{- /* what the chart owns, and what must not be readable in a ConfigMap */ -}}
{{- range $section, $keys := dict "passive" (list "slice_size" "ordinal") "kubernetes" (list "namespace" "pod_name") "handover" (list "listen" "peers") -}}
{{- range $keys -}}
{{- if hasKey (get $config $section | default dict) . -}}
{{- fail (printf "config.%s.%s is filled in by the chart; remove it" $section .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range list "secret_access_key" "session_token" -}}
{{- if hasKey $storage . -}}
{{- fail (printf "config.storage.%s would be readable in a ConfigMap; put it into existingSecret or secret.env as COSGATE_STORAGE__%s" . (upper .)) -}}
{{- end -}}
{{- end -}}
{{- range dig "events" "sinks" list $config -}}
{{- if .token -}}
{{- fail "config.events.sinks[].token would be readable in a ConfigMap; put the whole list into existingSecret or secret.env as COSGATE_EVENTS__SINKS, in JSON" -}}
{{- end -}}
{{- end -}}
{{- if dig "auth" "http" "token" "" $config -}}
{{- fail "config.auth.http.token would be readable in a ConfigMap; put it into existingSecret or secret.env as COSGATE_AUTH__HTTP__TOKEN" -}}
{{- end -}}
{{- if dig "auth" "ldap" "service_password" "" $config -}}
{{- fail "config.auth.ldap.service_password would be readable in a ConfigMap; put it into existingSecret or secret.env as COSGATE_AUTH__LDAP__SERVICE_PASSWORD" -}}
{{- end -}}
{{- if dig "admin" "token" "" $config -}}
{{- fail "config.admin.token would be readable in a ConfigMap; put it into existingSecret or secret.env as COSGATE_ADMIN__TOKEN" -}}
{{- end -}}
{{- if dig "handover" "key" "" $config -}}
{{- fail "config.handover.key would be readable in a ConfigMap; put it into a Secret as COSGATE_HANDOVER__KEY, and name that in handover.existingSecret" -}}
{{- end -}}
{{- if $config.users -}}
{{- fail "config.users would be readable in a ConfigMap, with the hashes of their passwords; put them into secret.users, or as users.yaml into existingSecret" -}}
{{- end -}}
{{- if and $values.existingSecret (or $values.secret.users $values.secret.env) -}}
{{- fail "existingSecret and secret are both set; one of them, please" -}}
{{- end -}}
{{- range keys $values.secret.env | sortAlpha -}}
{{- if not (has . $values.secretKeys.env) -}}
{{- fail (printf "secret.env.%s is not in secretKeys.env, so it would reach no pod; correct the name, or add it there" .) -}}
{{- end -}}
{{- end -}}
{{- if and (dig "access" "file" "" $config) (or $values.access.allow $values.access.deny) -}}
{{- fail "config.access.file is filled in by the chart where the values access.allow and access.deny say something; remove it, or write the lists into that file" -}}
{{- end -}}
{{- if and (include "cosgate.usersKey" .) $config.users_file -}}
{{- fail "config.users_file is filled in by the chart when a Secret holds users; remove it, or set secretKeys.users to \"\"" -}}
{{- end -}}

{{- if and (eq (dig "proxy_protocol" "masquerade" false $config | toString) "true") (not (dig "proxy_protocol" "trusted" "" $config)) -}}
{{- fail "config.proxy_protocol.masquerade takes the address from PROXY headers, and none is taken from anybody; set config.proxy_protocol.trusted to the addresses of your proxies" -}}
{{- end -}}

{{- /* ports */ -}}
{{- $control := include "cosgate.port" (dict "key" "config.listen" "value" $config.listen) | int -}}
{{- $adminListen := dig "admin" "listen" "" $config -}}
{{- if or (eq $adminListen "off") (hasPrefix "127." $adminListen) (hasPrefix "[::1]" $adminListen) -}}
{{- fail (printf "config.admin.listen = %s: kubelet's probes can't reach it; set 0.0.0.0:8080" $adminListen) -}}
{{- end -}}
{{- $admin := include "cosgate.port" (dict "key" "config.admin.listen" "value" $adminListen) | int -}}
{{- $implicit := gt (int $values.tls.implicitPort) 0 | ternary (int $values.tls.implicitTargetPort) 0 -}}
{{- if and $implicit (not (include "cosgate.tlsSecretName" .)) (not (dig "tls" "self_signed" false $config)) -}}
{{- fail "tls.implicitPort is set without a certificate; set tls.existingSecret or tls.certManager.enabled" -}}
{{- end -}}
{{- $from := int $values.passive.firstPort -}}
{{- /* with handover any port serves: two are enough for a client that asks for the next one while it is late with the last */ -}}
{{- $slice := int ($values.passive.portsPerReplica | default (eq $shape "handover" | ternary 2 16)) -}}
{{- $shares := has $shape (list "shared" "handover") | ternary $slots 1 -}}
{{- $handover := eq $shape "handover" | ternary (int $values.handover.port) 0 -}}
{{- if $passive.ports -}}
{{- $range := $passive.ports | toString -}}
{{- if not (regexMatch "^ *[0-9]+ *(- *[0-9]+ *)?$" $range) -}}
{{- fail (printf "config.passive.ports = %s: write a range such as 30000-30015" $range) -}}
{{- end -}}
{{- $ends := regexFindAll "[0-9]+" $range -1 -}}
{{- $from = first $ends | int -}}
{{- $count := sub (last $ends | int) $from | add1 | int -}}
{{- if lt $count 1 -}}
{{- fail (printf "config.passive.ports = %s: the range ends before it begins" $range) -}}
{{- end -}}
{{- if mod $count $shares -}}
{{- fail (printf "config.passive.ports = %s are %d ports, which don't divide among %d replicas; take a multiple of %d" $range $count $shares $shares) -}}
{{- end -}}
{{- $slice = div $count $shares | int -}}
{{- end -}}
{{- $total := mul $slice $shares | int -}}
{{- $to := add $from $total -1 | int -}}
{{- if gt $to 65535 -}}
{{- fail (printf "the passive ports would be %d-%d; ports end at 65535: lower passive.firstPort, passive.portsPerReplica or %s" $from $to $many) -}}
{{- end -}}
{{- range list (list "config.listen" $control) (list "config.admin.listen" $admin) (list "tls.implicitTargetPort" $implicit) (list "handover.port" $handover) -}}
{{- $port := index . 1 | int -}}
{{- if and (ge $port $from) (le $port $to) -}}
{{- fail (printf "port %d of %s is among the passive ports %d-%d; move one of them" $port (index . 0) $from $to) -}}
{{- end -}}
{{- end -}}
{{- if or (eq $control $admin) (eq $control $implicit) (eq $admin $implicit) -}}
{{- fail (printf "config.listen, config.admin.listen and tls.implicitTargetPort need ports of their own, not %d, %d and %d" $control $admin $implicit) -}}
{{- end -}}
{{- if and $handover (has $handover (list $control $admin $implicit)) -}}
{{- fail (printf "handover.port = %d is the port of config.listen, config.admin.listen or tls.implicitTargetPort; choose another one" $handover) -}}
{{- end -}}
{{- $public := list (int $values.service.port) -}}
{{- if $implicit -}}
{{- $public = append $public (int $values.tls.implicitPort) -}}
{{- end -}}
{{- if and $implicit (eq (index $public 0) (index $public 1)) -}}
{{- fail "service.port and tls.implicitPort are the same; change one of them" -}}
{{- end -}}
{{- range $public -}}
{{- if and (ge (int .) $from) (le (int .) $to) -}}
{{- fail (printf "the public port %d is among the passive ports %d-%d, which are published as they are; move one of them" (int .) $from $to) -}}
{{- end -}}
{{- end -}}

{{- /* what load balancers and Services take */ -}}
{{- $limit := int $values.loadBalancer.maxListeners -}}
{{- $range := $values.loadBalancer.portRange -}}
{{- if and $range (ne $values.service.type "LoadBalancer") -}}
{{- fail (printf "loadBalancer.portRange is %s, and service.type is %s: only a cloud's balancer knows ranges; remove it" $range $values.service.type) -}}
{{- end -}}
{{- if and (eq $range "huawei") (not (get $values.service.annotations "kubernetes.io/elb.pools-options")) -}}
{{- fail "loadBalancer.portRange is huawei: without full-port forwarding every port of the range leads to the first one. Set kubernetes.io/elb.pools-options with any_port_enabled in service.annotations (https://support.huaweicloud.com/usermanual-cce/cce_10_1180.html), and have the feature opened by a ticket" -}}
{{- end -}}
{{- if and (eq $range "alibaba") (ne $values.loadBalancer.class "alibabacloud.com/nlb") -}}
{{- fail "loadBalancer.portRange is alibaba: only an NLB listens on ranges; set loadBalancer.class to alibabacloud.com/nlb" -}}
{{- end -}}
{{- $services := eq $shape "shared" | ternary $slots 1 -}}
{{- $listeners := add (len $public) (empty $range | ternary $total $services) | int -}}
{{- if and (eq $values.service.type "LoadBalancer") (gt $limit 0) (gt $listeners $limit) -}}
{{- if eq $shape "shared" -}}
{{- fail (printf "%d control and %d passive ports (%d replicas of %d) are %d listeners, and loadBalancer.maxListeners is %d: lower passive.portsPerReplica to %d or %s, or set loadBalancer.addresses to perReplica" (len $public) $total $slots $slice $listeners $limit (div (sub $limit (len $public)) $slots) $many) -}}
{{- else if eq $shape "handover" -}}
{{- fail (printf "%d control and %d passive ports (%d replicas of %d) are %d listeners, and loadBalancer.maxListeners is %d: lower passive.portsPerReplica to %d or %s" (len $public) $total $slots $slice $listeners $limit (div (sub $limit (len $public)) $slots) $many) -}}
{{- else -}}
{{- fail (printf "%d control and %d passive ports are %d listeners, and loadBalancer.maxListeners is %d: lower passive.portsPerReplica to %d" (len $public) $total $listeners $limit (sub $limit (len $public))) -}}
{{- end -}}
{{- end -}}
{{- $ofOneService := eq $shape "shared" | ternary (empty $range | ternary $slice 1) $listeners -}}
{{- if gt (int $ofOneService) 100 -}}
{{- fail (printf "a Service would have %d ports, and an EndpointSlice takes 100: lower passive.portsPerReplica" (int $ofOneService)) -}}
{{- end -}}
{{- if and (gt $slots 1) (eq ($storage.provider | default "embedded") "embedded") -}}
{{- fail (printf "%s = %d with the embedded store, which keeps files in one pod: set config.storage.provider to s3 or cos" $many $slots) -}}
{{- end -}}
{{- if eq $shape "shared" -}}
{{- if ne $values.service.type "LoadBalancer" -}}
{{- fail (printf "several replicas share the address of a load balancer, and service.type is %s: set it to LoadBalancer, or %s to 1" $values.service.type $many) -}}
{{- end -}}
{{- if not $method -}}
{{- fail "several replicas: set handover.enabled, say in loadBalancer.sharing.method how their Services share one address (tke, cilium, metallb, annotations), or set loadBalancer.addresses to perReplica" -}}
{{- end -}}
{{- if and (has $method (list "metallb" "cilium")) (eq $values.service.externalTrafficPolicy "Local") -}}
{{- fail (printf "%s shares an address among Services of different pods only with service.externalTrafficPolicy: Cluster, since it announces an address and not a port; set that, or loadBalancer.addresses to perReplica" $method) -}}
{{- end -}}
{{- end -}}
{{- if and (eq $method "tke") (not (hasPrefix "lb-" $values.loadBalancer.sharing.key)) -}}
{{- fail "loadBalancer.sharing.method is tke: set loadBalancer.sharing.key to the id of your CLB, lb-..." -}}
{{- end -}}
{{- if and $values.tke.passToTarget (eq $method "tke") -}}
{{- fail "tke.passToTarget does not go with a CLB that exists already (loadBalancer.sharing.method: tke): set LoadBalancerPassToTarget on the CLB itself, by console or API, and remove the value" -}}
{{- end -}}
{{- if and $values.service.perReplica (ne $shape "perReplica") -}}
{{- fail "service.perReplica is for several replicas with loadBalancer.addresses: perReplica; remove it, or set those" -}}
{{- end -}}
{{- if and $values.persistence.existingClaim (not $values.persistence.enabled) -}}
{{- fail "persistence.existingClaim is set, and persistence.enabled is false: set it to true" -}}
{{- end -}}
{{- if eq $shape "perReplica" -}}
{{- if $values.handover.enabled -}}
{{- fail "handover.enabled is for replicas behind one address, and loadBalancer.addresses is perReplica; remove one of them" -}}
{{- end -}}
{{- if and $values.service.perReplica (lt (len $values.service.perReplica) $slots) -}}
{{- fail (printf "service.perReplica has %d entries for %d replicas: give each replica one, {} if it has nothing of its own" (len $values.service.perReplica) $slots) -}}
{{- end -}}
{{- if $method -}}
{{- fail "loadBalancer.addresses is perReplica, so nothing is shared; remove loadBalancer.sharing.method" -}}
{{- end -}}
{{- if $values.loadBalancer.ip -}}
{{- fail "loadBalancer.ip is one address, and loadBalancer.addresses is perReplica; remove one of them" -}}
{{- end -}}
{{- if eq $values.service.type "NodePort" -}}
{{- fail "service.type is NodePort, and node ports are there once for all replicas: set replicas to 1, or service.type to LoadBalancer" -}}
{{- end -}}
{{- if $kubernetes.service -}}
{{- fail "config.kubernetes.service is one Service, and loadBalancer.addresses is perReplica; remove one of them" -}}
{{- end -}}
{{- end -}}

{{- if and $values.networkPolicy.enabled $values.monitoring.serviceMonitor.enabled (not $values.networkPolicy.adminFrom) -}}
{{- fail "networkPolicy.enabled keeps Prometheus from the pods that monitoring.serviceMonitor.enabled sends it to; name it in networkPolicy.adminFrom, such as [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: monitoring}}}]" -}}
{{- end -}}
{{- if and $values.test.passwordSecret.name (not $values.test.user) -}}
{{- fail "test.passwordSecret.name is set without a user; set test.user, too" -}}
{{- end -}}

{{- /* where the address comes from */ -}}
{{- $own := and (eq $values.service.type "LoadBalancer") (not $config.masquerade_address) -}}
{{- $service := $kubernetes.service | default (and $own (ne $shape "perReplica") | ternary (include "cosgate.fullname" .) "") -}}
{{- $watch := or (ne $service "") (and $own (eq $shape "perReplica")) -}}
{{- dict "shape" $shape "slots" $slots "from" $from "to" $to "slice" $slice "control" $control "implicit" $implicit "admin" $admin "handover" $handover "watch" $watch "service" $service | toJson -}}
{{- end }}

{{/* The configuration file: what the user wrote and what follows from the plan */}}
{{- define "cosgate.config" -}}
{{- $plan := include "cosgate.plan" . | fromJson -}}
{{- $config := deepCopy .Values.config -}}
{{- $passive := deepCopy ($config.passive | default dict) -}}
{{- $from := int $plan.from -}}
{{- $_ := set $passive "ports" (eq $from (int $plan.to) | ternary (toString $from) (printf "%d-%d" $from (int $plan.to))) -}}
{{- if has $plan.shape (list "shared" "handover") -}}
{{- $_ := set $passive "slice_size" (int $plan.slice) -}}
{{- end -}}
{{- $_ := set $config "passive" $passive -}}
{{- if $plan.handover -}}
{{- /* on the addresses of the control port's family; pods find each other by the names that the headless Service gives them */ -}}
{{- $first := kindIs "slice" $config.listen | ternary $config.listen (list $config.listen) | first | toString | splitList "," | first | trim -}}
{{- $name := include "cosgate.fullname" . -}}
{{- $handover := deepCopy ($config.handover | default dict) -}}
{{- $_ := set $handover "listen" (regexReplaceAll ":[0-9]+$" $first (printf ":%d" (int $plan.handover))) -}}
{{- $_ := set $handover "peers" (printf "%s-{ordinal}.%s-admin.%s.svc" $name $name .Release.Namespace) -}}
{{- $_ := set $config "handover" $handover -}}
{{- end -}}
{{- if $plan.service -}}
{{- $_ := set $config "kubernetes" (merge (dict "service" $plan.service) ($config.kubernetes | default dict)) -}}
{{- end -}}
{{- $masquerade := deepCopy ($config.masquerade | default dict) -}}
{{- if not (or $plan.watch $config.masquerade_address $masquerade.mapping_file $masquerade.after_grace) -}}
{{- /* nothing will ever say an address: clients inside need none, and EPSV tells none */ -}}
{{- $_ := set $config "masquerade" (set $masquerade "after_grace" "serve") -}}
{{- end -}}
{{- $tls := deepCopy ($config.tls | default dict) -}}
{{- if include "cosgate.tlsSecretName" . -}}
{{- $_ := set $tls "cert" "/etc/cosgate/tls/tls.crt" -}}
{{- $_ := set $tls "key" "/etc/cosgate/tls/tls.key" -}}
{{- end -}}
{{- if $plan.implicit -}}
{{- $addresses := list -}}
{{- range kindIs "slice" $config.listen | ternary $config.listen (list $config.listen) -}}
{{- range splitList "," . -}}
{{- $addresses = append $addresses (regexReplaceAll ":[0-9]+ *$" (trim .) (printf ":%d" (int $plan.implicit))) -}}
{{- end -}}
{{- end -}}
{{- $_ := set $tls "implicit_listen" (join "," $addresses) -}}
{{- end -}}
{{- if $tls -}}
{{- $_ := set $config "tls" $tls -}}
{{- end -}}
{{- if not (dig "access" "file" "" $config) -}}
{{- $_ := set $config "access" (merge (dict "file" "/etc/cosgate/config/access.yaml") ($config.access | default dict)) -}}
{{- end -}}
{{- if include "cosgate.usersKey" . -}}
{{- $_ := set $config "users_file" "/etc/cosgate/users/users.yaml" -}}
{{- end -}}
{{- toYaml $config -}}
{{- end }}
