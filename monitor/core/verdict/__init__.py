"""Turns an outcome into a diagnosis: the meaning of the answer, the influence of history, the evidence."""
