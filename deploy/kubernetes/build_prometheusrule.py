"""Writes the operator's PrometheusRule: what `bearerwatch rules` gives for the base's configuration.

Not deploy/prometheus/alerts.yml, whose links lead to the machine of the example.
A test compares the two. Where the rules have changed: `python deploy/kubernetes/build_prometheusrule.py`.
"""

import textwrap
from pathlib import Path

from monitor.config import load
from monitor.rules import rules

KUBERNETES = Path(__file__).parent
CONFIG = KUBERNETES / "base/bearerwatch.yaml"
MANIFEST = KUBERNETES / "overlays/prometheus-operator/prometheusrule.yaml"

HEAD = """\
# Written by deploy/kubernetes/build_prometheusrule.py for base/bearerwatch.yaml. For the times, links and
# labels of your own configuration, make a patch (docs/deployment.md).
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: bearerwatch
  labels:
    app.kubernetes.io/name: bearerwatch
spec:
"""


def manifest() -> str:
    """The manifest around the rules, whose comments and order stay as they are."""
    return HEAD + textwrap.indent(rules(load(CONFIG, {})), "  ")


if __name__ == "__main__":
    MANIFEST.write_text(manifest(), encoding="utf-8")
