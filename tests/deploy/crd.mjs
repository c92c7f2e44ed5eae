// Validates manifests of the Prometheus operator, a JSON array on stdin, with the schemas of its CRDs.
import { readFileSync } from "node:fs";
import * as models from "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1";

for (const manifest of JSON.parse(readFileSync(0, "utf8"))) {
  new models[manifest.kind](manifest).validate();
}
