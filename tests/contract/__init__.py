"""What the product promises to those outside of it, one readable file each, made by the code and compared.

A change of a file here is a change of a promise: somebody's dashboard, alert, script or configuration. It is
meant to be seen in a review, and to come with a line in the CHANGELOG.
"""
