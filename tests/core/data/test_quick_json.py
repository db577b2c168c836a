"""orjson in the place of the standard library's parser: the same values, the same refusals."""

from __future__ import annotations

import json
import math

import pytest

from sparsevod_core.data import quick_json


@pytest.mark.parametrize(
    "text",
    [
        '{"bbox": [409.7826232910156, 0.1, 1e-7, 5e-324], "score": 0.8522434830665588}',
        '{"id": 18446744073709551615, "other": -9223372036854775808}',
        '{"a": 1, "a": 2}',
        '["\\ud800", "\\u00e9", 1E5, -0.0]',
    ],
)
@pytest.mark.parametrize("encode", [str, str.encode])
def test_values_are_those_of_the_standard_library(text, encode) -> None:
    assert repr(quick_json.parse(encode(text))) == repr(json.loads(text))


def test_a_whole_number_beyond_64_bits_is_no_whole_number() -> None:
    assert quick_json.parse("123456789012345678901234567890") == 1.2345678901234568e29


def test_nan_is_taken_as_the_standard_library_takes_it() -> None:
    assert math.isnan(quick_json.parse("[NaN]")[0])


@pytest.mark.parametrize("text", ["", "[1,]", '{"a": 01}', "[1] 2", "{'a': 1}", '"\t"'])
def test_what_is_not_json_is_refused(text) -> None:
    with pytest.raises(ValueError, match=r".+"):
        quick_json.parse(text)
    with pytest.raises(ValueError, match=r".+"):
        json.loads(text)
