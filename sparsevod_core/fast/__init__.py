"""Optimized inference and training: same results as `sparsevod_core.model`, faster."""

from sparsevod_core.fast.optimize import optimized, trainable
from sparsevod_core.fast.plan import Plan, computing_in, plan_for, plan_for_training

__all__ = ["Plan", "computing_in", "optimized", "plan_for", "plan_for_training", "trainable"]
