"""An outcome in, a diagnosis out: what the answer means, what the past makes of it, and the evidence."""
