"""What deploy/check.sh asserts about the files here, beyond that they parse.

check.py files                      the Dockerfile, the versions, the metrics named by the rules and the dashboard
check.py chart FILE SECRETS         a rendered chart; SECRETS are the names its containers must take secrets from, with commas
check.py compose FILE [SECRET]      a rendered compose file, as JSON, without its profiles; with SECRET, the accounts' key, there are accounts
check.py expressions                the dashboard's expressions as a file of rules, for promtool
"""

import json
import re
import sys
import tomllib
from pathlib import Path

import yaml

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
RULES = HERE / "prometheus" / "granary.rules.yaml"
DASHBOARD = HERE / "grafana" / "granary.json"

# Settings that hold secrets: never as plain text in anything rendered from the chart.
SECRET_SETTINGS = {
    "GRANARY_DATABASE__URL",
    "GRANARY_REDIS__URL",
    "GRANARY_STORAGE__S3__ACCESS_KEY_ID",
    "GRANARY_STORAGE__S3__SECRET_ACCESS_KEY",
}

# Settings that name a file with a secret in it.
SECRET_FILES = {"GRANARY_AUTH__KEY_FILE", "GRANARY_SERVER__TLS_KEY"}

problems = []


def check(good, what):
    if not good:
        problems.append(what)


def rust_files():
    for folder in [ROOT / "registry-server" / "src", *sorted((ROOT / "crates").glob("*/src"))]:
        for file in sorted(folder.rglob("*.rs")):
            if file.name != "tests.rs":
                yield file.read_text().split("#[cfg(test)]")[0]


# --- settings ---


# Keys of the back ends that are being built. Until keys.rs has them they count as known.
AGREED = {"database.max_connections", "redis.url"} | {
    f"storage.s3.{key}"
    for key in "endpoint public_endpoint region bucket prefix access_key_id secret_access_key path_style redirect presign_ttl ca_file".split()
}


def settings():
    text = (ROOT / "registry-server/src/config/keys.rs").read_text()
    keys = set(re.findall(r'key\(\s*"([a-z0-9_.]+)"', text))
    return keys if "storage.s3.bucket" in keys else keys | AGREED


def check_environment(where, names):
    known = {"GRANARY_" + key.replace(".", "__").upper() for key in settings()}
    for name in names:
        check(name in known, f"{where}: {name} is not a setting (registry-server/src/config/keys.rs)")


# --- metrics ---

SUFFIXES = {"Counter": ["_total"], "Gauge": [""], "Histogram": ["_bucket", "_sum", "_count"]}
WORDS = {"and", "or", "unless", "bool", "offset", "atan2"}


