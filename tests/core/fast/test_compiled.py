"""A compiled stage compared with the plain one, on the CPU; one compilation serves all stages."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[3]
# A separate process, because the compiler cannot trace the shape checks of the tests.
PROGRAM = """
import dataclasses, sys
import torch
from torch._dynamo.testing import CompileCounterWithBackend
from sparsevod_core.config import load_config
from sparsevod_core.fast import Plan, optimized
from sparsevod_core.model.build import build_detector

backend, precision = sys.argv[1:]
torch.manual_seed(0)
base = load_config("tiny").model
small = dict(num_classes=4, num_stages=3, num_proposals=5, support_level="p4")
detector = build_detector(dataclasses.replace(base, **small)).eval()
for stage in detector.stages:
    torch.nn.init.normal_(stage.aggregation.output.weight, std=0.05)
fast = optimized(detector, Plan(precision=precision, kernels="gather"))
images = torch.randint(0, 256, (5, 3, 64, 96), dtype=torch.uint8)
sizes = torch.tensor([[60, 90]] * 5)
counter = CompileCounterWithBackend(backend)
step = torch.compile(fast.run_stage, backend=counter, dynamic=False, fullgraph=True)
with torch.inference_mode():
    memory = fast.remember(fast.encode(images[2:], sizes[2:]))
    targets = fast.encode(images[:2], sizes[:2])
    boxes, features = fast.proposals(targets.image_sizes)
    for stage, kept in zip(fast.stages, memory.stages):
        right = fast.run_stage(stage, targets, features, boxes, kept)
        found = step(stage, targets, features, boxes, kept)
        near = 1e-4 if precision == "fp32" else 0.1
        torch.testing.assert_close(found[0], right[0], atol=near, rtol=0)
        if precision == "fp32":
            torch.testing.assert_close(found[1], right[1], atol=0.01, rtol=0)
        _, boxes, features = right
print(counter.frame_count)
"""


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_one_compilation_serves_all_stages(tmp_path: Path, precision: str) -> None:
    backend = "inductor" if shutil.which("g++") else "aot_eager"
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, backend, precision],
        cwd=REPOSITORY,
        env={**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split() == ["1"]
