"""examples/kubernetes: what it says of the server is so, and its parts agree with each other and with the manual.

What needs programs and packages that are not of the tests (promtool, kubernetes-validate, schemas) is in scripts/kubernetes.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from harness.limits import ROOT, timeout
from harness.server import Server, run
from ruamel.yaml import YAML

pytestmark = timeout(120)

HERE = ROOT / "examples" / "kubernetes"
PAGE = (ROOT / "spec/manual/kubernetes.md").read_text()
CONTAINERS = ["base/deployment.yaml", "knative/service.yaml"]
AFTER = 12  # seconds that the manual says the server may take beyond --graceful-timeout

METRIC = re.compile(r"(?<![\w:])((?:fermata|process)_[a-z_]+)(?![\w:])")
MATCHER = re.compile(r"(\w+)\s*(=~|!=|=)\s*\"([^\"]*)\"")


def documents(name: str) -> list[Any]:
    return list(YAML(typ="safe").load_all(HERE / name))


def only(name: str) -> Any:
    (document,) = documents(name)
    return document


def pod(name: str) -> Any:
    return only(name)["spec"]["template"]["spec"]


def container(name: str) -> Any:
    (found,) = pod(name)["containers"]
    return found


def option(name: str, words: list[str]) -> str:
    (value,) = [word.partition("=")[2] for word in words if word.startswith(f"--{name}=")]
    return value


# Options, ports and times


@pytest.mark.parametrize("name", CONTAINERS)
def test_options_are_the_servers(name: str) -> None:
    """All words but the application's, which here is an example."""
    found = container(name)
    assert found["command"] == ["fermata"]
    *words, application = found["args"]
    assert re.fullmatch(r"\w+:\w+", application)
    done = run("--check-config", "--chdir", str(ROOT / "examples"), *words, "hello:app")
    assert (done.returncode, "warning" in done.stderr) == (0, False), done.stderr
    refused = run("--check-config", *words, "--no-such-option", "hello:app")
    assert refused.returncode == 2


def test_probes_ask_the_admin_port(launch: Callable[..., Server]) -> None:
    """By its name or its number; at these paths the server answers."""
    server = launch("basic", admin=True)
    for name in CONTAINERS:
        found = container(name)
        admin = int(option("admin-bind", found["args"]).rpartition(":")[2])
        ports = {port.get("name"): port["containerPort"] for port in found["ports"]}
        probes = [found[key]["httpGet"] for key in ("startupProbe", "readinessProbe", "livenessProbe") if key in found]
        assert probes
        for probe in probes:
            assert ports.get(probe["port"], probe["port"]) == admin
            assert server.admin.get(probe["path"]).status == 200
    found = container("base/deployment.yaml")
    assert found["livenessProbe"]["httpGet"]["path"] == "/healthz"  # not /readyz, or who drains would be killed
    assert found["startupProbe"]["httpGet"]["path"] == found["readinessProbe"]["httpGet"]["path"] == "/readyz"


def test_there_is_time_for_the_end() -> None:
    found = container("base/deployment.yaml")
    delay = found["lifecycle"]["preStop"]["sleep"]["seconds"]
    graceful = int(option("graceful-timeout", found["args"]))
    assert delay > 0
    assert pod("base/deployment.yaml")["terminationGracePeriodSeconds"] >= delay + graceful + AFTER
    assert f"{AFTER} s" in PAGE


@pytest.mark.parametrize("name", CONTAINERS)
def test_nothing_is_allowed_that_is_not_needed(name: str) -> None:
    context = {**pod(name).get("securityContext", {}), **container(name)["securityContext"]}
    assert context["runAsNonRoot"] is True and context["runAsUser"] > 0
    assert context["readOnlyRootFilesystem"] is True and context["allowPrivilegeEscalation"] is False
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}


def test_bodies_fit_into_their_volume() -> None:
    found = container("base/deployment.yaml")
    (mount,) = found["volumeMounts"]
    (volume,) = pod("base/deployment.yaml")["volumes"]
    assert {"name": "TMPDIR", "value": mount["mountPath"]} in found["env"]
    assert volume["name"] == mount["name"]
    size = int(volume["emptyDir"]["sizeLimit"].removesuffix("Mi")) << 20
    assert int(option("limit-body-disk", found["args"])) < size
    assert int(option("limit-request-body", container("knative/service.yaml")["args"])) <= 8 << 20


