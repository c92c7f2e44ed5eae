"""Writes the operator's PrometheusRule from `deploy/prometheus/alerts.yml`: the same groups, a level deeper.

A test compares the two. Where the rules have changed: `python deploy/kubernetes/build_prometheusrule.py`.
"""

import textwrap
from pathlib import Path

DEPLOY = Path(__file__).parents[1]
RULES = DEPLOY / "prometheus/alerts.yml"
MANIFEST = DEPLOY / "kubernetes/overlays/prometheus-operator/prometheusrule.yaml"

HEAD = """\
# Written by deploy/kubernetes/build_prometheusrule.py from deploy/prometheus/alerts.yml: change them there.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: bearerwatch
  labels:
    app.kubernetes.io/name: bearerwatch
spec:
"""


def manifest(rules: str) -> str:
    """The manifest around a rule file, whose comments and order stay as they are."""
    return HEAD + textwrap.indent(rules, "  ")


if __name__ == "__main__":
    MANIFEST.write_text(manifest(RULES.read_text(encoding="utf-8")), encoding="utf-8")
