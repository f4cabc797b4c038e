"""What can't work is refused, with words that say what to change."""

from chart import BUCKET, Refused, over

LISTEN = {"listen": "0.0.0.0:2121", "admin": {"listen": "0.0.0.0:8080"}}
PER_REPLICA = {"addresses": "perReplica"}
TKE = {"sharing": {"method": "tke", "key": "lb-6swtxxxx"}}


def sharing(method, key=""):
    return {"sharing": {"method": method, "key": key}}


def config(**keys):
    return {"config": keys}


CASES = [
    # listeners
    (over(BUCKET, replicas=4, loadBalancer=TKE),
     "65 listeners, and loadBalancer.maxListeners is 50: lower passive.portsPerReplica to 12 or replicas, or set "
     "loadBalancer.addresses to perReplica"),
    (over(BUCKET, autoscaling={"enabled": True, "maxReplicas": 4}, loadBalancer=TKE),
     "lower passive.portsPerReplica to 12 or autoscaling.maxReplicas"),
    (over(BUCKET, replicas=3, loadBalancer=TKE, tls={"existingSecret": "tls", "implicitPort": 990}, passive={"portsPerReplica": 17}),
     "2 control and 51 passive ports (3 replicas of 17) are 53 listeners"),
    ({"passive": {"portsPerReplica": 50}}, "51 listeners, and loadBalancer.maxListeners is 50: lower passive.portsPerReplica to 49"),
    ({"passive": {"portsPerReplica": 100}, "loadBalancer": {"maxListeners": 0}}, "an EndpointSlice takes 100"),
    (over(BUCKET, replicas=25, handover={"enabled": True}),
     "(25 replicas of 2) are 51 listeners, and loadBalancer.maxListeners is 50: lower passive.portsPerReplica to 1 or replicas"),
    # how several replicas are reached
    (over(BUCKET, replicas=2), "set handover.enabled"),
    (over(BUCKET, replicas=2, handover={"enabled": True}, loadBalancer=PER_REPLICA), "handover.enabled is for replicas behind one address"),
    (over(BUCKET, replicas=2, handover={"enabled": True, "port": 8080}), "handover.port = 8080 is the port of"),
    (over(BUCKET, replicas=2, handover={"enabled": True, "port": 30001}), "port 30001 of handover.port is among the passive ports"),
    ({"replicas": 2, "handover": {"enabled": True}}, "replicas = 2 with the embedded store"),
    (config(handover={"peers": "x"}), "config.handover.peers is filled in by the chart"),
    (config(handover={"key": "hunter2"}), "put it into a Secret as COSGATE_HANDOVER__KEY"),
    (over(BUCKET, replicas=2), "say in loadBalancer.sharing.method how their Services share one address"),
    (over(BUCKET, replicas=2, loadBalancer=sharing("metallb")), "metallb shares an address among Services of different pods only with"),
    (over(BUCKET, replicas=2, loadBalancer=sharing("cilium")), "externalTrafficPolicy: Cluster"),
    (over(BUCKET, replicas=2, loadBalancer=sharing("tke")), "set loadBalancer.sharing.key to the id of your CLB"),
    (over(BUCKET, replicas=2, loadBalancer={**PER_REPLICA, **TKE}), "so nothing is shared"),
    (over(BUCKET, replicas=2, loadBalancer={**PER_REPLICA, "ip": "192.0.2.1"}), "loadBalancer.ip is one address"),
    (over(BUCKET, replicas=2, loadBalancer=PER_REPLICA, service={"type": "NodePort"}), "node ports are there once"),
    (over(BUCKET, replicas=2, loadBalancer=TKE, service={"type": "ClusterIP"}), "service.type is ClusterIP"),
    ({"replicas": 2, "loadBalancer": TKE}, "replicas = 2 with the embedded store"),
    ({"autoscaling": {"enabled": True}, "loadBalancer": TKE}, "autoscaling.maxReplicas = 3 with the embedded store"),
    (over(BUCKET, autoscaling={"enabled": True, "minReplicas": 4}, loadBalancer=TKE), "minReplicas is more than"),
    (config(events={"sinks": [{"name": "a", "url": "https://x", "token": "t"}]}), "put the whole list into existingSecret or secret.env"),
    # ranges, and what belongs to one shape or platform only
    ({"loadBalancer": {"portRange": "alibaba"}}, "set loadBalancer.class to alibabacloud.com/nlb"),
    ({"loadBalancer": {"portRange": "huawei"}}, "every port of the range leads to the first one"),
    ({"loadBalancer": {"portRange": "annotations"}, "service": {"type": "ClusterIP"}}, "only a cloud's balancer knows ranges"),
    (over(BUCKET, replicas=2, loadBalancer=TKE, tke={"passToTarget": True}), "set LoadBalancerPassToTarget on the CLB itself"),
    ({"service": {"perReplica": [{}]}}, "service.perReplica is for several replicas"),
    (over(BUCKET, replicas=2, loadBalancer=PER_REPLICA, service={"perReplica": [{}]}), "has 1 entries for 2 replicas"),
    ({"persistence": {"existingClaim": "mine"}}, "set it to true"),
    # ports
    ({"passive": {"firstPort": 65530}}, "the passive ports would be 65530-65545"),
    ({"passive": {"firstPort": 2115}}, "port 2121 of config.listen is among the passive ports 2115-2130"),
    ({"passive": {"firstPort": 8080}}, "port 8080 of config.admin.listen"),
    ({"service": {"port": 30003}}, "the public port 30003 is among the passive ports"),
    ({"tls": {"existingSecret": "tls", "implicitPort": 21}}, "service.port and tls.implicitPort are the same"),
    ({"tls": {"existingSecret": "tls", "implicitPort": 990, "implicitTargetPort": 2121}}, "need ports of their own"),
    ({"tls": {"implicitPort": 990}}, "tls.implicitPort is set without a certificate"),
    (config(listen="0.0.0.0:21"), "give an address with a port from 1024 to 65535"),
    (config(listen="nowhere"), "config.listen = nowhere"),
    (config(passive={"ports": "30015-30000"}), "ends before it begins"),
    (config(passive={"ports": "many"}), "config.passive.ports = many"),
    (over(BUCKET, replicas=3, loadBalancer=TKE, config={**BUCKET["config"], "passive": {"ports": "30000-30015"}}),
     "16 ports, which don't divide among 3 replicas; take a multiple of 3"),
    # probes
    (config(admin={"listen": "off"}), "kubelet's probes can't reach it"),
    (config(admin={"listen": "127.0.0.1:8080"}), "config.admin.listen = 127.0.0.1:8080"),
    (config(drain={"deadline": "600"}), "write a time with its unit"),
    (config(drain={"deadline": "2 fortnights"}), "fortnights is no unit"),
    # proxies
    (config(proxy_protocol={"masquerade": True}), "set config.proxy_protocol.trusted to the addresses of your proxies"),
    # what the chart fills in, and what is secret
    (config(passive={"slice_size": 4}), "config.passive.slice_size is filled in by the chart"),
    (config(kubernetes={"pod_name": "x"}), "config.kubernetes.pod_name is filled in by the chart"),
    (config(storage={"secret_access_key": "hunter2"}), "as COSGATE_STORAGE__SECRET_ACCESS_KEY"),
    (config(storage={"session_token": "hunter2"}), "as COSGATE_STORAGE__SESSION_TOKEN"),
    (config(auth={"http": {"token": "hunter2"}}), "as COSGATE_AUTH__HTTP__TOKEN"),
    (config(auth={"ldap": {"service_password": "hunter2"}}), "as COSGATE_AUTH__LDAP__SERVICE_PASSWORD"),
    (config(admin={"listen": "0.0.0.0:8080", "token": "hunter2"}), "as COSGATE_ADMIN__TOKEN"),
    (config(users=[{"name": "alice", "password_hash": "hunter2"}]), "put them into secret.users"),
    ({"existingSecret": "mine", "secret": {"env": {"COSGATE_STORAGE__ACCESS_KEY_ID": "x"}}}, "one of them, please"),
    ({"secret": {"env": {"COSGATE_STORAGE__ACCESS_KEY": "x"}}}, "is not in secretKeys.env"),
    ({"access": {"deny": ["192.0.2.1"]}, "config": {"access": {"file": "/x"}}}, "config.access.file is filled in by the chart"),
    ({"existingSecret": "mine", "config": {"users_file": "/x"}}, "config.users_file is filled in by the chart"),
    ({"tls": {"existingSecret": "tls", "certManager": {"enabled": True}}}, "both set"),
    ({"tls": {"certManager": {"enabled": True}}}, "set tls.certManager.issuerRef.name"),
    # monitoring, helm test
    ({"networkPolicy": {"enabled": True}, "monitoring": {"serviceMonitor": {"enabled": True}}}, "name it in networkPolicy.adminFrom"),
    ({"test": {"user": "probe"}}, "name the Secret with the password in test.passwordSecret.name"),
    ({"test": {"passwordSecret": {"name": "probe"}}}, "set test.user, too"),
    ({"test": {"tls": "implicit"}}, "test.tls is implicit, and tls.implicitPort is 0"),
    # the schema
    ({"traces": {"endpoint": "jaeger:4318"}}, "/traces/endpoint"),
    ({"monitoring": {"serviceMonitor": {"interval": "often"}}}, "/monitoring/serviceMonitor/interval"),
    ({"replica": 2}, "replica"),
    ({"service": {"type": "Loadbalancer"}}, "/service/type"),
    ({"passive": {"firstPort": 80}}, "/passive/firstPort"),
    ({"image": {"digest": "latest"}}, "/image/digest"),
    ({"secret": {"users": [{"name": "a", "password_hash": "x", "mounts": [{"path": "in"}]}]}}, "/secret/users/0/mounts/0/path"),
    ({"service": {"annotations": {"direct-access": True}}}, "/service/annotations/direct-access"),
]


def test_what_cannot_work_is_refused_with_its_remedy(helm):
    for values, words in CASES:
        if "config" in values:
            values = {**values, "config": {**LISTEN, **values["config"]}}
        try:
            helm.text(values)
        except Refused as refused:
            said = str(refused)
            assert " ".join(words.split()) in " ".join(said.split()), f"{values}: {said}"
            assert "hunter2" not in said, f"a secret is repeated: {said}"
        else:
            raise AssertionError(f"not refused: {values}")


def test_the_limits_themselves_are_taken(helm):
    for values in [
        {"passive": {"portsPerReplica": 49}},
        over(BUCKET, replicas=3, loadBalancer=TKE),
        over(BUCKET, replicas=7, loadBalancer={**TKE, "maxListeners": 0}),
        {"passive": {"portsPerReplica": 99}, "loadBalancer": {"maxListeners": 0}},
        {"passive": {"firstPort": 65520}},
        over(BUCKET, replicas=2, loadBalancer=PER_REPLICA, service={"type": "ClusterIP"}),
        {"replicas": 0},
    ]:
        helm.text(values)
