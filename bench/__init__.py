"""What `make bench` measures: costs as ratios to yardsticks of the same run, and promises under load."""
