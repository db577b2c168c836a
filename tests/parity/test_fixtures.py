"""Parity with reference implementations, by the script that can be run on other fixtures."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

FIXTURES = Path(__file__).parents[1] / "fixtures"


@pytest.fixture(scope="module")
def check_fixture():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parent)
        return importlib.import_module("check_fixture")


@pytest.mark.parametrize(
    "name",
    [
        "sparse_rcnn_tiny",
        "temporal_roi_align",
        "selsa_aggregator",
        "rivals/faster_rcnn_dc5",
        "rivals/selsa_head",
        "rivals/troi_head",
        "rivals/mamba",
        "rivals/fgfa",
        "rivals/transvod",
        "rivals/mega",
        "rivals/mmtracking_troi",
        "rivals/mmtracking_fgfa",
    ],
)
def test_reference_numbers_are_reproduced(check_fixture, capsys, name):
    assert check_fixture.main(FIXTURES / name) == 0
    out = capsys.readouterr().out
    assert "FAILED" not in out
    assert out.count(" ok") >= 4


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("sparse_rcnn_tiny", "stage1.cls_logits"),
        ("sparse_rcnn_tiny", "grad.roi_head.bbox_head.0.fc_reg.weight"),
        ("temporal_roi_align", "single.out.k2.blocks4"),
        ("selsa_aggregator", "out.blocks8"),
        ("rivals/faster_rcnn_dc5", "train.proposals"),
        ("rivals/faster_rcnn_dc5", "train.loss_bbox"),
        ("rivals/selsa_head", "test.det_boxes"),
        ("rivals/selsa_head", "grad.bbox_head.aggregator.0.fc.weight"),
        ("rivals/troi_head", "test.roi.x"),
        ("rivals/mamba", "f4.memory1_after"),
        ("rivals/fgfa", "warped"),
        ("rivals/transvod", "tqe2.refs"),
        ("rivals/transvod", "pred_logits"),
        ("rivals/transvod", "released.tdec.out"),
        ("rivals/mega", "f3.memory1.feats"),
        ("rivals/mega", "grad.l_Wgs.1.weight"),
        ("rivals/mmtracking_troi", "resized"),
        ("rivals/mmtracking_troi", "t5.neck"),
        ("rivals/mmtracking_fgfa", "t8.det_boxes_original"),
    ],
)
def test_a_wrong_number_fails(check_fixture, tmp_path, capsys, name, changed):
    for file in (FIXTURES / name).iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    for file in tmp_path.glob("*.safetensors"):
        values = load_file(file)
        if changed in values and file.stem != "weights":
            value = values[changed]
            values[changed] = (value + 1e-2 * value.abs().max()).to(value.dtype)
            save_file(values, file)

    assert check_fixture.main(tmp_path) == 1
    assert "FAILED" in capsys.readouterr().out


def test_another_folder_is_told_apart(check_fixture, tmp_path):
    assert check_fixture.main(tmp_path) == 2