class Metrics:
    """What the sources register: names as Prometheus sees them, labels, and routes."""

    def __init__(self):
        self.names, self.labels, self.routes = {"up"}, {"job", "instance", "le"}, set()
        for text in rust_files():
            self.routes |= set(re.findall(r'(?:=> |resource\((?:app|scope), )"(/[^"\s]*)"', text))
            if "prometheus_client" in text:
                self.read(text)
        check(len(self.names) > 10 and len(self.routes) > 5, "the metrics cannot be found in the sources")

    def read(self, text):
        self.labels |= set(re.findall(r'\("(http_[a-z_]+|operation|outcome)",', text))
        for found in re.finditer(r'"((?:http_server|granary|process)_[a-z0-9_]+)"', text):
            kind = re.search(r"MetricType::(\w+)", text[found.end() :])
            kinds = [kind.group(1)] if kind and kind.group(1) in SUFFIXES else list(SUFFIXES)
            self.names |= {found.group(1) + suffix for kind in kinds for suffix in SUFFIXES[kind]}

    def check(self, where, expression):
        for matchers in re.findall(r"\{((?:[^{}\"]|\"[^\"]*\")*)\}", expression):
            for label, operator, value in re.findall(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"', matchers):
                check(label in self.labels, f"{where}: nothing has the label {label}")
                if label == "http_route":
                    self.check_route(where, operator, value)
        rest = re.sub(r'"[^"]*"', "", expression)
        rest = re.sub(r"\{[^{}]*\}|\[[^\]]*\]", "", rest)
        rest = re.sub(r"\b(by|on|without|ignoring|group_left|group_right)\s*\([^)]*\)", "", rest)
        for name in re.findall(r"(?<![\w.])([a-zA-Z_:][\w:]*)\b(?!\s*\()", rest):
            check(name in self.names or name in WORDS, f"{where}: Granary has no metric {name}")

    def check_route(self, where, operator, value):
        exact = operator in ("=", "!=")
        matches = value in self.routes if exact else any(re.fullmatch(value, route) for route in self.routes)
        check(matches, f"{where}: no route is {value}")


def dashboard_expressions():
    dashboard = json.loads(DASHBOARD.read_text())
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"]
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["name"], re.sub(r"^label_values\((.*), \w+\)$", r"\1", variable["query"]["query"])


def plain(expression):
    return expression.replace("$__rate_interval", "5m").replace("$job", "granary").replace("$instance", ".*")


def check_files():
    metrics = Metrics()
    book = (ROOT / "docs/OPERATIONS.md").read_text()
    tests = RULES.with_name("granary.rules.test.yaml").read_text()
    rules = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
    for rule in rules:
        name = rule["alert"]
        metrics.check(name, rule["expr"])
        check(rule["labels"]["severity"] in ("critical", "warning"), f"{name}: no severity")
        check({"summary", "description"} <= set(rule["annotations"]), f"{name}: no summary or no description")
        check(f"`{name}`" in book, f"{name}: docs/OPERATIONS.md does not say what it means")
        check(f"alertname: {name}" in tests, f"{name}: {RULES.stem}.test.yaml does not test it")
    expressions = list(dashboard_expressions())
    for title, expression in expressions:
        metrics.check(f"dashboard, {title}", plain(expression))
    check(len(rules) > 5 and len(expressions) > 10, "rules or dashboard are nearly empty")
    check_dockerfile()
    print(f"{len(rules)} alerts and {len(expressions)} expressions name only metrics, labels and routes that exist")


# --- the image ---


def check_dockerfile():
    lines = re.sub(r"\\\n", " ", (HERE / "Dockerfile").read_text()).splitlines()
    steps = [line.split(None, 1) for line in lines if line and not line.startswith("#")]
    images = [value.split()[0] for step, value in steps if step == "FROM"]
    final = dict(steps[max(i for i, (step, _) in enumerate(steps) if step == "FROM") :])
    toolchain = re.search(r'channel = "([\d.]+)"', (ROOT / "rust-toolchain.toml").read_text()).group(1)
    check(len(images) == 2 and all(":" in image and "latest" not in image for image in images), "Dockerfile: images without a tag")
    check(images[0].startswith(f"rust:{toolchain}-"), f"Dockerfile: the build needs Rust {toolchain}, as rust-toolchain.toml")
    check(f"RUSTUP_TOOLCHAIN={toolchain} " in dict(steps).get("ENV", ""), "Dockerfile: RUSTUP_TOOLCHAIN")
    check(re.fullmatch(r"[1-9]\d*:[1-9]\d*", final.get("USER", "")), "Dockerfile: USER is not a number above 0")
    check("HEALTHCHECK" not in final and "RUN" not in final, "Dockerfile: the final image has no shell")
    # Cargo wants the manifests of all members, also of those that it does not build.
    sent = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for member in tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["members"]:
        check(any(f"{member}/".startswith(f"{path}/") for path in sent), f".dockerignore: leaves out {member}, which Cargo needs")
    check(final["ENTRYPOINT"].startswith("[") and final["CMD"].startswith("["), "Dockerfile: ENTRYPOINT and CMD need a list")


def version():
    return re.search(r'^version = "(.*)"', (ROOT / "Cargo.toml").read_text(), re.M).group(1)


# --- the chart ---


def check_chart(file, secrets):
    objects = [item for item in yaml.safe_load_all(Path(file).read_text()) if item]
    kinds = {}
    for item in objects:
        kinds.setdefault(item["kind"], []).append(item)
        check("namespace" not in item["metadata"], f"{item['kind']}: a namespace of its own")
    check("Secret" not in kinds, "the chart makes a secret")
    check(not re.search(r"(postgres|redis|rediss)://", Path(file).read_text()), "a URL of a back end stands in the chart")
    for deployment in kinds["Deployment"]:
        check_deployment(deployment, set(filter(None, secrets.split(","))))
    check_selectors(kinds)
    names = ", ".join(f"{len(items)} {kind}" for kind, items in sorted(kinds.items()))
    print(f"{names}: not root, read-only, probed, no secret in sight")


def check_deployment(deployment, secrets):
    spec, pod = deployment["spec"], deployment["spec"]["template"]["spec"]
    check(spec["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}, "a new replica must come before an old one goes")
    context = pod["securityContext"]
    check(context["runAsNonRoot"] is True and context["runAsUser"] > 0 and context["runAsGroup"] > 0, "the pod may run as root")
    check(context["seccompProfile"] == {"type": "RuntimeDefault"}, "no seccomp profile")
    check(pod["automountServiceAccountToken"] is False, "a service account's token is mounted")
    check(pod["enableServiceLinks"] is False, "variables of services would look like settings")
    check({c["topologyKey"] for c in pod["topologySpreadConstraints"]} == {"topology.kubernetes.io/zone", "kubernetes.io/hostname"}, "spread")
    check(not any("hostPath" in volume for volume in pod["volumes"]), "a folder of the node is mounted")
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        check(not pod.get(key), key)
    for container in pod["containers"] + pod.get("initContainers", []):
        check_container(container, pod, secrets)


def check_container(container, pod, secrets):
    context = container["securityContext"]
    check(context["readOnlyRootFilesystem"] is True, "the root file system can be written")
    check(context["allowPrivilegeEscalation"] is False and not context.get("privileged"), "privileges")
    check(context["capabilities"] == {"drop": ["ALL"]}, "capabilities")
    check(re.search(r":[^/]+$|@sha256:", container["image"]) and not container["image"].endswith(":latest"), "the image has no tag")
    paths = {name: container[name]["httpGet"]["path"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}
    check(paths == {"startupProbe": "/health/live", "livenessProbe": "/health/live", "readinessProbe": "/health/ready"}, f"probes: {paths}")
    schemes = {container[name]["httpGet"]["scheme"] for name in paths}
    variables = {item["name"]: item for item in container["env"]}
    check(len(variables) == len(container["env"]), "a variable is set twice")
    check(schemes == ({"HTTPS"} if "GRANARY_SERVER__TLS_CERT" in variables else {"HTTP"}), f"probes: {schemes}")
    check_environment("chart", variables)
    for name in SECRET_SETTINGS & set(variables):
        check("value" not in variables[name] and "secretKeyRef" in variables[name]["valueFrom"], f"{name} is not from a secret")
    taken = {item["valueFrom"]["secretKeyRef"]["name"] for item in variables.values() if "valueFrom" in item}
    taken |= {volume["secret"]["secretName"] for volume in pod["volumes"] if "secret" in volume}
    check(taken == secrets, f"secrets are taken from {sorted(taken)}, not from {sorted(secrets)}")
    files = {mount["mountPath"] for mount in container["volumeMounts"] if any(v["name"] == mount["name"] and "secret" in v for v in pod["volumes"])}
    for name in SECRET_FILES & set(variables):
        check(str(Path(variables[name]["value"]).parent) in files, f"{name} is in no secret that is mounted")
    drain = int(variables["GRANARY_SERVER__DRAIN_TIMEOUT"]["value"].removesuffix("s"))
    pause = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    check(pod["terminationGracePeriodSeconds"] >= pause + drain + 45, "the grace period is shorter than the drain")
    data = container["args"][container["args"].index("--data") + 1]
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    empty = {volume["name"] for volume in pod["volumes"] if "emptyDir" in volume}
    check(mounts.get(data) in empty, "the data folder is not an emptyDir")
    check(all(mount.get("readOnly") for mount in container["volumeMounts"] if mount["name"] not in empty), "a mount can be written")


def check_selectors(kinds):
    """Every selector must find the pods, and a service's ports must be there."""
    template = kinds["Deployment"][0]["spec"]["template"]
    labels = template["metadata"]["labels"]
    ports = {port["name"]: port["containerPort"] for port in template["spec"]["containers"][0]["ports"]}
    selectors = [item["spec"]["selector"] for item in kinds["Service"]]
    selectors += [item["spec"]["selector"]["matchLabels"] for kind in ("Deployment", "PodDisruptionBudget") for item in kinds.get(kind, [])]
    selectors += [item["spec"]["podSelector"]["matchLabels"] for item in kinds.get("NetworkPolicy", [])]
    selectors += [c["labelSelector"]["matchLabels"] for c in template["spec"]["topologySpreadConstraints"]]
    for selector in selectors:
        check(selector and selector.items() <= labels.items(), f"the selector {selector} finds no pod")
    for service in kinds["Service"]:
        for port in service["spec"]["ports"]:
            check(port["targetPort"] in ports or port["targetPort"] in ports.values(), f"{service['metadata']['name']}: no port {port['targetPort']}")
    for monitor in kinds.get("ServiceMonitor", []):
        wanted = monitor["spec"]["selector"]["matchLabels"]
        found = [s for s in kinds["Service"] if wanted.items() <= s["metadata"]["labels"].items()]
        check(len(found) == 1, "the ServiceMonitor must find one service")
        jobs = {service["metadata"]["labels"].get(monitor["spec"]["jobLabel"]) for service in found}
        check(jobs == {"granary"}, f"the job is {jobs}, and the rules look for granary")
    for scaler in kinds.get("HorizontalPodAutoscaler", []):
        check(scaler["spec"]["scaleTargetRef"]["name"] == kinds["Deployment"][0]["metadata"]["name"], "the autoscaler scales nothing")
        check("replicas" not in kinds["Deployment"][0]["spec"], "replicas beside an autoscaler")


# --- compose ---


def seconds(text):
    units = {"h": 3600, "m": 60, "s": 1}
    return sum(int(number) * units[unit] for number, unit in re.findall(r"(\d+)([hms])", text))


def check_compose(file, secret=None):
    services = json.loads(Path(file).read_text())["services"]
    replicas = {name: service for name, service in services.items() if name.startswith("granary-")}
    check(len(replicas) == 3, f"{len(replicas)} replicas instead of 3")
    check({"nginx", "postgres", "minio", "redis"} <= set(services), "a back end is missing")
    check("elasticsearch" not in services, "elasticsearch starts although nothing uses it")
    for name, service in services.items():
        check(re.search(r":[^/]*\d", service["image"]), f"{name}: the image {service['image']} is not pinned by a tag")
        check(not service.get("privileged") and not service.get("network_mode"), f"{name}: privileges")
        for port in service.get("ports", []):
            check(name == "nginx" and port["host_ip"] == "127.0.0.1", f"{name}: publishes {port}")
    for name, service in replicas.items():
        environment = service["environment"]
        check(service["image"] == f"granary:{version()}", f"{name}: the image is not of version {version()}")
        check(re.fullmatch(r"[1-9]\d*:[1-9]\d*", service.get("user", "")), f"{name}: runs as {service.get('user', 'root')}")
        check(service.get("read_only") is True and service.get("cap_drop") == ["ALL"], f"{name}: not locked down")
        check(any(mount.startswith("/var/lib/granary:") for mount in service["tmpfs"]), f"{name}: no folder for its socket")
        check(seconds(service["stop_grace_period"]) > seconds(environment["GRANARY_SERVER__DRAIN_TIMEOUT"]) + 30, f"{name}: grace period")
        check_environment(name, environment)
        mounted = [item["target"] for item in service.get("secrets", [])]
        check(mounted == ([f"/run/secrets/{secret}"] if secret else []), f"{name}: the secrets {mounted}")
        check(environment.get("GRANARY_AUTH__KEY_FILE") == (mounted[0] if mounted else None), f"{name}: GRANARY_AUTH__KEY_FILE")
        check(("--allow-anonymous" in service["command"]) == (secret is None), f"{name}: {service['command']}")
    upstream = re.search(r"upstream granary \{(.*?)\}", (HERE / "compose/nginx.conf").read_text(), re.S).group(1)
    balanced = re.findall(r"^\s*server (\S+):5000", upstream, re.M)
    check(sorted(balanced) == sorted(replicas), f"nginx balances over {balanced}")
    check(not re.search(r"ip_hash|hash |sticky|least_conn|random", upstream), "nginx: not round robin")
    print(f"{len(services)} services; {', '.join(sorted(replicas))}: not root, read-only, behind nginx")


def main():
    match sys.argv[1:]:
        case ["files"]:
            check_files()
            chart = yaml.safe_load((HERE / "helm/granary/Chart.yaml").read_text())
            check(chart["appVersion"] == version(), f"Chart.yaml: appVersion is not {version()}")
        case ["chart", file, secrets]:
            check_chart(file, secrets)
        case ["compose", file, *secret]:
            check_compose(file, *secret)
        case ["expressions"]:
            rules = [{"record": f"dashboard:{i}", "expr": plain(e)} for i, (_, e) in enumerate(dashboard_expressions())]
            print(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
        case _:
            sys.exit(__doc__)
    for problem in problems:
        print(f"check.py: {problem}", file=sys.stderr)
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