def test_selectors_and_ports_agree() -> None:
    labels = only("base/deployment.yaml")["spec"]["template"]["metadata"]["labels"]
    selectors = [
        only("base/deployment.yaml")["spec"]["selector"]["matchLabels"],
        only("base/service.yaml")["spec"]["selector"],
        only("base/poddisruptionbudget.yaml")["spec"]["selector"]["matchLabels"],
        only("base/networkpolicy.yaml")["spec"]["podSelector"]["matchLabels"],
        only("monitoring/podmonitor.yaml")["spec"]["selector"]["matchLabels"],
        *(
            spread["labelSelector"]["matchLabels"]
            for spread in pod("base/deployment.yaml")["topologySpreadConstraints"]
        ),
    ]
    assert all(selector.items() <= labels.items() for selector in selectors)
    ports = {port["name"] for port in container("base/deployment.yaml")["ports"]}
    assert [port["targetPort"] for port in only("base/service.yaml")["spec"]["ports"]] == ["http"]
    admitted = {rule["ports"][0]["port"]: rule.get("from") for rule in only("base/networkpolicy.yaml")["spec"]["ingress"]}
    assert admitted.keys() == ports and admitted["admin"] and admitted["http"] is None
    assert [each["port"] for each in only("monitoring/podmonitor.yaml")["spec"]["podMetricsEndpoints"]] == ["admin"]
    named = [only("cpu/hpa.yaml"), only("prometheus-adapter/hpa.yaml"), only("keda/scaledobject.yaml")]
    assert {each["spec"]["scaleTargetRef"]["name"] for each in named} == {"gateway"}


def test_kustomizations_have_their_files() -> None:
    found = sorted(HERE.rglob("kustomization.yaml"))
    assert len(found) == 5
    for path in found:
        parts = YAML(typ="safe").load(path)
        for name in [*parts["resources"], *(f for g in parts.get("configMapGenerator", ()) for f in g["files"])]:
            assert (path.parent / name).exists(), (path, name)
        used = {*parts["resources"], *(f for g in parts.get("configMapGenerator", ()) for f in g["files"])}
        kept = {each.name for each in path.parent.iterdir()} - used - {"kustomization.yaml"}
        assert kept <= {"rules.yml", "rules_test.yml", "adapter.yaml"}, kept


# By what it is scaled


def test_scaled_by_what_wants_a_thread() -> None:
    """Three quarters of --threads in each pod, by the same query for both; what is parked does not count."""
    threads = int(option("threads", container("base/deployment.yaml")["args"]))
    pods = [m["pods"] for m in only("prometheus-adapter/hpa.yaml")["spec"]["metrics"] if m["type"] == "Pods"]
    (rule,) = only("prometheus-adapter/adapter.yaml")["rules"]["custom"]
    assert [each["metric"]["name"] for each in pods] == [rule["name"]["as"]]
    assert [float(each["target"]["averageValue"]) for each in pods] == [threads * 0.75]
    (trigger,) = [t for t in only("keda/scaledobject.yaml")["spec"]["triggers"] if t["type"] == "prometheus"]
    assert float(trigger["metadata"]["threshold"]) == threads * 0.75
    for query in (rule["metricsQuery"], trigger["metadata"]["query"]):
        assert ("state", "=~", "queued|running") in MATCHER.findall(query)
        assert METRIC.findall(query) == ["fermata_requests_in_flight"]


# Metrics


