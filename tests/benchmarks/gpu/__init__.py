"""What `make bench-gpu` measures: training, bare sessions, serving; and how it is told."""
