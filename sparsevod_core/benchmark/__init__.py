"""Benchmarks of inference, data loading and training steps."""
