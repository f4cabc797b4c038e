"""The program itself judges what the chart writes for it: `cosgate check-config` in the environment of each pod."""

import os
import subprocess
import tempfile
from pathlib import Path

import yaml

from chart import BUCKET, PRESETS, over

# As `cosgate hash-password` prints it.
HASH = "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$Kx4n0p0u7G4l0H2iBz5ZtY1y3v0m3u0y1n6c1xWq2bM"
USERS = f"- name: camera-7\n  password_hash: {HASH}\n"
KEYS = {"COSGATE_STORAGE__ACCESS_KEY_ID": "AKID", "COSGATE_STORAGE__SECRET_ACCESS_KEY": "secret",
        "COSGATE_HANDOVER__KEY": "0123456789abcdef0123456789abcdef"}


def check(cosgate, render, ordinal, without=()):
    """Exit code and output of check-config as in the pod of this ordinal."""
    pod = f"cosgate-{ordinal}"
    fields = {"metadata.name": pod, "metadata.namespace": "ftp",
              "metadata.uid": "0b5a6f1e-7c1d-4a55-9f3c-0d3a7d0c0001",
              "metadata.labels['apps.kubernetes.io/pod-index']": str(ordinal)}
    env = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443", "PATH": os.environ["PATH"]}
    for variable in render.env.values():
        source = variable.get("valueFrom", {})
        if "value" in variable:
            env[variable["name"]] = variable["value"]
        elif "fieldRef" in source:
            env[variable["name"]] = fields[source["fieldRef"]["fieldPath"]]
        elif variable["name"] in KEYS:
            env[variable["name"]] = KEYS[variable["name"]]
        else:
            assert source["secretKeyRef"]["optional"], variable
    with tempfile.TemporaryDirectory() as directory:
        # the pod's files, at another place
        mounts = {mount["name"]: Path(directory) / mount["mountPath"].lstrip("/") for mount in render.container["volumeMounts"]}
        for path in mounts.values():
            path.mkdir(parents=True)
        if "users" in mounts:
            (mounts["users"] / "users.yaml").write_text(USERS)
        if "tls" in mounts:
            certificate(mounts["tls"])
        file = mounts["config"] / "cosgate.yaml"
        for file_name, text in render.config_files.items():
            (mounts["config"] / file_name).write_text(text.replace("/etc/cosgate/", f"{directory}/etc/cosgate/"))
        for variable in without:
            del env[variable]
        command = [cosgate, "check-config", "--config", str(file)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=env, cwd=directory)
    return done.returncode, done.stdout + done.stderr


def certificate(directory):
    """A certificate and its key, as in a Secret of type kubernetes.io/tls."""
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
               "-subj", "/CN=ftp.example.com", "-addext", "subjectAltName=DNS:ftp.example.com",
               "-keyout", directory / "tls.key", "-out", directory / "tls.crt"]
    subprocess.run(command, check=True, capture_output=True, timeout=60)


def renders(helm):
    yield "defaults", helm.render(), 1
    for preset in PRESETS:
        render = helm.render(preset=preset)
        yield preset.stem, render, render.stateful_set["spec"]["replicas"]
    mounts = [{"path": "/archive", "bucket": "archive-1250000000", "permissions": "R"}, {"path": "/in", "home": "/in"}]
    everything = {
        "config": {
            "masquerade": {"internal_cidrs": ["10.0.0.0/8"]}, "active": {"enabled": True}, "tls": {"required": "all"},
            "sessions": {"max": 1000000},
        },
        "tls": {"existingSecret": "tls", "implicitPort": 990},
        "access": {"allow": ["10.0.0.0/8", "2001:db8::/32"], "deny": ["10.6.6.6"]},
        "secret": {"users": [{"name": "camera-7", "password_hash": HASH, "mounts": mounts}]},
    }
    yield "everything", helm.render(everything), 1


def test_the_program_accepts_what_the_chart_writes_in_every_pod(helm, cosgate):
    for preset, render, replicas in renders(helm):
        for ordinal in range(replicas):
            code, said = check(cosgate, render, ordinal)
            assert code == 0, f"{preset}, pod {ordinal}: {said}"
            assert f"passive.ports = {render.config['passive']['ports']}" in said, said


def test_a_pod_that_does_not_know_its_ordinal_or_has_no_slice_does_not_start(helm, cosgate):
    sharing = {"sharing": {"method": "tke", "key": "lb-6swtxxxx"}}
    render = helm.render(over(BUCKET, replicas=3, loadBalancer=sharing))
    identity = ["COSGATE_PASSIVE__ORDINAL", "COSGATE_KUBERNETES__POD_NAME"]
    code, said = check(cosgate, render, 0, without=identity)
    assert code == 64 and "ordinal" in said, said
    code, said = check(cosgate, render, 3)
    assert code == 64 and "slice" in said, said


def test_what_import_writes_is_taken_by_chart_and_program(helm, cosgate):
    conf = "\n".join([
        "[COS_ACCOUNT_0]", "cos_secretid = AKID0000", "cos_secretkey = secret0000", "cos_bucket = files-1250000000",
        "cos_region = ap-guangzhou", "home_dir = /home/a", "ftp_login_user_name = a", "ftp_login_user_password = p",
        "authority = RW", "[NETWORK]", "masquerade_address = 203.0.113.7", "listen_port = 2121", "passive_port = 30000,30015", ""])
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "vsftpd.conf"
        file.write_text(conf)
        command = [cosgate, "import", str(file), "--format", "helm-values", "--secrets-out", f"{directory}/secret.yaml"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        secret = yaml.safe_load(Path(f"{directory}/secret.yaml").read_text())
    values = yaml.safe_load(done.stdout)
    render = helm.render(values)
    assert values["existingSecret"] == secret["metadata"]["name"]
    # each variable of the Secret reaches the program, and its users are where the configuration says
    assert set(secret["stringData"]) - {"users.yaml"} <= set(render.env), set(secret["stringData"])
    assert render.config["users_file"].endswith("/users.yaml") and "users" in {m["name"] for m in render.container["volumeMounts"]}
    code, said = check(cosgate, render, 0)
    assert code == 0, said
