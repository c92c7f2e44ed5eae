"""What the product promises to its users, one readable file each, generated from the code and compared.

A change here changes a promise that dashboards, alerts, scripts or configurations depend on. Review it, and
add a line to the CHANGELOG.
"""
