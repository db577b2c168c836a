"""Evaluation of detectors.

Ground truth (`metrics/ground_truth.py`) and predictions (`predictions/`) are passed to the metrics
(`metrics/` and `errors/`), and `score.score` returns their values as an `Evaluation`, which becomes
tables (sparsevod_cli/evaluation_tables.py), JSON (`Evaluation.to_dict`) or a report (`figures.py`).
"""