def expressions() -> Iterator[tuple[str, str]]:
    """Every expression in PromQL, and where it stands."""
    for group in only("monitoring/rules.yml")["groups"]:
        for rule in group["rules"]:
            yield rule.get("alert") or rule["record"], rule["expr"]
    dashboard = json.loads((HERE / "monitoring/dashboard.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            yield f"panel {panel['title']}", target["expr"]
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            yield f"variable {variable['name']}", variable["query"]
    (rule,) = only("prometheus-adapter/adapter.yaml")["rules"]["custom"]
    yield "adapter", rule["seriesQuery"]
    yield "adapter", rule["metricsQuery"]
    for trigger in only("keda/scaledobject.yaml")["spec"]["triggers"]:
        if trigger["type"] == "prometheus":
            yield "keda", trigger["metadata"]["query"]
    for row in re.findall(r"^\|.*$", PAGE, re.M):
        for expression in re.findall(r"`([^`]*(?:fermata|process)_[^`]*)`", row):
            yield "the manual", expression.replace("\\|", "|")


def test_metrics_exist(launch: Callable[..., Server]) -> None:
    """Each that is named is in /metrics, and so are the values of its own labels that are asked for."""
    server = launch("basic", admin=True)
    assert server.get("/hello").status == 200
    metrics = server.admin.metrics()
    samples = {name for name, _ in metrics.samples}
    seen = 0
    for where, expression in expressions():
        names = METRIC.findall(re.sub(r"^fermata_requests_runnable$", "", expression))
        for name in names:
            assert name in samples, (where, name)
            seen += 1
        for name, matchers in re.findall(r"(\w+)\{([^}]*)\}", expression):
            for label, _, value in MATCHER.findall(matchers):
                if label in ("namespace", "job", "pod") or "$" in value:
                    continue
                assert set(value.split("|")) <= metrics.labels(name, label), (where, name, label, value)
    assert seen > 40
    assert {label for _, labels in metrics.samples for label, _ in labels} >= {"state", "class", "version", "log"}


def test_rules_are_the_same_twice() -> None:
    """In the file that promtool reads, and in the object that the operator does."""
    assert only("monitoring/prometheusrule.yaml")["spec"] == only("monitoring/rules.yml")


def test_rules_say_what_to_do() -> None:
    alerts = [rule for rule in only("monitoring/rules.yml")["groups"][0]["rules"] if "alert" in rule]
    names = [rule["alert"] for rule in alerts]
    assert names == [f"Fermata{name}" for name in ("Errors", "QueueSlow", "ThreadsBusy", "Stuck", "ConnectionsFull")]
    for rule in alerts:
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert set(rule["annotations"]) == {"summary", "description"}
        assert f"`{rule['alert']}`" in PAGE
    tested = only("monitoring/rules_test.yml")["tests"]
    fired = {a["alertname"] for t in tested for a in t["alert_rule_test"] if a["exp_alerts"]}
    quiet = {a["alertname"] for t in tested for a in t["alert_rule_test"] if not a["exp_alerts"]}
    assert fired == quiet == set(names)


def test_dashboard() -> None:
    """Panels beside each other, each with a sentence on what it shows, and no data source of somewhere else."""
    dashboard = json.loads((HERE / "monitoring/dashboard.json").read_text())
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        assert panel["description"] and panel["fieldConfig"]["defaults"]["unit"] and panel["targets"]
        assert panel["datasource"]["uid"] == "${datasource}"
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & taken and max(x for x, _ in cells) < 24
        taken |= cells
    for key in (lambda p: p["id"], lambda p: p["title"]):
        assert len({key(panel) for panel in dashboard["panels"]}) == len(dashboard["panels"])
    variables = {variable["name"] for variable in dashboard["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(dashboard))) - {"__all", "__rate_interval"}
    assert used == variables


def test_page_has_the_numbers() -> None:
    """Each option of the deployment, and each file, is spoken of."""
    for name in CONTAINERS:
        for word in container(name)["args"][:-1]:
            assert f"`{word.partition('=')[0]}" in PAGE or word.startswith(("--bind", "--access-log")), word
    for path in HERE.iterdir():
        assert f"[`{path.name}" in PAGE or path.name == "README.md", path.name


def test_script_names_what_there_is() -> None:
    """scripts/kubernetes looks at all files of the kinds that it knows."""
    script = (ROOT / "scripts" / "kubernetes").read_text()
    (line,) = re.findall(r"^kubernetes=\(.*\)$", script, re.M)
    listed = subprocess.run(["bash", "-c", f'{line}; echo "${{kubernetes[@]}}"'], capture_output=True, text=True, check=True)
    files = {str(Path(path).relative_to(HERE)) for path in HERE.rglob("*.yaml") if path.name != "kustomization.yaml"}
    core = {name for name in files if documents(name)[0].get("apiVersion") in CORE}
    assert set(listed.stdout.split()) == core
    for name in files - core - {"prometheus-adapter/adapter.yaml", "knative/service.yaml"}:
        assert name in (ROOT / "scripts" / "kubernetes-schemas.mjs").read_text(), name


def test_fleet_has_the_same_rule() -> None:
    """scripts/dev/fleet: its target is the share of its threads that the examples have."""
    script = ROOT / "scripts" / "dev" / "fleet"
    done = subprocess.run([sys.executable, script, "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "HorizontalPodAutoscaler" in done.stdout
    (threads, target) = map(float, *re.findall(r"THREADS, TARGET = .*, (\d+), ([\d.]+)$", script.read_text(), re.M))
    assert target == threads * 0.75


CORE = ("v1", "apps/v1", "policy/v1", "networking.k8s.io/v1", "autoscaling/v2")
