"""Evaluation of detectors.

Ground truth (`metrics/ground_truth.py`) and predictions (`predictions/`) go into the metrics
(`metrics/`, `errors/`); `score.score` collects what they return in an `Evaluation`, from which come
the command's tables (`sparsevod_cli/evaluation_tables.py`), the JSON (`Evaluation.to_dict`) and the
report (`figures.draw_figures`).
"""
