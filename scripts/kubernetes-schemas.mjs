// node kubernetes-schemas.mjs PACKAGES EXAMPLES: objects of operators' kinds against the operators' own schemas, as npm has
// them.  Called by scripts/kubernetes.  That a schema refuses what is wrong is looked at, too.
import { createRequire } from "node:module";
import { execFileSync } from "node:child_process";
import { pathToFileURL } from "node:url";
import path from "node:path";

const [packages, examples] = process.argv.slice(2);
const require = createRequire(path.resolve(packages, "package.json"));

async function kinds(name) {
    const root = path.resolve(packages, "node_modules", name.split("/").slice(0, 2).join("/"));
    const within = name.split("/").slice(2).join("/");
    return import(pathToFileURL(path.join(root, within, "index.mjs")).href).catch(() =>
        import(pathToFileURL(path.join(root, within, "index.js")).href));
}

function read(name) { // Python reads YAML; node has no reader of its own
    const program = "import json, sys; from ruamel.yaml import YAML; print(json.dumps(YAML(typ='safe').load(open(sys.argv[1]))))";
    return JSON.parse(execFileSync("build/venv/bin/python", ["-c", program, path.join(examples, name)], { encoding: "utf8" }));
}

function refusal(Kind, object) {
    try {
        new Kind(object).validate();
        return null;
    } catch (error) {
        return error.message;
    }
}

const operator = await kinds("@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1");
const keda = await kinds("@kubernetes-models/keda/keda.sh/v1alpha1");
const checks = [
    ["monitoring/podmonitor.yaml", operator.PodMonitor, o => { o.spec.podMetricsEndpoints[0].interval = "15 seconds"; }],
    ["monitoring/prometheusrule.yaml", operator.PrometheusRule, o => { delete o.spec.groups[0].name; }],
    ["keda/scaledobject.yaml", keda.ScaledObject, o => { o.spec.triggers[0].metadata.value = 70; }],
];
let failed = false;
for (const [name, Kind, spoil] of checks) {
    const object = read(name);
    const why = refusal(Kind, object);
    const wrong = structuredClone(object);
    spoil(wrong);
    const found = refusal(Kind, wrong) !== null;
    console.log(`${name}: ${why ?? "ok"}${found ? "" : ", but a mistake is not found"}`);
    failed ||= why !== null || !found;
}
process.exit(failed ? 1 : 0);
